"""The port to what survives a restart. Nothing in it is secret.

A store that fails is an empty one: it costs one more local KEK, or a Status that waits
for the first proof; never data, never a failed start.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from attrs import frozen


if TYPE_CHECKING:
    import datetime as dt

    from kms_core.kek_cache import WrappedKek
    from kms_core.key_id import AnnouncedKey


@frozen
class StoredKek:
    """The wrapped form of the local KEK in use.

    Attributes:
        wrapped: What the key service made of it.
        made_at: When it was made, in UTC.
    """

    wrapped: WrappedKek
    made_at: dt.datetime


@frozen
class StoredProof:
    """Which key was announced, and when the key service was last seen well.

    Attributes:
        key: The announced key.
        well_at: Date and time in UTC.
    """

    key: AnnouncedKey
    well_at: dt.datetime


class StateStore(abc.ABC):
    """Keeps a local KEK's wrapped form, and the last proof.

    Methods raise nothing, and return within seconds even if a disk hangs: the watcher
    and Encrypts wait for them.
    """

    @abc.abstractmethod
    async def load_kek(self) -> StoredKek | None:
        """Return what was kept, or None if nothing can be used."""

    @abc.abstractmethod
    async def save_kek(self, stored: StoredKek) -> None:
        """Keep *stored* in place of what was there."""

    @abc.abstractmethod
    async def load_proof(self) -> StoredProof | None:
        """Return what was kept, or None if nothing can be used."""

    @abc.abstractmethod
    async def save_proof(self, stored: StoredProof) -> None:
        """Keep *stored* in place of what was there."""

    @abc.abstractmethod
    async def forget_proof(self) -> None:
        """Have ``load_proof`` return None, in later processes too."""


class NoStore(StateStore):
    """Keeps nothing, for a daemon without a folder for its state."""

    async def load_kek(self) -> StoredKek | None:
        """Return None."""
        return None

    async def save_kek(self, stored: StoredKek) -> None:
        """Drop *stored*."""

    async def load_proof(self) -> StoredProof | None:
        """Return None."""
        return None

    async def save_proof(self, stored: StoredProof) -> None:
        """Drop *stored*."""

    async def forget_proof(self) -> None:
        """Return: there is none."""
