"""The cache of unwrapped local KEKs: who waits, who is cancelled, what is kept."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from kms_core.errors import (
    ProviderTimeout,
    ProviderUnreachable,
    SealedSeedNotAuthentic,
    ShuttingDown,
)
from kms_core.fakes import settle
from kms_core.kek_cache import KekCache, LocalKek, WrappedKek
from kms_core.provider import Ciphertext


if TYPE_CHECKING:
    from collections.abc import Iterator


def wrapped(number: int, kid: str = "a") -> WrappedKek:
    cipher = number.to_bytes(32, "big")
    return WrappedKek(kid, f"sdkms.v1:{kid}", Ciphertext(cipher, bytes(12), bytes(16)))


def unwrapped(what: WrappedKek) -> LocalKek:
    return LocalKek(what, what.ciphertext.cipher[::-1])


ONE = wrapped(1)


class Service:
    """Unwraps once it is let, and notes who was asked and who was cancelled."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.asked: list[WrappedKek] = []
        self.cancelled: list[WrappedKek] = []
        self.error: BaseException | None = None
        # What it takes to be cancelled: a logout, say.
        self.farewell = asyncio.Event()
        self.farewell.set()

    async def unwrap(self, what: WrappedKek) -> LocalKek:
        self.asked.append(what)
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled.append(what)
            await self.farewell.wait()
            raise
        if self.error is not None:
            raise self.error
        return unwrapped(what)


class Setting:
    def __init__(self, size: int = 3) -> None:
        self.service = Service()
        self.cache = KekCache(size, self.service.unwrap)
        self.callers: list[asyncio.Task[LocalKek]] = []

    async def call(
        self, what: WrappedKek = ONE, times: int = 1
    ) -> list[asyncio.Task[LocalKek]]:
        made = [asyncio.create_task(self.cache.get(what)) for _ in range(times)]
        self.callers += made
        await settle()
        return made


@pytest.fixture
def unseen() -> Iterator[list[dict[str, Any]]]:
    """Collect what the loop's exception handler is told; it must stay empty."""
    told: list[dict[str, Any]] = []
    yield told
    gc.collect()
    assert told == []


@pytest.fixture
async def s(unseen: list[dict[str, Any]]) -> Setting:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: unseen.append(context))
    return Setting()


def tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()} & {"unwrap"}


# One unwrap for all.


async def test_many_callers_share_one_unwrap(s: Setting) -> None:
    callers = await s.call(times=50)
    assert s.service.asked == [ONE]
    s.service.let.set()
    assert set(await asyncio.gather(*callers)) == {unwrapped(ONE)}
    assert s.service.asked == [ONE]


async def test_what_is_kept_is_not_asked_for_again(s: Setting) -> None:
    s.service.let.set()
    assert s.cache.peek(ONE) is None
    first = await s.cache.get(ONE)
    assert await s.cache.get(ONE) is first
    assert s.cache.peek(ONE) is first
    assert s.service.asked == [ONE]


async def test_different_local_keks_are_unwrapped_side_by_side(s: Setting) -> None:
    await s.call(wrapped(1))
    await s.call(wrapped(2))
    assert s.service.asked == [wrapped(1), wrapped(2)]
    s.service.let.set()
    for caller, number in zip(s.callers, (1, 2), strict=True):
        assert (await caller).wrapped == wrapped(number)


@pytest.mark.parametrize(
    "other",
    [
        WrappedKek("b", ONE.key_id, ONE.ciphertext),
        WrappedKek(ONE.kid, "sdkms.v1:a:b", ONE.ciphertext),
        WrappedKek(ONE.kid, ONE.key_id, Ciphertext(bytes(32), bytes(12), bytes(16))),
    ],
)
async def test_another_kid_key_id_or_ciphertext_is_another_local_kek(
    s: Setting, other: WrappedKek
) -> None:
    s.service.let.set()
    await s.cache.get(ONE)
    await s.cache.get(other)
    assert s.service.asked == [ONE, other]


