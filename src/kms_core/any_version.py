"""The envelope of a daemon: one version is written, every version is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kms_core.envelope import Envelope
from kms_core.sealed_seed import has_local_kek


if TYPE_CHECKING:
    from collections.abc import Mapping

    from kms_core.envelope import ProviderEnvelope
    from kms_core.key_id import AnnouncedKey
    from kms_core.local_kek import LocalKekEnvelope


class AnyVersionEnvelope(Envelope):
    """Seals by one envelope, opens by the one that the sealed seed needs.

    Args:
        by_provider: Opens Versions 1 and 2.
        by_local_kek: Opens Version 3.
        writes_local_keks: Whether Version 3 is written; otherwise what by_provider
            writes.
        moves: New kids by old ones, as in ``MovedKeys``: what the old one protected
            goes when the new one must not be used.
    """

    def __init__(
        self,
        by_provider: ProviderEnvelope,
        by_local_kek: LocalKekEnvelope,
        *,
        writes_local_keks: bool,
        moves: Mapping[str, str] | None = None,
    ) -> None:
        self._moves = dict(moves or {})
        self._writer: Envelope = by_local_kek if writes_local_keks else by_provider
        self._by_provider = by_provider
        self._by_local_kek = by_local_kek

    @property
    def sealing_proves(self) -> bool:
        """Whether every ``seal`` has the key service encrypt and decrypt."""
        return self._writer.sealing_proves

    async def seal(self, seed: bytes, key: AnnouncedKey, *, deadline: float) -> bytes:
        """Seal by the writer."""
        return await self._writer.seal(seed, key, deadline=deadline)

    async def open(self, stored: bytes, key_id: str, *, deadline: float) -> bytes:
        """Open by the envelope that *stored* needs."""
        envelope: Envelope = self._by_provider
        if has_local_kek(stored):
            envelope = self._by_local_kek
        return await envelope.open(stored, key_id, deadline=deadline)

    async def prove(self, key: AnnouncedKey, probe: bytes, *, deadline: float) -> None:
        """Prove by the writer."""
        await self._writer.prove(key, probe, deadline=deadline)

    def drop(self, kid: str) -> int:
        """Forget the local KEKs that *kid* wrapped, under whatever name."""
        former = [old for old, new in self._moves.items() if new == kid]
        return sum(self._by_local_kek.drop(each) for each in (kid, *former))

    async def aclose(self) -> None:
        """Forget every local KEK."""
        await self._by_local_kek.aclose()
