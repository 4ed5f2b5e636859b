"""Trying again: only what may help, only while there is time, the real error last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.unit.adapters_dsm.support import SkippingClock

    from adapters_dsm.exchange import Attempt

from adapters_dsm.answers import Answer
from adapters_dsm.failures import AttemptFailed
from adapters_dsm.retries import Retries
from kms_core.errors import (
    KeyNotFound,
    KmsError,
    ProviderFaulty,
    ProviderThrottling,
    ProviderTimeout,
    ProviderUnreachable,
)
from kms_core.fakes import SeededRandomness
from kms_core.ports import Randomness


class Longest(Randomness):
    def token(self, size: int) -> bytes:
        raise NotImplementedError

    def uniform(self, low: float, high: float) -> float:
        assert low == 0.0
        return high


class Calls:
    """Fails in turn with each outcome, then returns."""

    def __init__(self, *failures: AttemptFailed) -> None:
        self.left = list(failures)
        self.attempts: list[Attempt] = []

    async def __call__(self, attempt: Attempt) -> str:
        self.attempts.append(attempt)
        if not self.left:
            return "done"
        raise self.left.pop(0)


def failed(
    error: KmsError | None = None,
    *,
    answered: bool = True,
    retry_after_s: float | None = None,
) -> AttemptFailed:
    answer = Answer(503, "", None, "", b"") if answered else None
    return AttemptFailed(
        error or ProviderFaulty("x"), answer=answer, retry_after_s=retry_after_s
    )


async def run(
    clock: SkippingClock,
    call: Callable[[Attempt], Awaitable[str]],
    seconds: float,
    randomness: Randomness | None = None,
) -> str:
    retries = Retries(clock, randomness or SeededRandomness())
    return await retries.run(call, clock.in_s(seconds))


async def test_a_good_call_is_made_once(clock: SkippingClock) -> None:
    call = Calls()
    assert await run(clock, call, 3) == "done"
    (attempt,) = call.attempts
    assert attempt.number == 1
    assert not attempt.fresh
    assert not attempt.last
    assert attempt.ends_at - clock.monotonic() == pytest.approx(1.79, abs=0.01)


async def test_a_short_deadline_is_one_attempt(clock: SkippingClock) -> None:
    call = Calls()
    await run(clock, call, 0.5)
    assert call.attempts[0].last
    assert call.attempts[0].ends_at < clock.in_s(0.5)


async def test_no_time_at_all(clock: SkippingClock) -> None:
    call = Calls()
    with pytest.raises(ProviderTimeout):
        await run(clock, call, 0)
    assert call.attempts == []


async def test_waits_double_up_to_a_second(clock: SkippingClock) -> None:
    call = Calls(*[failed() for _ in range(7)])
    assert await run(clock, call, 60, Longest()) == "done"
    assert clock.slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert [attempt.number for attempt in call.attempts] == list(range(1, 9))


async def test_jitter_is_full(clock: SkippingClock) -> None:
    await run(clock, Calls(*[failed() for _ in range(7)]), 60)
    limits = [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert all(0 <= s <= most for s, most in zip(clock.slept, limits, strict=True))
    assert len(set(clock.slept)) == 7


async def test_what_can_not_help_is_not_repeated(clock: SkippingClock) -> None:
    call = Calls(failed(KeyNotFound("no")))
    with pytest.raises(KeyNotFound):
        await run(clock, call, 3)
    assert len(call.attempts) == 1


async def test_a_later_answer_that_is_final_ends_it(clock: SkippingClock) -> None:
    call = Calls(failed(), failed(KeyNotFound("no")))
    with pytest.raises(KeyNotFound) as caught:
        await run(clock, call, 3)
    assert len(call.attempts) == 2
    assert caught.value.__context__ is None


async def test_only_a_lost_connection_asks_for_a_new_one(clock: SkippingClock) -> None:
    call = Calls(failed(), failed(answered=False), failed())
    await run(clock, call, 10)
    assert [a.fresh for a in call.attempts] == [False, False, True, False]


async def test_it_ends_before_the_deadline_with_the_last_error(
    clock: SkippingClock,
) -> None:
    deadline = clock.in_s(3)
    errors = [ProviderFaulty("x"), ProviderUnreachable("y")] * 50
    call = Calls(*[failed(error) for error in errors])
    with pytest.raises((ProviderFaulty, ProviderUnreachable)) as caught:
        await run(clock, call, 3, Longest())
    assert caught.value is errors[len(call.attempts) - 1]
    assert clock.monotonic() < deadline
    assert 4 < len(call.attempts) < 10


async def test_a_deadline_after_real_errors_raises_the_last_of_them(
    clock: SkippingClock,
) -> None:
    call = Calls(
        failed(ProviderUnreachable("first")),
        failed(ProviderFaulty("second")),
        failed(ProviderTimeout("late")),
    )

    async def slow(attempt: Attempt) -> str:
        if len(call.attempts) == 2:
            clock.ahead_s += 3
        return await call(attempt)

    with pytest.raises(ProviderFaulty, match="second"):
        await run(clock, slow, 3)


def elsewhere(error: KmsError | None = None) -> AttemptFailed:
    failure = failed(error or ProviderUnreachable("x"), answered=False)
    failure.elsewhere = True
    return failure


async def run_at(clock: SkippingClock, call: Calls, endpoints: int) -> str:
    retries = Retries(clock, Longest())
    return await retries.run(call, clock.in_s(3), endpoints)


async def test_another_endpoint_is_tried_at_once_and_over_any_connection(
    clock: SkippingClock,
) -> None:
    call = Calls(elsewhere())
    assert await run_at(clock, call, 2) == "done"
    assert clock.slept == [0.0]
    assert [attempt.fresh for attempt in call.attempts] == [False, False]


async def test_another_endpoint_is_tried_whatever_the_error(
    clock: SkippingClock,
) -> None:
    assert await run_at(clock, Calls(elsewhere(KeyNotFound("x"))), 2) == "done"
    with pytest.raises(KeyNotFound):
        await run_at(clock, Calls(failed(KeyNotFound("x"))), 2)


async def test_the_last_endpoint_has_its_waits_again(clock: SkippingClock) -> None:
    call = Calls(elsewhere(), failed(answered=False))
    assert await run_at(clock, call, 2) == "done"
    assert clock.slept == [0.0, 0.1]
    assert call.attempts[2].fresh


@pytest.mark.parametrize(
    ("endpoints", "shares_s"), [(1, [1.8, 1.0]), (2, [1.5, 1.8]), (3, [1.0, 1.5])]
)
async def test_time_is_left_for_every_endpoint(
    clock: SkippingClock, endpoints: int, shares_s: list[float]
) -> None:
    """The first try's share of 3 s, and the second's if the first failed at once."""
    call = Calls(elsewhere())
    now = clock.monotonic()
    await run_at(clock, call, endpoints)
    first, second = (attempt.ends_at - now for attempt in call.attempts)
    assert first == pytest.approx(shares_s[0], abs=0.1)
    if endpoints > 1:
        assert second == pytest.approx(shares_s[1], abs=0.1)


async def test_retry_after_is_honoured(clock: SkippingClock) -> None:
    throttled = failed(ProviderThrottling("x"), retry_after_s=1.5)
    call = Calls(throttled)
    assert await run(clock, call, 3) == "done"
    assert clock.slept == [1.5]


async def test_retry_after_past_the_deadline_ends_it_at_once(
    clock: SkippingClock,
) -> None:
    call = Calls(failed(ProviderThrottling("x"), retry_after_s=3.0))
    with pytest.raises(ProviderThrottling):
        await run(clock, call, 3)
    assert len(call.attempts) == 1
    assert clock.slept == []


async def test_a_short_retry_after_does_not_shorten_the_jitter(
    clock: SkippingClock,
) -> None:
    call = Calls(failed(retry_after_s=0.0))
    await run(clock, call, 3, Longest())
    assert clock.slept == [0.05]
