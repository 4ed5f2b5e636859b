"""Breaker: remembers that an endpoint failed, and when to look at it again.

It keeps no call from an endpoint: one that is open is only tried after the others. So
several open breakers cost no more than the order of tries, and one endpoint alone needs
none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen


if TYPE_CHECKING:
    from kms_core.ports import Clock


@frozen
class Waits:
    """How long to leave an endpoint alone, in seconds: doubling from one to the other.

    Attributes:
        first_s: After the first failure.
        longest_s: After many.
    """

    first_s: float
    longest_s: float


AFTER_FAILURE: Final = Waits(10.0, 300.0)
AFTER_REFUSED_LOGIN: Final = Waits(600.0, 4 * 3600.0)
"""Each look may cost a failed authentication, of which a day has few (``gate``)."""

ANSWERED_FAILURES: Final = 3
"""So many bad answers in a row open it: one may be about that call alone."""

FORGOTTEN_S: Final = 600.0
"""An endpoint that worked for so long after it failed starts with short waits again."""


class Breaker:
    """The breaker of one endpoint.

    Args:
        clock: Time.

    Attributes:
        opened_at: When the endpoint failed last, on the clock; None while it is closed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bad_answers = 0
        self._openings = 0
        self._last_failed_at = 0.0
        self._due_at = 0.0
        self.opened_at: float | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is open, and it is time to look at the endpoint again."""
        return self.opened_at is not None and self._clock.monotonic() >= self._due_at

    def worked(self, began: float) -> None:
        """Note that a call was answered well.

        Args:
            began: When it was begun, on the clock. A call that was under way when the
                breaker opened does not close it.
        """
        self._bad_answers = 0
        if self.opened_at is not None and began > self.opened_at:
            self.opened_at = None
        elif self._openings and began - self._last_failed_at >= FORGOTTEN_S:
            self._openings = 0

    def answered_badly(self) -> None:
        """Note an answer that only a broken endpoint gives."""
        self._bad_answers += 1
        if self._bad_answers >= ANSWERED_FAILURES:
            self.open(AFTER_FAILURE)

    def open(self, waits: Waits) -> None:
        """Open it, or let it wait longer if it was open, and due for a look."""
        now = self._clock.monotonic()
        under_way = self.opened_at is not None and now < self._due_at
        self.opened_at = self._last_failed_at = now
        if under_way:
            # Calls that were begun before it opened say nothing new.
            return
        wait_s = min(waits.first_s * 2.0 ** min(self._openings, 16), waits.longest_s)
        self._openings += 1
        self._due_at = now + wait_s

    def close(self) -> None:
        """Close it on trial: what opens it again lets it wait longer."""
        self._bad_answers = 0
        self.opened_at = None
