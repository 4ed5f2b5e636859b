"""What goes wrong on demand: the faults that are armed.

`dsm_emulator.fault_kinds` lists the kinds. All faults that match apply, in the order in
which they were added; of those that stand in for DSM, and of those of a connection and
of the wire, the first one wins. A fault of the answer waits, and doesn't count, until
there is a good answer with a JSON object in it; one of the wire, until there is any.

Thread-safe.
"""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from fnmatch import fnmatchcase

import attrs

from dsm_emulator.clock import Clock
from dsm_emulator.fault import Fault
from dsm_emulator.fault_kinds import KINDS, FaultKind, Stage


@attrs.define(eq=False)
class Struck:
    """A fault that is armed, and strikes.

    Attributes:
        left: How often it still strikes; None is: always.
        until_s: When it ends by itself, in seconds since the epoch.
        released: Done once what hangs by it may go on.
    """

    fault: Fault
    left: int | None
    until_s: float | None
    released: Future[None] = attrs.field(factory=Future)
    _dice: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Reproducible on purpose; nobody's secret depends on it.
        self._dice = random.Random(self.fault.seed)  # noqa: S311

    @property
    def kind(self) -> FaultKind:
        """What goes wrong."""
        return self.fault.kind

    @property
    def stage(self) -> Stage:
        """When it strikes."""
        return KINDS[self.fault.kind].stage

    def delay_s(self) -> float:
        """Return the delay of this strike, throwing dice."""
        fault = self.fault
        delay_ms = (fault.ms or 0.0) + self._dice.uniform(0, fault.jitter_ms)
        if fault.tail_ms and self._dice.random() < fault.tail_share:
            delay_ms += fault.tail_ms
        return delay_ms / 1000


@attrs.frozen
class Subject:
    """The request, or the connection, that a fault may be about."""

    path: str
    app: str | None = None
    connection: int = 0


@attrs.frozen
class Before:
    """What is wrong before DSM looks at a request.

    Attributes:
        delay_s: Wait so long.
        hangs: Wait for these to be done.
        loses_sessions: End all sessions.
        idle_s: Afterwards, close the connection once it was idle so long.
        stand_in: Answer with this instead.
        kinds: All that struck.
    """

    delay_s: float = 0.0
    hangs: tuple[Future[None], ...] = ()
    loses_sessions: bool = False
    idle_s: float | None = None
    stand_in: Fault | None = None
    kinds: tuple[FaultKind, ...] = ()


