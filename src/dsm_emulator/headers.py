"""The headers that every answer of DSM carries (reference, sections 7 and 10)."""

import itertools
import json
import uuid
from email.utils import formatdate

from attrs import define, field


Header = tuple[bytes, bytes]


@define(eq=False)
class HeaderRules:
    """Which headers answers carry, besides X-Request-Id.

    Attributes:
        date: Whether there is a Date.
        date_skew_s: By how much that Date differs from the model's clock.
        echoes_request_id: Whether a client's X-Request-Id comes back. Assumed: nobody
            knows whether DSM does (section 7).
        profiling: Whether there is Profiling-Data, as on a cluster with profiling on.
    """

    date: bool = True
    date_skew_s: float = 0.0
    echoes_request_id: bool = False
    profiling: bool = False
    _date_of: tuple[int, bytes] = field(default=(-1, b""), init=False)

    def date_header(self, now_s: float) -> Header:
        """Return the Date at *now_s*, which is the model's time."""
        second = int(now_s + self.date_skew_s)
        known, text = self._date_of
        if known != second:
            text = formatdate(second, usegmt=True).encode()
            self._date_of = second, text
        return b"date", text


class RequestIds:
    """X-Request-Id: looks like a UUID, is unique, and costs less than one."""

    def __init__(self) -> None:
        self._prefix = str(uuid.uuid4())[:24]
        self._serial = itertools.count(1)

    def next(self) -> str:
        """Return a new one."""
        return f"{self._prefix}{next(self._serial):012x}"


def profiling_header(waited_ns: int, operated_ns: int) -> Header:
    """Return Profiling-Data.

    The stages that the emulator doesn't measure on their own are part of `operate`.

    Args:
        waited_ns: How long the request waited for the model.
        operated_ns: How long the model took.
    """
    unmeasured = ("parse_request", "session_lookup", "validate_input", "check_access")
    shown = {
        "in_queue": waited_ns,
        **dict.fromkeys(unmeasured, 0),
        "operate": operated_ns,
        "db_flush": 0,
        "total": waited_ns + operated_ns,
    }
    return b"profiling-data", json.dumps(shown).encode()
