"""Faults below and beside HTTP, over real TLS: each ends in one error of the family."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import threading
import warnings
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.unit.adapters_dsm.scripts import answer_well, answers, hang
from tests.unit.adapters_dsm.support import (
    KID,
    Adapters,
    Asked,
    RawServer,
    SkippingClock,
    cancel,
    connections_of,
    describe_ok,
    failure,
    http,
    sobject,
    until,
)

from adapters_dsm.pool import Route
from adapters_dsm.settings import Endpoint
from adapters_dsm.tls import bare_context
from adapters_dsm.transport import MAX_BODY_BYTES, Connections
from kms_core.errors import (
    KmsError,
    ProviderAnswerRefused,
    ProviderFaulty,
    ProviderTimeout,
    ProviderUnreachable,
    ProviderUntrusted,
)


if TYPE_CHECKING:
    from pathlib import Path

    import trustme


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize(
    ("raw", "expected", "words"),
    [
        (b"not http at all\r\n\r\n", ProviderAnswerRefused, "not proper HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", ProviderAnswerRefused, "not proper HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
            ProviderAnswerRefused,
            "not proper HTTP",
        ),
        (
            b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
            ProviderAnswerRefused,
            "not proper HTTP",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n12345",
            ProviderAnswerRefused,
            "not proper HTTP",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
            ProviderAnswerRefused,
            "not proper HTTP",
        ),
        (http(body=b"[]"), ProviderAnswerRefused, "not a JSON object"),
        (http(body=b"{"), ProviderAnswerRefused, "not a JSON object"),
        (http(body=b"[" * 100_000), ProviderAnswerRefused, "not a JSON object"),
        (http(body=b'{"kid":"\xff"}'), ProviderAnswerRefused, "not a JSON object"),
        (http(body=b""), ProviderAnswerRefused, "not a JSON object"),
        (http(201, sobject()), ProviderAnswerRefused, "HTTP 201"),
        (http(204), ProviderAnswerRefused, "HTTP 204"),
    ],
)
async def test_what_is_not_a_good_answer_is_refused(
    authority: trustme.CA,
    adapters: Adapters,
    raw: bytes,
    expected: type[KmsError],
    words: str,
) -> None:
    async with RawServer(answers(raw), authority) as server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
    assert type(error) is expected
    assert words in error.cause
    assert f"describe at 127.0.0.1:{server.port}" in error.cause
    assert len(server.keys_asked) == 1, "such an answer is not asked for again"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
async def test_a_connection_that_ends_at_any_stage_is_tried_again_on_another(
    authority: trustme.CA, adapters: Adapters, raw: bytes
) -> None:
    async def script(asked: Asked) -> None:
        if len(server.keys_asked) > 1:
            asked.send(describe_ok())
        else:
            asked.send(raw)
            asked.end()

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        found = await provider.describe(deadline=adapters.clock.in_s(3))
    assert found.kid == KID
    first, second = server.keys_asked
    assert first.connection != second.connection
    assert adapters.told == ["login ok", "describe DSM-UNREACHABLE", "describe ok"]


async def test_a_reset_is_tried_again(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        if len(server.keys_asked) > 2:
            asked.send(describe_ok())
        else:
            asked.reset()

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
    assert len({asked.connection for asked in server.keys_asked}) == 3


async def test_a_pool_of_stale_connections_fails_no_call(
    authority: trustme.CA, adapters: Adapters
) -> None:
    """The server ends each connection when the second request comes over it."""

    async def script(asked: Asked) -> None:
        earlier = [a for a in server.asked if a.connection == asked.connection]
        if len(earlier) > 1:
            asked.reset()
        else:
            asked.send(describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        deadline = adapters.clock.in_s(60)
        calls = [provider.describe(deadline=deadline) for _ in range(20)]
        found = await asyncio.gather(*calls)
        again = await asyncio.gather(
            *[provider.describe(deadline=adapters.clock.in_s(60)) for _ in range(20)]
        )
    assert {key.kid for key in [*found, *again]} == {KID}


async def test_a_server_that_came_back_is_reached_over_new_connections(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        await server.stop()
        error = await failure(provider, adapters.clock.in_s(3))
        assert isinstance(error, ProviderUnreachable)
        await server.start()
        await provider.describe(deadline=adapters.clock.in_s(3))


async def test_a_huge_answer_is_not_read(
    authority: trustme.CA, adapters: Adapters
) -> None:
    huge = http(body=b" " * (MAX_BODY_BYTES + 1))
    async with RawServer(answers(huge), authority) as server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
        assert isinstance(error, ProviderAnswerRefused)
        assert "too long" in error.cause


async def test_the_longest_answer_is_read(
    authority: trustme.CA, adapters: Adapters
) -> None:
    longest = http(body=json.dumps(sobject()).encode().ljust(MAX_BODY_BYTES))
    async with RawServer(answers(longest), authority) as server:
        provider = adapters.open(server.url)
        assert (await provider.describe(deadline=adapters.clock.in_s(3))).kid == KID


async def test_a_compressed_answer_is_refused(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        assert asked.headers["accept-encoding"] == "identity"
        body = gzip.compress(json.dumps(sobject()).encode())
        asked.send(http(body=body, headers={"Content-Encoding": "gzip"}))

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
        assert isinstance(error, ProviderAnswerRefused)
        assert "compressed" in error.cause


async def test_an_error_counts_by_its_status_even_if_its_body_breaks_off(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        asked.send(b"HTTP/1.1 404 Gone\r\nContent-Length: 99\r\n\r\nsob")
        asked.end()

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
        assert error.code == "KEY-NOT-FOUND"


async def test_a_redirect_is_not_followed(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as other:

        async def script(asked: Asked) -> None:
            asked.send(http(307, headers={"Location": f"{other.url}/elsewhere"}))

        async with RawServer(script, authority) as server:
            provider = adapters.open(server.url)
            error = await failure(provider, adapters.clock.in_s(3))
    assert isinstance(error, ProviderAnswerRefused)
    assert other.connections == 0


async def test_cookies_are_not_kept(authority: trustme.CA, adapters: Adapters) -> None:
    cookie = http(body=sobject(), headers={"Set-Cookie": "a=b"})
    async with RawServer(answers(cookie), authority) as server:
        provider = adapters.open(server.url)
        for _ in range(2):
            await provider.describe(deadline=adapters.clock.in_s(3))
    assert all("cookie" not in asked.headers for asked in server.asked)


async def test_calls_share_connections(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        for _ in range(10):
            await provider.describe(deadline=adapters.clock.in_s(3))
        assert server.connections == 1


async def test_more_calls_than_connections_queue(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url, max_connections=4)
        deadline = adapters.clock.in_s(20)
        await asyncio.gather(*[provider.describe(deadline=deadline) for _ in range(50)])
        assert server.connections <= 4


async def test_second_tries_stay_within_the_limit_too(
    authority: trustme.CA, adapters: Adapters
) -> None:
    """Every first try fails at once, so that all calls want another connection."""
    most = 0

    async def script(asked: Asked) -> None:
        nonlocal most
        most = max(most, len(server._writers))
        if asked.connection == 1 or len(server.keys_asked) > 40:
            asked.send(describe_ok())
        else:
            asked.reset()

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url, max_connections=8)
        deadline = adapters.clock.in_s(60)
        await asyncio.gather(*[provider.describe(deadline=deadline) for _ in range(40)])
    assert 2 < most <= 8


async def test_a_cancelled_call_ends_its_request(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        if len(server.keys_asked) > 1:
            await asyncio.Event().wait()
        asked.send(describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        call = asyncio.create_task(provider.describe(deadline=adapters.clock.in_s(30)))
        await until(lambda: len(server.keys_asked) == 2)
        await cancel(call)
        (transport,) = connections_of(provider)._kept._connector._made  # type: ignore[union-attr]
        await until(transport.is_closing)


@pytest.mark.parametrize(
    ("date", "waits"),
    [("Thu, 01 Jan 2026 00:00:01 GMT", True), ("Thu, 01 Jan 2026 01:00:00 GMT", False)],
)
async def test_retry_after_as_a_date_is_honoured_if_it_fits(
    authority: trustme.CA, adapters: Adapters, date: str, *, waits: bool
) -> None:
    async def script(asked: Asked) -> None:
        first = len(server.keys_asked) == 1
        asked.send(http(429, headers={"Retry-After": date}) if first else describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        if waits:
            await provider.describe(deadline=adapters.clock.in_s(3))
            assert adapters.clock.slept == [1.0]
        else:
            await failure(provider, adapters.clock.in_s(3))
            assert adapters.clock.slept == []


async def test_a_refused_connection_is_unreachable_and_tried_again(
    adapters: Adapters,
) -> None:
    provider = adapters.open(f"https://127.0.0.1:{closed_port()}")
    error = await failure(provider, adapters.clock.in_s(3))
    assert isinstance(error, ProviderUnreachable)
    assert "refused" in error.cause
    assert len(adapters.calls) > 3


async def test_a_host_name_that_does_not_resolve_is_unreachable(
    adapters: Adapters,
) -> None:
    provider = adapters.open("https://no-such-host.invalid")
    error = await failure(provider, adapters.clock.in_s(3))
    assert isinstance(error, ProviderUnreachable)
    assert "does not resolve" in error.cause
    assert "no-such-host.invalid" in error.cause


async def test_a_hung_connection_leaves_time_for_another(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        if len(server.keys_asked) > 1:
            asked.send(describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        # Attempts take real time here: 1 s for the one that hangs.
        await provider.describe(deadline=adapters.clock.in_s(1.6))
        first, second = server.keys_asked
        assert first.connection != second.connection
        assert adapters.told[1:] == ["describe DSM-UNREACHABLE", "describe ok"]
        # And the pool was given up: the next call opens a third connection.
        await provider.describe(deadline=adapters.clock.in_s(3))
        assert server.keys_asked[-1].connection == 3


async def test_one_slow_request_among_good_ones_costs_the_others_no_connection(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        if asked.json == {"kid": KID}:
            asked.send(describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(KID, deadline=adapters.clock.in_s(3))
        slow = asyncio.create_task(
            provider.describe(deadline=adapters.clock.in_s(1.01))
        )
        await until(lambda: len(server.keys_asked) == 2)
        await provider.describe(KID, deadline=adapters.clock.in_s(3))
        with pytest.raises(ProviderTimeout):
            await slow
        connections = server.connections
        await provider.describe(KID, deadline=adapters.clock.in_s(3))
        assert server.connections == connections


async def test_a_trickle_ends_at_the_deadline(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not asked.writer.is_closing():
            asked.send(b" ")
            await asked.writer.drain()
            await asyncio.sleep(0.01)

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        started = asyncio.get_running_loop().time()
        error = await failure(provider, adapters.clock.in_s(0.3))
        assert asyncio.get_running_loop().time() - started < 1.5
    assert isinstance(error, ProviderTimeout)


async def test_a_caller_who_hangs_up_costs_nobody_else(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def script(asked: Asked) -> None:
        if len(server.keys_asked) > 1:
            asked.send(describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        hung = asyncio.create_task(provider.describe(deadline=adapters.clock.in_s(3)))
        await until(lambda: len(server.keys_asked) == 1)
        await cancel(hung)
        await provider.describe(deadline=adapters.clock.in_s(3))
    assert hung.cancelled()
    assert adapters.told == ["login ok", "describe CANCELLED", "describe ok"]


async def test_plain_http_on_loopback(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority, tls=False) as server:
        provider = adapters.open(server.url)
        assert (await provider.describe(deadline=adapters.clock.in_s(3))).kid == KID


async def test_what_is_no_tls_is_untrusted(adapters: Adapters) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        provider = adapters.open(f"https://127.0.0.1:{port}")
        error = await failure(provider, adapters.clock.in_s(3))
    assert isinstance(error, ProviderUntrusted)
    assert "TLS failed" in error.cause


async def test_a_server_that_wants_a_client_certificate_is_untrusted(
    authority: trustme.CA, adapters: Adapters
) -> None:
    server = RawServer(answer_well, authority, wants_certificate=True)
    async with server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
    assert isinstance(error, ProviderUntrusted | ProviderUnreachable)
    assert server.asked == []


async def test_a_certificate_for_another_host_is_untrusted(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority, names=("dsm.test",)) as server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
    assert isinstance(error, ProviderUntrusted)
    assert "not valid for '127.0.0.1'" in error.cause
    assert len(adapters.calls) == 1, "distrust does not go away by asking again"


async def test_the_host_is_named_in_the_handshake(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(f"https://localhost:{server.port}")
        await provider.describe(deadline=adapters.clock.in_s(3))
        assert server.names_asked == {"localhost"}


async def test_an_old_tls_version_gets_no_request(
    authority: trustme.CA, adapters: Adapters
) -> None:
    server = RawServer(answer_well, authority)
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        server.min_version = ssl.TLSVersion.TLSv1
        server.max_version = ssl.TLSVersion.TLSv1_1
        await server.start()
    async with server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
    # OpenSSL's server ends such a connection without an alert.
    assert isinstance(error, ProviderUntrusted | ProviderUnreachable)
    assert server.asked == []


async def test_tls_1_2_will_do(authority: trustme.CA, adapters: Adapters) -> None:
    server = RawServer(answer_well, authority, max_version=ssl.TLSVersion.TLSv1_2)
    async with server:
        provider = adapters.open(server.url)
        assert (await provider.describe(deadline=adapters.clock.in_s(3))).kid == KID


async def test_a_lost_ca_file_heals_when_it_is_back(
    authority: trustme.CA, adapters: Adapters, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url, ca_file=path)
        error = await failure(provider, adapters.clock.in_s(3))
        assert isinstance(error, ProviderUntrusted)
        assert str(path) in error.cause
        authority.cert_pem.write_to_path(str(path))
        assert (await provider.describe(deadline=adapters.clock.in_s(3))).kid == KID


async def test_renew_uses_a_new_session_and_a_new_connection(
    authority: trustme.CA, adapters: Adapters
) -> None:
    release = asyncio.Event()

    async def script(asked: Asked) -> None:
        if len(server.keys_asked) == 1:
            await release.wait()
        asked.send(describe_ok())

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        in_flight = asyncio.create_task(
            provider.describe(deadline=adapters.clock.in_s(3))
        )
        await until(lambda: len(server.keys_asked) == 1)
        await provider.renew()
        await provider.describe(deadline=adapters.clock.in_s(3))
        release.set()
        await in_flight
        first, second = server.keys_asked
        assert first.connection != second.connection
        assert first.headers["authorization"] != second.headers["authorization"]
        await until(lambda: server.logouts == 1)


async def test_close_ends_session_and_connections_and_later_calls_fail(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        await asyncio.gather(provider.aclose(), provider.aclose())
        await provider.aclose()
        assert server.logouts == 1
        error = await failure(provider, adapters.clock.in_s(0.5))
        assert isinstance(error, ProviderUnreachable)
        assert "closed" in error.cause


async def test_close_before_any_call_does_nothing(adapters: Adapters) -> None:
    provider = adapters.open("https://127.0.0.1:1")
    await provider.aclose()
    assert adapters.calls == []


async def test_close_while_the_first_call_opens_leaves_nothing_open(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        call = asyncio.create_task(provider.describe(deadline=adapters.clock.in_s(3)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await provider.aclose()
        with pytest.raises(ProviderUnreachable):
            await call
        assert connections_of(provider)._kept is None


async def test_calls_that_open_at_once_share_one_pool(
    authority: trustme.CA, adapters: Adapters
) -> None:
    """Both pools are wanted by several calls while there is none."""

    async def script(asked: Asked) -> None:
        if len(server.keys_asked) > 8:
            asked.send(describe_ok())
        else:
            asked.reset()

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        await provider.renew()
        connections = connections_of(provider)
        pools = await asyncio.gather(
            *[connections._open(fresh=fresh) for fresh in (False, False, True, True)]
        )
        assert len({id(pool) for pool in pools}) == 2
        deadline = adapters.clock.in_s(60)
        await asyncio.gather(*[provider.describe(deadline=deadline) for _ in range(8)])


async def test_close_does_not_wait_for_a_dsm_that_hangs(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))

        server.on_logout = hang
        started = asyncio.get_running_loop().time()
        await provider.aclose()
        assert asyncio.get_running_loop().time() - started < 5


async def test_close_ends_what_a_given_up_request_left_half_closed(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(hang, authority) as server:
        provider = adapters.open(server.url)
        await failure(provider, adapters.clock.in_s(0.2))
        pool = connections_of(provider)._kept
        assert pool is not None
        made = list(pool._connector._made)
        assert made
        await provider.aclose()
        assert all(transport.is_closing() for transport in made)


async def test_a_broken_gateway_is_faulty_and_tried_again(
    authority: trustme.CA, adapters: Adapters
) -> None:
    page = http(502, b"<html>bad gateway</html>")
    async with RawServer(answers(page), authority) as server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
    assert isinstance(error, ProviderFaulty)
    assert len(server.keys_asked) > 3
    assert len({asked.connection for asked in server.keys_asked}) == 1


class HangingDisk:
    """Builds no context until it is told to."""

    def __init__(self) -> None:
        self.builds = 0
        self.answers = threading.Event()

    def build(self) -> ssl.SSLContext:
        self.builds += 1
        self.answers.wait()
        return bare_context()

    def connections(self, port: int, clock: SkippingClock) -> Connections:
        endpoint = Endpoint.parse(f"https://127.0.0.1:{port}")
        route = Route(
            endpoint=endpoint,
            proxy=None,
            build_context=self.build,
            max_connections=8,
            keepalive_s=10.0,
        )
        return Connections(route, clock)


async def send(connections: Connections, port: int, timeout_s: float) -> None:
    request = httpx.Request("POST", f"https://127.0.0.1:{port}/")
    await connections.send(request, where="here", timeout_s=timeout_s, fresh=False)


async def test_a_disk_that_hangs_takes_one_thread_and_heals(
    clock: SkippingClock,
) -> None:
    disk = HangingDisk()
    port = closed_port()
    connections = disk.connections(port, clock)
    try:
        for _ in range(8):
            with pytest.raises(TimeoutError):
                await send(connections, port, 0.01)
        assert disk.builds == 1
        disk.answers.set()
        with pytest.raises(httpx.TransportError):
            await send(connections, port, 20)
        assert disk.builds == 1
    finally:
        disk.answers.set()
        await connections.aclose()


async def test_closing_does_not_wait_for_a_disk_that_hangs(
    clock: SkippingClock,
) -> None:
    before = asyncio.all_tasks()
    disk = HangingDisk()
    port = closed_port()
    connections = disk.connections(port, clock)
    try:
        with pytest.raises(TimeoutError):
            await send(connections, port, 0.01)
        await connections.aclose()
        assert asyncio.all_tasks() == before
    finally:
        disk.answers.set()


async def test_nothing_is_left_behind(
    authority: trustme.CA, ca_file: Path, clock: SkippingClock
) -> None:
    before = asyncio.all_tasks()
    async with RawServer(answer_well, authority) as server:
        async with Adapters(ca_file, clock) as adapters:
            provider = adapters.open(server.url)
            deadline = clock.in_s(20)
            await asyncio.gather(
                *[provider.describe(deadline=deadline) for _ in range(20)]
            )
            await provider.renew()
            await provider.describe(deadline=deadline)
        await until(lambda: not server._writers)
    assert asyncio.all_tasks() == before
