"""The sealed seed: our ciphertext, three versions of one CBOR family.

Each version is one definite-length CBOR map with text keys in one fixed order.
Version 1 is the Go plugin's, whose order is not RFC 8949's canonical one. A decoder
loads, checks exact types, encodes again in that order and demands byte equality:
cbor2 alone accepts trailing bytes, duplicate keys and tags that build foreign objects.
``docs/formats.md`` describes the formats for other languages, with vectors.
"""

from __future__ import annotations

import enum
from typing import Final

import cbor2
from attrs import frozen

from kms_core.errors import SealedSeedMalformed
from kms_core.key_id import is_kid
from kms_core.limits import MAX_SEALED_SEED_BYTES
from kms_core.provider import Ciphertext


class Version(enum.IntEnum):
    """Which format a sealed seed has."""

    GO_PLUGIN = 1
    DIRECT = 2
    LOCAL_KEK = 3


@frozen
class SealedSeed:
    """A seed encrypted by the key service itself: Version 1 or 2.

    Attributes:
        version: Whether it is the Go plugin's or ours.
        kid: The key that made it.
        ciphertext: What the key service returned.
    """

    version: Version
    kid: str
    ciphertext: Ciphertext


@frozen
class EnvelopedSeed:
    """A seed sealed here, under a local KEK that the key service wrapped: Version 3.

    Attributes:
        kid: The key that wrapped the local KEK.
        wrapped: The local KEK, as the key service wrapped it.
        salt: 32 random bytes; key and nonce of this seed are derived from them.
        seed: AES-256-GCM ciphertext of the seed, its 16-byte tag at the end.
    """

    kid: str
    wrapped: Ciphertext
    salt: bytes
    seed: bytes


AnySeed = SealedSeed | EnvelopedSeed

SALT_BYTES: Final = 32
_TAG_BYTES: Final = 16

# A map of five or of seven pairs whose first key is "Version".
_HEAD: Final = b"\xa5\x67Version"
_ENVELOPED_HEAD: Final = b"\xa7\x67Version"
_HEADS: Final = (_HEAD, _ENVELOPED_HEAD)
_FIELDS: Final = ("Version", "KID", "Cipher", "IV", "Tag")
_ENVELOPED_FIELDS: Final = (*_FIELDS, "Salt", "Seed")


def aad_for_seed(version: Version, key_id: str) -> bytes | None:
    """Return what a seed of Version 1 or 2 is bound to, or None for nothing.

    Version 1 has no AAD. Version 2 binds the version, the purpose ``seed`` and the
    key_id, as the CBOR array of these three.
    """
    if version is Version.GO_PLUGIN:
        return None
    return cbor2.dumps([int(version), "seed", key_id])


def aad_for_local_kek(key_id: str) -> bytes:
    """Return what a wrapped local KEK is bound to.

    The purpose keeps it apart from seeds: neither can be passed off as the other.
    """
    return cbor2.dumps([int(Version.LOCAL_KEK), "local-kek", key_id])


def aad_for_probe(key_id: str) -> bytes:
    """Return what a probe is bound to; nothing ever opens one but the probe itself."""
    return cbor2.dumps([int(Version.LOCAL_KEK), "probe", key_id])


def aad_for_enveloped_seed(key_id: str, kid: str, wrapped: Ciphertext) -> bytes:
    """Return what a seed of Version 3 is bound to: its local KEK, wrapped, as well."""
    return cbor2.dumps(
        [
            int(Version.LOCAL_KEK),
            "seed",
            key_id,
            kid,
            wrapped.cipher,
            wrapped.iv,
            wrapped.tag,
        ]
    )


def encode(sealed: AnySeed) -> bytes:
    """Return *sealed* as kube-apiserver stores it.

    For a 32-byte seed: 130 bytes in Versions 1 and 2, 224 in Version 3.
    """
    if isinstance(sealed, SealedSeed):
        return cbor2.dumps(_fields(sealed.version, sealed.kid, sealed.ciphertext))
    fields = _fields(Version.LOCAL_KEK, sealed.kid, sealed.wrapped)
    return cbor2.dumps({**fields, "Salt": sealed.salt, "Seed": sealed.seed})


def _fields(version: Version, kid: str, made: Ciphertext) -> dict[str, object]:
    return {
        "Version": int(version),
        "KID": kid,
        "Cipher": made.cipher,
        "IV": made.iv,
        "Tag": made.tag,
    }


def has_local_kek(stored: bytes) -> bool:
    """Return whether *stored* can be of Version 3 only, if it is a sealed seed."""
    return stored.startswith(_ENVELOPED_HEAD)


def decode(stored: bytes) -> AnySeed:
    """Read a sealed seed of any version.

    Raises:
        SealedSeedMalformed: *stored* is none, byte for byte.
    """
    if not stored:
        raise SealedSeedMalformed("the ciphertext is empty")
    if len(stored) > MAX_SEALED_SEED_BYTES:
        raise SealedSeedMalformed(
            f"the ciphertext has {len(stored)} bytes, more than any sealed seed"
        )
    # First the cheap test, so that what others wrote does not reach cbor2 at all.
    if not stored.startswith(_HEADS):
        raise SealedSeedMalformed("the ciphertext is not a sealed seed")
    try:
        loaded = cbor2.loads(stored)
        sealed = _from_map(loaded)
        exact = encode(sealed) == stored
    except SealedSeedMalformed:
        raise
    except Exception as error:
        raise SealedSeedMalformed("the ciphertext is not valid CBOR") from error
    if not exact:
        raise SealedSeedMalformed("the ciphertext is not in its only encoding")
    return sealed


def _from_map(loaded: object) -> AnySeed:
    names = tuple(loaded) if type(loaded) is dict else ()
    if type(loaded) is not dict or names not in (_FIELDS, _ENVELOPED_FIELDS):
        raise SealedSeedMalformed("the ciphertext has other fields than a sealed seed")
    version, kid, *parts = loaded.values()
    enveloped = names == _ENVELOPED_FIELDS
    if type(version) is not int or version not in _VERSIONS[enveloped]:
        raise SealedSeedMalformed("the sealed seed has a version that is not known")
    if type(kid) is not str or any(type(part) is not bytes for part in parts):
        raise SealedSeedMalformed("a field of the sealed seed has the wrong type")
    if not is_kid(kid):
        raise SealedSeedMalformed("the sealed seed names no possible key")
    cipher, iv, tag, *inner = parts
    if not cipher:
        raise SealedSeedMalformed("the sealed seed holds no seed")
    made = Ciphertext(cipher, iv, tag)
    if not enveloped:
        return SealedSeed(Version(version), kid, made)
    salt, seed = inner
    if len(salt) != SALT_BYTES or len(seed) <= _TAG_BYTES:
        raise SealedSeedMalformed("a field of the sealed seed has the wrong length")
    return EnvelopedSeed(kid, made, salt, seed)


_VERSIONS: Final = {
    False: (Version.GO_PLUGIN, Version.DIRECT),
    True: (Version.LOCAL_KEK,),
}
