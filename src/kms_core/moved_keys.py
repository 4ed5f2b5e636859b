"""MovedKeys: keys that a key service now has under other kids than seeds name.

After a move to another key service, or a restore into one, the same key material has a
new kid. What is stored names the old one, and is bound to it; only the call that opens
it must say the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kms_core.provider import KeyProvider


if TYPE_CHECKING:
    from collections.abc import Mapping

    from kms_core.provider import Ciphertext, KeyDescription


class MovedKeys(KeyProvider):
    """A KeyProvider that decrypts under the new kid of a key that moved.

    Args:
        provider: The key service.
        moves: New kids by old ones.
    """

    def __init__(self, provider: KeyProvider, moves: Mapping[str, str]) -> None:
        self._provider = provider
        self._moves = dict(moves)

    async def renew(self) -> None:
        """Renew the key service's session."""
        await self._provider.renew()

    async def aclose(self) -> None:
        """Close the key service."""
        await self._provider.aclose()

    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        return await self._provider.describe(kid, deadline=deadline)

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        return await self._provider.encrypt(kid, plaintext, aad, deadline=deadline)

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        now = self._moves.get(kid, kid)
        return await self._provider.decrypt(now, ciphertext, aad, deadline=deadline)
