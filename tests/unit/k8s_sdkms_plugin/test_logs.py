from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from adapters_dsm.events import (
    CredentialDoubted,
    CredentialReplaced,
    EndpointBack,
    EndpointLeft,
)
from adapters_dsm.settings import Secret
from k8s_sdkms_plugin.config.model import LogFormat, LogLevel
from k8s_sdkms_plugin.logs import LogTelemetry, LogWriter
from kms_core.events import (
    CallFinished,
    KeyFindingReported,
    ProviderCallFinished,
    StandingReported,
    Unexpected,
)
from kms_core.ports import Event


if TYPE_CHECKING:
    from collections.abc import Iterator


PIPE_BYTES = 4096
WITHIN_S = 10.0


class Pipe:
    """A pipe of 4 kB, whose reader reads only when it is told to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._rest = b""

    def fill(self) -> None:
        """Leave no place for a single byte."""
        os.set_blocking(self.writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"\n" * PIPE_BYTES)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"\n")
        os.set_blocking(self.writer, True)

    def line(self) -> str:
        """Return the next line that is not empty."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            while b"\n" in self._rest:
                first, self._rest = self._rest.split(b"\n", 1)
                if first:
                    return first.decode()
            left_s = deadline - time.monotonic()
            ready, _, _ = select.select([self.reader], [], [], max(0.0, left_s))
            assert ready, "nothing was written in time"
            self._rest += os.read(self.reader, PIPE_BYTES)

    def lines(self) -> list[str]:
        """Return what there is until the writing end is closed."""
        os.close(self.writer)
        self.writer = -1
        whole = self._rest
        while chunk := os.read(self.reader, PIPE_BYTES):
            whole += chunk
        return [line for line in whole.decode().split("\n") if line]

    def close(self) -> None:
        """Close what is open."""
        for end in (self.reader, self.writer):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def json_lines(pipe: Pipe, events: list[Event], level: LogLevel) -> list[Any]:
    """Return what is logged of *events*."""
    writer = LogWriter(LogFormat.JSON, level, descriptor=pipe.writer)
    telemetry = LogTelemetry(writer)
    for event in events:
        telemetry.emit(event)
    writer.close(WITHIN_S)
    return [json.loads(line) for line in pipe.lines()]


def call(method: str, error: str | None = None, **changes: Any) -> CallFinished:
    finished = CallFinished(
        method=method,
        uid="u-1",
        key_id="sdkms.v1:k",
        rpc_code="OK" if error is None else "UNAVAILABLE",
        error=error,
        duration_s=0.00123456789,
    )
    return attrs.evolve(finished, **changes)


def provider_call(
    error: str | None = None, http_status: int | None = 200, uid: str = "u-1"
) -> ProviderCallFinished:
    return ProviderCallFinished(
        operation="encrypt",
        uid=uid,
        kid="k",
        attempt=1,
        http_status=http_status,
        request_id="r-1",
        error=error,
        duration_s=0.5,
    )


def finding(severity: str, *, gone: bool = False) -> KeyFindingReported:
    return KeyFindingReported(
        kid="k", code="KEY-SIZE", severity=severity, cause="c", remedy="r", gone=gone
    )


def standing(state: str, code: str = "", **changes: Any) -> StandingReported:
    reported = StandingReported(
        state=state,
        key_id="",
        code=code,
        cause="it broke" if code else "",
        remedy="mend it" if code else "",
        meaning="outage" if code else "",
        next_look_s=None,
        status_fails_at=None,
    )
    return attrs.evolve(reported, **changes)


# Lines.


def test_json_line_holds_time_level_event_and_fields(pipe: Pipe) -> None:
    (line,) = json_lines(pipe, [call("Decrypt")], LogLevel.INFO)
    at = dt.datetime.fromisoformat(line.pop("time"))
    assert at.tzinfo is not None
    assert abs(dt.datetime.now(dt.UTC) - at) < dt.timedelta(minutes=1)
    assert line == {
        "level": "info",
        "event": "kms call",
        "method": "Decrypt",
        "uid": "u-1",
        "key_id": "sdkms.v1:k",
        "rpc_code": "OK",
        "duration_s": 0.001235,
    }


