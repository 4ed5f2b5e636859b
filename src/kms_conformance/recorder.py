"""Recorder: what was sent, what came, and how long each call took."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from attrs import frozen


if TYPE_CHECKING:
    from collections.abc import Iterable


KEPT_EXCHANGES: Final = 3
"""How many of a check's last calls its report shows."""

LARGEST_REQUEST_BYTES: Final = 36 * 1024
"""kube-apiserver sends no larger one (contract 2.3)."""


@frozen
class Exchange:
    """One call.

    Attributes:
        method: ``Status``, ``Encrypt``, ``Decrypt``, or another's full path.
        duration_s: Seconds from sending to the end.
        code: Name of the status code.
        text: The plugin's words when the code is not OK; unchecked.
        sent: The request's bytes.
        came: The answer's bytes; empty when there is none.
    """

    method: str
    duration_s: float
    code: str
    text: str = ""
    sent: bytes = b""
    came: bytes = b""


@frozen
class Latencies:
    """How long the calls of one method took.

    Attributes:
        method: The method.
        durations_s: Seconds of each call that was answered OK, in order of time.
    """

    method: str
    durations_s: tuple[float, ...]


class Recorder:
    """Keeps the figures of a whole run, and the last exchanges of the present check."""

    def __init__(self) -> None:
        self._whole_run_s: dict[str, list[float]] = {}
        self._largest: dict[str, int] = {}
        self._this_check_s: dict[str, list[float]] = {}
        self._last: deque[Exchange] = deque(maxlen=KEPT_EXCHANGES)

    def begin(self) -> None:
        """Count what comes now to a new check."""
        self._this_check_s = {}
        self._last.clear()

    def add(self, exchange: Exchange) -> None:
        """Record a call that has ended."""
        method, size = exchange.method, len(exchange.came)
        self._last.append(exchange)
        # What a larger request brings, such as E12's, kube-apiserver never gets.
        if len(exchange.sent) <= LARGEST_REQUEST_BYTES:
            self._largest[method] = max(self._largest.get(method, 0), size)
        if exchange.code == "OK":
            for durations_s in (self._whole_run_s, self._this_check_s):
                durations_s.setdefault(method, []).append(exchange.duration_s)

    def durations_s(self, method: str) -> tuple[float, ...]:
        """Return how long the present check's answered calls of *method* took."""
        return tuple(self._this_check_s.get(method, ()))

    def last(self) -> tuple[Exchange, ...]:
        """Return the present check's last few calls, the latest at the end."""
        return tuple(self._last)

    def largest_bytes(self, method: str) -> int:
        """Return the size of the whole run's largest answer of *method*, or 0.

        Answers to requests that kube-apiserver never sends do not count.
        """
        return self._largest.get(method, 0)

    def latencies(self) -> tuple[Latencies, ...]:
        """Return the whole run's durations, by method."""
        return tuple(
            Latencies(method, tuple(durations_s))
            for method, durations_s in sorted(self._whole_run_s.items())
        )


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that *percent* of the values do not exceed.

    Raises:
        ValueError: There are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a percentile of nothing")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
