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


# A map of five pairs whose first key is "Version".
_HEAD: Final = b"\xa5\x67Version"
_FIELDS: Final = ("Version", "KID", "Cipher", "IV", "Tag")


def aad_for_seed(version: Version, key_id: str) -> bytes | None:
    """Return what a seed of *version* is bound to, or None for nothing.

    Version 1 has no AAD. Later ones bind the version, the purpose ``seed`` and the
    key_id, as the CBOR array of these three.
    """
    if version is Version.GO_PLUGIN:
        return None
    return cbor2.dumps([int(version), "seed", key_id])


def encode(sealed: SealedSeed) -> bytes:
    """Return *sealed* as kube-apiserver stores it, 130 bytes for a 32-byte seed."""
    return cbor2.dumps(
        {
            "Version": int(sealed.version),
            "KID": sealed.kid,
            "Cipher": sealed.ciphertext.cipher,
            "IV": sealed.ciphertext.iv,
            "Tag": sealed.ciphertext.tag,
        }
    )


def decode(stored: bytes) -> SealedSeed:
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
    if not stored.startswith(_HEAD):
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


def _from_map(loaded: object) -> SealedSeed:
    if type(loaded) is not dict or tuple(loaded) != _FIELDS:
        raise SealedSeedMalformed("the ciphertext has other fields than a sealed seed")
    version, kid, cipher, iv, tag = loaded.values()
    if type(version) is not int or version not in tuple(Version):
        raise SealedSeedMalformed("the sealed seed has a version that is not known")
    texts_and_bytes = (
        type(kid) is str and type(cipher) is type(iv) is type(tag) is bytes
    )
    if not texts_and_bytes:
        raise SealedSeedMalformed("a field of the sealed seed has the wrong type")
    if not is_kid(kid):
        raise SealedSeedMalformed("the sealed seed names no possible key")
    if not cipher:
        raise SealedSeedMalformed("the sealed seed holds no seed")
    return SealedSeed(Version(version), kid, Ciphertext(cipher, iv, tag))
