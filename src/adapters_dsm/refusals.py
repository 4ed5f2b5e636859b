"""The port to what is remembered of refused logins across restarts."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from attrs import frozen


if TYPE_CHECKING:
    import datetime as dt


@frozen
class Refusal:
    """A login that DSM refused.

    Attributes:
        at: When, in UTC.
        fingerprint: Of the credential, see ``Credential.fingerprint``; no secret.
    """

    at: dt.datetime
    fingerprint: str


@frozen
class Refusals:
    """The refused logins of the last 24 hours.

    Attributes:
        latest: Them, the oldest first.
        in_a_row: How many there were since the last login that DSM took; it may be
            more than are in ``latest``.
        stopped: Whether the process was stopped in good order since the last of them:
            by a person, perhaps, who starts it again since something was mended.
    """

    latest: tuple[Refusal, ...] = ()
    in_a_row: int = 0
    stopped: bool = False


class RefusalStore(abc.ABC):
    """Keeps refusals, so that a daemon that crashes and starts again waits as well.

    Methods raise nothing, and return within seconds even if a disk hangs.
    """

    @abc.abstractmethod
    async def load_refusals(self) -> Refusals | None:
        """Return what was kept, or None if nothing can be used."""

    @abc.abstractmethod
    async def save_refusals(self, refusals: Refusals) -> None:
        """Keep *refusals* in place of what was there."""


class NoRefusalStore(RefusalStore):
    """Keeps nothing: for one look at DSM, not for a daemon."""

    async def load_refusals(self) -> Refusals | None:
        """Return None."""
        return None

    async def save_refusals(self, refusals: Refusals) -> None:
        """Drop *refusals*."""
