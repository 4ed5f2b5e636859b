"""Log lines: rendered and written beside the event loop, through a bounded queue.

A reader of our stderr that stops reading must not stop the daemon: a full queue drops
lines and counts them, and the writer says so once it can write again.
"""

from __future__ import annotations

import datetime as dt
import os
import queue
import select
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import attrs
import structlog

from adapters_dsm.events import (
    CredentialDoubted,
    CredentialReplaced,
    EndpointBack,
    EndpointLeft,
)
from k8s_sdkms_plugin.config.model import LogFormat, LogLevel
from k8s_sdkms_plugin.state_dir import StateUnusable
from kms_core.events import (
    CallFinished,
    KeyFindingReported,
    ProviderCallFinished,
    SecretsDropped,
    StandingReported,
    Unexpected,
)
from kms_core.ports import Event, Telemetry


if TYPE_CHECKING:
    from collections.abc import Callable


QUEUE_LINES: Final = 4096
GATHER_S: Final = 0.005
"""How long the writer looks away when no line waits, in seconds."""
CLOSE_S: Final = 0.3
"""How long the end may wait for a reader of the log, in seconds."""

_LEVELS: Final = {level: rank for rank, level in enumerate(LogLevel)}
_STDERR: Final = 2


@attrs.frozen
class _Line:
    """A log line that is not rendered yet."""

    at: dt.datetime
    level: LogLevel
    event: str
    fields: dict[str, Any]


class LogWriter:
    """Renders lines and writes them to a file descriptor, in a thread of its own.

    Args:
        log_format: JSON or text.
        level: Least level that is written.
        descriptor: Where to; stderr by default.
        queue_lines: How many lines may wait.

    Attributes:
        dropped: How many lines found no place, since the start.
    """

    def __init__(
        self,
        log_format: LogFormat,
        level: LogLevel,
        *,
        descriptor: int = _STDERR,
        queue_lines: int = QUEUE_LINES,
    ) -> None:
        self.dropped = 0
        self._unwritten = 0
        self._told = 0
        self._least = _LEVELS[level]
        self._descriptor = descriptor
        self._queue: queue.Queue[_Line | None] = queue.Queue(queue_lines)
        self._render = _renderer(log_format)
        # A daemon thread: one that is stuck in a write must not keep the process.
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def wants(self, level: LogLevel) -> bool:
        """Return whether lines of *level* are written."""
        return _LEVELS[level] >= self._least

    def log(self, level: LogLevel, event: str, **fields: object) -> None:
        """Queue a line; never waits. Fields that are None are left out."""
        if not self.wants(level):
            return
        line = _Line(dt.datetime.now(dt.UTC), level, event, fields)
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what waits, for at most *timeout_s* seconds."""
        deadline = time.monotonic() + timeout_s
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _write_all(self) -> None:
        while (line := self._next()) is not None:
            if not self._write(self._render(line)):
                self._unwritten += 1
                continue
            lost = self.dropped + self._unwritten - self._told
            if lost:
                note = _Line(
                    dt.datetime.now(dt.UTC),
                    LogLevel.WARNING,
                    "log lines dropped",
                    {"count": lost},
                )
                if self._write(self._render(note)):
                    self._told += lost

    def _next(self) -> _Line | None:
        """Return the next line, or None at the end.

        Where none waits, a few are let gather first: under load this thread wakes up
        for a dozen lines, and not for each, which would take the event loop's time.
        """
        if self._queue.empty():
            time.sleep(GATHER_S)
        return self._queue.get()

    def _write(self, text: str) -> bool:
        """Return whether *text* was written; without a reader the daemon goes on."""
        rest = text.encode("utf-8", "replace") + b"\n"
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Whoever shares the terminal or pipe with us made it non-blocking.
                writable = select.poll()
                writable.register(self._descriptor, select.POLLOUT)
                writable.poll()
            except OSError:
                # Nobody holds the other end, or the disk is full.
                return False
        return True


def _renderer(log_format: LogFormat) -> Callable[[_Line], str]:
    final: Any
    if log_format is LogFormat.JSON:
        final = structlog.processors.JSONRenderer(default=str)
    else:
        final = structlog.processors.KeyValueRenderer(
            key_order=["time", "level", "event"], drop_missing=True
        )

    def render(line: _Line) -> str:
        stamp = line.at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        event: dict[str, Any] = {
            "time": stamp,
            "level": line.level.value,
            "event": line.event,
        }
        event |= {k: _plain(v) for k, v in line.fields.items() if v is not None}
        return str(final(None, line.level.value, event))

    return render


def _plain(value: object) -> object:
    match value:
        case float():
            return round(value, 6)
        case dt.datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        case _:
            return value


class LogTelemetry(Telemetry):
    """Makes log lines of events.

    Successful calls for Status are not logged. Nor, above debug, is a Status that fails
    because the daemon is not ready, or a request that DSM never answered: the report of
    the standing says that, once and every 5 minutes. Nor are successful requests that
    serve no call: the watcher's looks.

    Args:
        writer: Where lines go.
    """

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def emit(self, event: Event) -> None:
        """Queue the line that *event* deserves, if any."""
        level = _level_of(event)
        if level is not None and self._writer.wants(level):
            fields = {k: v for k, v in attrs.asdict(event).items() if v != ""}
            self._writer.log(
                level, _NAMES.get(type(event), type(event).__name__), **fields
            )


def _level_of(event: Event) -> LogLevel | None:
    level: LogLevel | None = LogLevel.INFO
    match event:
        case CallFinished(method="Status"):
            level = None if event.error is None else LogLevel.DEBUG
        case CallFinished(error=str()):
            level = LogLevel.WARNING
        case ProviderCallFinished():
            level = _level_of_request(event)
        case KeyFindingReported(gone=False, severity="warning"):
            level = LogLevel.WARNING
        case StandingReported(state="ready" | "starting", code=""):
            level = LogLevel.INFO
        case StandingReported():
            level = LogLevel.WARNING
        case StateUnusable() | SecretsDropped() | CredentialDoubted() | EndpointLeft():
            level = LogLevel.WARNING
        case Unexpected():
            level = LogLevel.ERROR
    return level


def _level_of_request(event: ProviderCallFinished) -> LogLevel:
    if event.error is None:
        # Its request_id is the way from a call of kube-apiserver to DSM's own log.
        return LogLevel.INFO if event.uid else LogLevel.DEBUG
    return LogLevel.DEBUG if event.http_status is None else LogLevel.WARNING


_NAMES: Final[dict[type[Event], str]] = {
    CallFinished: "kms call",
    CredentialDoubted: "credential",
    CredentialReplaced: "credential replaced",
    EndpointBack: "endpoint back",
    EndpointLeft: "endpoint left",
    KeyFindingReported: "key finding",
    ProviderCallFinished: "dsm call",
    SecretsDropped: "secrets dropped",
    StandingReported: "standing",
    StateUnusable: "state unusable",
    Unexpected: "unexpected",
}
