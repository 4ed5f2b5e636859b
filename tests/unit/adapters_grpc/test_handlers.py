from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.adapters_grpc.support import (
    KEY_ID,
    World,
    call,
    channel,
    outcome,
    raw_method,
)

from adapters_grpc.messages import (
    DECRYPT_METHOD,
    ENCRYPT_METHOD,
    STATUS_METHOD,
    DecryptRequest,
    DecryptResponse,
    EncryptRequest,
    EncryptResponse,
    StatusResponse,
)
from kms_core.errors import KeyDisabled, NotReady
from kms_core.events import Unexpected
from kms_core.ports import Event, Telemetry


if TYPE_CHECKING:
    from pathlib import Path


METHODS = (STATUS_METHOD, ENCRYPT_METHOD, DECRYPT_METHOD)
FIXED_TEXT = (
    "INTERNAL: the plugin failed on this call; see the daemon's log at this time, "
    "and report it"
)
NOT_UTF8 = b"\x12\x02\xff\xfe"
UID = "9a1a2d3c-0000-4000-8000-000000000000"


async def test_answers_carry_what_the_service_said(world: World) -> None:
    async with world.served(), channel(world.path) as on:
        status = StatusResponse.FromString(await call(on, STATUS_METHOD, b""))
        assert (status.version, status.healthz, status.key_id) == ("v2", "ok", KEY_ID)
        request = EncryptRequest(plaintext=b"seed", uid=UID).SerializeToString()
        sealed = EncryptResponse.FromString(await call(on, ENCRYPT_METHOD, request))
        assert (sealed.ciphertext, sealed.key_id) == (b"dees", KEY_ID)
        assert not sealed.annotations
        echo = DecryptRequest(ciphertext=b"dees", key_id=KEY_ID, uid=UID)
        raw = await call(on, DECRYPT_METHOD, echo.SerializeToString())
        assert DecryptResponse.FromString(raw).plaintext == b"seed"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("raw", [b"\xff\xff", b"\x0a\x7f", b"<html>"])
async def test_unparsable_bytes_are_answered_in_our_words(
    world: World, method: str, raw: bytes
) -> None:
    async with world.served(), channel(world.path) as on:
        code, text = await outcome(on, method, raw)
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("REQUEST-MALFORMED: the request's bytes are no v2.")


async def test_string_that_is_not_utf8_is_malformed(world: World) -> None:
    async with world.served(), channel(world.path) as on:
        for method in (ENCRYPT_METHOD, DECRYPT_METHOD):
            code, text = await outcome(on, method, NOT_UTF8)
            assert (code, text[:17]) == ("INVALID_ARGUMENT", "REQUEST-MALFORMED")


async def test_unknown_fields_are_ignored(world: World) -> None:
    unknown = b"\x9a\x06\x03new"  # field 99
    async with world.served(), channel(world.path) as on:
        for method in METHODS:
            await call(on, method, unknown)


async def test_kms_error_carries_its_code_and_text(world: World) -> None:
    world.service.error = NotReady("no key is proven yet")
    async with world.served(), channel(world.path) as on:
        answers = [await outcome(on, method, b"") for method in METHODS]
        world.service.error = KeyDisabled("key x is disabled")
        answers.append(await outcome(on, STATUS_METHOD, b""))
    unavailable = ("UNAVAILABLE", NotReady("no key is proven yet").text())
    denied = ("FAILED_PRECONDITION", KeyDisabled("key x is disabled").text())
    assert answers == [unavailable, unavailable, unavailable, denied]


