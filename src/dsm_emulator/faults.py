"""What goes wrong on demand: faults by kind, for a path, an app and a count.

| kind | effect | parameters |
|---|---|---|
| latency | the answer comes later | `ms` |
| hang | no answer until released, or until the client goes | |
| session-lost | all sessions end before the request is looked at | |
| status | this status instead of an answer | `status`, `retry_after`, `body` |
| redirect | a redirect to another URL | `location`, `status` (307) |
| reset | the connection is reset (TCP RST) | |
| drop-field | a field is missing from the answer | `field` |
| set-field | a field is there with this JSON value | `field`, `value` |
| wrong-kid | the answer names a kid that doesn't exist | |
| not-json | 200 with a text that isn't JSON | |
| truncated-json | 200 with the first half of the answer | |
| huge-body | 200 with a valid answer, padded to `size` bytes | `size` |

status, redirect and reset stand in for DSM: the operation does not happen. The defects
from drop-field on change an answer that DSM has given, and they wait (and don't count)
until there is one with a JSON object in it. All faults that match apply, in the order
in which they were added; of the kinds that stand in for DSM the first one wins.

Thread-safe.
"""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

import attrs


DEFAULT_SIZE = 8 * 1024 * 1024


class FaultKind(StrEnum):
    """The kinds; the module's docstring says what each does."""

    LATENCY = "latency"
    HANG = "hang"
    SESSION_LOST = "session-lost"
    STATUS = "status"
    REDIRECT = "redirect"
    RESET = "reset"
    DROP_FIELD = "drop-field"
    SET_FIELD = "set-field"
    WRONG_KID = "wrong-kid"
    NOT_JSON = "not-json"
    TRUNCATED_JSON = "truncated-json"
    HUGE_BODY = "huge-body"


class BodyForm(StrEnum):
    """The shapes in which a status can come; DSM's own is text."""

    TEXT = "text"
    JSON = "json"
    JSON_STRING = "json-string"
    HTML = "html"
    EMPTY = "empty"
    HUGE = "huge"


_STAND_INS = frozenset({FaultKind.STATUS, FaultKind.REDIRECT, FaultKind.RESET})
_DEFECTS = frozenset(
    {
        FaultKind.DROP_FIELD,
        FaultKind.SET_FIELD,
        FaultKind.WRONG_KID,
        FaultKind.NOT_JSON,
        FaultKind.TRUNCATED_JSON,
        FaultKind.HUGE_BODY,
    }
)
_NEEDS = {
    FaultKind.LATENCY: "ms",
    FaultKind.STATUS: "status",
    FaultKind.REDIRECT: "location",
    FaultKind.DROP_FIELD: "field",
    FaultKind.SET_FIELD: "field",
}


@attrs.frozen
class Fault:
    """One fault.

    Attributes:
        kind: What goes wrong, a `FaultKind` or its text.
        path: Only for this path, or for paths that match it as a shell pattern.
        app: Only for requests that name the app of this id.
        count: For so many requests; for all when absent.
        ms: latency: by how many milliseconds.
        status: status: the code; redirect: 307 when absent.
        retry_after: status: the Retry-After header, verbatim.
        body: status: the shape of the body, a `BodyForm` or its text.
        text: status: what the body says.
        location: redirect: the URL, verbatim.
        field: drop-field, set-field: the name of the field.
        value: set-field: any JSON value.
        size: huge-body, and the body form huge: in bytes.
    """

    kind: FaultKind = attrs.field(converter=FaultKind)
    path: str | None = None
    app: str | None = None
    count: int | None = None
    ms: float | None = None
    status: int | None = None
    retry_after: str | None = None
    body: BodyForm = attrs.field(default=BodyForm.TEXT, converter=BodyForm)
    text: str = "injected fault"
    location: str | None = None
    field: str | None = None
    value: Any = None
    size: int = DEFAULT_SIZE

    def __attrs_post_init__(self) -> None:
        needed = _NEEDS.get(self.kind)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"a fault of kind {self.kind} needs {needed}")
        if self.count is not None and self.count < 1:
            raise ValueError("a fault's count is at least 1")


@attrs.frozen
class Before:
    """What is wrong before DSM looks at a request.

    Attributes:
        delay_s: Wait so long.
        hangs: Wait for these to be done.
        loses_sessions: End all sessions.
        stand_in: Answer with this instead.
    """

    delay_s: float = 0.0
    hangs: tuple[Future[None], ...] = ()
    loses_sessions: bool = False
    stand_in: Fault | None = None


