import ssl
from collections.abc import Callable, Iterator

import httpx
import pytest

from dsm_emulator import Clock, DemoKey, Dsm, EmulatorServer


START_S = 1_700_000_000.0  # 20231114T221320Z


@pytest.fixture
def clock() -> Clock:
    return Clock(START_S)


@pytest.fixture
def demo(clock: Clock) -> DemoKey:
    return Dsm.with_demo_key("kek", clock=clock)


@pytest.fixture
def server(demo: DemoKey) -> Iterator[EmulatorServer]:
    with EmulatorServer(demo.dsm) as server:
        yield server


@pytest.fixture
def connect(server: EmulatorServer) -> Iterator[Callable[[str], httpx.Client]]:
    context = ssl.create_default_context(cafile=server.ca_file)
    clients: list[httpx.Client] = []

    def connect(authorization: str) -> httpx.Client:
        headers = {"Authorization": authorization} if authorization else {}
        client = httpx.Client(
            base_url=server.url, verify=context, headers=headers, trust_env=False
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(demo: DemoKey, connect: Callable[[str], httpx.Client]) -> httpx.Client:
    return connect(f"Basic {demo.api_key}")


@pytest.fixture
def admin(demo: DemoKey, connect: Callable[[str], httpx.Client]) -> httpx.Client:
    return connect(f"Basic {demo.admin_api_key}")


@pytest.fixture
def stranger(connect: Callable[[str], httpx.Client]) -> httpx.Client:
    return connect("")