async def test_stray_exception_gives_a_fixed_text_and_its_place_to_the_log(
    world: World,
) -> None:
    world.service.error = ValueError("hunter2")
    async with world.served(), channel(world.path) as on:
        answers = {await outcome(on, method, b"") for method in METHODS}
    assert answers == {("INTERNAL", FIXED_TEXT)}
    unexpected = [e for e in world.telemetry.events if isinstance(e, Unexpected)]
    assert [e.where for e in unexpected] == ["Status", "Encrypt", "Decrypt"]
    for event in unexpected:
        assert event.what.startswith("ValueError at adapters_grpc.handlers:")
        assert ".support:" in event.what
    assert "hunter2" not in repr(world.telemetry.events)


async def test_answer_that_is_no_message_gives_the_fixed_text(world: World) -> None:
    async with world.served(), channel(world.path) as on:
        world.service.status = lambda: None  # type: ignore[method-assign,assignment,return-value]
        assert await outcome(on, STATUS_METHOD, b"") == ("INTERNAL", FIXED_TEXT)


async def test_cancellation_from_inside_is_answered_and_not_taken_for_a_hang_up(
    world: World,
) -> None:
    world.service.error = asyncio.CancelledError("hunter2")
    async with world.served(), channel(world.path) as on:
        answer = await outcome(on, DECRYPT_METHOD, b"")
    assert answer == ("INTERNAL", FIXED_TEXT)
    assert world.finished()[-1].rpc_code == "INTERNAL"


class BrokenTelemetry(Telemetry):
    def emit(self, event: Event) -> None:
        raise ValueError("hunter2")


async def test_broken_telemetry_costs_no_call(world: World) -> None:
    world.telemetry = BrokenTelemetry()  # type: ignore[assignment]
    async with world.served(), channel(world.path) as on:
        await call(on, STATUS_METHOD, b"")
        world.service.error = ValueError()
        assert await outcome(on, STATUS_METHOD, b"") == ("INTERNAL", FIXED_TEXT)


async def test_client_that_hangs_up_cancels_the_service_call(world: World) -> None:
    world.service.gate.clear()
    async with world.served(), channel(world.path) as on:
        hanging = raw_method(on, DECRYPT_METHOD)(b"")
        await asyncio.wait_for(world.service.arrived.wait(), 5)
        hanging.cancel()
        await asyncio.wait_for(world.service.cancelled.wait(), 5)
        await call(on, STATUS_METHOD, b"")
    assert [e.rpc_code for e in world.finished()] == ["CANCELLED", "OK"]


@pytest.mark.parametrize(
    ("uid", "logged"),
    [
        (UID, UID),
        ("", ""),
        ("a\nb\x1b[31m", "a b[31m"),
        ("é\u202e", "é"),
        ("u" * 128, "u" * 128),
        ("u" * 60_000, "u" * 125 + "..."),
    ],
)
async def test_uid_reaches_the_log_and_the_call_clean_and_short(
    world: World, uid: str, logged: str
) -> None:
    async with world.served(), channel(world.path) as on:
        request = EncryptRequest(plaintext=b"p", uid=uid)
        await call(on, ENCRYPT_METHOD, request.SerializeToString())
        request_2 = DecryptRequest(ciphertext=b"p", uid=uid)
        await call(on, DECRYPT_METHOD, request_2.SerializeToString())
    assert [e.uid for e in world.finished()] == [logged, logged]
    assert world.service.uids == [logged, logged]


async def test_uid_of_one_call_is_not_seen_by_the_next(world: World) -> None:
    async with world.served(), channel(world.path) as on:
        request = EncryptRequest(plaintext=b"p", uid=UID)
        await call(on, ENCRYPT_METHOD, request.SerializeToString())
        await call(on, ENCRYPT_METHOD, b"")
    assert world.service.uids == [UID, ""]


@pytest.mark.parametrize(
    ("key_id", "logged"),
    [
        (KEY_ID, KEY_ID),
        ("", ""),
        ("a\nb", "<3 bytes>"),
        ("é", "<2 bytes>"),
        ("k" * 129, "<129 bytes>"),
    ],
)
async def test_key_id_asked_for_is_logged_only_if_it_is_fit(
    world: World, key_id: str, logged: str
) -> None:
    async with world.served(), channel(world.path) as on:
        request = DecryptRequest(ciphertext=b"p", key_id=key_id)
        await call(on, DECRYPT_METHOD, request.SerializeToString())
    (event,) = world.finished()
    assert event.key_id == logged


