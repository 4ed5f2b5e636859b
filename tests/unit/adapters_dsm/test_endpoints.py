"""Several endpoints: another one serves the call, and no caller waits for a broken one.

Timings are those of an injected clock or counts of requests, never of the machine.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
import trustme
from tests.unit.adapters_dsm.proofs import write
from tests.unit.adapters_dsm.scripts import answers, hang
from tests.unit.adapters_dsm.support import (
    API_KEY,
    KID,
    SEED,
    Adapters,
    Asked,
    RawServer,
    describe_ok,
    http,
    login,
    sobject,
    until,
)

from adapters_dsm.events import EndpointBack, EndpointLeft
from kms_core.errors import (
    CredentialRefused,
    KeyNotFound,
    PermissionRefused,
    ProviderFaulty,
    ProviderThrottling,
    ProviderTimeout,
    ProviderUnreachable,
)
from kms_core.ports import call_uid
from kms_core.provider import Ciphertext


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from adapters_dsm.provider import DsmKeyProvider
    from kms_core.errors import ProviderError
    from kms_core.fakes import RecordedTelemetry
    from kms_core.provider import KeyDescription


HEALTH = "/sys/v1/health"
TEXT = {"Content-Type": "text/plain"}


async def well(asked: Asked) -> None:
    asked.send(http(204) if asked.path == HEALTH else describe_ok())


async def reset(asked: Asked) -> None:
    asked.reset()


@pytest.fixture
def dead_url() -> Iterator[str]:
    """Nobody listens, and nobody else takes the port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"https://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
async def good(authority: trustme.CA) -> AsyncIterator[RawServer]:
    async with RawServer(well, authority) as server:
        yield server


async def describe(
    provider: DsmKeyProvider, adapters: Adapters, seconds: float = 3.0
) -> KeyDescription:
    return await provider.describe(deadline=adapters.clock.in_s(seconds))


async def failure(
    provider: DsmKeyProvider, adapters: Adapters, seconds: float = 3.0
) -> ProviderError:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its type is looked at
        await describe(provider, adapters, seconds)
    return caught.value  # type: ignore[return-value]


def changes(telemetry: RecordedTelemetry) -> list[str]:
    return [
        type(event).__name__
        for event in telemetry.events
        if isinstance(event, EndpointLeft | EndpointBack)
    ]


async def settled(provider: DsmKeyProvider) -> None:
    """Return once nothing goes on beside the calls."""
    await until(lambda: not provider._endpoints._aside)


async def test_the_first_is_asked_as_long_as_it_answers(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    async with RawServer(well, authority) as first:
        provider = adapters.open(first.url, good.url)
        for _ in range(5):
            await describe(provider, adapters)
        assert len(first.keys_asked) == 5
    assert good.asked == []
    assert changes(adapters.telemetry) == []


async def test_a_dead_one_costs_no_call_and_is_asked_once(
    dead_url: str, adapters: Adapters, good: RawServer
) -> None:
    provider = adapters.open(dead_url, good.url)
    for _ in range(20):
        assert (await describe(provider, adapters)).kid == KID
    assert adapters.told.count("login DSM-UNREACHABLE") == 1
    assert adapters.clock.slept == [0.0], "the other one is tried at once"
    (left,) = [e for e in adapters.telemetry.events if isinstance(e, EndpointLeft)]
    assert left.endpoint in dead_url
    assert left.code == "DSM-UNREACHABLE"


async def test_many_calls_at_once_survive_a_dead_one(
    dead_url: str, adapters: Adapters, good: RawServer
) -> None:
    provider = adapters.open(dead_url, good.url)
    found = await asyncio.gather(*[describe(provider, adapters) for _ in range(64)])
    assert {one.kid for one in found} == {KID}
    assert good.logins == 1


@pytest.mark.parametrize("hangs", ["login", "call"])
async def test_a_hanging_one_costs_no_call_and_its_time_once(
    authority: trustme.CA, adapters: Adapters, good: RawServer, hangs: str
) -> None:
    on_login = hang if hangs == "login" else None
    async with RawServer(hang, authority, on_login=on_login) as hanging:
        provider = adapters.open(hanging.url, good.url)
        calls = [describe(provider, adapters) for _ in range(16)]
        assert {one.kid for one in await asyncio.gather(*calls)} == {KID}
        before = len(hanging.asked)
        for _ in range(20):
            assert (await describe(provider, adapters)).kid == KID
        assert len(hanging.asked) == before
    assert changes(adapters.telemetry) == ["EndpointLeft"]


async def test_one_that_accepts_and_says_nothing_costs_no_call(
    adapters: Adapters, good: RawServer
) -> None:
    """Not even TLS: the host is up, and the service is not."""

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        provider = adapters.open(
            f"https://127.0.0.1:{listening.getsockname()[1]}", good.url
        )
        for _ in range(3):
            assert (await describe(provider, adapters)).kid == KID


async def test_one_that_stops_answering_in_between_costs_no_call(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    first = RawServer(well, authority)
    async with first:
        provider = adapters.open(first.url, good.url)
        await describe(provider, adapters)
        for broken in (reset, hang):
            first.script = broken
            assert (await describe(provider, adapters)).kid == KID
        assert len(good.keys_asked) == 2


@pytest.mark.parametrize(
    "raw",
    [
        http(500),
        http(503, headers={"Retry-After": "120"}),
        http(502, b"<html>no</html>", {"Content-Type": "text/html"}),
        http(404, b"<html>no</html>", {"Content-Type": "text/html"}),
        http(200, b"no JSON"),
        http(200, {"kid": "no kid"}),
        http(307, headers={"Location": "https://127.0.0.1:1/"}),
        b"no HTTP\r\n\r\n",
    ],
)
async def test_a_broken_one_costs_no_call_and_is_left_after_three(
    authority: trustme.CA, adapters: Adapters, good: RawServer, raw: bytes
) -> None:
    async with RawServer(answers(raw), authority) as broken:
        provider = adapters.open(broken.url, good.url)
        for _ in range(10):
            assert (await describe(provider, adapters)).kid == KID
        assert len(broken.keys_asked) == 3
    assert adapters.clock.slept == [0.0] * 3, "whatever Retry-After says there"


async def test_one_with_a_foreign_certificate_costs_no_call_and_sees_no_credential(
    adapters: Adapters, good: RawServer
) -> None:
    async with RawServer(well, trustme.CA()) as foreign:
        provider = adapters.open(foreign.url, good.url)
        for _ in range(5):
            assert (await describe(provider, adapters)).kid == KID
        assert foreign.asked == []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            http(404, b"sobject does not exist", {"Content-Type": "text/plain"}),
            KeyNotFound,
        ),
        (http(403, b"no", {"Content-Type": "text/plain"}), PermissionRefused),
        (http(429, headers={"Retry-After": "30"}), ProviderThrottling),
    ],
)
async def test_what_is_the_same_everywhere_is_not_asked_elsewhere(
    authority: trustme.CA,
    adapters: Adapters,
    good: RawServer,
    raw: bytes,
    expected: type[Exception],
) -> None:
    async with RawServer(answers(raw), authority) as first:
        provider = adapters.open(first.url, good.url)
        assert type(await failure(provider, adapters)) is expected
    assert good.asked == []
    assert changes(adapters.telemetry) == []