def test_text_line_begins_with_time_level_and_event(pipe: Pipe) -> None:
    writer = LogWriter(LogFormat.TEXT, LogLevel.INFO, descriptor=pipe.writer)
    writer.log(LogLevel.INFO, "serving", socket="/run/k.sock", nothing=None)
    writer.close(WITHIN_S)
    (line,) = pipe.lines()
    assert line.startswith("time='2")
    assert line.endswith(" level='info' event='serving' socket='/run/k.sock'")


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_event_stays_on_one_line_whatever_it_holds(
    pipe: Pipe, log_format: LogFormat
) -> None:
    writer = LogWriter(log_format, LogLevel.INFO, descriptor=pipe.writer)
    writer.log(LogLevel.INFO, "a\nb", what="c\nd\r\u2028\x1b[31m\ud800", other=[b"\n"])
    writer.close(WITHIN_S)
    (line,) = pipe.lines()
    assert line.isprintable()


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_secret_shows_masked_even_if_somebody_logs_it(
    pipe: Pipe, log_format: LogFormat
) -> None:
    writer = LogWriter(log_format, LogLevel.INFO, descriptor=pipe.writer)
    writer.log(LogLevel.INFO, "oops", key=Secret("hunter2"))
    writer.close(WITHIN_S)
    (line,) = pipe.lines()
    assert "hunter2" not in line
    assert "***" in line


def test_dates_are_shown_in_utc(pipe: Pipe) -> None:
    at = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    event = standing("coasting", "DSM-UNREACHABLE", status_fails_at=at)
    (line,) = json_lines(pipe, [event], LogLevel.INFO)
    assert line["status_fails_at"] == "2026-01-02T03:04:05Z"


# Levels.


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (call("Status"), None),
        (call("Status", "NOT-READY: x"), "debug"),
        (call("Encrypt"), "info"),
        (call("Decrypt", "DSM-FAULTY: x"), "warning"),
        (provider_call(), "info"),
        (provider_call(uid=""), "debug"),
        (provider_call("DSM-FAULTY", 500), "warning"),
        (provider_call("DSM-UNREACHABLE", None), "debug"),
        (standing("ready"), "info"),
        (standing("starting"), "info"),
        (standing("ready", "KEY-NOT-FOUND"), "warning"),
        (standing("starting", "DSM-UNREACHABLE"), "warning"),
        (standing("denied", "KEY-DISABLED"), "warning"),
        (Unexpected(where="watcher", what="ValueError at x:1"), "error"),
        (CredentialDoubted(setting="api_key_file", what="w", remedy="r"), "warning"),
        (CredentialReplaced(setting="api_key_file"), "info"),
        (EndpointLeft(endpoint="dsm", code="DSM-UNREACHABLE", cause="c"), "warning"),
        (EndpointBack(endpoint="dsm"), "info"),
        (finding("warning"), "warning"),
        (finding("notice"), "info"),
        (finding("warning", gone=True), "info"),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_event_has_a_level(pipe: Pipe, event: Event, level: str | None) -> None:
    lines = json_lines(pipe, [event], LogLevel.DEBUG)
    assert [line["level"] for line in lines] == ([] if level is None else [level])


def test_unknown_event_is_logged_under_its_own_name(pipe: Pipe) -> None:
    @attrs.frozen
    class Rekeyed(Event):
        kid: str

    (line,) = json_lines(pipe, [Rekeyed("k")], LogLevel.INFO)
    assert (line["level"], line["event"], line["kid"]) == ("info", "Rekeyed", "k")


