"""The contracts of Clock, Randomness and Telemetry, run on every implementation."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pytest

from kms_core.events import CallFinished, Unexpected
from kms_core.fakes import ManualClock, RecordedTelemetry, SeededRandomness, settle
from kms_core.system import LoopClock, SystemRandomness


if TYPE_CHECKING:
    from kms_core.ports import Clock, Event, Randomness, Telemetry


CLOCKS = [pytest.param(LoopClock, id="loop"), pytest.param(ManualClock, id="manual")]
SOURCES = [
    pytest.param(SystemRandomness, id="system"),
    pytest.param(SeededRandomness, id="seeded"),
]
SINKS = [pytest.param(RecordedTelemetry, id="recorded")]

EVENTS: list[Event] = [
    Unexpected(where="here", what="ValueError at x.py:1"),
    CallFinished(
        method="Status", uid="", key_id="k", rpc_code="OK", error=None, duration_s=0.1
    ),
]


@pytest.fixture(params=CLOCKS)
async def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


async def passes(clock: Clock, seconds: float) -> None:
    """Let a manual clock's time pass; a real one needs no help."""
    if isinstance(clock, ManualClock):
        await clock.advance(seconds)


async def test_monotonic_time_is_loop_time_that_never_goes_back(clock: Clock) -> None:
    before = asyncio.get_running_loop().time()
    seen = [clock.monotonic() for _ in range(100)]
    assert seen == sorted(seen)
    assert before <= seen[0] <= asyncio.get_running_loop().time() + 1.0


async def test_a_deadline_made_from_it_works_as_a_loop_time(clock: Clock) -> None:
    async with asyncio.timeout_at(clock.monotonic() + 30.0) as timeout:
        await asyncio.sleep(0)
    assert not timeout.expired()


async def test_the_date_is_in_utc(clock: Clock) -> None:
    assert clock.now().utcoffset() == dt.timedelta(0)
    assert clock.now() > dt.datetime(2025, 12, 31, tzinfo=dt.UTC)


async def test_sleeping_takes_as_long_as_was_asked(clock: Clock) -> None:
    began, began_date = clock.monotonic(), clock.now()
    sleeper = asyncio.create_task(clock.sleep(0.01))
    await passes(clock, 0.01)
    await sleeper
    # The loop may wake a timer one tick of its clock early.
    assert clock.monotonic() - began >= 0.01 - 1e-6
    assert clock.now() > began_date


async def test_shorter_sleeps_end_first(clock: Clock) -> None:
    ended: list[float] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        ended.append(seconds)

    sleepers = [asyncio.create_task(sleep(s)) for s in (0.03, 0.01, 0.02)]
    await passes(clock, 0.03)
    await asyncio.gather(*sleepers)
    assert ended == [0.01, 0.02, 0.03]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_sleeping_for_no_time_returns_but_lets_others_run(
    clock: Clock, seconds: float
) -> None:
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    await clock.sleep(seconds)
    assert ran.is_set()


async def test_a_sleeper_can_be_cancelled(clock: Clock) -> None:
    sleeper = asyncio.create_task(clock.sleep(3600.0))
    await settle()
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    await passes(clock, 3600.0)


@pytest.fixture(params=SOURCES)
def randomness(request: pytest.FixtureRequest) -> Randomness:
    made: Randomness = request.param()
    return made


@pytest.mark.parametrize("size", [0, 1, 12, 32, 1000])
def test_tokens_have_the_size_asked_for(randomness: Randomness, size: int) -> None:
    token = randomness.token(size)
    assert type(token) is bytes
    assert len(token) == size


def test_tokens_differ(randomness: Randomness) -> None:
    assert len({randomness.token(32) for _ in range(1000)}) == 1000


def test_numbers_lie_between_the_bounds_and_vary(randomness: Randomness) -> None:
    numbers = [randomness.uniform(0.8, 1.0) for _ in range(1000)]
    assert all(0.8 <= number <= 1.0 for number in numbers)
    assert len(set(numbers)) > 900


def test_equal_bounds_leave_no_choice(randomness: Randomness) -> None:
    assert randomness.uniform(1.0, 1.0) == 1.0


def test_seeded_randomness_repeats_and_seeds_differ() -> None:
    assert SeededRandomness(1).token(32) == SeededRandomness(1).token(32)
    assert SeededRandomness(1).token(32) != SeededRandomness(2).token(32)


@pytest.fixture(params=SINKS)
def telemetry(request: pytest.FixtureRequest) -> Telemetry:
    made: Telemetry = request.param()
    return made


def test_events_are_taken_without_waiting_and_without_an_answer(
    telemetry: Telemetry,
) -> None:
    for event in EVENTS * 100:
        telemetry.emit(event)


def test_recorded_events_are_kept_in_order() -> None:
    telemetry = RecordedTelemetry()
    for event in EVENTS:
        telemetry.emit(event)
    assert telemetry.events == EVENTS