async def test_when_all_are_down_the_error_is_that_of_the_last_and_all_are_tried(
    dead_url: str, authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answers(http(503)), authority) as faulty:
        provider = adapters.open(dead_url, faulty.url)
        error = await failure(provider, adapters)
        assert isinstance(error, ProviderFaulty | ProviderUnreachable)
        assert len(faulty.keys_asked) > 1, "rounds go on until the deadline"
        faulty.script = well
        assert (await describe(provider, adapters)).kid == KID


async def test_time_is_left_for_each_of_three(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    async with (
        RawServer(hang, authority, on_login=hang) as one,
        RawServer(hang, authority, on_login=hang) as two,
    ):
        provider = adapters.open(one.url, two.url, good.url)
        assert (await describe(provider, adapters, 4.0)).kid == KID


async def test_a_call_in_a_hurry_does_not_turn_the_others_away(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    go = asyncio.Event()

    async def slow(asked: Asked) -> None:
        await go.wait()
        await well(asked)

    async with RawServer(slow, authority) as first:
        provider = adapters.open(first.url, good.url)
        assert isinstance(await failure(provider, adapters, 0.2), ProviderTimeout)
        go.set()
        await describe(provider, adapters)
        assert good.asked == []


async def test_one_that_is_well_again_is_found_by_a_look_and_asked_first(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    first = RawServer(well, authority)
    await first.start()
    provider = adapters.open(first.url, good.url)
    call_uid.set("a-call")
    await describe(provider, adapters)
    await first.stop()
    await describe(provider, adapters)
    asked = len(adapters.calls)
    await describe(provider, adapters)
    assert len(adapters.calls) == asked + 1, "not due yet: nobody looks"

    adapters.clock.ahead_s += 10
    await describe(provider, adapters)
    await settled(provider)
    assert adapters.told.count("health DSM-UNREACHABLE") == 1
    await first.start()
    adapters.clock.ahead_s += 20
    await describe(provider, adapters)
    await settled(provider)
    assert adapters.told[-1] == "health ok"
    uids = {call.operation: call.uid for call in adapters.calls}
    assert (uids["describe"], uids["health"]) == ("a-call", ""), "it serves no call"
    health = next(asked for asked in first.asked if asked.path == HEALTH)
    assert "authorization" not in health.headers
    served = len(good.keys_asked)
    await describe(provider, adapters)
    assert len(good.keys_asked) == served
    assert changes(adapters.telemetry) == ["EndpointLeft", "EndpointBack"]
    await first.stop()


async def test_a_look_at_one_that_hangs_costs_no_caller_its_time(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    async with RawServer(hang, authority, on_login=hang) as hanging:
        provider = adapters.open(hanging.url, good.url)
        await describe(provider, adapters)
        adapters.clock.ahead_s += 10
        for _ in range(5):
            # Each would fail if it waited for the look, which takes 2 s.
            await describe(provider, adapters, 0.9)
        looks = [asked for asked in hanging.asked if asked.path == HEALTH]
        assert len(looks) <= 1


async def test_an_unwell_one_says_so_and_stays_last(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    async with RawServer(answers(http(503)), authority) as first:
        provider = adapters.open(first.url, good.url)
        for _ in range(4):
            await describe(provider, adapters)
        adapters.clock.ahead_s += 10
        await describe(provider, adapters)
        await settled(provider)
        assert adapters.told[-1] == "health DSM-FAULTY"
    assert changes(adapters.telemetry) == ["EndpointLeft"]


async def test_one_whose_health_lies_opens_again_and_waits_longer(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    async def lie(asked: Asked) -> None:
        asked.send(http(204)) if asked.path == HEALTH else asked.reset()

    async with RawServer(lie, authority) as first:
        provider = adapters.open(first.url, good.url)
        for wait_s in (10, 20, 40):
            await describe(provider, adapters)
            failed = len(first.keys_asked)
            adapters.clock.ahead_s += wait_s - 1
            await describe(provider, adapters)
            await settled(provider)
            assert len(first.keys_asked) == failed
            adapters.clock.ahead_s += 1
            await describe(provider, adapters)
            await settled(provider)


async def test_sessions_belong_to_their_endpoint(
    authority: trustme.CA, adapters: Adapters
) -> None:
    def node(name: str) -> RawServer:
        async def log_in(asked: Asked) -> None:
            asked.send(login(name))

        return RawServer(well, authority, on_login=log_in)

    async with node("one") as one, node("two") as two:
        provider = adapters.open(one.url, two.url)
        await describe(provider, adapters)
        one.script = reset
        await describe(provider, adapters)
        await provider.aclose()
        sent = [asked.headers["authorization"] for asked in one.asked + two.asked]
        assert one.logouts == two.logouts == 1
    assert {*sent[1:-4]} == {"Bearer one"}
    assert {*sent[-2:]} == {"Bearer two"}


async def test_one_that_refuses_the_credential_does_not_turn_off_the_other(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    """A sick node; DSM's failed logins are few, so it is left alone for long."""
    first = RawServer(well, authority)
    async with first:
        provider = adapters.open(first.url, good.url)
        await describe(provider, adapters)
        first.script = reset
        await describe(provider, adapters)
        first.script = answers(http(401))
        first.on_login = answers(http(401))
        refused = first.logins
        for _ in range(200):
            adapters.clock.ahead_s += 30
            assert (await describe(provider, adapters)).kid == KID
            await settled(provider)
        assert first.logins - refused <= 6
        assert good.logins == 1


async def test_a_first_login_that_one_refuses_is_tried_at_the_other_by_the_timer(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    refuse = answers(http(401))
    async with RawServer(well, authority, on_login=refuse) as first:
        provider = adapters.open(first.url, good.url)
        assert isinstance(await failure(provider, adapters), CredentialRefused)
        assert good.logins == 0, "one call fails to authenticate once"
        adapters.clock.ahead_s += 30
        assert (await describe(provider, adapters)).kid == KID
        assert (first.logins, good.logins) == (1, 1)


async def test_a_file_that_can_not_be_read_says_nothing_of_an_endpoint(
    authority: trustme.CA, adapters: Adapters, good: RawServer, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    async with RawServer(well, authority) as second:
        provider = adapters.open(good.url, second.url, api_key_file=path)
        for _ in range(3):
            assert isinstance(await failure(provider, adapters), CredentialRefused)
            adapters.clock.ahead_s += 30
        write(path, API_KEY)
        assert (await describe(provider, adapters)).kid == KID
        assert changes(adapters.telemetry) == []
        assert (good.logins, second.logins) == (1, 0)


async def test_renew_and_close_reach_all(
    authority: trustme.CA, adapters: Adapters, good: RawServer
) -> None:
    async with RawServer(well, authority) as first:
        provider = adapters.open(first.url, good.url)
        for node in provider._endpoints.nodes:
            await node.sessions.obtain(by_timer=True)
        await provider.renew()
        await until(lambda: first.logouts == good.logouts == 1)
        await provider.aclose()
        adapters.clock.ahead_s += 1000
        assert isinstance(await failure(provider, adapters), ProviderUnreachable)
        assert not provider._endpoints._aside, "nothing goes on after the end"


async def test_a_decrypt_goes_to_another_too(
    dead_url: str, authority: trustme.CA, adapters: Adapters
) -> None:
    async def opened(asked: Asked) -> None:
        asked.send(http(200, sobject() | {"plain": "AAECAwQFBgcICQoLDA0ODw=="}))

    async with RawServer(opened, authority) as server:
        provider = adapters.open(dead_url, server.url)
        found = await provider.decrypt(
            KID,
            Ciphertext(SEED[:16], bytes(12), bytes(16)),
            None,
            deadline=adapters.clock.in_s(3),
        )
    assert found == SEED[:16]
