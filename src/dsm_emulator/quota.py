"""How many cryptographic operations an account may do.

Subscriptions carry such limits; what DSM does at them isn't known (section 5), so the
answer is a cell of the state table.
"""

from dsm_emulator.clock import Clock


class Quota:
    """Counts operations, and says when there were too many.

    Attributes:
        per_second: So many in each second of the clock; None is: any number.
        total: So many at all; None is: any number.
        used: How many were counted.
    """

    def __init__(self, clock: Clock) -> None:
        self.per_second: int | None = None
        self.total: int | None = None
        self.used = 0
        self._clock = clock
        self._second = 0
        self._in_second = 0

    def take(self) -> bool:
        """Count one operation, unless it would be one too many."""
        if self.total is not None and self.used >= self.total:
            return False
        if self.per_second is not None and not self._take_in_second(self.per_second):
            return False
        self.used += 1
        return True

    def _take_in_second(self, limit: int) -> bool:
        second = int(self._clock.now())
        if second != self._second:
            self._second, self._in_second = second, 0
        if self._in_second >= limit:
            return False
        self._in_second += 1
        return True
