"""AES as DSM offers it: GCM with a choice of tag lengths, and padded CBC.

Pure functions over bytes. What they refuse, they refuse with one of two errors, so that
the model can choose the status: `MalformedInput` for lengths and modes, `WrongTag` for
data that doesn't verify.
"""

import os

from attrs import define, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.padding import PKCS7


KEY_BITS = frozenset({128, 192, 256})
CBC_IV_BYTES = 16
_FULL_TAG_BYTES = 16


@define
class CipherRules:
    """What isn't known of the cipher, therefore switches.

    Attributes:
        gcm_iv_bytes: The length of an IV for GCM; 12 is near-certain (section 3.1).
        gcm_tag_bits: The tag lengths that are taken (section 10, point 11).
    """

    gcm_iv_bytes: int = 12
    gcm_tag_bits: frozenset[int] = frozenset({96, 104, 112, 120, 128})


DEFAULT_RULES = CipherRules()


class MalformedInput(ValueError):
    """A length or a mode that the cipher doesn't take."""


class WrongTag(ValueError):
    """The data don't verify under this key, IV, tag and additional data."""


@frozen
class Sealed:
    """What an encryption yields; CBC has no tag."""

    cipher: bytes
    iv: bytes
    tag: bytes | None


def encrypt(  # noqa: PLR0913 - the cipher has these inputs
    material: bytes,
    mode: str,
    plain: bytes,
    *,
    iv: bytes | None,
    ad: bytes | None,
    tag_bits: int | None,
    rules: CipherRules = DEFAULT_RULES,
) -> Sealed:
    """Encrypt *plain*.

    Args:
        material: The AES key.
        mode: "GCM" or "CBC".
        plain: What to encrypt.
        iv: 12 bytes for GCM unless the rules differ, 16 for CBC; random when absent.
        ad: Additional authenticated data, GCM only.
        tag_bits: Required for GCM.
        rules: What is allowed.

    Raises:
        MalformedInput: A wrong mode or length.
    """
    if mode == "GCM":
        if tag_bits is None:
            raise MalformedInput("tag_len is required for GCM")
        if tag_bits not in rules.gcm_tag_bits:
            raise MalformedInput("invalid tag_len")
        iv = _iv_of(iv, rules.gcm_iv_bytes)
        sealed = AESGCM(material).encrypt(iv, plain, ad)
        split = len(plain)
        return Sealed(sealed[:split], iv, sealed[split : split + tag_bits // 8])
    _expect_cbc(mode, ad)
    iv = _iv_of(iv, CBC_IV_BYTES)
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(material), modes.CBC(iv)).encryptor()
    padded = padder.update(plain) + padder.finalize()
    return Sealed(encryptor.update(padded) + encryptor.finalize(), iv, None)


def decrypt(  # noqa: PLR0913 - the cipher has these inputs
    material: bytes,
    mode: str,
    cipher: bytes,
    *,
    iv: bytes | None,
    ad: bytes | None,
    tag: bytes | None,
    rules: CipherRules = DEFAULT_RULES,
) -> bytes:
    """Return the plaintext of *cipher*; the arguments mirror `encrypt`.

    Raises:
        MalformedInput: A wrong mode or length.
        WrongTag: The data don't verify, or the padding is wrong.
    """
    if iv is None:
        raise MalformedInput("iv is required")
    if mode == "GCM":
        if tag is None:
            raise MalformedInput("tag is required for GCM")
        if len(tag) * 8 not in rules.gcm_tag_bits:
            raise MalformedInput("invalid tag length")
        return _decrypt_gcm(material, cipher, _iv_of(iv, rules.gcm_iv_bytes), ad, tag)
    _expect_cbc(mode, ad)
    if not cipher or len(cipher) % CBC_IV_BYTES:
        raise MalformedInput("cipher is not a multiple of the block size")
    decryptor = Cipher(
        algorithms.AES(material), modes.CBC(_iv_of(iv, CBC_IV_BYTES))
    ).decryptor()
    unpadder = PKCS7(128).unpadder()
    padded = decryptor.update(cipher) + decryptor.finalize()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise WrongTag("invalid padding") from None


def kcv(material: bytes) -> str:
    """Return the key check value: 3 bytes of a block of zeros, encrypted, in hex."""
    encryptor = Cipher(algorithms.AES(material), modes.ECB()).encryptor()  # noqa: S305 - the check value is defined so
    return encryptor.update(bytes(16))[:3].hex()


def kcv_cmac(material: bytes) -> str:
    """Return the CMAC check value: 5 bytes over a block of zeros, in hex."""
    mac = CMAC(algorithms.AES(material))
    mac.update(bytes(16))
    return mac.finalize()[:5].hex()


def _decrypt_gcm(
    material: bytes, cipher: bytes, iv: bytes, ad: bytes | None, tag: bytes
) -> bytes:
    try:
        if len(tag) == _FULL_TAG_BYTES:
            return AESGCM(material).decrypt(iv, cipher + tag, ad)
        # The one-shot interface knows 16-byte tags alone.
        mode = modes.GCM(iv, tag, min_tag_length=len(tag))
        decryptor = Cipher(algorithms.AES(material), mode).decryptor()
        decryptor.authenticate_additional_data(ad or b"")
        return decryptor.update(cipher) + decryptor.finalize()
    except InvalidTag:
        raise WrongTag("tag mismatch") from None


def _iv_of(iv: bytes | None, length: int) -> bytes:
    if iv is None:
        return os.urandom(length)
    if len(iv) != length:
        raise MalformedInput("invalid iv length")
    return iv


def _expect_cbc(mode: str, ad: bytes | None) -> None:
    if mode != "CBC":
        raise MalformedInput(f"unsupported mode {mode!r}")
    if ad is not None:
        raise MalformedInput("ad is not used with CBC")
