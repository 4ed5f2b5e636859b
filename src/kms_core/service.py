"""KmsService: what KMS v2 asks of a plugin, in the core's own words."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from attrs import frozen

from kms_core.errors import (
    AnnotationsRefused,
    AnswerTooLarge,
    KmsError,
    SeedSizeRefused,
)
from kms_core.limits import MAX_KEY_ID_BYTES, MAX_SEALED_SEED_BYTES, MAX_SEED_BYTES


if TYPE_CHECKING:
    from kms_core.envelope import Envelope
    from kms_core.watcher import Watcher


HEALTHZ_OK: Final = "ok"
"""The only healthz that kube-apiserver takes; every other answer is an error."""


class ApiVersion(enum.Enum):
    """What Status answers as version; kube-apiserver pins the first that it sees."""

    V2 = "v2"
    V2BETA1 = "v2beta1"


@frozen
class StatusAnswer:
    """An answer to Status: version, ``ok``, and the announced key_id."""

    version: str
    healthz: str
    key_id: str


@frozen
class EncryptAnswer:
    """An answer to Encrypt; we never write annotations."""

    ciphertext: bytes
    key_id: str


class KmsService:
    """Answers Status, Encrypt and Decrypt.

    Args:
        watcher: Knows the announced key.
        envelope: Seals and opens.
        api_version: What Status answers as version.
    """

    def __init__(
        self, watcher: Watcher, envelope: Envelope, api_version: ApiVersion
    ) -> None:
        self._watcher = watcher
        self._envelope = envelope
        self._api_version = api_version

    def status(self) -> StatusAnswer:
        """Answer from memory, without waiting.

        There is no "not ok" text: with a valid key_id beside it kube-apiserver would
        extend the write key for ever (kubernetes/kubernetes#138950).

        Raises:
            NotReady, DenialError: There is no key to announce.
        """
        key = self._watcher.key_to_announce()
        _require_size("key_id", len(key.key_id.encode()), MAX_KEY_ID_BYTES)
        return StatusAnswer(self._api_version.value, HEALTHZ_OK, key.key_id)

    async def encrypt(self, plaintext: bytes, *, deadline: float) -> EncryptAnswer:
        """Seal *plaintext* under the announced key.

        Args:
            plaintext: 1 to 512 bytes; kube-apiserver sends 32.
            deadline: Loop time at which to give up.

        Raises:
            SeedSizeRefused: It is empty or too large.
            NotReady, DenialError: There is no key to use.
            ProviderError: The key service failed or refused.
        """
        if not 1 <= len(plaintext) <= MAX_SEED_BYTES:
            raise SeedSizeRefused(
                f"the plaintext has {len(plaintext)} bytes, not 1 to {MAX_SEED_BYTES}"
            )
        key = await self._watcher.key_to_seal(deadline=deadline)
        try:
            sealed = await self._envelope.seal(plaintext, key, deadline=deadline)
        except KmsError as error:
            self._watcher.seal_failed(key, error)
            raise
        if self._envelope.sealing_proves:
            self._watcher.sealed(key)
        _require_size("ciphertext", len(sealed), MAX_SEALED_SEED_BYTES)
        _require_size("key_id", len(key.key_id.encode()), MAX_KEY_ID_BYTES)
        return EncryptAnswer(sealed, key.key_id)

    async def decrypt(
        self, ciphertext: bytes, key_id: str, *, annotated: bool, deadline: float
    ) -> bytes:
        """Open a sealed seed, in any phase.

        Args:
            ciphertext: What Encrypt answered, or hostile bytes.
            key_id: The key_id stored beside it.
            annotated: Whether the request carries annotations.
            deadline: Loop time at which to give up.

        Raises:
            CallError: It is not ours, damaged or forged.
            ProviderError: The key service failed or refused.
        """
        if annotated:
            raise AnnotationsRefused("the request carries annotations")
        return await self._envelope.open(ciphertext, key_id, deadline=deadline)


def _require_size(what: str, size: int, limit: int) -> None:
    """Check an answer against kube-apiserver's limits before it leaves."""
    if not 1 <= size <= limit:
        raise AnswerTooLarge(f"the {what} has {size} bytes, not 1 to {limit}")
