"""What the adapter's tests are built of: a scripted TLS server, a clock, a factory."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import ssl
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

import pytest
from attrs import define, field

from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.provider import DsmKeyProvider
from adapters_dsm.settings import DsmSettings, Endpoint, KeySelector, Secret
from kms_core.errors import ProviderError
from kms_core.events import ProviderCallFinished
from kms_core.fakes import RecordedTelemetry, SeededRandomness
from kms_core.ports import Clock


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import trustme

    from adapters_dsm.exchange import Exchanges
    from adapters_dsm.refusals import RefusalStore
    from adapters_dsm.transport import Connections
    from dsm_emulator import DemoKey, Dsm, EmulatorServer


API_KEY = "YXBwOnZlcnktc2VjcmV0LWFwaS1rZXk="
KID = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
SEED = bytes(range(32))
IV = bytes(range(12))
TAG = bytes(range(16))


@define
class Asked:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    writer: asyncio.StreamWriter

    @property
    def json(self) -> object:
        return json.loads(self.body)

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    def reset(self) -> None:
        self.writer.transport.abort()

    def end(self) -> None:
        self.writer.close()


Script = Callable[[Asked], Awaitable[None]]


def http(
    status: int = 200,
    body: object = b"",
    headers: Mapping[str, str] | None = None,
    *,
    reason: str = "Any",
) -> bytes:
    """Return a well-formed answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {reason}"]
    given = {"Content-Type": "application/json", **(headers or {})}
    lines += [f"{name}: {value}" for name, value in given.items()]
    if status != 204:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def login(token: str, expires_in: object = 600) -> bytes:
    return http(
        body={
            "token_type": "Bearer",
            "access_token": token,
            "expires_in": expires_in,
            "entity_id": str(uuid.uuid4()),
        }
    )


def sobject(**changes: object) -> dict[str, object]:
    return {
        "kid": KID,
        "name": "a key",
        "obj_type": "AES",
        "key_size": 256,
        "enabled": True,
        "state": "Active",
        "key_ops": ["ENCRYPT", "DECRYPT"],
        "origin": "FortanixHSM",
        **changes,
    }


def describe_ok() -> bytes:
    return http(body=sobject())


@define(eq=False)
class RawServer:
    """A server that answers as scripted, down to the byte.

    Logins and logouts are answered well unless ``on_login`` or ``on_logout`` is set.
    """

    script: Script
    authority: trustme.CA
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    on_login: Script | None = None
    on_logout: Script | None = None
    min_version: ssl.TLSVersion | None = None
    max_version: ssl.TLSVersion | None = None
    wants_certificate: bool = False
    tls: bool = True
    asked: list[Asked] = field(factory=list)
    names_asked: set[str | None] = field(factory=set)
    connections: int = 0
    logins: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(factory=set)
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def keys_asked(self) -> list[Asked]:
        return [a for a in self.asked if "/session/" not in a.path]

    @property
    def logouts(self) -> int:
        return sum(a.path.endswith("/terminate") for a in self.asked)

    async def __aenter__(self) -> Self:
        if self._server is None:
            await self.start()
        return self

    async def start(self) -> None:
        context = None
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.authority.issue_cert(*self.names).configure_cert(context)
            context.sni_callback = lambda _, name, __: self.names_asked.add(name)
            if self.min_version is not None:
                context.minimum_version = self.min_version
            if self.max_version is not None:
                context.maximum_version = self.max_version
            if self.wants_certificate:
                context.verify_mode = ssl.CERT_REQUIRED
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=context
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def drop_connections(self) -> None:
        """Close what is open, without a word."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            await self._converse(reader, writer, self.connections)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: int,
    ) -> None:
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")[:-2]
            pairs = (line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            asked = Asked(first.split(" ")[1], headers, body, connection, writer)
            self.asked.append(asked)
            await self._answer(asked)
            if not writer.is_closing():
                await writer.drain()

    async def _answer(self, asked: Asked) -> None:
        if asked.path.endswith("/session/auth"):
            self.logins += 1
            if self.on_login is None:
                asked.send(login(f"token-{self.logins}"))
            else:
                await self.on_login(asked)
        elif asked.path.endswith("/session/terminate"):
            if self.on_logout is None:
                asked.send(http(204))
            else:
                await self.on_logout(asked)
        else:
            await self.script(asked)


class SkippingClock(Clock):
    """The loop's clock that can be moved ahead; sleeping moves it too."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s

    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ahead_s += seconds
        await asyncio.sleep(0)

    def in_s(self, seconds: float) -> float:
        return self.monotonic() + seconds


