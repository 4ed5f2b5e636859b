"""MovedKeys: keys that a key service now has under other kids than seeds name.

After a move to another key service, or a restore into one, the same key material has a
new kid. What is stored names the old one, and is bound to it; only the call that opens
it must say the new one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kms_core.provider import KeyProvider


if TYPE_CHECKING:
    from collections.abc import Mapping

    from kms_core.provider import Ciphertext, KeyDescription


_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class MovedKeys(KeyProvider):
    """A KeyProvider that decrypts under the new kid of a key that moved.

    Args:
        provider: The key service.
        moves: New kids by old ones. UUIDs match in any case (RFC 9562 section 4); kids
            of another form, letter by letter.
    """

    def __init__(self, provider: KeyProvider, moves: Mapping[str, str]) -> None:
        self._provider = provider
        self._moves = {_one_case(old): new for old, new in moves.items()}

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
        now = self._moves.get(_one_case(kid), kid)
        return await self._provider.decrypt(now, ciphertext, aad, deadline=deadline)


def _one_case(kid: str) -> str:
    return kid.lower() if _UUID.fullmatch(kid) else kid