@attrs.define(eq=False)
class _Armed:
    fault: Fault
    left: int | None
    released: Future[None]

    def matches(self, path: str, app: str | None) -> bool:
        fault = self.fault
        if self.left == 0:
            return False
        return (fault.app is None or fault.app == app) and (
            fault.path is None or fnmatchcase(path, fault.path)
        )


class Faults:
    """The faults that are armed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hanging_changed = threading.Condition(self._lock)
        self._hanging = 0
        self._armed: list[_Armed] = []

    def __bool__(self) -> bool:
        return bool(self._armed)

    def __iter__(self) -> Iterator[Fault]:
        with self._lock:
            return iter([armed.fault for armed in self._armed])

    def add(self, fault: Fault) -> None:
        """Arm *fault* from the next request on."""
        with self._lock:
            self._armed.append(_Armed(fault, fault.count, Future()))

    def remove(self, fault: Fault) -> None:
        """Disarm *fault* and let go on what hangs by it."""
        self._disarm(lambda armed: armed.fault is fault)

    def clear(self) -> None:
        """Disarm all faults and let go on what hangs."""
        self._disarm(lambda _: True)

    def before(self, path: str, app: str | None) -> Before:
        """Return, and count, what is wrong before DSM looks at a request."""
        delay_ms = 0.0
        hangs: list[Future[None]] = []
        loses_sessions = False
        with self._lock:
            for armed in list(self._armed):
                fault = armed.fault
                if fault.kind in _DEFECTS or not armed.matches(path, app):
                    continue
                self._spend(armed)
                if fault.kind in _STAND_INS:
                    return Before(delay_ms / 1000, tuple(hangs), loses_sessions, fault)
                if fault.kind is FaultKind.LATENCY:
                    delay_ms += fault.ms or 0.0
                elif fault.kind is FaultKind.HANG:
                    hangs.append(armed.released)
                else:
                    loses_sessions = True
        return Before(delay_ms / 1000, tuple(hangs), loses_sessions)

    def defects(self, path: str, app: str | None) -> list[Fault]:
        """Return, and count, what is wrong with an answer that carries an object."""
        with self._lock:
            found = [
                armed
                for armed in self._armed
                if armed.fault.kind in _DEFECTS and armed.matches(path, app)
            ]
            for armed in found:
                self._spend(armed)
        return [armed.fault for armed in found]

    def count_hanging(self, change: int) -> None:
        """Note that so many more, or fewer, requests hang."""
        with self._hanging_changed:
            self._hanging += change
            self._hanging_changed.notify_all()

    def wait_for_hanging(self, number: int, timeout_s: float = 10.0) -> bool:
        """Wait until *number* requests hang; return whether they came in time."""
        with self._hanging_changed:
            return self._hanging_changed.wait_for(
                lambda: self._hanging >= number, timeout_s
            )

    def _spend(self, armed: _Armed) -> None:
        if armed.left is None:
            return
        armed.left -= 1
        # A spent hang stays, for `remove` and `clear` to let go what hangs by it.
        if armed.left == 0 and armed.fault.kind is not FaultKind.HANG:
            self._armed.remove(armed)

    def _disarm(self, is_meant: Callable[[_Armed], bool]) -> None:
        with self._lock:
            disarmed = [armed for armed in self._armed if is_meant(armed)]
            self._armed = [armed for armed in self._armed if armed not in disarmed]
        for armed in disarmed:
            armed.released.set_result(None)


def spoil(answer: dict[str, Any], defects: list[Fault]) -> bytes:
    """Return the body of *answer* with *defects* in it."""
    spoilt = dict(answer)
    body: bytes | None = None
    for fault in defects:
        name = fault.field or ""
        if fault.kind is FaultKind.DROP_FIELD:
            spoilt.pop(name, None)
        elif fault.kind is FaultKind.SET_FIELD:
            spoilt[name] = fault.value
        elif fault.kind is FaultKind.WRONG_KID:
            spoilt["kid"] = str(uuid.uuid4())
        elif fault.kind is FaultKind.HUGE_BODY:
            spoilt["padding"] = "x" * fault.size
        elif fault.kind is FaultKind.NOT_JSON:
            body = b"this is not JSON"
        else:
            whole = json.dumps(spoilt).encode()
            body = whole[: len(whole) // 2]
    return json.dumps(spoilt).encode() if body is None else body
