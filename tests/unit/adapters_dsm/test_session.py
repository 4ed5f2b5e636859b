"""Sessions: one login for all, dead ones noticed, refused credentials left alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.unit.adapters_dsm.scripts import answer_well, answers, hang
from tests.unit.adapters_dsm.support import (
    API_KEY,
    KID,
    SEED,
    Adapters,
    Asked,
    RawServer,
    cancel,
    describe_ok,
    failure,
    http,
    login,
    until,
)

from adapters_dsm.session import BELIEVED_S
from kms_core.errors import (
    ApprovalNeeded,
    CredentialRefused,
    KmsError,
    PermissionRefused,
    ProviderAnswerRefused,
    ProviderFaulty,
    ProviderUnreachable,
    RequestRefused,
)


if TYPE_CHECKING:
    import trustme
    from tests.unit.adapters_dsm.support import Emulated


NO_SESSION = b"Session does not exist"
TEXT = {"Content-Type": "text/plain"}


async def test_the_api_key_goes_verbatim_to_the_login_alone(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        sent = [asked.headers["authorization"] for asked in server.asked]
    assert sent == [f"Basic {API_KEY}", "Bearer token-1"]


async def test_a_hundred_calls_share_one_login(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        deadline = adapters.clock.in_s(20)
        calls = [provider.describe(deadline=deadline) for _ in range(100)]
        await asyncio.gather(*calls)
        assert server.logins == 1


async def test_the_first_caller_may_hang_up_while_others_wait_for_the_login(
    authority: trustme.CA, adapters: Adapters
) -> None:
    go = asyncio.Event()

    async def slow_login(asked: Asked) -> None:
        await go.wait()
        asked.send(login("token"))

    async with RawServer(answer_well, authority, on_login=slow_login) as server:
        provider = adapters.open(server.url)
        first = asyncio.create_task(provider.describe(deadline=adapters.clock.in_s(3)))
        await until(lambda: server.logins == 1)
        second = asyncio.create_task(provider.describe(deadline=adapters.clock.in_s(3)))
        await asyncio.sleep(0)
        await cancel(first)
        go.set()
        assert (await second).kid == KID
        assert server.logins == 1


async def test_close_during_a_login_fails_the_waiting_call_with_our_error(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority, on_login=hang) as server:
        provider = adapters.open(server.url)
        call = asyncio.create_task(provider.describe(deadline=adapters.clock.in_s(3)))
        hung_up = asyncio.create_task(
            provider.describe(deadline=adapters.clock.in_s(3))
        )
        await until(lambda: server.logins == 1)
        hung_up.cancel()
        await provider.aclose()
        with pytest.raises(ProviderUnreachable, match="closed"):
            await call
        with pytest.raises(asyncio.CancelledError):
            await hung_up


async def test_a_login_that_hangs_is_tried_once_more_for_those_who_wait(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def first_hangs(asked: Asked) -> None:
        if server.logins > 1:
            asked.send(login("token"))

    async with RawServer(answer_well, authority, on_login=first_hangs) as server:
        provider = adapters.open(server.url)
        assert (await provider.describe(deadline=adapters.clock.in_s(3))).kid == KID
        assert server.connections == 3
    assert adapters.told == ["login DSM-UNREACHABLE", "login ok", "describe ok"]


async def test_a_logout_that_fails_does_not_matter(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(
        answer_well, authority, on_logout=answers(http(500))
    ) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        await provider.renew()
        await provider.renew()
        await until(lambda: server.logouts == 1)
        await provider.describe(deadline=adapters.clock.in_s(3))
        await provider.aclose()
    assert adapters.told.count("logout DSM-FAULTY") == 2


async def test_a_call_that_gives_up_waiting_leaves_the_login_to_the_next(
    authority: trustme.CA, adapters: Adapters
) -> None:
    go = asyncio.Event()

    async def slow_login(asked: Asked) -> None:
        await go.wait()
        asked.send(login("token"))

    async with RawServer(answer_well, authority, on_login=slow_login) as server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(0.1))
        assert error.code == "DSM-TIMEOUT"
        go.set()
        await provider.describe(deadline=adapters.clock.in_s(3))
        assert server.logins == 1


async def test_use_keeps_a_session_alive(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        for _ in range(5):
            await provider.describe(deadline=adapters.clock.in_s(3))
            adapters.clock.ahead_s += 500
        assert server.logins == 1


async def test_a_session_that_lay_idle_too_long_is_not_offered(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        adapters.clock.ahead_s += 571
        await provider.describe(deadline=adapters.clock.in_s(3))
        assert server.logins == 2


@pytest.mark.parametrize("expires_in", [0, -1, -(10**30), 1, 10**30])
async def test_an_odd_expiry_costs_logins_at_most(
    authority: trustme.CA, adapters: Adapters, expires_in: int
) -> None:
    async with RawServer(
        answer_well, authority, on_login=answers(login("token", expires_in))
    ) as server:
        provider = adapters.open(server.url)
        for _ in range(3):
            await provider.describe(deadline=adapters.clock.in_s(3))
            adapters.clock.ahead_s += 30
        assert server.logins == (1 if expires_in > 100 else 3)


@pytest.mark.parametrize(
    "answer",
    [
        login("token", "600"),
        login("token", None),
        login("token", 6.5),
        login("token", True),  # noqa: FBT003 - what DSM might send
        login(""),
        login("a\r\nX-Evil: 1"),
        login("a b"),
        login("\u00e4"),
        login("a" * 4097),
        http(body={"token_type": "Cookie", "expires_in": 600, "entity_id": KID}),
        http(body={"token_type": "Cookie", "expires_in": 600, "access_token": "t"}),
        http(body={}),
        http(202, {"expires_in": 600, "access_token": "t"}),
        http(404, b"nothing here", TEXT),
    ],
)
async def test_an_odd_login_is_refused(
    authority: trustme.CA, adapters: Adapters, answer: bytes
) -> None:
    async with RawServer(answer_well, authority, on_login=answers(answer)) as server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
        assert isinstance(error, ProviderAnswerRefused)
        assert server.keys_asked == []


@pytest.mark.parametrize(
    "dead",
    [
        http(401, NO_SESSION, TEXT),
        http(401),
        http(403, NO_SESSION, TEXT),
        http(403, {"message": "Session does not exist"}),
        http(400, NO_SESSION, TEXT),
        http(500, NO_SESSION, TEXT),
    ],
)
async def test_a_dead_session_costs_one_login_and_no_call(
    authority: trustme.CA, adapters: Adapters, dead: bytes
) -> None:
    async with RawServer(answers(describe_ok(), dead, describe_ok()), authority) as s:
        provider = adapters.open(s.url)
        for _ in range(3):
            await provider.describe(deadline=adapters.clock.in_s(3))
        assert s.logins == 2
        assert s.logouts == 0
        assert adapters.clock.slept == []


async def test_dead_sessions_of_a_hundred_calls_cost_one_login(
    emulated: Emulated, adapters: Adapters
) -> None:
    provider = adapters.open_emulated(emulated)
    await provider.describe(deadline=adapters.clock.in_s(3))
    for status in (401, 403):
        emulated.dsm.logins.lost_session_status = status
        emulated.dsm.kill_sessions()
        logins = emulated.count("/sys/v1/session/auth")
        deadline = adapters.clock.in_s(30)
        calls = [provider.describe(deadline=deadline) for _ in range(100)]
        await asyncio.gather(*calls)
        assert emulated.count("/sys/v1/session/auth") == logins + 1


async def test_a_session_that_never_works_ends_after_one_more_login(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answers(http(401)), authority) as server:
        provider = adapters.open(server.url)
        error = await failure(provider, adapters.clock.in_s(3))
        assert isinstance(error, CredentialRefused)
        assert not error.remembered
        assert server.logins == 2


async def test_a_403_on_a_fresh_session_is_believed(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answers(http(403, b"no", TEXT)), authority) as server:
        provider = adapters.open(server.url)
        for _ in range(20):
            error = await failure(provider, adapters.clock.in_s(3))
            assert isinstance(error, PermissionRefused)
        assert server.logins == 1


async def test_a_403_on_an_older_session_costs_one_login(
    authority: trustme.CA, adapters: Adapters
) -> None:
    refused = http(403, b"no", TEXT)
    async with RawServer(answers(describe_ok(), refused), authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        adapters.clock.ahead_s += BELIEVED_S
        deadline = adapters.clock.in_s(3)
        results = await asyncio.gather(
            *[provider.describe(deadline=deadline) for _ in range(50)],
            return_exceptions=True,
        )
        assert {type(result) for result in results} == {PermissionRefused}
        assert server.logins == 2
        await until(lambda: server.logouts == 1)


async def test_a_call_that_served_proves_the_session(
    authority: trustme.CA, adapters: Adapters
) -> None:
    script = answers(describe_ok(), describe_ok(), http(403, b"no", TEXT))
    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        adapters.clock.ahead_s += BELIEVED_S
        await provider.describe(deadline=adapters.clock.in_s(3))
        await failure(provider, adapters.clock.in_s(3))
        assert server.logins == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (http(403, b"This operation requires approval", TEXT), ApprovalNeeded),
        (
            http(403, {"message": "This operation requires approval"}),
            ApprovalNeeded,
        ),
        (
            http(403, b"<html>blocked</html>", {"Content-Type": "text/html"}),
            ProviderAnswerRefused,
        ),
        (http(423, b"locked", TEXT), RequestRefused),
    ],
)
async def test_what_is_plainly_not_about_the_session_costs_no_login(
    authority: trustme.CA,
    adapters: Adapters,
    answer: bytes,
    expected: type[KmsError],
) -> None:
    async with RawServer(answers(describe_ok(), answer), authority) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        adapters.clock.ahead_s += 60
        error = await failure(provider, adapters.clock.in_s(3))
        assert type(error) is expected
        assert server.logins == 1


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_credential_is_tried_again_by_the_timer_alone(
    authority: trustme.CA, adapters: Adapters, status: int
) -> None:
    page = http(status, b"<html>no</html>", {"Content-Type": "text/html"})
    async with RawServer(answer_well, authority, on_login=answers(page)) as server:
        provider = adapters.open(server.url)
        with pytest.raises(CredentialRefused) as first:
            await provider.encrypt(KID, SEED, None, deadline=adapters.clock.in_s(3))
        assert not first.value.remembered
        for wait_s in (29, 3600, 86400):
            adapters.clock.ahead_s += wait_s
            with pytest.raises(CredentialRefused) as remembered:
                await provider.encrypt(KID, SEED, None, deadline=adapters.clock.in_s(3))
            assert remembered.value.remembered
            assert server.logins == 1

        error = await failure(provider, adapters.clock.in_s(3))
        assert isinstance(error, CredentialRefused)
        assert not error.remembered
        assert server.logins == 2
        error = await failure(provider, adapters.clock.in_s(3))
        assert isinstance(error, CredentialRefused)
        assert error.remembered
        assert server.logins == 2


async def test_a_signal_lets_the_timer_try_at_once_but_no_other_call(
    authority: trustme.CA, adapters: Adapters
) -> None:
    good = asyncio.Event()

    async def choose(asked: Asked) -> None:
        asked.send(login("token") if good.is_set() else http(401))

    async with RawServer(answer_well, authority, on_login=choose) as server:
        provider = adapters.open(server.url)
        await failure(provider, adapters.clock.in_s(3))
        good.set()
        provider.retry_credential_now()
        with pytest.raises(CredentialRefused):
            await provider.encrypt(KID, SEED, None, deadline=adapters.clock.in_s(3))
        await provider.describe(deadline=adapters.clock.in_s(3))
        assert server.logins == 2
        # All is forgotten: after the session's end anybody may log in.
        adapters.clock.ahead_s += 1000
        with pytest.raises(ProviderAnswerRefused):  # the answer is a key
            await provider.encrypt(KID, SEED, None, deadline=adapters.clock.in_s(3))
        assert server.logins == 3


async def test_an_unavailable_login_is_tried_again_within_the_call(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async def recover(asked: Asked) -> None:
        asked.send(login("token") if server.logins > 3 else http(503))

    async with RawServer(answer_well, authority, on_login=recover) as server:
        provider = adapters.open(server.url)
        await provider.describe(deadline=adapters.clock.in_s(3))
        assert server.logins == 4


async def test_a_faulty_login_fails_every_caller_with_an_error_of_its_own(
    authority: trustme.CA, adapters: Adapters
) -> None:
    async with RawServer(answer_well, authority, on_login=answers(http(503))) as server:
        provider = adapters.open(server.url)
        deadline = adapters.clock.in_s(3)
        results = await asyncio.gather(
            *[provider.describe(deadline=deadline) for _ in range(5)],
            return_exceptions=True,
        )
    assert {type(result) for result in results} == {ProviderFaulty}
    assert len({id(result) for result in results}) == 5


async def test_a_reset_secret_is_taken_as_a_refused_credential(
    emulated: Emulated, adapters: Adapters
) -> None:
    provider = adapters.open_emulated(emulated)
    await provider.describe(deadline=adapters.clock.in_s(3))
    emulated.dsm.reset_secret(emulated.demo.app)
    error = await failure(provider, adapters.clock.in_s(3))
    assert isinstance(error, CredentialRefused)
    assert emulated.dsm.journal.failed_logins.total() == 1


async def test_an_older_call_does_not_drop_a_newer_session(
    authority: trustme.CA, adapters: Adapters
) -> None:
    """Two calls on a dead session, one answered long after the other."""
    go = asyncio.Event()

    async def script(asked: Asked) -> None:
        if asked.headers["authorization"] != "Bearer token-1":
            asked.send(describe_ok())
            return
        if len(server.keys_asked) == 1:
            await go.wait()
        asked.send(http(401))

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        slow = asyncio.create_task(provider.describe(deadline=adapters.clock.in_s(3)))
        await until(lambda: len(server.keys_asked) == 1)
        await provider.describe(deadline=adapters.clock.in_s(3))
        go.set()
        await slow
        assert server.logins == 2
