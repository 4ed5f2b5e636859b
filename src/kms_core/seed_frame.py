"""What most sealed seeds share: their frame, read once and remembered.

All seeds of kube-apiserver have 32 bytes, and all that one local KEK has sealed differ
in salt and seed alone, both of fixed length at the end. What stands before them is
decoded, checked and bound to its key_id once; that is most of what an open costs.

Nothing here is secret, and nothing depends on time or on the key service: the memory is
that of a pure function.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Final

from attrs import frozen

from kms_core.errors import SealedSeedMalformed
from kms_core.kek_cache import WrappedKek
from kms_core.key_id import require_native
from kms_core.sealed_seed import (
    SALT_BYTES,
    EnvelopedSeed,
    aad_for_enveloped_seed,
    decode,
)


FRAMES_KEPT: Final = 2048
"""How many frames are remembered; each takes some 1.5 kB."""

_SEED_BYTES: Final = 32 + 16
_BETWEEN: Final = b"\x64Seed\x58\x30"  # the name, and the head of 48 bytes
_SEED_AT: Final = -_SEED_BYTES
_BETWEEN_AT: Final = _SEED_AT - len(_BETWEEN)
_SALT_AT: Final = _BETWEEN_AT - SALT_BYTES
_ANY_TAIL: Final = bytes(SALT_BYTES) + _BETWEEN + bytes(_SEED_BYTES)


@frozen
class Opening:
    """A sealed seed of Version 3, checked and bound to its key_id.

    Attributes:
        wrapped: The local KEK that opens it.
        aad: What the seed is bound to.
        salt: 32 bytes.
        seed: AES-256-GCM ciphertext and tag.
    """

    wrapped: WrappedKek
    aad: bytes
    salt: bytes
    seed: bytes


def read_enveloped(stored: bytes, key_id: str, scheme: str) -> Opening:
    """Read a sealed seed of Version 3.

    Args:
        stored: What Encrypt answered, or hostile bytes.
        key_id: What is stored beside it.
        scheme: First part of the native key_ids that are ours.

    Raises:
        SealedSeedMalformed: *stored* is not of Version 3, byte for byte.
        KeyIdMalformed, KeyIdMismatch: *key_id* is not its own.
    """
    if stored[_BETWEEN_AT:_SEED_AT] == _BETWEEN:
        # What looks like a frame's end may be part of something else by chance.
        with contextlib.suppress(SealedSeedMalformed):
            wrapped, aad = _framed(stored[:_SALT_AT], key_id, scheme)
            return Opening(
                wrapped, aad, stored[_SALT_AT:_BETWEEN_AT], stored[_SEED_AT:]
            )
    sealed = decode(stored)
    if not isinstance(sealed, EnvelopedSeed):
        raise SealedSeedMalformed("the sealed seed has no local KEK")
    return Opening(*_bound(sealed, key_id, scheme), sealed.salt, sealed.seed)


@functools.lru_cache(FRAMES_KEPT)
def _framed(frame: bytes, key_id: str, scheme: str) -> tuple[WrappedKek, bytes]:
    """Return what *frame* says if a salt and a seed of the usual length follow it.

    The decoder looks at nothing of these two but their lengths, so that what holds for
    one pair holds for all. What is refused is not remembered: whoever sends rubbish
    fills no memory with it.
    """
    sealed = decode(frame + _ANY_TAIL)
    if not isinstance(sealed, EnvelopedSeed) or len(sealed.seed) != _SEED_BYTES:
        raise SealedSeedMalformed("the sealed seed has no local KEK")
    return _bound(sealed, key_id, scheme)


def _bound(sealed: EnvelopedSeed, key_id: str, scheme: str) -> tuple[WrappedKek, bytes]:
    require_native(key_id, sealed.kid, scheme)
    aad = aad_for_enveloped_seed(key_id, sealed.kid, sealed.wrapped)
    return WrappedKek(sealed.kid, key_id, sealed.wrapped), aad
