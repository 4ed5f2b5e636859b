"""HTTPS_PROXY and NO_PROXY, as a table and through a real tunnel."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from typing import TYPE_CHECKING, Self

import pytest
from attrs import define, field
from tests.unit.adapters_dsm.scripts import answer_well
from tests.unit.adapters_dsm.support import KID, Adapters, RawServer

from adapters_dsm.proxies import proxy_for
from adapters_dsm.settings import Endpoint
from kms_core.errors import ProviderUnreachable


if TYPE_CHECKING:
    import trustme


PROXY = "http://proxy.test:3128"


def proxied(url: str, **environ: str) -> str | None:
    proxy = proxy_for(Endpoint.parse(url, allow_http=True), environ)
    return None if proxy is None else proxy.url


def test_upper_case_wins_over_lower_case() -> None:
    assert proxied("https://dsm.test") is None
    assert proxied("https://dsm.test", https_proxy=PROXY) == PROXY
    both = proxied("https://dsm.test", https_proxy="http://other", HTTPS_PROXY=PROXY)
    assert both == PROXY
    assert proxied("https://dsm.test", HTTPS_PROXY="", https_proxy=PROXY) == PROXY
    assert proxied("https://dsm.test", HTTP_PROXY=PROXY, ALL_PROXY=PROXY) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost",
        "https://127.0.0.1:8443",
        "https://[::1]",
        "http://127.0.0.1:1",
    ],
)
def test_loopback_is_never_proxied(url: str) -> None:
    assert proxied(url, HTTPS_PROXY=PROXY) is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "https://dsm.test", True),
        ("", "https://dsm.test", False),
        (" , ", "https://dsm.test", False),
        ("dsm.test", "https://dsm.test", True),
        ("DSM.test", "https://dsm.TEST", True),
        ("a.test, dsm.test", "https://dsm.test", True),
        ("dsm.test", "https://eu.dsm.test", True),
        ("dsm.test", "https://notdsm.test", False),
        (".dsm.test", "https://dsm.test", False),
        (".dsm.test", "https://eu.dsm.test", True),
        ("*.dsm.test", "https://eu.dsm.test", True),
        ("*.dsm.test", "https://dsm.test", False),
        ("dsm.test", "https://dsm.test.", True),
        ("dsm.test:443", "https://dsm.test", True),
        ("dsm.test:8443", "https://dsm.test", False),
        ("dsm.test:8443", "https://dsm.test:8443", True),
        ("dsm.test:x", "https://dsm.test", False),
        ("10.1.2.3", "https://10.1.2.3", True),
        ("10.1.2.3", "https://10.1.2.4", False),
        ("10.1.2.3:443", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://dsm.test", False),
        ("10.0.0.0/99", "https://10.1.2.3", False),
        ("2001:db8::1", "https://[2001:db8:0::1]", True),
        ("[2001:db8::1]:443", "https://[2001:db8::1]", True),
        ("2001:db8::/32", "https://[2001:db8::1]", True),
    ],
)
def test_no_proxy(no_proxy: str, url: str, *, direct: bool) -> None:
    expected = None if direct else PROXY
    assert proxied(url, HTTPS_PROXY=PROXY, NO_PROXY=no_proxy) == expected
    assert proxied(url, HTTPS_PROXY=PROXY, no_proxy=no_proxy) == expected


def test_a_proxy_hides_its_password() -> None:
    environ = {"HTTPS_PROXY": "http://u:hunter2@proxy.test"}
    proxy = proxy_for(Endpoint.parse("https://dsm.test"), environ)
    basic = base64.b64encode(b"u:hunter2").decode()
    assert proxy is not None
    assert proxy.authorization is not None
    assert proxy.authorization.reveal() == f"Basic {basic}"
    assert "hunter2" not in repr(proxy)
    assert basic not in repr(proxy)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("proxy.test:3128", "http://proxy.test:3128"),
        ("http://u:p@proxy.test:3128/", "http://proxy.test:3128"),
        ("https://proxy.test", "https://proxy.test"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
    ],
)
def test_forms_of_a_proxy(text: str, url: str) -> None:
    assert proxied("https://dsm.test", HTTPS_PROXY=text) == url


@pytest.mark.parametrize(
    "text",
    [
        "socks5://u:hunter2@proxy.test",
        "http://u:hunter2@",
        "http://u:hunter2@exa<mple",
        "http://u:hunter2@proxy.test:port",
        "http://u:hunter2@[::1",
    ],
)
def test_an_odd_proxy_is_refused_unquoted(text: str) -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY must be a URL") as caught:
        proxied("https://dsm.test", HTTPS_PROXY=text)
    assert "hunter2" not in str(caught.value)


@define(eq=False)
class ConnectProxy:
    """A proxy that leads every tunnel to one port, whatever host is asked for."""

    target: int
    status: int = 200
    port: int = 0
    heads: list[str] = field(factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(f"HTTP/1.1 {self.status} Any hunter2\r\n\r\n".encode())
            if self.status == 200:
                up = await asyncio.open_connection("127.0.0.1", self.target)
                await asyncio.gather(pipe(reader, up[1]), pipe(up[0], writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    finally:
        with contextlib.suppress(OSError):
            writer.transport.abort()


async def test_a_tunnel_with_credentials_is_used_and_kept(
    authority: trustme.CA, adapters: Adapters, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        RawServer(answer_well, authority, names=("dsm.test",)) as server,
        ConnectProxy(server.port) as proxy,
    ):
        provider = adapters.open(
            "https://dsm.test",
            environ={
                "HTTPS_PROXY": f"http://us%40r:h%C3%BCnter2@127.0.0.1:{proxy.port}"
            },
        )
        for _ in range(3):
            found = await provider.describe(deadline=adapters.clock.in_s(3))
        assert found.kid == KID
        assert server.connections == 1
    (head,) = proxy.heads
    assert head.startswith("CONNECT dsm.test:443 HTTP/1.1\r\n")
    basic = base64.b64encode("us@r:h\u00fcnter2".encode()).decode()
    assert f"proxy-authorization: basic {basic}\r\n".lower() in head.lower()
    assert "Bearer" not in head
    assert all("proxy-authorization" not in asked.headers for asked in server.asked)
    assert basic not in caplog.text
    assert "nter2" not in caplog.text


@pytest.mark.parametrize("status", [407, 403, 502])
async def test_a_refused_tunnel_is_unreachable_and_says_nothing_of_the_credential(
    adapters: Adapters, status: int
) -> None:
    async with ConnectProxy(0, status) as proxy:
        provider = adapters.open(
            "https://dsm.test",
            environ={"HTTPS_PROXY": f"http://user:hunter2@127.0.0.1:{proxy.port}"},
        )
        with pytest.raises(ProviderUnreachable) as caught:
            await provider.describe(deadline=adapters.clock.in_s(3))
    assert f"the proxy answered CONNECT with {status}" in caught.value.cause
    assert "hunter2" not in str(caught.value)


async def test_a_proxy_that_is_down_is_unreachable(adapters: Adapters) -> None:
    async with ConnectProxy(0) as proxy:
        port = proxy.port
    provider = adapters.open(
        "https://dsm.test", environ={"https_proxy": f"http://127.0.0.1:{port}"}
    )
    with pytest.raises(ProviderUnreachable, match="the proxy can't be reached"):
        await provider.describe(deadline=adapters.clock.in_s(3))