async def test_each_call_ends_in_an_event(world: World) -> None:
    async with world.served(), channel(world.path) as on:
        for method in METHODS:
            await call(on, method, b"")
        world.service.error = NotReady("no key is proven yet")
        await outcome(on, ENCRYPT_METHOD, b"")
    told = [(e.method, e.rpc_code, e.key_id, e.error) for e in world.finished()]
    assert told == [
        ("Status", "OK", KEY_ID, None),
        ("Encrypt", "OK", KEY_ID, None),
        ("Decrypt", "OK", "", None),
        ("Encrypt", "UNAVAILABLE", "", world.service.error.text()),
    ]
    assert all(e.duration_s >= 0 for e in world.finished())


@pytest.mark.parametrize(
    ("timeout_s", "least_s", "most_s"),
    [(3.0, 2.5, 2.99), (None, 9.5, 10.0), (3600.0, 29.5, 30.0)],
)
async def test_deadline_is_the_clients_less_a_margin_and_capped(
    world: World, timeout_s: float | None, least_s: float, most_s: float
) -> None:
    async with world.served(), channel(world.path) as on:
        before = asyncio.get_running_loop().time()
        await call(on, ENCRYPT_METHOD, b"", timeout_s)
    (deadline,) = world.service.deadlines
    after = asyncio.get_running_loop().time()
    assert before + least_s < deadline < after + most_s


async def test_client_hears_our_words_before_its_own_deadline(world: World) -> None:
    async def give_up_at(_plaintext: bytes, *, deadline: float) -> object:
        loop = asyncio.get_running_loop()
        due = loop.create_future()
        loop.call_at(deadline, due.set_result, None)
        await due
        raise NotReady("gave up")

    world.service.encrypt = give_up_at  # type: ignore[method-assign,assignment]
    async with world.served(), channel(world.path) as on:
        code, _ = await outcome(on, ENCRYPT_METHOD, b"", 1.0)
    assert code == "UNAVAILABLE"


async def test_annotations_are_reported_to_the_service(world: World) -> None:
    async with world.served(), channel(world.path) as on:
        bare = DecryptRequest(ciphertext=b"c")
        annotated = DecryptRequest(ciphertext=b"c", annotations={"a.b": b""})
        for request in (bare, annotated):
            await call(on, DECRYPT_METHOD, request.SerializeToString())
    assert world.service.annotated == [False, True]


def messages() -> st.SearchStrategy[bytes]:
    """Well-formed requests with any bytes and any text in their fields."""
    built = st.builds(
        DecryptRequest,
        ciphertext=st.binary(),
        uid=st.text(),
        key_id=st.text(),
        annotations=st.dictionaries(st.text(), st.binary(), max_size=3),
    )
    return built.map(DecryptRequest.SerializeToString)


def test_any_bytes_get_a_coded_answer_within_three_seconds(directory: Path) -> None:
    async def made() -> World:
        return World(directory)

    async def ask(world: World, method: str, raw: bytes) -> None:
        async with channel(world.path) as on:
            code, text = await outcome(on, method, raw, 3.0)
        assert code in {"OK", "INVALID_ARGUMENT"}
        assert (code == "OK") != text.startswith("REQUEST-MALFORMED: ")

    with asyncio.Runner() as runner:
        world = runner.run(made())
        server = world.server()
        runner.run(server.start())

        @given(method=st.sampled_from(METHODS), raw=st.binary() | messages())
        @settings(max_examples=200, deadline=None)
        def check(method: str, raw: bytes) -> None:
            runner.run(ask(world, method, raw))

        check()
        runner.run(server.stop())
