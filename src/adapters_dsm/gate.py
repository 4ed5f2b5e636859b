"""How often a refused credential may be tried again.

DSM's FIPS clusters replace an app's secret after 100 failed authentications in 24 h
(DSM's OpenAPI, GET /sys/v1/apps/{id}/credential). Up to five daemons may share one
credential, one on each node of a control plane, so that a daemon has 19:

- The timer tries 30 s after the first refusal, then after twice as long each time, up
  to two hours, and never more than 16 times in 24 h.
- 3 more are left for credentials that DSM has not refused yet: what a person has just
  put in place is tried at once.
- They are counted over all endpoints, whatever is accepted in between, and across
  restarts; a login that is under way counts until it ends. The wait goes on after a
  crash as well: whatever starts the daemon again and again must not begin with 30 s
  each time. After a stop in good order it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from typing import TYPE_CHECKING, Final

from adapters_dsm.refusals import Refusal, Refusals
from kms_core.errors import CredentialRefused


if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters_dsm.refusals import RefusalStore
    from kms_core.ports import Clock


FIRST_WAIT_S: Final = 30.0
LONGEST_WAIT_S: Final = 2 * 3600.0
BY_TIMER_A_DAY: Final = 16
IN_ALL_A_DAY: Final = 19

_MOST_SENT: Final = 2
"""So often a login may go out before it ends (``session_calls.log_in``)."""

_DAY_S: Final = 24 * 3600.0
_MOST_IN_A_ROW = 1000
_EARLIER = "DSM refused this credential before, and it is not tried again yet"


class RefusalGate:
    """Remembers that a credential was refused, and when it may be offered again.

    - Nothing refused since the last success: anybody may log in.
    - Refused: nobody but the watcher's timer, and the timer once the wait is over.
    - Another credential than those refused: anybody, at once.
    - Whatever is refused too often within 24 h waits until it is not.

    Args:
        clock: Time.
        store: What survives a restart.
    """

    def __init__(self, clock: Clock, store: RefusalStore) -> None:
        self._clock = clock
        self._store = store
        self._recalling = asyncio.Lock()
        self._recalled = False
        # Times are those of the monotonic clock, so that a clock that is set moves
        # nothing.
        self._latest: list[tuple[float, str]] = []
        self._under_way = 0
        self._in_a_row = 0
        self._refused: set[str] = set()
        self._opens_at = 0.0
        self._cause = _EARLIER

    async def recall(self) -> None:
        """Take over what an earlier process was told; before the first login."""
        async with self._recalling:
            if not self._recalled:
                self._take_over(await self._store.load_refusals())
                self._recalled = True

    def check(self, fingerprint: str, *, by_timer: bool) -> None:
        """Return if a login may be tried now.

        Args:
            fingerprint: Of the credential that would be offered.
            by_timer: Whether the watcher asks, not a call from the socket.

        Raises:
            CredentialRefused: It may not; the refusal that is remembered.
        """
        now = self._clock.monotonic()
        # Nothing was refused within a day: this is the case on every usual login.
        count = len(self._within_a_day(now)) if self._latest else 0
        count += self._under_way
        if fingerprint not in self._refused:
            permitted = count < IN_ALL_A_DAY
        else:
            due = by_timer and now >= self._opens_at
            permitted = due and count < BY_TIMER_A_DAY
        if not permitted:
            raise CredentialRefused(self._cause, remembered=True)

    @contextlib.contextmanager
    def offering(self) -> Iterator[None]:
        """Count a login as refused while it is under way: others may be, elsewhere."""
        self._under_way += _MOST_SENT
        try:
            yield
        finally:
            self._under_way -= _MOST_SENT

    async def refused(
        self, error: CredentialRefused, fingerprint: str, sent: int = 1
    ) -> None:
        """Note that DSM refused the credential just now.

        Args:
            error: What it said.
            fingerprint: Of the credential.
            sent: How often the login went out; DSM may have counted each, also one
                that it answered too late.
        """
        now = self._clock.monotonic()
        self._latest = [*self._within_a_day(now), *[(now, fingerprint)] * sent]
        self._refused.add(fingerprint)
        self._in_a_row = min(self._in_a_row + 1, _MOST_IN_A_ROW)
        self._opens_at = now + self._wait_s()
        self._cause = error.cause
        await self._save()

    async def accepted(self) -> None:
        """Note that DSM took the credential."""
        if not self._in_a_row:
            return
        self._in_a_row = 0
        self._refused.clear()
        await self._save()

    def open_now(self) -> None:
        """Let the timer's next call try, whatever the wait (SIGHUP).

        The waits after it go on growing: whoever sends the signal in a loop must not
        empty DSM's patience.
        """
        self._opens_at = self._clock.monotonic()

    async def aclose(self) -> None:
        """Note that the process ends in good order."""
        if self._in_a_row:
            await self._save(stopped=True)

    def _take_over(self, kept: Refusals | None) -> None:
        if kept is None:
            return
        self._in_a_row = min(max(kept.in_a_row, 0), _MOST_IN_A_ROW)
        now, date = self._clock.monotonic(), self._clock.now()
        for refusal in kept.latest[-IN_ALL_A_DAY:]:
            # A date to come is one of a clock that was wrong: it counts as now.
            age_s = max(0.0, (date - refusal.at).total_seconds())
            self._latest.append((now - age_s, refusal.fingerprint))
        if self._in_a_row and self._latest:
            self._refused = {fingerprint for _, fingerprint in self._latest}
            self._opens_at = self._latest[-1][0] + self._wait_s()
        if kept.stopped:
            self._opens_at = now

    def _wait_s(self) -> float:
        doublings = min(self._in_a_row - 1, 16)
        return min(FIRST_WAIT_S * 2.0**doublings, LONGEST_WAIT_S)

    def _within_a_day(self, now: float) -> list[tuple[float, str]]:
        return [(at, who) for at, who in self._latest if now - at < _DAY_S]

    async def _save(self, *, stopped: bool = False) -> None:
        now, date = self._clock.monotonic(), self._clock.now()
        latest = tuple(
            Refusal(date - dt.timedelta(seconds=now - at), who)
            for at, who in self._within_a_day(now)
        )
        await self._store.save_refusals(Refusals(latest, self._in_a_row, stopped))
