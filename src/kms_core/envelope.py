"""The port that seals and opens seeds, and the two formats without a local KEK."""

from __future__ import annotations

import abc
import hmac
from typing import TYPE_CHECKING

from attrs import frozen

from kms_core.errors import (
    AnswerTooLarge,
    KeyIdMismatch,
    KeyIdNotAccepted,
    ProviderAnswerRefused,
    SealedSeedMalformed,
    SealedSeedNotAuthentic,
)
from kms_core.key_id import NativeKeyId, is_legacy, require_native
from kms_core.limits import MAX_SEALED_SEED_BYTES
from kms_core.sealed_seed import SealedSeed, Version, aad_for_seed, decode, encode


if TYPE_CHECKING:
    from kms_core.key_id import AnnouncedKey
    from kms_core.provider import KeyProvider


class Envelope(abc.ABC):
    """Seals seeds and opens them again.

    A sealed seed is self-describing bytes of at most 1,024 bytes. A deadline is an
    absolute time of the running event loop, in seconds.
    """

    @property
    def sealing_proves(self) -> bool:
        """Whether every ``seal`` has the key service encrypt and decrypt."""
        return True

    @abc.abstractmethod
    async def seal(self, seed: bytes, key: AnnouncedKey, *, deadline: float) -> bytes:
        """Return *seed* sealed under *key*, proven to open again.

        Args:
            seed: 1 to 512 bytes.
            key: The announced key; its key_id will come back with the sealed seed.
            deadline: Loop time at which to give up.

        Raises:
            ProviderError: The key service failed or refused.
        """

    @abc.abstractmethod
    async def open(self, stored: bytes, key_id: str, *, deadline: float) -> bytes:
        """Return the seed in *stored*, or raise: never doubtful bytes.

        The key_id is checked before the key service is called.

        Args:
            stored: What ``seal`` returned, or hostile bytes.
            key_id: The key_id that was stored beside it.
            deadline: Loop time at which to give up.

        Raises:
            SealedSeedMalformed, SealedSeedNotAuthentic: *stored* is no sealed seed of
                ours, or was changed.
            KeyIdMalformed, KeyIdNotAccepted, KeyIdMismatch: *key_id* is not ours, or
                does not belong to it.
            ProviderError: The key service failed or refused.
        """

    @abc.abstractmethod
    async def prove(self, key: AnnouncedKey, probe: bytes, *, deadline: float) -> None:
        """Have the key service encrypt and decrypt under *key*; be ready to seal.

        Args:
            key: The key to prove, announced or not.
            probe: 32 random bytes to do it with.
            deadline: Loop time at which to give up.

        Raises:
            ProviderError: The key service failed or refused.
        """

    def drop(self, kid: str) -> int:  # noqa: ARG002 - nothing is kept here
        """Forget every secret that *kid* protects; return how many there were.

        For a key that must not be used any more (design section 7, ``on_denied``).
        """
        return 0

    async def aclose(self) -> None:  # noqa: B027 - optional
        """Forget every secret, and end what is under way; raises nothing."""


@frozen
class ProviderEnvelope(Envelope):
    """Every seed is encrypted by the key service itself: Versions 1 and 2.

    It opens both. ``writes`` says which one ``seal`` makes.

    Attributes:
        provider: The key service.
        writes: The version to write.
        scheme: First part of the native key_ids that are ours.
        accept_key_ids: Legacy hashes under which Version 1 opens.
    """

    provider: KeyProvider
    writes: Version
    scheme: str
    accept_key_ids: frozenset[str]

    async def seal(self, seed: bytes, key: AnnouncedKey, *, deadline: float) -> bytes:
        """Encrypt *seed* under ``key.kid``, open it again, return the proven bytes.

        The proof costs one more call on a path that kube-apiserver takes once a start
        or rotation. Without it, an answer damaged on its way would make every object
        written with this seed unreadable at kube-apiserver's next start.
        """
        aad = aad_for_seed(self.writes, key.key_id)
        ciphertext = await self.provider.encrypt(key.kid, seed, aad, deadline=deadline)
        sealed = encode(SealedSeed(self.writes, key.kid, ciphertext))
        if len(sealed) > MAX_SEALED_SEED_BYTES:
            raise AnswerTooLarge(
                f"the sealed seed has {len(sealed)} bytes, too many for kube-apiserver"
            )
        try:
            opened = await self.open(sealed, key.key_id, deadline=deadline)
        except (SealedSeedMalformed, SealedSeedNotAuthentic) as error:
            raise ProviderAnswerRefused("a fresh ciphertext does not open") from error
        if not hmac.compare_digest(opened, seed):
            raise ProviderAnswerRefused("a fresh ciphertext opens to other bytes")
        return sealed

    async def prove(self, key: AnnouncedKey, probe: bytes, *, deadline: float) -> None:
        """Seal *probe*, which opens it again."""
        await self.seal(probe, key, deadline=deadline)

    async def open(self, stored: bytes, key_id: str, *, deadline: float) -> bytes:
        """Check the key_id against what *stored* says, then decrypt."""
        sealed = decode(stored)
        if not isinstance(sealed, SealedSeed):
            raise SealedSeedMalformed("the sealed seed is of Version 3")
        self._require(sealed, key_id)
        return await self.provider.decrypt(
            sealed.kid,
            sealed.ciphertext,
            aad_for_seed(sealed.version, key_id),
            deadline=deadline,
        )

    def _require(self, sealed: SealedSeed, key_id: str) -> None:
        if sealed.version is not Version.GO_PLUGIN:
            require_native(key_id, sealed.kid, self.scheme)
            return
        if not is_legacy(key_id):
            NativeKeyId.parse(key_id)
            raise KeyIdMismatch("a Go plugin's sealed seed came with a native key_id")
        if key_id not in self.accept_key_ids:
            raise KeyIdNotAccepted(f"key_id {key_id} is not that of this config")
