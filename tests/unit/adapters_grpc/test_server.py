from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from tests.unit.adapters_grpc.support import World, call, channel, outcome, raw_method

from adapters_grpc import unix_socket
from adapters_grpc.messages import (
    DECRYPT_METHOD,
    ENCRYPT_METHOD,
    STATUS_METHOD,
    DecryptRequest,
    EncryptRequest,
)
from adapters_grpc.server import MAX_MESSAGE_BYTES, KmsServer
from adapters_grpc.unix_socket import SocketRefused
from kms_core.service import EncryptAnswer


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


SERVE = """
import asyncio, sys
from pathlib import Path
from tests.unit.adapters_grpc.support import World

async def serve():
    world = World(Path(sys.argv[1]))
    async with world.served():
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""


@contextlib.asynccontextmanager
async def served_elsewhere(
    directory: Path,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server in a process of its own, which can be killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVE,
        directory,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def settled(before: set[asyncio.Task[object]]) -> None:
    """Return once only the tasks of *before* are left."""
    if ending := asyncio.all_tasks() - before:
        _, left = await asyncio.wait(ending, timeout=5)
        assert not left


async def test_socket_appears_ready_and_private_and_is_gone_at_the_end(
    world: World,
) -> None:
    before = asyncio.all_tasks()
    async with world.served(), channel(world.path) as on:
        assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
        await call(on, STATUS_METHOD, b"")
    await settled(before)
    assert world.listing() == [".kms.sock.lock"]


async def test_server_can_be_started_again_on_the_same_path(world: World) -> None:
    for _ in range(2):
        async with world.served(), channel(world.path) as on:
            await call(on, STATUS_METHOD, b"")


async def test_stopping_twice_or_before_the_start_is_harmless(world: World) -> None:
    server = world.server()
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()


async def test_mode_and_group_of_the_socket_can_be_set(world: World) -> None:
    gid = 4321 if os.geteuid() == 0 else os.getegid()
    server = KmsServer(
        world.service,  # type: ignore[arg-type]
        world.telemetry,
        world.path,
        mode=0o660,
        gid=gid,
    )
    await server.start()
    status = world.path.stat()
    await server.stop()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, gid)


async def test_second_server_is_refused_and_the_first_goes_on_serving(
    world: World,
) -> None:
    async with world.served(), channel(world.path) as on:
        await call(on, STATUS_METHOD, b"")
        second = World(world.path.parent)
        with pytest.raises(SocketRefused, match="another instance"):
            await second.server().start()
        await call(on, STATUS_METHOD, b"")
        async with channel(world.path) as new:
            await call(new, STATUS_METHOD, b"")


async def test_foreign_server_is_left_alone_and_goes_on_serving(world: World) -> None:
    foreign = grpc.aio.server()
    foreign.add_insecure_port(f"unix:{world.path}")
    await foreign.start()
    with pytest.raises(SocketRefused, match="another server answers"):
        await world.server().start()
    async with channel(world.path) as on:
        answer = await outcome(on, STATUS_METHOD, b"")
    assert answer == ("UNIMPLEMENTED", "Method not found!")
    await foreign.stop(None)


async def test_socket_of_a_killed_daemon_is_replaced(world: World) -> None:
    async with served_elsewhere(world.path.parent) as process:
        async with channel(world.path) as on:
            await call(on, STATUS_METHOD, b"")
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert world.path.is_socket()
    async with world.served(), channel(world.path) as on:
        await call(on, STATUS_METHOD, b"")


async def test_client_that_waits_gets_its_answer_from_the_restarted_daemon(
    world: World,
) -> None:
    async with channel(world.path) as on:
        waiting = raw_method(on, ENCRYPT_METHOD)(b"", timeout=10, wait_for_ready=True)
        while on.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            await on.wait_for_state_change(on.get_state())
        async with world.served():
            await waiting


async def test_server_that_cannot_bind_leaves_nothing_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = unix_socket._make_bind_directory

    def taken(bind_path: Path) -> None:
        real(bind_path)
        bind_path.write_text("in the way of grpcio")

    monkeypatch.setattr(unix_socket, "_make_bind_directory", taken)
    with pytest.raises(SocketRefused, match="can't bind"):
        await world.server().start()
    assert world.listing() == [".kms.sock.lock"]


@pytest.mark.parametrize("authority", ["localhost", "encoded", "x.example:1", "[::1]"])
async def test_any_authority_is_accepted(world: World, authority: str) -> None:
    if authority == "encoded":
        authority = quote(str(world.path), safe="")
    async with world.served(), channel(world.path, authority=authority) as on:
        for method in (STATUS_METHOD, ENCRYPT_METHOD, DECRYPT_METHOD):
            await call(on, method, b"")


async def test_unknown_method_is_unimplemented_and_the_connection_lives_on(
    world: World,
) -> None:
    async with world.served(), channel(world.path) as on:
        code, _ = await outcome(on, "/v2.KeyManagementService/Rotate", b"")
        assert code == "UNIMPLEMENTED"
        code, _ = await outcome(on, "/v1beta1.KeyManagementService/Version", b"")
        assert code == "UNIMPLEMENTED"
        await call(on, STATUS_METHOD, b"")


async def test_hundred_calls_at_once_are_all_answered(world: World) -> None:
    world.service.gate.clear()
    async with world.served(), channel(world.path) as on:
        calls = [
            asyncio.ensure_future(call(on, DECRYPT_METHOD, b"", 30)) for _ in range(100)
        ]
        async with asyncio.timeout(20):
            while world.service.in_flight < 100:
                world.service.arrived.clear()
                await world.service.arrived.wait()
            await call(on, STATUS_METHOD, b"")
        world.service.gate.set()
        await asyncio.gather(*calls)
    assert world.service.most_in_flight == 100


async def test_message_over_the_cap_is_refused_and_the_connection_lives_on(
    world: World,
) -> None:
    request = EncryptRequest(plaintext=b"p" * MAX_MESSAGE_BYTES).SerializeToString()
    async with world.served(), channel(world.path) as on:
        code, _ = await outcome(on, ENCRYPT_METHOD, request)
        assert code == "RESOURCE_EXHAUSTED"
        await call(on, STATUS_METHOD, b"")
    assert world.service.deadlines == []


async def test_answer_over_the_cap_is_not_sent(world: World) -> None:
    async def vast(_plaintext: bytes, *, deadline: float) -> EncryptAnswer:
        return EncryptAnswer(b"c" * MAX_MESSAGE_BYTES, "k")

    world.service.encrypt = vast  # type: ignore[method-assign,assignment]
    async with world.served(), channel(world.path) as on:
        code, _ = await outcome(on, ENCRYPT_METHOD, b"")
    assert code == "RESOURCE_EXHAUSTED"


async def test_compressed_request_is_refused_before_it_unfolds(world: World) -> None:
    bomb = EncryptRequest(plaintext=bytes(2_000_000)).SerializeToString()
    async with world.served():
        async with channel(world.path, compression=2) as on:
            code, _ = await outcome(on, ENCRYPT_METHOD, bomb)
        async with channel(world.path) as on:
            await call(on, STATUS_METHOD, b"")
    assert code == "UNIMPLEMENTED"
    assert world.service.deadlines == []


async def test_answers_are_never_compressed(world: World) -> None:
    seen = bytearray()
    relayed = asyncio.Event()

    async def copy(
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        record: bytearray,
    ) -> None:
        # Either side may reset what the other still writes to: that is an end as well.
        with contextlib.suppress(ConnectionError):
            while chunk := await source.read(65536):
                record += chunk
                sink.write(chunk)
        sink.close()
        with contextlib.suppress(ConnectionError):
            await sink.wait_closed()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(world.path)
        await asyncio.gather(
            copy(reader, server_writer, bytearray()), copy(server_reader, writer, seen)
        )
        relayed.set()

    between = world.path.with_name("relay")
    async with world.served():
        listener = await asyncio.start_unix_server(relay, between)
        async with listener, channel(between) as on:
            request = EncryptRequest(plaintext=b"p" * 1000)
            await call(on, ENCRYPT_METHOD, request.SerializeToString())
        await asyncio.wait_for(relayed.wait(), 5)
    data = [payload for kind, payload in frames(bytes(seen)) if kind == 0]
    assert b"p" * 1000 in b"".join(data)
    assert data[0][0] == 0  # the flag of a message that is not compressed


def frames(stream: bytes) -> list[tuple[int, bytes]]:
    """Return type and payload of each HTTP/2 frame (RFC 9113, section 4.1)."""
    found = []
    while stream:
        length = int.from_bytes(stream[:3])
        found.append((stream[3], stream[9 : 9 + length]))
        stream = stream[9 + length :]
    return found


async def test_clients_that_send_nothing_disturb_nobody(world: World) -> None:
    async with world.served(), contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            silent = stack.enter_context(socket.socket(socket.AF_UNIX))
            silent.connect(str(world.path))
        on = await stack.enter_async_context(channel(world.path))
        for method in (STATUS_METHOD, ENCRYPT_METHOD, DECRYPT_METHOD):
            await call(on, method, b"")


async def test_bytes_that_are_no_http2_disturb_nobody(world: World) -> None:
    async with world.served(), channel(world.path) as on:
        for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\xff" * 1000):
            reader, writer = await asyncio.open_unix_connection(world.path)
            writer.write(junk)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await call(on, STATUS_METHOD, b"")


async def test_call_in_flight_is_finished_and_new_ones_are_refused_while_stopping(
    world: World,
) -> None:
    before = asyncio.all_tasks()
    world.service.gate.clear()
    async with world.served() as server, channel(world.path) as on:
        request = DecryptRequest(ciphertext=b"dees").SerializeToString()
        pending = asyncio.ensure_future(call(on, DECRYPT_METHOD, request, 10))
        await asyncio.wait_for(world.service.arrived.wait(), 5)
        stopping = asyncio.create_task(server.stop(5))
        async with channel(world.path) as late:
            async with asyncio.timeout(5):
                while (await outcome(late, STATUS_METHOD, b""))[0] == "OK":
                    pass
            assert not pending.done()
            world.service.gate.set()
            assert await pending == b"\x0a\x04seed"
        await asyncio.wait_for(stopping, 5)
    await settled(before)
    assert not world.path.exists()


async def test_call_that_outlasts_the_grace_is_cancelled(world: World) -> None:
    before = asyncio.all_tasks()
    world.service.gate.clear()
    async with world.served() as server, channel(world.path) as on:
        pending = asyncio.ensure_future(outcome(on, DECRYPT_METHOD, b"", 30))
        await asyncio.wait_for(world.service.arrived.wait(), 5)
        await asyncio.wait_for(server.stop(0.05), 5)
        await asyncio.wait_for(world.service.cancelled.wait(), 5)
        code, _ = await pending
    assert code in {"CANCELLED", "UNAVAILABLE"}
    await settled(before)