@pytest.mark.parametrize("least", list(LogLevel))
def test_lines_below_the_level_are_left_out(pipe: Pipe, least: LogLevel) -> None:
    writer = LogWriter(LogFormat.JSON, least, descriptor=pipe.writer)
    for level in LogLevel:
        assert writer.wants(level) == (
            list(LogLevel).index(level) >= list(LogLevel).index(least)
        )
        writer.log(level, "x")
    writer.close(WITHIN_S)
    levels = [json.loads(line)["level"] for line in pipe.lines()]
    assert levels == [v.value for v in LogLevel][list(LogLevel).index(least) :]


# Readers.


def test_reader_that_stops_reading_costs_lines_and_no_time(pipe: Pipe) -> None:
    pipe.fill()
    writer = LogWriter(
        LogFormat.JSON, LogLevel.INFO, descriptor=pipe.writer, queue_lines=8
    )
    began = time.monotonic()
    for number in range(2000):
        writer.log(LogLevel.INFO, "line", number=number)
    assert time.monotonic() - began < 20.0
    dropped = writer.dropped
    # Eight wait, and the writer holds what it took at once.
    assert 2000 - 8 - 9 <= dropped <= 2000 - 8
    first = json.loads(pipe.line())
    assert (first["event"], first["number"]) == ("line", 0)
    writer.close(WITHIN_S)
    rest = [json.loads(line) for line in pipe.lines()]
    (said,) = [line for line in rest if line["event"] != "line"]
    assert said["event"] == "log lines dropped"
    assert said["level"] == "warning"
    assert said["count"] == dropped
    assert len(rest) == 2000 - dropped - 1 + 1


def test_end_waits_shortly_for_a_reader_that_stopped_reading(pipe: Pipe) -> None:
    pipe.fill()
    for lines in (0, 1, 20):
        writer = LogWriter(
            LogFormat.JSON, LogLevel.INFO, descriptor=pipe.writer, queue_lines=4
        )
        for _ in range(lines):
            writer.log(LogLevel.INFO, "line")
        began = time.monotonic()
        writer.close(0.05)
        assert time.monotonic() - began < 20.0
    # Let the writers' threads go before their pipe does.
    assert json.loads(pipe.line())["event"] == "line"


def test_closed_reader_ends_nothing(pipe: Pipe) -> None:
    os.close(pipe.reader)
    writer = LogWriter(
        LogFormat.JSON, LogLevel.INFO, descriptor=pipe.writer, queue_lines=4
    )
    for _ in range(100):
        writer.log(LogLevel.INFO, "line")
    writer.close(WITHIN_S)


def test_writing_goes_on_once_a_full_disk_has_place(pipe: Pipe) -> None:
    kept = os.dup(pipe.writer)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        os.dup2(full, pipe.writer)
        writer = LogWriter(
            LogFormat.JSON, LogLevel.INFO, descriptor=pipe.writer, queue_lines=4
        )
        writer.log(LogLevel.INFO, "lost")
        deadline = time.monotonic() + WITHIN_S
        while writer._unwritten == 0:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.dup2(kept, pipe.writer)
        writer.log(LogLevel.INFO, "found")
        writer.close(WITHIN_S)
    finally:
        os.close(full)
        os.close(kept)
    first, second = (json.loads(line) for line in pipe.lines())
    assert first["event"] == "found"
    assert (second["event"], second["count"]) == ("log lines dropped", 1)


def test_descriptor_that_others_made_non_blocking_loses_nothing(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Event()
    poll = select.poll

    def noted() -> select.poll:
        waits.set()
        return poll()

    monkeypatch.setattr(select, "poll", noted)
    pipe.fill()
    os.set_blocking(pipe.writer, False)
    writer = LogWriter(LogFormat.JSON, LogLevel.INFO, descriptor=pipe.writer)
    for number in range(200):
        writer.log(LogLevel.INFO, "line", number=number)
    assert waits.wait(WITHIN_S)
    numbers = [json.loads(pipe.line())["number"] for _ in range(200)]
    assert numbers == list(range(200))
    writer.close(WITHIN_S)
