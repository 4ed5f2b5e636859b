from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.k8s_sdkms_plugin.support import BASE, changed, error_fields, loaded

from k8s_sdkms_plugin.config.model import ListenAddress, LogFormat, LogLevel
from k8s_sdkms_plugin.event_counts import EventCounts
from k8s_sdkms_plugin.listener import MAX_CONNECTIONS, RETRY_S, Listener
from k8s_sdkms_plugin.logs import LogWriter
from k8s_sdkms_plugin.metrics import Metrics, Sources
from kms_core.envelope import ProviderEnvelope
from kms_core.errors import ProviderUnreachable
from kms_core.events import Unexpected
from kms_core.fakes import (
    InMemoryKeyProvider,
    ManualClock,
    RecordedTelemetry,
    SeededRandomness,
)
from kms_core.key_id import DEFAULT_SCHEME, NativeNaming
from kms_core.sealed_seed import Version
from kms_core.service import ApiVersion, KmsService
from kms_core.standing import OnTrouble, Policy
from kms_core.watcher import Surroundings, Watcher


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


LOOPBACK = "127.0.0.1"
WITHIN_S = 10.0


class Stand:
    """A daemon's core with a listener in front of it, no socket and no DSM."""

    def __init__(self, log: Path, port: int = 0, host: str = LOOPBACK) -> None:
        self.clock = ManualClock()
        self.provider = InMemoryKeyProvider()
        self.telemetry = RecordedTelemetry()
        self.log = log
        self._file = log.open("wb")
        self.writer = LogWriter(
            LogFormat.JSON, LogLevel.DEBUG, descriptor=self._file.fileno()
        )
        envelope = ProviderEnvelope(
            self.provider, Version.DIRECT, DEFAULT_SCHEME, frozenset()
        )
        policy = Policy(on_outage=OnTrouble.FAIL)
        self.watcher = Watcher(
            Surroundings(
                provider=self.provider,
                envelope=envelope,
                naming=NativeNaming(),
                clock=self.clock,
                randomness=SeededRandomness(),
                telemetry=self.telemetry,
                policy=policy,
            )
        )
        counts = EventCounts()
        sources = Sources(
            standing=lambda: self.watcher.standing,
            policy=policy,
            clock=self.clock,
            local_keks=lambda: 0,
            credential_expires_at=lambda: None,
            log_lines_dropped=lambda: self.writer.dropped,
        )
        self.listener = Listener(
            ListenAddress(host, port),
            service=KmsService(self.watcher, envelope, ApiVersion.V2),
            counts=counts,
            metrics=Metrics(counts, sources),
            clock=self.clock,
            writer=self.writer,
            telemetry=self.telemetry,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, task: str) -> None:
        """Start the watcher or the listener."""
        run = {"watcher": self.watcher.run, "listener": self.listener.run}[task]
        self._tasks.append(asyncio.create_task(run()))

    async def listening(self) -> Self:
        """Start the listener, and wait until it listens."""
        self.begin("listener")
        async with asyncio.timeout(WITHIN_S):
            await self.listener.listening.wait()
        return self

    async def ready(self) -> None:
        """Start the watcher, and let it prove the key."""
        self.begin("watcher")
        await self.clock.advance(1)

    async def get(self, path: str, method: str = "GET") -> httpx.Response:
        host = self.listener._address.host
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{self.listener.port}{path}"
        async with httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as client:
            return await client.request(method, url)

    async def close(self) -> list[dict[str, Any]]:
        """End everything, and return the log's lines."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.writer.close(WITHIN_S)
        self._file.close()
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path / "log")
    yield made
    await made.close()


def taken_port() -> socket.socket:
    """Return a socket that listens on a port of its own."""
    return socket.create_server((LOOPBACK, 0))


# What it answers.


async def test_livez_is_ok_before_any_key_is_proven(stand: Stand) -> None:
    await stand.listening()
    answer = await stand.get("/livez")
    assert (answer.status_code, answer.text) == (200, "ok")


async def test_readyz_says_why_the_start_is_not_over_and_then_ok(stand: Stand) -> None:
    await stand.listening()
    answer = await stand.get("/readyz")
    assert answer.status_code == 503
    assert answer.text.startswith("NOT-READY: starting, the key is being proven; ")
    await stand.ready()
    answer = await stand.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ok")


async def test_outage_fails_readyz_in_the_words_of_status_and_never_livez(
    stand: Stand,
) -> None:
    await stand.listening()
    await stand.ready()
    stand.provider.outage = ProviderUnreachable("dsm.example.com does not answer")
    await stand.clock.advance(300)
    answer = await stand.get("/readyz")
    assert answer.status_code == 503
    assert "DSM-UNREACHABLE: dsm.example.com does not answer" in answer.text
    assert "\n" not in answer.text
    answer = await stand.get("/livez?verbose")
    assert (answer.status_code, answer.text) == (200, "ok")
    stand.provider.outage = None
    await stand.clock.advance(60)
    assert (await stand.get("/readyz")).status_code == 200


async def test_metrics_are_prometheus_text(stand: Stand) -> None:
    await stand.listening()
    await stand.ready()
    answer = await stand.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {f.name: f for f in text_string_to_metric_families(answer.text)}
    states = families["k8s_sdkms_plugin_state"].samples
    assert [s.labels["state"] for s in states if s.value == 1] == ["ready"]


async def test_other_paths_and_methods_are_refused(stand: Stand) -> None:
    await stand.listening()
    answer = await stand.get("/")
    assert answer.status_code == 404
    assert answer.text == "there are /livez, /readyz, /metrics"
    answer = await stand.get("/livez", "POST")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    answer = await stand.get("/livez", "HEAD")
    assert (answer.status_code, answer.text) == (200, "")


async def test_no_answer_names_the_library(stand: Stand) -> None:
    await stand.listening()
    for path in ("/livez", "/readyz", "/metrics", "/x"):
        headers = (await stand.get(path)).headers
        assert headers["Server"] == "k8s-sdkms-plugin"
        assert headers["Cache-Control"] == "no-store"


async def test_ipv6_loopback_works_too(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this host has no ::1")
    stand = await Stand(tmp_path / "log", host="::1").listening()
    assert (await stand.get("/livez")).text == "ok"
    lines = await stand.close()
    assert lines[0]["address"] == "[::1]:0"


# What befalls it.


async def test_port_that_is_taken_costs_one_log_line_and_is_tried_again(
    tmp_path: Path,
) -> None:
    holder = taken_port()
    stand = Stand(tmp_path / "log", holder.getsockname()[1])
    stand.begin("listener")
    await stand.ready()
    await stand.clock.advance(RETRY_S * 3)
    assert not stand.listener.listening.is_set()
    holder.close()
    await stand.clock.advance(RETRY_S)
    async with asyncio.timeout(WITHIN_S):
        await stand.listener.listening.wait()
    assert (await stand.get("/readyz")).text == "ok"
    lines = await stand.close()
    assert [line["event"] for line in lines] == ["not listening", "listening"]
    assert lines[0]["level"] == "warning"
    assert lines[0]["cause"] == "Address already in use"
    assert lines[0]["address"] == f"{LOOPBACK}:{stand.listener.port}"
    assert "the socket is served all the same" in lines[0]["remedy"]


async def test_defect_in_a_page_is_one_event_and_an_answer_without_details(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stand.listening()

    def broken() -> bytes:
        raise ValueError("hunter2")

    monkeypatch.setattr(stand.listener._metrics, "render", broken)
    answer = await stand.get("/metrics")
    assert answer.status_code == 500
    assert answer.text == "the listener failed; see the daemon's log"
    (event,) = stand.telemetry.events
    assert isinstance(event, Unexpected)
    assert event.where == "listener"
    assert "hunter2" not in event.what
    assert (await stand.get("/livez")).text == "ok"


async def test_defect_of_the_listener_itself_is_an_event(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("hunter2")

    monkeypatch.setattr(web, "Server", broken)
    stand.begin("listener")
    await asyncio.gather(*stand._tasks)
    (event,) = stand.telemetry.events
    assert isinstance(event, Unexpected)
    assert "hunter2" not in event.what


async def test_what_is_no_http_is_refused_and_prints_nothing(
    stand: Stand, capfd: pytest.CaptureFixture[str]
) -> None:
    await stand.listening()
    for raw in (b"\x16\x03\x01\x00\xff\x01\n\n", b"GET\n\n", b"x" * 100_000 + b"\n\n"):
        reader, writer = await asyncio.open_connection(LOOPBACK, stand.listener.port)
        with contextlib.suppress(ConnectionError):
            writer.write(raw)
            await writer.drain()
            assert b" 400 " in (await reader.readline())
        writer.close()
    assert (await stand.get("/livez")).text == "ok"
    assert capfd.readouterr().err == ""


async def test_connections_that_are_held_open_keep_no_prober_out(stand: Stand) -> None:
    await stand.listening()
    held = []
    for _ in range(MAX_CONNECTIONS * 4):
        reader, writer = await asyncio.open_connection(LOOPBACK, stand.listener.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await reader.readline()
        held.append((reader, writer))
    assert (await stand.get("/livez")).text == "ok"
    # The oldest were let go: their readers come to an end.
    async with asyncio.timeout(WITHIN_S):
        for reader, _ in held[: MAX_CONNECTIONS * 3]:
            await reader.read()
    for _, writer in held:
        writer.close()


async def test_end_does_not_wait_for_clients_that_stay_connected(stand: Stand) -> None:
    await stand.listening()
    reader, writer = await asyncio.open_connection(LOOPBACK, stand.listener.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in await reader.readline()
    async with asyncio.timeout(WITHIN_S):
        await stand.close()
        await reader.read()
    writer.close()
    with pytest.raises(httpx.ConnectError):
        await stand.get("/livez")


# The setting.


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9472", "127.0.0.1", 9472),
        ("127.8.9.10:1", "127.8.9.10", 1),
        ("[::1]:65535", "::1", 65535),
        ("[0:0:0:0:0:0:0:1]:80", "::1", 80),
    ],
)
def test_loopback_address_with_a_port_is_taken(
    tmp_path: Path, text: str, host: str, port: int
) -> None:
    config = loaded(tmp_path, changed("listen", text)).config
    assert config is not None
    assert config.listen_address == ListenAddress(host, port)
    assert ListenAddress.parse(str(config.listen_address)) == config.listen_address


def test_listener_is_absent_by_default(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE).config
    assert config is not None
    assert config.listen_address is None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("0.0.0.0:9472", "no loopback address"),
        ("[::]:9472", "no loopback address"),
        ("10.0.0.1:9472", "no loopback address"),
        ("[fe80::1]:9472", "no loopback address"),
        ("127.0.0.1:0", "no port"),
        ("127.0.0.1:65536", "no port"),
        ("127.0.0.1:999999999", "no port"),
        ("127.0.0.1:9999999999", "not ADDRESS:PORT"),
        ("127.0.0.1", "not ADDRESS:PORT"),
        ("::1:9472", "not ADDRESS:PORT"),
        ("localhost:9472", "not ADDRESS:PORT"),
        (":9472", "not ADDRESS:PORT"),
        ("9472", "not ADDRESS:PORT"),
        ("http://127.0.0.1:9472", "not ADDRESS:PORT"),
        (" 127.0.0.1:9472", "not ADDRESS:PORT"),
        ("127.0.0.1:\u0661", "not ADDRESS:PORT"),
        ("[::1%lo]:9472", "not ADDRESS:PORT"),
        ("127.0.0.999:9472", "no possible address"),
        ("[1::2::3]:9472", "no possible address"),
        (9472, "not usable"),
        ("", "not usable"),
    ],
)
def test_every_other_address_is_refused_with_the_reason(
    tmp_path: Path, value: Any, why: str
) -> None:
    result = loaded(tmp_path, changed("listen", value))
    assert error_fields(result) == ["listen"]
    assert why in result.errors[0].what
    assert result.errors[0].remedy
