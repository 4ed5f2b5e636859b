"""Time as DSM sees it: a clock that tests move, and DSM's date form.

All instants are seconds since the epoch, UTC.
"""

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable


_BASIC_ISO = re.compile(r"\d{8}T\d{6}Z")
_BASIC_ISO_FORMAT = "%Y%m%dT%H%M%SZ"


class Clock:
    """The wall clock, or a frozen one, that can be moved.

    Attributes:
        on_move: Called, in this order, after each movement that somebody makes.
    """

    def __init__(self, start_s: float | None = None) -> None:
        """Make a clock.

        Args:
            start_s: Stand still at this instant and move only by `advance`; follow
                the wall clock when absent.
        """
        self.on_move: list[Callable[[], None]] = []
        self._start_s = start_s
        self._moved_s = 0.0

    def now(self) -> float:
        """Return the present instant."""
        start_s = self._start_s
        return (time.time() if start_s is None else start_s) + self._moved_s

    @property
    def moved_s(self) -> float:
        """How far it was moved, in all."""
        return self._moved_s

    def advance(self, seconds: float) -> None:
        """Move forward, as if `seconds` had passed; backward if they are negative."""
        self._moved_s += seconds
        for look in list(self.on_move):
            look()


def basic_iso(instant_s: float) -> str:
    """Return *instant_s* the way DSM writes dates, e.g. 20170509T070912Z."""
    return datetime.fromtimestamp(instant_s, UTC).strftime(_BASIC_ISO_FORMAT)


def parse_basic_iso(text: str) -> float:
    """Return the instant that *text* names.

    Raises:
        ValueError: *text* is not a date in DSM's form.
    """
    if not _BASIC_ISO.fullmatch(text):
        raise ValueError(f"not a date like 20170509T070912Z: {text!r}")
    return datetime.strptime(text, _BASIC_ISO_FORMAT).replace(tzinfo=UTC).timestamp()