@define(eq=False)
class Adapters:
    """Makes providers and closes them."""

    ca_file: Path
    clock: SkippingClock
    telemetry: RecordedTelemetry = field(factory=RecordedTelemetry)
    _opened: list[DsmKeyProvider] = field(factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for provider in self._opened:
            await provider.aclose()

    def open(
        self,
        *urls: str,
        api_key: str = API_KEY,
        api_key_file: Path | None = None,
        credential: CredentialSource | None = None,
        refusals: RefusalStore | None = None,
        clock: Clock | None = None,
        name: str | None = None,
        kid: str | None = None,
        environ: Mapping[str, str] | None = None,
        ca_file: Path | None = None,
        trust_system: bool = False,
        max_connections: int = 64,
        keepalive_s: float = 60.0,
    ) -> DsmKeyProvider:
        if name is None and kid is None:
            name = "a key"
        if credential is None and api_key_file is not None:
            credential = CredentialSource(api_key_file=api_key_file)
        settings = DsmSettings(
            endpoints=tuple(Endpoint.parse(url, allow_http=True) for url in urls),
            selector=KeySelector(name=name, kid=kid),
            credential=credential or CredentialSource(api_key=Secret(api_key)),
            ca_file=None if trust_system else ca_file or self.ca_file,
            max_connections=max_connections,
            keepalive_s=keepalive_s,
        )
        provider = DsmKeyProvider(
            settings,
            clock=clock or self.clock,
            randomness=SeededRandomness(),
            telemetry=self.telemetry,
            environ=environ or {},
            refusals=refusals,
        )
        self._opened.append(provider)
        return provider

    def open_emulated(
        self, emulated: Emulated, *more: Emulated, **options: Any
    ) -> DsmKeyProvider:
        given: dict[str, Any] = {
            "api_key": emulated.demo.app.api_key,
            "name": emulated.demo.key.name,
            "ca_file": emulated.server.ca_file,
        }
        urls = [one.server.url for one in (emulated, *more)]
        return self.open(*urls, **(given | options))

    @property
    def calls(self) -> list[ProviderCallFinished]:
        events = self.telemetry.events
        return [e for e in events if isinstance(e, ProviderCallFinished)]

    @property
    def told(self) -> list[str]:
        """What telemetry was told: operation and error."""
        return [f"{call.operation} {call.error or 'ok'}" for call in self.calls]


@define(eq=False)
class Emulated:
    """A local DSM with a key, and its server."""

    demo: DemoKey
    server: EmulatorServer

    @property
    def dsm(self) -> Dsm:
        return self.demo.dsm

    @property
    def kid(self) -> str:
        return self.demo.key.kid

    def count(self, path: str) -> int:
        return self.dsm.journal.count(path)


def way_of(provider: DsmKeyProvider) -> Exchanges:
    """Return what *provider* asks its first endpoint by."""
    return provider._endpoints.nodes[0].ways.of(None)


def connections_of(provider: DsmKeyProvider) -> Connections:
    return way_of(provider)._connections


async def failure(provider: DsmKeyProvider, deadline: float) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.describe(deadline=deadline)
    return caught.value


async def until(is_so: Callable[[], bool]) -> None:
    """Return once *is_so*; the loop's own events decide when."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - the server's side has no event to share
            await asyncio.sleep(0.001)


async def cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
