"""DekCache: opened seeds, kept as kube-apiserver keeps them (contract 3.2)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from kms_conformance.api_server.stored import DataKey
    from kms_conformance.connection import Sealed


TTL_S: Final = 24 * 3600.0
"""How long an entry lives after it was last set."""


class DekCache:
    """Opened seeds by what sealed them.

    An expired entry serves reads until something else is set; a read refreshes nothing.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[DataKey, float]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, source_type: int, sealed: Sealed) -> DataKey | None:
        """Return the opened seed, or None."""
        found = self._entries.get(_cache_key(source_type, sealed))
        return None if found is None else found[0]

    def set(self, key: DataKey, sealed: Sealed, now: float) -> None:
        """Keep *key* from *now* on, and drop what has expired."""
        self._entries = {
            name: entry for name, entry in self._entries.items() if now < entry[1]
        }
        self._entries[_cache_key(key.source_type, sealed)] = (key, now + TTL_S)

    def clear(self) -> None:
        """Forget everything, as a restart does."""
        self._entries.clear()


def _cache_key(source_type: int, sealed: Sealed) -> bytes:
    digest = hashlib.sha256()
    parts = [str(source_type).encode(), sealed.ciphertext, sealed.key_id.encode()]
    for key, value in sealed.annotations:
        parts += [key.encode(), value]
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()
