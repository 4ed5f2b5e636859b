"""Log lines: rendered and written beside the event loop, through a bounded queue.

A reader of our stderr that stops reading must not stop the daemon: a full queue drops
lines and counts them, and the writer says so once it can write again.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import queue
import select
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
WRITE_LINES: Final = 256
"""How many lines one write may hold."""
GATHER_S: Final = 0.005
"""How long the writer lets lines gather after the first, in seconds."""
CLOSE_S: Final = 0.3
"""How long the end may wait for a reader of the log, in seconds."""

_LEVELS: Final = {level: rank for rank, level in enumerate(LogLevel)}
_STDERR: Final = 2


class _Line(NamedTuple):
    """A log line that is not rendered yet; its fields are asked for by the writer."""

    at: dt.datetime
    level: LogLevel
    event: str
    fields: Callable[[], dict[str, Any]]


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
        self._queue: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._queue_lines = queue_lines
        self._render = _renderer(log_format)
        # A daemon thread: one that is stuck in a write must not keep the process.
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def wants(self, level: LogLevel) -> bool:
        """Return whether lines of *level* are written."""
        return _LEVELS[level] >= self._least

    def log(self, level: LogLevel, event: str, **fields: object) -> None:
        """Queue a line; never waits. Fields that are None are left out."""
        if self.wants(level):
            self.put(level, event, lambda: fields)

    def put(
        self, level: LogLevel, event: str, fields: Callable[[], dict[str, Any]]
    ) -> None:
        """Queue a line of a level that is wanted; never waits.

        Args:
            level: Its level.
            event: What it says.
            fields: Called by the writer's thread.
        """
        if self._queue.qsize() >= self._queue_lines:
            self.dropped += 1
            return
        self._queue.put(_Line(dt.datetime.now(dt.UTC), level, event, fields))

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what waits, for at most *timeout_s* seconds."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        while lines := self._next():
            if not self._write("".join(map(self._render, lines))):
                self._unwritten += len(lines)
                continue
            lost = self.dropped + self._unwritten - self._told
            if lost:
                note = _Line(
                    dt.datetime.now(dt.UTC),
                    LogLevel.WARNING,
                    "log lines dropped",
                    lambda: {"count": lost},  # noqa: B023 - rendered at once
                )
                if self._write(self._render(note)):
                    self._told += lost

    def _next(self) -> list[_Line]:
        """Wait for lines; return some, or none at the end.

        After the first a few more are let gather: under load this thread wakes up for
        a dozen lines, and not for each, which would take the event loop's time.
        """
        first = self._queue.get()
        if first is None:
            return []
        lines = [first]
        if self._queue.empty():
            time.sleep(GATHER_S)
        while len(lines) < WRITE_LINES and not self._queue.empty():
            line = self._queue.get()
            if line is None:
                self._queue.put(None)
                break
            lines.append(line)
        return lines

    def _write(self, text: str) -> bool:
        """Return whether *text* was written; without a reader the daemon goes on."""
        rest = text.encode("utf-8", "replace")
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
        final = structlog.processors.JSONRenderer(_dumps)
    else:
        final = structlog.processors.KeyValueRenderer(
            key_order=["time", "level", "event"], drop_missing=True
        )

    def render(line: _Line) -> str:
        event: dict[str, Any] = {
            "time": line.at.isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": line.level.value,
            "event": line.event,
        }
        fields = line.fields()
        event |= {k: _plain(v) for k, v in fields.items() if v is not None}
        return f"{final(None, line.level.value, event)}\n"

    return render


_ENCODER: Final = json.JSONEncoder(default=str)


def _dumps(event: dict[str, Any], **_: object) -> str:
    # json.dumps makes an encoder for each call, which costs more than the encoding.
    return _ENCODER.encode(event)


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
            name = _NAMES.get(type(event), type(event).__name__)
            self._writer.put(level, name, functools.partial(_fields_of, event))


def _fields_of(event: Event) -> dict[str, Any]:
    return {
        field.name: value
        for field in attrs.fields(type(event))
        if (value := getattr(event, field.name)) != ""
    }


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
