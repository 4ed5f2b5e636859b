"""Requests to DSM and its answers: timed, capped, over pools that are replaced.

httpx' requests and responses go straight to the transport. Its AsyncClient is left out,
since its cookies, redirects and hooks double the CPU time of a call and we want none of
them (bench/dsm_client.py has the figures).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Final

from adapters_dsm.answers import Answer
from adapters_dsm.pool import Pool
from adapters_dsm.tls import bare_context
from kms_core.errors import ProviderAnswerRefused, ProviderUnreachable


if TYPE_CHECKING:
    import ssl

    import httpx

    from adapters_dsm.pool import Route
    from kms_core.ports import Clock


MAX_BODY_BYTES: Final = 256 * 1024
"""Longest answer that is read; a key with a long history takes some 10 kB."""

_SILENCE_S: Final = 1.0
"""A request without an answer for so long makes us doubt the whole pool."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_OK = 200


class Connections:
    """Sends requests to one endpoint and reads the answers.

    Two pools: the kept one, and one whose connections serve a single request, for a
    second try after a connection failed: that one must not meet another stale
    connection. The kept pool is retired as a whole, and another takes its place, when a
    request hangs while nothing else is answered either: the node at the other end may
    be gone without a word, and each of its connections would cost a call its time.

    Args:
        route: How to get to DSM.
        clock: Time.
    """

    def __init__(self, route: Route, clock: Clock) -> None:
        self._route = route
        self._clock = clock
        self._kept: Pool | None = None
        self._single: Pool | None = None
        self._context: ssl.SSLContext | None = None
        self._building: asyncio.Task[ssl.SSLContext] | None = None
        self._answered_at = 0.0
        self._opening = asyncio.Lock()
        self._closed = False

    async def send(
        self,
        request: httpx.Request,
        *,
        where: str,
        timeout_s: float,
        fresh: bool,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Args:
            request: What to send, with all headers but those of the connection.
            where: The operation and the host, for error texts.
            timeout_s: When to give up, in seconds from now.
            fresh: Whether to use a connection that nothing has gone over.

        Raises:
            TimeoutError: There was no whole answer within *timeout_s*.
            ProviderAnswerRefused: The answer is too long, or encoded.
            ProviderUntrusted: There is nothing to trust.
            CredentialRefused: OpenSSL does not take our certificate.
            ProviderUnreachable: ``aclose`` was called.
            Exception: Anything else; see ``failures.classify``.
        """
        asked_at = self._clock.monotonic()
        pool: Pool | None = None
        try:
            async with asyncio.timeout(timeout_s):
                pool = self._pool(fresh=fresh) or await self._open(fresh=fresh)
                async with pool:
                    return await self._send_over(pool, request, where)
        except TimeoutError:
            if pool is self._kept and pool is not None:
                await self._doubt(pool, asked_at, timeout_s)
            raise

    async def renew(self) -> None:
        """Let later requests use new connections; those in flight go on."""
        pools = [pool for pool in (self._kept, self._single) if pool is not None]
        self._kept = self._single = None
        for pool in pools:
            await pool.retire()

    async def aclose(self) -> None:
        """Close every connection; later requests fail."""
        self._closed = True
        if self._building is not None:
            # Its thread may hang; nobody waits for that.
            self._building.cancel()
            await asyncio.wait((self._building,))
        await self.renew()

    def _pool(self, *, fresh: bool) -> Pool | None:
        return self._single if fresh else self._kept

    async def _open(self, *, fresh: bool) -> Pool:
        async with self._opening:
            if self._context is None:
                self._context = await self._make_context()
            if self._closed:
                raise ProviderUnreachable("the adapter is closed")
            pool = self._pool(fresh=fresh)
            if pool is not None:
                return pool
            pool = Pool.on(self._route, self._context, single_use=fresh)
            if fresh:
                self._single = pool
            else:
                self._kept = pool
            return pool

    async def _make_context(self) -> ssl.SSLContext:
        if not self._route.endpoint.secure:
            return bare_context()
        if self._building is None:
            # It reads files and parses 150 certificates: 20 to 100 ms. A task of its
            # own, so that a disk that hangs takes one thread, not one for each attempt.
            build = asyncio.to_thread(self._route.build_context)
            self._building = asyncio.create_task(build)
            self._building.add_done_callback(self._built)
        return await asyncio.shield(self._building)

    def _built(self, building: asyncio.Task[ssl.SSLContext]) -> None:
        # A failure is seen, though everybody who waited for it may have left.
        if building.cancelled() or building.exception() is not None:
            self._building = None

    async def _send_over(
        self, pool: Pool, request: httpx.Request, where: str
    ) -> Answer:
        response = await pool.request(request)
        self._answered_at = self._clock.monotonic()
        try:
            return await _read(response, where)
        finally:
            # It closes the connection unless the answer was read to its end.
            await response.stream.aclose()  # type: ignore[union-attr]

    async def _doubt(self, pool: Pool, asked_at: float, timeout_s: float) -> None:
        if timeout_s >= _SILENCE_S and self._answered_at < asked_at:
            self._kept = None
            await pool.retire()


async def _read(response: httpx.Response, where: str) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.raw}
    body = b""
    if response.status_code == _OK:
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ProviderAnswerRefused(
                f"{where}: the answer is compressed, and we asked for none"
            )
        body = await _read_body(response, where)
    else:
        # Whatever is wrong with an error's body: its status has said enough.
        with contextlib.suppress(Exception):
            body = await _read_body(response, where)
    request_id = headers.get(b"x-request-id", b"")
    return Answer(
        status=response.status_code,
        content_type=_media_type(headers.get(b"content-type", b"")),
        retry_after=(
            _text(headers[b"retry-after"]) if b"retry-after" in headers else None
        ),
        request_id=(_text(request_id) if _REQUEST_ID.fullmatch(request_id) else ""),
        body=body,
    )


def _media_type(value: bytes) -> str:
    return _text(value).partition(";")[0].strip().lower()


def _text(value: bytes) -> str:
    return value.decode("latin-1")


async def _read_body(response: httpx.Response, where: str) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.stream:  # type: ignore[union-attr]
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise ProviderAnswerRefused(f"{where}: the answer is too long")
        chunks.append(chunk)
    return b"".join(chunks)
