"""A pool of connections to DSM: httpx' transport over an aiohttp session of ours.

httpx' own pool is the bottleneck under concurrency, so its requests go over aiohttp's
(``httpx_aiohttp``). The session is built here, since by itself that transport keeps
connections for 5 s, ignores most limits and reads certifi's bundle.
"""

from __future__ import annotations

import asyncio
import functools
import select
import weakref
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from attrs import define, frozen
from httpx_aiohttp import AiohttpTransport


if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from adapters_dsm.proxies import Proxy
    from adapters_dsm.settings import Endpoint


DNS_CACHE_S: Final = 10
"""For how long an address is used again, in seconds."""


@frozen(kw_only=True)
class Route:
    """How to get to DSM.

    Attributes:
        endpoint: Where it is.
        proxy: The proxy on the way, if there is one.
        build_context: Makes the SSL context; called in a thread.
        max_connections: How many connections there are at most.
        keepalive_s: After how many idle seconds a pooled connection is closed.
    """

    endpoint: Endpoint
    proxy: Proxy | None
    build_context: Callable[[], ssl.SSLContext]
    max_connections: int
    keepalive_s: float

    def limit(self, *, single_use: bool) -> int:
        """Return how many connections a pool may have.

        The two kinds of pools share ``max_connections``. An eighth is for second tries,
        which are few: what finds none free waits its turn.
        """
        singles = max(1, self.max_connections // 8)
        return singles if single_use else max(1, self.max_connections - singles)


class _Conversation(ResponseHandler):
    """aiohttp's end of a connection that takes nothing while nothing was asked.

    aiohttp parses whatever arrives on a connection that is back in its pool, and gives
    it to the next request there (aio-libs/aiohttp#13656): a proxy that repeats an
    answer would hand one call the plaintext of another. Nor does it serve again with
    bytes that wait to be read: unasked ones, or the server's goodbye.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._idle = True
        self._has_served = False
        self._unread = select.poll()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, over *transport*."""
        super().connection_made(transport)
        self._unread.register(transport.get_extra_info("socket"), select.POLLIN)

    def is_connected(self) -> bool:
        """Return whether it may serve a request."""
        # The base asks whether the transport closes: its socket is ours until then.
        connected = super().is_connected()
        # A new one has tickets of TLS 1.3 to read.
        if connected and self._idle and self._has_served and self._unread.poll(0):
            self._end()
            return False
        return connected

    def set_response_params(self, **params: Any) -> None:
        """Begin to expect an answer."""
        self._idle = False
        super().set_response_params(**params)

    def rest(self) -> None:
        """Expect nothing, now that an answer was read."""
        self._idle = True
        self._has_served = True

    def data_received(self, data: bytes) -> None:
        """Take *data*, or end the connection."""
        if data and self._idle:
            self._end()
            return
        super().data_received(data)

    def _end(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.abort()


class _Connector(aiohttp.TCPConnector):
    """aiohttp's connector that can end what it has let go, too.

    A connection whose request was given up is closed politely: it waits up to 30 s for
    the other end's part of the TLS goodbye, and nobody knows of it any more.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        made: Any = functools.partial(_Conversation, loop=self._loop)
        self._factory = made
        self._made: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    def _release(self, key: Any, protocol: Any, **options: Any) -> None:
        protocol.rest()
        super()._release(key, protocol, **options)

    async def _create_connection(self, *args: Any, **named: Any) -> Any:
        protocol = await super()._create_connection(*args, **named)
        if protocol.transport is not None:
            self._made.add(protocol.transport)
        return protocol

    def abort_all(self) -> None:
        """Close every connection that is still open, without a word."""
        for transport in self._made:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()


@define(eq=False)
class Pool:
    """Connections along one route; entered for each request that uses it.

    Once it is retired, and the last request is over, it closes itself.
    """

    _transport: AiohttpTransport
    _connector: _Connector
    _in_flight: int = 0
    _retired: bool = False

    @classmethod
    def on(cls, route: Route, context: ssl.SSLContext, *, single_use: bool) -> Pool:
        """Return an empty pool.

        Args:
            route: How to get to DSM.
            context: Whom to trust.
            single_use: Whether each connection serves one request and is closed.
        """
        if single_use:
            lifetime: dict[str, Any] = {"force_close": True}
        else:
            lifetime = {"keepalive_timeout": route.keepalive_s}
        connector = _Connector(
            ssl=context,
            limit=route.limit(single_use=single_use),
            ttl_dns_cache=DNS_CACHE_S,
            **lifetime,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        # verify: without a context the transport would load certifi's bundle.
        transport = AiohttpTransport(
            verify=context,
            trust_env=False,
            proxy=_httpx_proxy(route.proxy),
            client=session,
        )
        return cls(transport, connector)

    async def request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* and return the head of the answer; its stream is open."""
        return await self._transport.handle_async_request(request)

    async def retire(self) -> None:
        """Close as soon as nothing is in flight."""
        self._retired = True
        await self._close_if_done()

    async def __aenter__(self) -> Self:
        self._in_flight += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._in_flight -= 1
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if not self._retired or self._in_flight:
            return
        self._connector.abort_all()
        await self._transport.aclose()
        # The loop closes an aborted socket in its next round.
        await asyncio.sleep(0)


def _httpx_proxy(proxy: Proxy | None) -> httpx.Proxy | None:
    if proxy is None or proxy.authorization is None:
        return None if proxy is None else httpx.Proxy(proxy.url)
    # As a header, since aiohttp's proxy_auth knows Latin-1 only and is deprecated.
    headers = {"Proxy-Authorization": proxy.authorization.reveal()}
    return httpx.Proxy(proxy.url, headers=headers)