# Callers that hang up.


async def test_a_caller_that_hangs_up_fails_nobody_else(s: Setting) -> None:
    first, second, third = await s.call(times=3)
    first.cancel()
    third.cancel()
    await settle()
    assert s.service.cancelled == []
    s.service.let.set()
    assert await second == unwrapped(ONE)
    assert first.cancelled()
    assert third.cancelled()


async def test_the_last_caller_that_leaves_cancels_the_unwrap(s: Setting) -> None:
    for caller in await s.call(times=3):
        assert s.service.cancelled == []
        caller.cancel()
        await settle()
    assert s.service.cancelled == [ONE]
    assert tasks() == set()
    assert len(s.cache) == 0


async def test_who_comes_while_it_is_cancelled_gets_an_unwrap_of_its_own(
    s: Setting,
) -> None:
    (first,) = await s.call()
    s.service.farewell.clear()
    first.cancel()
    await settle()
    assert tasks() == {"unwrap"}
    (second,) = await s.call()
    assert s.service.asked == [ONE, ONE]
    s.service.farewell.set()
    await settle()
    # The first one's end did not take the second one's place.
    (third,) = await s.call()
    assert s.service.asked == [ONE, ONE]
    s.service.let.set()
    assert await second == await third == unwrapped(ONE)


async def test_who_leaves_in_the_moment_it_ends_changes_nothing(s: Setting) -> None:
    leaving, staying = await s.call(times=2)
    s.service.let.set()
    leaving.cancel()
    assert await staying == unwrapped(ONE)
    assert s.cache.peek(ONE) is not None


async def test_a_caller_with_a_deadline_leaves_in_time(s: Setting) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await s.cache.get(ONE)
    await settle()
    assert tasks() == set()


async def test_a_cancelled_unwrap_that_ends_in_an_error_disturbs_nobody(
    s: Setting,
) -> None:
    async def stubborn(_what: WrappedKek) -> LocalKek:
        try:
            await asyncio.Event().wait()
        finally:
            raise ProviderUnreachable("while it was cancelled")
        raise AssertionError

    cache = KekCache(1, stubborn)
    caller = asyncio.create_task(cache.get(ONE))
    await settle()
    caller.cancel()
    await settle()
    assert caller.cancelled()
    assert tasks() == set()


# Failures.


async def test_failures_are_not_kept(s: Setting) -> None:
    s.service.let.set()
    s.service.error = ProviderUnreachable("no route")
    for _ in range(2):
        with pytest.raises(ProviderUnreachable):
            await s.cache.get(ONE)
    s.service.error = None
    assert await s.cache.get(ONE) == unwrapped(ONE)
    assert len(s.service.asked) == 3


async def test_a_failure_reaches_each_caller_as_a_copy_of_its_own(s: Setting) -> None:
    error = s.service.error = SealedSeedNotAuthentic("changed")
    callers = await s.call(times=20)
    s.service.let.set()
    seen = await asyncio.gather(*callers, return_exceptions=True)
    assert {str(found) for found in seen} == {error.text()}
    assert len({id(found) for found in seen} | {id(error)}) == 21


async def test_what_is_no_error_of_ours_passes_as_it_is(s: Setting) -> None:
    s.service.error = ZeroDivisionError()
    s.service.let.set()
    with pytest.raises(ZeroDivisionError):
        await s.cache.get(ONE)


async def test_a_provider_that_cancels_itself_is_an_error_and_no_cancellation(
    s: Setting,
) -> None:
    s.service.error = asyncio.CancelledError()
    s.service.let.set()
    with pytest.raises(ProviderTimeout, match="cut off"):
        await s.cache.get(ONE)


# The bound.


async def test_the_one_used_longest_ago_goes(s: Setting) -> None:
    s.service.let.set()
    for number in (1, 2, 3):
        await s.cache.get(wrapped(number))
    await s.cache.get(wrapped(1))
    await s.cache.get(wrapped(4))
    assert len(s.cache) == 3
    assert s.cache.peek(wrapped(2)) is None
    for number in (3, 1, 4):
        assert s.cache.peek(wrapped(number)) is not None
    # A peek is a use as well.
    await s.cache.get(wrapped(5))
    assert s.cache.peek(wrapped(3)) is None


