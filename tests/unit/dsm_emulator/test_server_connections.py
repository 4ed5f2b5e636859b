"""What goes wrong before HTTP: refused, stalled, reset, closed while idle."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import httpx
import pytest

from dsm_emulator import Clock, DemoKey, Dsm, EmulatorServer, Fault
from dsm_emulator.connection import Connection, reset_on_close


HEALTH = "/sys/v1/health"


def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition that another thread brings about."""
    ends_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.002)


def is_refused(server: EmulatorServer) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), 5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # It stood in the queue of a listener that was just closed.
        return False
    return False


def is_reset(server: EmulatorServer) -> bool:
    # The reset may come even before `connect` returns.
    try:
        with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
            connection.sendall(b"no TLS at all")
            connection.recv(1)
    except ConnectionResetError:
        return True
    return False


def fresh(server: EmulatorServer, timeout_s: float = 5.0) -> httpx.Response:
    context = ssl.create_default_context(cafile=server.ca_file)
    return httpx.get(
        server.url + HEALTH, verify=context, trust_env=False, timeout=timeout_s
    )


def test_refusal_is_the_kernels_and_standing_connections_stay(
    client: httpx.Client, demo: DemoKey, server: EmulatorServer
) -> None:
    assert client.get(HEALTH).status_code == 204
    demo.dsm.faults.add(Fault("refuse"))
    until(lambda: is_refused(server))
    assert client.get(HEALTH).status_code == 204
    demo.dsm.faults.clear()
    until(lambda: not is_refused(server))
    assert fresh(server).status_code == 204


def test_refusal_ends_when_its_time_is_over(
    clock: Clock, demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("refuse", seconds=30))
    until(lambda: is_refused(server))
    clock.advance(29)
    assert is_refused(server)
    clock.advance(1)
    until(lambda: not is_refused(server))
    assert not demo.dsm.faults


def test_refusal_ends_by_the_wall_clock_without_a_push() -> None:
    demo = Dsm.with_demo_key("kek")
    with EmulatorServer(demo.dsm) as server:
        demo.dsm.faults.add(Fault("refuse", seconds=0.2))
        until(lambda: is_refused(server))
        until(lambda: not is_refused(server))


def test_server_can_start_while_it_refuses(demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("refuse"))
    with EmulatorServer(demo.dsm) as server:
        assert is_refused(server)
        server.stop()
        demo.dsm.faults.clear()
        server.start()
        assert fresh(server).status_code == 204


def test_port_that_was_taken_meanwhile_is_tried_again(
    demo: DemoKey, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsm_emulator.door.RETRY_S", 0.01)
    demo.dsm.faults.add(Fault("refuse"))
    until(lambda: is_refused(server))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.port))
        other.listen()
        demo.dsm.faults.clear()
    until(lambda: not is_refused(server))
    assert fresh(server).status_code == 204


def test_stalled_accept_lets_a_client_connect_and_wait(
    demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("stall-accept"))
    # The loop has to hear of it before the next client comes.
    until(lambda: not server.accepts())
    with pytest.raises(httpx.TimeoutException):
        fresh(server, 0.1)
    assert demo.dsm.journal.connections["accepted"] == 0
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fresh, server)
        demo.dsm.faults.clear()
        assert answer.result(timeout=10).status_code == 204


def test_connection_is_reset_once_it_stands(
    demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("reset-on-accept", count=1))
    assert is_reset(server)
    assert fresh(server).status_code == 204


def test_fault_is_for_the_connection_of_its_number(
    demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("reset-on-accept", connection=2))
    assert [is_reset(server) for _ in range(3)] == [False, True, False]


def test_request_fault_is_for_the_connection_of_its_number(
    client: httpx.Client, demo: DemoKey, server: EmulatorServer
) -> None:
    assert client.get(HEALTH).status_code == 204
    demo.dsm.faults.add(Fault("status", status=503, connection=2))
    assert fresh(server).status_code == 503
    assert client.get(HEALTH).status_code == 204
    assert [entry.connection for entry in demo.dsm.journal.entries] == [1, 2, 1]


def test_stalled_handshake_goes_on_when_it_is_let_go(
    demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("stall-handshake", count=1))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fresh, server)
        assert demo.dsm.faults.wait_for_hanging(1)
        # Another connection is not concerned.
        assert fresh(server).status_code == 204
        assert not answer.done()
        demo.dsm.faults.clear()
        assert answer.result(timeout=10).status_code == 204


def test_server_stops_while_a_handshake_stalls(
    demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("stall-handshake"))
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        assert demo.dsm.faults.wait_for_hanging(1)
        server.stop()
        assert connection.recv(1) == b""
    # What let go then has no loop to tell; that must not matter.
    demo.dsm.faults.clear()


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_no_socket_is_lost_when_clients_come_while_the_server_stops(
    demo: DemoKey,
) -> None:
    for _ in range(20):
        with EmulatorServer(demo.dsm) as server:
            clients = [
                socket.create_connection(("127.0.0.1", server.port), 5)
                for _ in range(10)
            ]
        for client in clients:
            client.close()


