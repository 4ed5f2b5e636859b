"""Connections and the context, against a plugin on a real socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from adapters_grpc.messages import ENCRYPT_METHOD, SERVICE, STATUS_METHOD
from kms_conformance.connection import Connection, Sealed
from kms_conformance.context import Context
from kms_conformance.expect import exact_or_refused, quick_enough, refused, same
from kms_conformance.http2 import ConnectionLost, grpc_frame
from kms_conformance.levers import HookFailed, Levers
from kms_conformance.outcome import CallFailed, Failed, NotRun, shown, shown_bytes
from kms_conformance.recorder import Exchange, Recorder, percentile
from kms_conformance.scale import FULL, TINY
from kms_conformance.target import Endpoint, Hook, Pulled, Target


if TYPE_CHECKING:
    from tests.unit.kms_conformance.support import Site


UNKNOWN = f"/{SERVICE}/Sing"


async def test_seed_makes_the_round_trip_and_is_recorded(site: Site) -> None:
    kit = site.context()
    plugin, seed = kit.dial(), kit.seed()
    await plugin.ready(within_s=3)
    status = await plugin.status()
    sealed = await plugin.encrypt(seed)
    assert (status.version, status.healthz) == ("v2", "ok")
    assert sealed.key_id == status.key_id
    assert await plugin.decrypt(sealed) == seed
    methods = [one.method for one in kit.recorder.last()]
    assert methods == ["Status", "Encrypt", "Decrypt"]
    assert kit.recorder.largest_bytes("Encrypt") > 32
    assert kit.recorder.largest_bytes("Sing") == 0
    (latencies,) = (x for x in kit.recorder.latencies() if x.method == "Decrypt")
    assert latencies.durations_s == kit.recorder.durations_s("Decrypt")
    kit.recorder.begin()
    assert kit.recorder.durations_s("Decrypt") == ()
    assert kit.recorder.last() == ()
    await kit.aclose()


async def test_refused_call_has_the_plugins_code_and_words(site: Site) -> None:
    kit = site.context()
    plugin = kit.dial()
    with pytest.raises(CallFailed) as refusal:
        await plugin.decrypt(Sealed(b"x", "unknown"))
    assert refusal.value.code == "INVALID_ARGUMENT"
    assert str(refusal.value) == "Decrypt: INVALID_ARGUMENT: the key_id is unknown"
    (exchange,) = kit.recorder.last()
    assert (exchange.code, exchange.text) == (
        "INVALID_ARGUMENT",
        "the key_id is unknown",
    )
    with pytest.raises(CallFailed, match="UNIMPLEMENTED"):
        await plugin.raw(UNKNOWN, b"")
    await kit.aclose()


async def test_call_to_nobody_ends_with_its_deadline(site: Site) -> None:
    await site.plugin.stop()
    kit = site.context()
    with pytest.raises(CallFailed) as failure:
        await kit.dial().status(timeout_s=0.05)
    assert failure.value.no_answer
    with pytest.raises(OSError, match=r"kms\.sock|No such file"):
        await kit.raw_socket()
    with pytest.raises(OSError, match=r"kms\.sock|No such file"):
        await kit.raw_http2()
    await kit.aclose()


async def test_answer_that_is_no_message_is_no_answer(site: Site) -> None:
    kit = site.context()
    plugin = kit.dial()

    async def garbage(*_: object, **__: object) -> bytes:
        return b"\xff"

    plugin.raw = garbage  # type: ignore[method-assign]
    with pytest.raises(CallFailed, match="no KMS v2 message") as failure:
        await plugin.status()
    assert failure.value.code == "OK"
    with pytest.raises(Failed, match="no KMS v2 message"):
        await refused(plugin.status())
    await kit.aclose()


async def test_raw_http2_sees_headers_and_frames(site: Site) -> None:
    kit = site.context()
    plugin = await kit.raw_http2()
    assert plugin.max_streams > 100
    answer = await plugin.call(STATUS_METHOD, grpc_frame(b""))
    assert answer.header("grpc-status") == "0"
    assert answer.header("nothing") is None
    assert answer.body[0] == 0
    assert answer.body[5:] == grpc_frame(answer.body[5:])[5:]
    assert (await plugin.call(UNKNOWN, grpc_frame(b""))).header("grpc-status") == "12"
    await kit.aclose()


async def test_raw_http2_may_lie_and_hang_up(site: Site) -> None:
    kit = site.context()
    plugin = await kit.raw_http2()
    stream = await plugin.send(ENCRYPT_METHOD, grpc_frame(b"", length=9), end=False)
    await plugin.cancel(stream)
    answer = await plugin.call(ENCRYPT_METHOD, grpc_frame(b"x", flag=1))
    assert answer.header("grpc-status") not in (None, "0")
    assert (await plugin.call(STATUS_METHOD, grpc_frame(b""))).reset is None
    await kit.aclose()


async def listen(endpoint: Endpoint, answer: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        writer.close()

    return await asyncio.start_unix_server(serve, endpoint.address)


SETTINGS = bytes.fromhex("000000040000000000")
GOAWAY = bytes.fromhex("0000080700000000000000000000000001")  # a protocol error


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"", "closed the connection"),
        (bytes.fromhex("00000100000000000000"), "no HTTP/2"),  # DATA for nobody
        (SETTINGS + GOAWAY, "GOAWAY"),
    ],
)
async def test_socket_that_speaks_no_http2_is_named(
    site: Site, answer: bytes, match: str
) -> None:
    endpoint = Endpoint(f"{site.plugin.path}.other")
    server = await listen(endpoint, answer)
    kit = Context("T01", Target(endpoint), TINY, 1, Recorder())
    try:
        with pytest.raises(ConnectionLost, match=match):
            await (await kit.raw_http2()).call(STATUS_METHOD, b"")
    finally:
        server.close()
        await kit.aclose()


async def test_silent_connection_can_be_had(site: Site) -> None:
    kit = site.context()
    reader, _ = await kit.raw_socket()
    # A server speaks first in HTTP/2.
    assert await reader.read(9)
    await kit.aclose()


# The context.


async def test_jobs_run_at_most_as_wide_as_asked(site: Site) -> None:
    kit = site.context()
    at_once, most = 0, 0

    async def job() -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return 7

    assert await kit.parallel([job] * 10, width=3) == [7] * 10
    assert most == 3


async def test_first_failure_ends_the_other_jobs(site: Site) -> None:
    ended = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise Failed("it did not hold")

    with pytest.raises(Failed):
        await site.context().parallel([waits, fails], width=2)
    assert ended.is_set()


async def test_condition_is_awaited_and_refused_calls_count_as_no(site: Site) -> None:
    kit = site.context()
    asked = 0

    async def third_time() -> bool:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise CallFailed("Status", "UNAVAILABLE", "")
        return asked == 3

    await kit.until(third_time, within_s=30, otherwise="never", every_s=0)
    assert asked == 3

    async def never() -> bool:
        return False

    with pytest.raises(Failed, match="it never came within 0 s"):
        await kit.until(never, within_s=0, otherwise="it never came", every_s=0)


async def test_restart_and_rotation_wait_until_they_show(site: Site) -> None:
    kit = site.context()
    before = await kit.dial().status()
    await kit.restart()
    plugin = kit.dial()
    assert await plugin.status() == before
    await kit.rotate(plugin)
    assert (await plugin.status()).key_id != before.key_id
    await kit.aclose()


async def test_peer_is_dialled_if_there_is_one(site: Site) -> None:
    kit = site.context()
    assert (await kit.dial_peer().status()).healthz == "ok"
    await kit.aclose()
    bare = Context("T01", site.bare, TINY, 1, Recorder())
    with pytest.raises(NotRun, match="--peer"):
        bare.dial_peer()


async def test_idle_time_is_scaled(site: Site) -> None:
    await site.context(evolve(TINY, idle=0)).idle(1000)


async def test_hook_that_fails_is_not_held_against_the_plugin() -> None:
    async def breaks() -> Pulled:
        return Pulled(4, "no such unit")

    levers = Levers({Hook.ROTATE: breaks})
    with pytest.raises(HookFailed, match="exited with 4: no such unit"):
        await levers.pull(Hook.ROTATE)
    assert (await levers.attempt(Hook.ROTATE)).exit_code == 4
    with pytest.raises(NotRun, match="--back"):
        await levers.pull(Hook.BACK)
    assert not await levers.restore()


# What several checks expect.


async def answers(value: bytes) -> bytes:
    return value


async def fails_with(code: str) -> bytes:
    raise CallFailed("Decrypt", code, "")


async def test_refusal_is_an_error_in_time() -> None:
    assert (await refused(fails_with("INTERNAL"))).code == "INTERNAL"
    with pytest.raises(Failed, match="OK with 2 bytes 6869 instead"):
        await refused(answers(b"hi"))
    with pytest.raises(Failed, match="DEADLINE_EXCEEDED"):
        await refused(fails_with("DEADLINE_EXCEEDED"))


async def test_plaintext_is_exact_or_refused() -> None:
    assert await exact_or_refused(answers(b"hi"), b"hi")
    assert not await exact_or_refused(fails_with("INTERNAL"), b"hi")
    with pytest.raises(Failed, match="instead of 2 bytes"):
        await exact_or_refused(answers(b"ho"), b"hi")
    with pytest.raises(Failed):
        await exact_or_refused(fails_with("DEADLINE_EXCEEDED"), b"hi")
    with pytest.raises(Failed) as failure:
        same(b"", b"hi", sent="nothing")
    assert failure.value.sent == "nothing"


async def test_slow_calls_are_measured_and_warned_of(site: Site) -> None:
    kit = site.context()
    for duration_s in (0.001, 0.002, 0.5):
        kit.recorder.add(Exchange("Status", duration_s, "OK"))
    kit.recorder.add(Exchange("Status", 9.0, "UNAVAILABLE"))
    quick_enough(kit, "Status", p50_ms=10, p99_ms=100)
    assert [one.value for one in kit.measurements] == [2, 500]
    assert kit.warnings == ["Status: p99 500.0 ms, over 100 ms"]


def test_percentile_of_nothing_is_refused() -> None:
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([3, 1, 2], 100) == 3
    assert percentile([3, 1, 2], 0) == 1
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_counts_are_scaled_but_never_to_nothing() -> None:
    assert FULL.count(1000) == 1000
    assert TINY.count(1000) == 20
    assert TINY.count(10) == 2
    assert TINY.count(1) == 1
    assert TINY.count(100, least=30) == 30


def test_words_of_a_plugin_are_harmless_and_cut() -> None:
    assert shown("a\x1b[2J\nb") == "a\\x1b[2J\\x0ab"
    assert shown("x" * 301) == "x" * 300 + "... (301 characters)"
    assert shown_bytes(b"") == "0 bytes "
    assert shown_bytes(bytes(17)) == f"17 bytes {'00' * 16}..."


async def test_uids_are_new_each_time(site: Site) -> None:
    kit = site.context()
    assert len({kit.uid() for _ in range(5)}) == 5
    assert isinstance(kit.dial(), Connection)
    await kit.aclose()


async def test_call_goes_on_after_a_graceful_goaway(site: Site) -> None:
    kit = site.context()
    plugin = await kit.raw_http2()
    frame = grpc_frame(b"")
    stream = await plugin.send(STATUS_METHOD, frame[:2], end=False)
    await plugin.call(STATUS_METHOD, frame)
    stopping = asyncio.ensure_future(site.plugin.stop())
    await plugin.finish(stream, frame[2:])
    assert (await plugin.answer(stream)).header("grpc-status") == "0"
    await stopping
    assert plugin.leaving
    with pytest.raises(ConnectionLost, match="GOAWAY"):
        await plugin.send(STATUS_METHOD, frame)
    with pytest.raises(ConnectionLost):
        await plugin.finish(stream, b"")
    await kit.aclose()