async def test_many_distinct_local_keks_stay_within_the_bound(s: Setting) -> None:
    s.service.let.set()
    for number in range(100):
        await s.cache.get(wrapped(number))
        assert len(s.cache) <= 3


async def test_keeping_the_same_again_takes_no_room(s: Setting) -> None:
    for _ in range(10):
        s.cache.keep(unwrapped(ONE))
    assert len(s.cache) == 1


# Dropping.


async def test_dropping_forgets_what_the_kid_wrapped_and_nothing_else(
    s: Setting,
) -> None:
    for what in (wrapped(1), wrapped(2), wrapped(1, "b")):
        s.cache.keep(unwrapped(what))
    assert s.cache.drop("a") == 2
    assert s.cache.drop("a") == 0
    assert s.cache.peek(wrapped(1, "b")) is not None
    assert len(s.cache) == 1


async def test_what_was_begun_before_a_drop_is_handed_out_but_not_kept(
    s: Setting,
) -> None:
    (caller,) = await s.call()
    s.cache.drop("a")
    s.service.let.set()
    assert await caller == unwrapped(ONE)
    assert len(s.cache) == 0


async def test_who_comes_after_a_drop_asks_anew_and_that_is_kept(s: Setting) -> None:
    (before,) = await s.call()
    s.cache.drop("a")
    (after,) = await s.call()
    assert s.service.asked == [ONE, ONE]
    s.service.let.set()
    assert await before == await after
    assert len(s.cache) == 1


async def test_dropping_another_kid_leaves_what_is_under_way(s: Setting) -> None:
    (caller,) = await s.call()
    s.cache.drop("b")
    s.service.let.set()
    await caller
    assert len(s.cache) == 1


# The end.


async def test_closing_cancels_awaits_and_forgets(s: Setting) -> None:
    s.cache.keep(unwrapped(wrapped(9)))
    s.service.farewell.clear()
    (caller,) = await s.call()
    closing = asyncio.create_task(s.cache.aclose())
    await settle()
    assert s.service.cancelled == [ONE]
    assert not closing.done()
    # Secrets are gone first, whatever the service takes to say goodbye.
    assert len(s.cache) == 0
    s.service.farewell.set()
    await closing
    assert tasks() == set()
    with pytest.raises(ShuttingDown):
        await caller


@pytest.mark.parametrize("why", ["last caller left", "dropped"])
async def test_closing_awaits_what_nobody_waits_for_any_more(
    s: Setting, why: str
) -> None:
    s.service.farewell.clear()
    (caller,) = await s.call()
    if why == "dropped":
        s.cache.drop("a")
    else:
        caller.cancel()
    await settle()
    closing = asyncio.create_task(s.cache.aclose())
    await settle()
    assert not closing.done()
    s.service.farewell.set()
    await closing
    assert tasks() == set()


async def test_what_ends_well_although_it_was_closed_is_not_kept(s: Setting) -> None:
    async def deaf(what: WrappedKek) -> LocalKek:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return unwrapped(what)
        raise AssertionError

    cache = KekCache(1, deaf)
    caller = asyncio.create_task(cache.get(ONE))
    await settle()
    await cache.aclose()
    assert await caller == unwrapped(ONE)
    assert len(cache) == 0


async def test_nothing_is_begun_after_closing(s: Setting) -> None:
    await s.cache.aclose()
    await s.cache.aclose()
    with pytest.raises(ShuttingDown):
        await s.cache.get(ONE)
    assert s.service.asked == []


async def test_no_repr_shows_a_secret() -> None:
    kek = LocalKek(ONE, b"top-secret-key-of-32-bytes------")
    assert "top-secret" not in repr(kek)
    assert "top-secret" not in f"{kek}"