class Faults:
    """The faults that are armed."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Arm nothing.

        Args:
            clock: The time by which faults end; the wall clock when absent.
        """
        self._clock = Clock() if clock is None else clock
        self._lock = threading.Lock()
        self._hanging_changed = threading.Condition(self._lock)
        self._hanging = 0
        self._armed: list[Struck] = []
        self._watchers: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self._armed)

    def __iter__(self) -> Iterator[Fault]:
        return iter([armed.fault for armed in self.armed()])

    def armed(self) -> list[Struck]:
        """Return what is armed, with what is left of it."""
        self._end_what_is_over()
        with self._lock:
            return list(self._armed)

    def add(self, fault: Fault) -> None:
        """Arm *fault* from the next connection or request on."""
        seconds = fault.seconds
        until_s = None if seconds is None else self._clock.now() + seconds
        with self._lock:
            self._armed.append(Struck(fault, fault.count, until_s))
        self._tell()

    def remove(self, fault: Fault) -> None:
        """Disarm *fault* and let go on what hangs by it."""
        self._disarm(lambda armed: armed.fault is fault)

    def clear(self) -> None:
        """Disarm all faults and let go on what hangs."""
        self._disarm(lambda _: True)

    # When they strike.

    def of_listener(self) -> tuple[FaultKind | None, float | None]:
        """Return what is wrong with the listener, and for how many seconds at least.

        The second is None when no fault ends by itself.
        """
        armed = self.armed()
        kinds = [one.kind for one in armed if one.stage is Stage.LISTENER]
        ends_s = [one.until_s for one in armed if one.until_s is not None]
        for_s = min(ends_s) - self._clock.now() if ends_s else None
        return kinds[0] if kinds else None, for_s

    def of_connection(self, number: int, *, tls: bool = True) -> Struck | None:
        """Return, and count, what is wrong with a new connection.

        Args:
            number: That of the connection.
            tls: Whether it will speak TLS; what goes wrong there waits for one.
        """

        def is_meant(armed: Struck) -> bool:
            spoils_tls = armed.kind is not FaultKind.RESET_ON_ACCEPT
            return armed.stage is Stage.CONNECTION and (tls or not spoils_tls)

        return self._first(is_meant, Subject("", connection=number))

    def before(self, subject: Subject) -> Before:
        """Return, and count, what is wrong before DSM looks at a request."""
        before = Before()
        self._end_what_is_over()
        with self._lock:
            for armed in list(self._armed):
                if armed.stage not in _BEFORE or not _matches(armed, subject):
                    continue
                self._spend(armed)
                before = _with(before, armed)
                if before.stand_in is not None:
                    break
        return before

    def defects(self, subject: Subject) -> list[Fault]:
        """Return, and count, what is wrong with an answer that carries an object."""
        self._end_what_is_over()
        with self._lock:
            found = [
                armed
                for armed in self._armed
                if armed.stage is Stage.ANSWER and _matches(armed, subject)
            ]
            for armed in found:
                self._spend(armed)
        return [armed.fault for armed in found]

    def on_wire(self, subject: Subject) -> Struck | None:
        """Return, and count, what is wrong with the way of an answer."""
        return self._first(lambda armed: armed.stage is Stage.WIRE, subject)

    # For those who wait.

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Count a request, or a handshake, as one that hangs."""
        self.count_hanging(1)
        try:
            yield
        finally:
            self.count_hanging(-1)

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

    @contextmanager
    def watched_by(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call *watcher*, in any thread, when other faults are armed or time moves."""
        self._watchers.append(watcher)
        self._clock.on_move.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)
            self._clock.on_move.remove(watcher)

    def _tell(self) -> None:
        for watcher in list(self._watchers):
            watcher()

    def _first(
        self, is_meant: Callable[[Struck], bool], subject: Subject
    ) -> Struck | None:
        self._end_what_is_over()
        with self._lock:
            for armed in self._armed:
                if is_meant(armed) and _matches(armed, subject):
                    self._spend(armed)
                    return armed
        return None

    def _spend(self, armed: Struck) -> None:
        if armed.left is None:
            return
        armed.left -= 1
        # A spent fault by which something hangs stays, to be let go by its end.
        if armed.left == 0 and armed.kind not in _HANGS:
            self._armed.remove(armed)

    def _end_what_is_over(self) -> None:
        with self._lock:
            ends_s = [a.until_s for a in self._armed if a.until_s is not None]
        if ends_s and min(ends_s) <= (now_s := self._clock.now()):
            self._disarm(
                lambda armed: armed.until_s is not None and armed.until_s <= now_s
            )

    def _disarm(self, is_meant: Callable[[Struck], bool]) -> None:
        with self._lock:
            disarmed = [armed for armed in self._armed if is_meant(armed)]
            self._armed = [armed for armed in self._armed if armed not in disarmed]
        for armed in disarmed:
            armed.released.set_result(None)
        if disarmed:
            self._tell()


_BEFORE = frozenset({Stage.REQUEST, Stage.INSTEAD})
_HANGS = frozenset({FaultKind.HANG, FaultKind.STALL_HANDSHAKE, FaultKind.STALL_HEADERS})


def _matches(armed: Struck, subject: Subject) -> bool:
    fault = armed.fault
    return (
        armed.left != 0
        and (fault.connection is None or fault.connection == subject.connection)
        and (fault.app is None or fault.app == subject.app)
        and (fault.path is None or fnmatchcase(subject.path, fault.path))
    )


def _with(before: Before, armed: Struck) -> Before:
    fault = armed.fault
    before = attrs.evolve(before, kinds=(*before.kinds, fault.kind))
    if fault.kind is FaultKind.LATENCY:
        return attrs.evolve(before, delay_s=before.delay_s + armed.delay_s())
    if fault.kind is FaultKind.HANG:
        return attrs.evolve(before, hangs=(*before.hangs, armed.released))
    if fault.kind is FaultKind.CLOSE_IDLE:
        return attrs.evolve(before, idle_s=(fault.ms or 0.0) / 1000)
    if fault.kind is FaultKind.SESSION_LOST:
        return attrs.evolve(before, loses_sessions=True)
    return attrs.evolve(before, stand_in=fault)
