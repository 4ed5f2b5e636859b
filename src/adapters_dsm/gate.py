"""How often a refused credential may be tried again.

DSM's FIPS clusters replace an app's secret after 100 failed authentications in 24 h
(DSM's OpenAPI, GET /sys/v1/apps/{id}/credential). Three daemons may share one key: each
tries 30 s after the first refusal, then after twice as long each time, up to an hour;
that makes 30 tries in the first 24 h, and never more than 25 in any later ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kms_core.errors import CredentialRefused


if TYPE_CHECKING:
    from kms_core.ports import Clock


FIRST_WAIT_S: Final = 30.0
LONGEST_WAIT_S: Final = 3600.0


class RefusalGate:
    """Remembers that the credential was refused, and when it may be offered again.

    - Nothing refused: anybody may log in.
    - Refused: nobody but the watcher's timer, and the timer once the wait is over.
    - Accepted: all is forgotten.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refusals = 0
        self._opens_at = 0.0
        self._cause = ""

    def check(self, *, by_timer: bool) -> None:
        """Return if a login may be tried now.

        Args:
            by_timer: Whether the watcher asks, not a call from the socket.

        Raises:
            CredentialRefused: It may not; the refusal that is remembered.
        """
        if not self._refusals:
            return
        if by_timer and self._clock.monotonic() >= self._opens_at:
            return
        raise CredentialRefused(self._cause, remembered=True)

    def refused(self, error: CredentialRefused) -> None:
        """Note that DSM refused the credential just now."""
        wait_s = min(FIRST_WAIT_S * 2**self._refusals, LONGEST_WAIT_S)
        self._refusals = min(self._refusals + 1, 16)
        self._opens_at = self._clock.monotonic() + wait_s
        self._cause = error.cause

    def accepted(self) -> None:
        """Note that DSM took the credential."""
        self._refusals = 0

    def open_now(self) -> None:
        """Let the timer's next call try, whatever the wait (SIGHUP).

        The waits after it go on growing: whoever sends the signal in a loop must not
        empty DSM's patience.
        """
        self._opens_at = self._clock.monotonic()