def test_client_that_leaves_amid_its_handshake_is_counted(
    demo: DemoKey, server: EmulatorServer
) -> None:
    connections = demo.dsm.journal.connections
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(b"\x16\x03\x01")
    until(lambda: connections["handshakes_failed"] == 1)
    assert connections["accepted"] == 1


def test_idle_connection_is_closed_at_once_and_the_next_one_serves(
    demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("close-idle", count=1))
    context = ssl.create_default_context(cafile=server.ca_file)
    with (
        socket.create_connection(("127.0.0.1", server.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        # The second request comes too late, however fast it is.
        secure.sendall(2 * b"GET /sys/v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while part := secure.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 204") == 1
    assert b"connection: close" not in received
    assert fresh(server).status_code == 204


async def test_idle_connection_is_closed_after_a_while_and_not_before(
    demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("close-idle", ms=150))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        server.port,
        ssl=ssl.create_default_context(cafile=server.ca_file),
        server_hostname="localhost",
    )
    started_s = time.monotonic()
    for _ in range(2):
        writer.write(b"GET /sys/v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"204" in await reader.readuntil(b"\r\n\r\n")
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert time.monotonic() - started_s >= 0.15
    writer.close()
    await writer.wait_closed()


def test_connection_that_the_client_resets_is_forgotten_at_once(
    server: EmulatorServer,
) -> None:
    assert server._listening is not None
    connections = server._listening._state.connections
    context = ssl.create_default_context(cafile=server.ca_file)
    plain = socket.create_connection(("127.0.0.1", server.port), 5)
    with context.wrap_socket(plain, server_hostname="localhost") as secure:
        secure.sendall(b"GET /sys/v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"204" in secure.recv(4096)
        (connection,) = connections
        assert isinstance(connection, Connection)
        # It is set a moment after the answer has gone out.
        until(lambda: connection.timeout_keep_alive_task is not None)
        reset_on_close(secure)
    until(lambda: not connections)
    until(lambda: connection.timeout_keep_alive_task is None)


def test_second_address_can_die_alone(demo: DemoKey) -> None:
    with EmulatorServer(demo.dsm, more_hosts=("127.0.0.2",)) as server:
        context = ssl.create_default_context(cafile=server.ca_file)

        def answers(host: str) -> bool:
            url = server.url_at(host) + HEALTH
            try:
                httpx.get(url, verify=context, trust_env=False)
            except httpx.ConnectError:
                return False
            return True

        def refuses(host: str) -> bool:
            # Without TLS: a client that is cut off within its handshake loses a socket.
            port = httpx.URL(server.url_at(host)).port
            with socket.socket() as client:
                return client.connect_ex((host, port)) != 0

        assert answers("127.0.0.1")
        assert answers("127.0.0.2")
        server.kill_address("127.0.0.2")
        until(lambda: refuses("127.0.0.2"))
        assert not answers("127.0.0.2")
        assert answers("127.0.0.1")
        # Other faults don't wake it up.
        demo.dsm.faults.add(Fault("status", status=503))
        demo.dsm.faults.clear()
        assert not answers("127.0.0.2")
        server.revive_address("127.0.0.2")
        until(lambda: answers("127.0.0.2"))
        with pytest.raises(ValueError, match="listen"):
            server.kill_address("127.0.0.3")


def test_second_address_that_is_taken_frees_the_first(
    demo: DemoKey, server: EmulatorServer
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = EmulatorServer(demo.dsm, port=port, more_hosts=("127.0.0.2",))
        with pytest.raises(OSError, match="in use"):
            other.start()
    with other:
        assert other.port == port


def test_port_of_the_control_api_that_is_taken_frees_the_other(demo: DemoKey) -> None:
    with EmulatorServer(demo.dsm, control_token="t") as server:
        url = server.control_url
        assert url is not None
        server.stop()
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", int(url.rpartition(":")[2])))
            taken.listen()
            with pytest.raises(OSError, match="in use"):
                server.start()
        server.start()
        assert fresh(server).status_code == 204


@pytest.mark.parametrize(
    "error",
    [OSError(24, "Too many open files"), BlockingIOError(), ConnectionAbortedError()],
)
def test_failure_to_accept_is_a_pause_at_most(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    monkeypatch.setattr("dsm_emulator.door.RETRY_S", 0.01)
    assert server._listening is not None
    failed = threading.Event()
    door = server._listening._doors["127.0.0.1"]
    listener = door._listener

    class Exhausted:
        def accept(self) -> None:
            door._listener = listener
            failed.set()
            raise error

    door._listener = cast("socket.socket", Exhausted())
    server._listening._loop.call_soon_threadsafe(door._accept)
    assert failed.wait(10)
    assert fresh(server).status_code == 204
