"""The formats, written a second time from docs/formats.md alone.

Imports nothing of ours and no CBOR library, so that it can't share a mistake with us.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from attrs import frozen
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


_UNSIGNED, _BYTES, _TEXT = 0x00, 0x40, 0x60
_KID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@frozen
class Seed:
    """The fields of a sealed seed; salt and inner, its ``Seed``, in Version 3 alone."""

    version: int
    kid: str
    cipher: bytes
    iv: bytes
    tag: bytes
    salt: bytes | None = None
    inner: bytes | None = None


def write(seed: Seed) -> bytes:
    """Return a sealed seed."""
    pairs = [
        _text("Version") + _head(_UNSIGNED, seed.version),
        _text("KID") + _text(seed.kid),
        _text("Cipher") + _bytes(seed.cipher),
        _text("IV") + _bytes(seed.iv),
        _text("Tag") + _bytes(seed.tag),
    ]
    if seed.salt is not None and seed.inner is not None:
        pairs += [
            _text("Salt") + _bytes(seed.salt),
            _text("Seed") + _bytes(seed.inner),
        ]
    return bytes([0xA0 + len(pairs)]) + b"".join(pairs)


def read(sealed: bytes) -> Seed:
    """Return the fields of a sealed seed; ValueError if it is none."""
    if not 1 <= len(sealed) <= 1024:
        raise ValueError("its size")
    enveloped = sealed[:1] == b"\xa7"
    rest = _after(sealed, (b"\xa7" if enveloped else b"\xa5") + _text("Version"))
    if rest[:1] not in ((b"\x03",) if enveloped else (b"\x01", b"\x02")):
        raise ValueError("Version")
    version, rest = rest[0], _after(rest[1:], _text("KID"))
    kid, rest = _string(rest, _TEXT)
    cipher, rest = _string(_after(rest, _text("Cipher")), _BYTES)
    iv, rest = _string(_after(rest, _text("IV")), _BYTES)
    tag, rest = _string(_after(rest, _text("Tag")), _BYTES)
    salt = inner = None
    if enveloped:
        salt, rest = _string(_after(rest, _text("Salt")), _BYTES)
        inner, rest = _string(_after(rest, _text("Seed")), _BYTES)
        if len(salt) != 32 or len(inner) < 17:
            raise ValueError("a length")
    seed = Seed(version, kid.decode(), cipher, iv, tag, salt, inner)
    if rest or not cipher or not _KID.fullmatch(seed.kid) or write(seed) != sealed:
        raise ValueError("a value")
    return seed


def aad(version: int, key_id: str) -> bytes | None:
    """Return what DSM authenticates in a sealed seed; None if there is nothing."""
    if version == 1:
        return None
    purpose = "seed" if version == 2 else "local-kek"
    return b"\x83" + _head(_UNSIGNED, version) + _text(purpose) + _text(key_id)


def aad_under_local_kek(sealed: Seed, key_id: str) -> bytes:
    """Return what a seed of Version 3 is bound to under its local KEK."""
    texts = _text("seed") + _text(key_id) + _text(sealed.kid)
    wrapped = _bytes(sealed.cipher) + _bytes(sealed.iv) + _bytes(sealed.tag)
    return b"\x87\x03" + texts + wrapped


def derived(local_kek: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Return the key and the nonce of one seed (RFC 5869 with SHA-256)."""
    prk = hmac.digest(salt, local_kek, "sha256")
    first = hmac.digest(prk, b"sdkms.v1 seed\x01", "sha256")
    second = hmac.digest(prk, first + b"sdkms.v1 seed\x02", "sha256")
    return first, second[:12]


def open_sealed(kek: bytes, sealed: Seed, key_id: str) -> bytes:
    """Return the seed, of any version, with the key in DSM alone."""
    plain = unseal(kek, sealed, aad(sealed.version, key_id))
    if sealed.salt is None or sealed.inner is None:
        return plain
    key, nonce = derived(plain, sealed.salt)
    return AESGCM(key).decrypt(nonce, sealed.inner, aad_under_local_kek(sealed, key_id))


def seal(
    kek: bytes, plain: bytes, iv: bytes, extra: bytes | None
) -> tuple[bytes, bytes]:
    """Return ciphertext and tag, as DSM makes them."""
    made = AESGCM(kek).encrypt(iv, plain, extra)
    return made[:-16], made[-16:]


def unseal(kek: bytes, sealed: Seed, extra: bytes | None) -> bytes:
    """Return what DSM returns: a seed, or in Version 3 the local KEK."""
    return AESGCM(kek).decrypt(sealed.iv, sealed.cipher + sealed.tag, extra)


def go_plugin_key_id(endpoint: str, uuid: str, name: str) -> str:
    """Return the Go plugin's key_id."""
    return hashlib.sha256(f"{endpoint}{uuid}{name}".encode()).hexdigest()


def protobuf_fields(message: bytes) -> dict[int, bytes | int]:
    """Return the fields of a message that holds each once, as EncryptedObject does."""
    found: dict[int, bytes | int] = {}
    while message:
        key, message = _varint(message)
        value, message = _varint(message)
        if key & 7 == 2:
            found[key >> 3], message = message[:value], message[value:]
        else:
            assert key & 7 == 0
            found[key >> 3] = value
    return found


def decrypt_object(encrypted: bytes, seed: bytes, etcd_key: str) -> bytes:
    """Return the object, as kube-apiserver does."""
    info, nonce, rest = encrypted[:32], encrypted[32:44], encrypted[44:]
    key = HKDFExpand(SHA256(), 32, info).derive(seed)
    return AESGCM(key).decrypt(nonce, rest, etcd_key.encode())


def _varint(data: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, data[index + 1 :]
    raise ValueError("the number does not end")


def _after(data: bytes, expected: bytes) -> bytes:
    if not data.startswith(expected):
        raise ValueError("a key or its place")
    return data[len(expected) :]


def _string(data: bytes, kind: int) -> tuple[bytes, bytes]:
    if not data:
        raise ValueError("it ends too early")
    for more in (0, 1, 2):
        head, rest = data[: 1 + more], data[1 + more :]
        size = int.from_bytes(head[1:], "big") if more else max(0, ord(head) - kind)
        if head == _head(kind, size) and size <= len(rest):
            return rest[:size], rest[size:]
    raise ValueError("a string")


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _head(_TEXT, len(encoded)) + encoded


def _bytes(value: bytes) -> bytes:
    return _head(_BYTES, len(value)) + value


def _head(kind: int, number: int) -> bytes:
    if number <= 23:
        return bytes([kind + number])
    if number <= 0xFF:
        return bytes([kind + 24, number])
    return bytes([kind + 25]) + number.to_bytes(2, "big")
