"""Five daemons on one refused key stay below what resets a FIPS cluster's secret."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING

import pytest

from adapters_dsm.gate import BY_TIMER_A_DAY, IN_ALL_A_DAY, RefusalGate
from adapters_dsm.refusals import NoRefusalStore, Refusal, Refusals, RefusalStore
from kms_core.errors import CredentialRefused
from kms_core.ports import Clock


if TYPE_CHECKING:
    from collections.abc import Callable


DAY_S = 86_400
FIPS_LIMIT = 100
DAEMONS = 5
LOOK_EVERY_S = 10
EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
OLD, NEW = "01234567", "89abcdef"


class HandClock(Clock):
    def __init__(self) -> None:
        self.at = 0.0
        self.set_back_s = 0.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> dt.datetime:
        return EPOCH + dt.timedelta(seconds=self.at - self.set_back_s)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Kept(RefusalStore):
    def __init__(self, refusals: Refusals | None = None) -> None:
        self.refusals = refusals
        self.saved = 0

    async def load_refusals(self) -> Refusals | None:
        return self.refusals

    async def save_refusals(self, refusals: Refusals) -> None:
        self.refusals = refusals
        self.saved += 1


def is_open(
    gate: RefusalGate, *, by_timer: bool = True, fingerprint: str = OLD
) -> bool:
    try:
        gate.check(fingerprint, by_timer=by_timer)
    except CredentialRefused:
        return False
    return True


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def gate(clock: HandClock) -> RefusalGate:
    return RefusalGate(clock, NoRefusalStore())


async def refuse(gate: RefusalGate, fingerprint: str = OLD) -> None:
    error = CredentialRefused("login was answered with HTTP 401")
    await gate.refused(error, fingerprint)


def worst_day(tries: list[float]) -> int:
    """Return the most tries that any 24 hours have."""
    return max(sum(start <= t < start + DAY_S for t in tries) for start in tries)


def test_it_is_open_for_all_at_first(gate: RefusalGate) -> None:
    assert is_open(gate, by_timer=False)
    assert is_open(gate)


async def test_waits_double_up_to_two_hours(
    gate: RefusalGate, clock: HandClock
) -> None:
    for wait_s in (30, 60, 120, 240, 480, 960, 1920, 3840, 7200, 7200):
        await refuse(gate)
        clock.at += wait_s - 1
        assert not is_open(gate)
        clock.at += 1
        assert is_open(gate)
        assert not is_open(gate, by_timer=False)


async def test_what_it_remembers_is_said_to_be_remembered(gate: RefusalGate) -> None:
    await refuse(gate)
    with pytest.raises(CredentialRefused, match="answered with HTTP 401") as caught:
        gate.check(OLD, by_timer=True)
    assert caught.value.remembered


async def test_success_forgets(gate: RefusalGate) -> None:
    await refuse(gate)
    await gate.accepted()
    assert is_open(gate, by_timer=False)


@pytest.mark.parametrize(
    ("fingerprint", "limit"), [(OLD, BY_TIMER_A_DAY), (NEW, IN_ALL_A_DAY)]
)
async def test_logins_under_way_elsewhere_count(
    gate: RefusalGate, clock: HandClock, fingerprint: str, limit: int
) -> None:
    """Several endpoints that are slow to refuse must not break the limit."""
    for _ in range(BY_TIMER_A_DAY - 1):
        await refuse(gate)
    clock.at += 2 * 3600
    under_way = 0
    with contextlib.ExitStack() as stack:
        while is_open(gate, fingerprint=fingerprint):
            stack.enter_context(gate.offering())
            under_way += 1
            assert BY_TIMER_A_DAY - 1 + under_way <= limit
    assert under_way
    assert is_open(gate, fingerprint=fingerprint), "none of them was refused"


async def test_a_signal_opens_it_for_the_timer_alone(gate: RefusalGate) -> None:
    await refuse(gate)
    gate.open_now()
    assert is_open(gate)
    assert not is_open(gate, by_timer=False)


async def test_a_signal_does_not_make_the_waits_short_again(
    gate: RefusalGate, clock: HandClock
) -> None:
    for _ in range(9):
        await refuse(gate)
        gate.open_now()
    await refuse(gate)
    clock.at += 7199
    assert not is_open(gate)


async def test_another_credential_is_tried_at_once_by_anybody(
    gate: RefusalGate,
) -> None:
    await refuse(gate)
    assert is_open(gate, by_timer=False, fingerprint=NEW)
    await refuse(gate, NEW)
    assert not is_open(gate, fingerprint=NEW)
    # Turning back to the first is nothing new.
    assert not is_open(gate, fingerprint=OLD)


async def test_daemons_stay_below_the_limit_on_every_day(
    gate: RefusalGate, clock: HandClock
) -> None:
    tries: list[float] = []
    while clock.at < 4 * DAY_S:
        if is_open(gate):
            tries.append(clock.at)
            await refuse(gate)
        clock.at += LOOK_EVERY_S
    assert worst_day(tries) == BY_TIMER_A_DAY
    assert BY_TIMER_A_DAY * DAEMONS < FIPS_LIMIT


async def signals(gate: RefusalGate, _: int) -> str:
    gate.open_now()
    return OLD


async def new_contents(_: RefusalGate, turn: int) -> str:
    return f"{turn:08x}"


async def a_node_that_takes_every_second(gate: RefusalGate, turn: int) -> str:
    if turn % 2:
        await gate.accepted()
    return OLD


@pytest.mark.parametrize(
    "disturb", [signals, new_contents, a_node_that_takes_every_second]
)
async def test_nothing_makes_a_daemon_try_more_often(
    gate: RefusalGate, clock: HandClock, disturb: Callable[[RefusalGate, int], object]
) -> None:
    tries: list[float] = []
    for turn in range(2 * DAY_S // 60):
        fingerprint = await disturb(gate, turn)  # type: ignore[misc]
        if is_open(gate, fingerprint=fingerprint):
            tries.append(clock.at)
            await refuse(gate, fingerprint)
        clock.at += 60
    assert worst_day(tries) <= IN_ALL_A_DAY
    assert IN_ALL_A_DAY * DAEMONS < FIPS_LIMIT


async def test_a_daemon_that_starts_again_and_again_waits_as_well(
    clock: HandClock,
) -> None:
    """systemd starts it every 5 s; each process tries as often as its gate lets it."""
    store = Kept()
    tries: list[float] = []
    while clock.at < 2 * DAY_S:
        gate = RefusalGate(clock, store)
        await gate.recall()
        if is_open(gate, by_timer=True):
            tries.append(clock.at)
            await refuse(gate)
        clock.at += 5
    assert tries[:4] == [0, 30, 90, 210]
    assert worst_day(tries) == BY_TIMER_A_DAY


async def test_a_restart_with_another_credential_tries_it_at_once(
    clock: HandClock,
) -> None:
    store = Kept()
    gate = RefusalGate(clock, store)
    for _ in range(5):
        await refuse(gate)
    restarted = RefusalGate(clock, store)
    await restarted.recall()
    assert not is_open(restarted)
    assert is_open(restarted, by_timer=False, fingerprint=NEW)


async def test_a_restart_in_good_order_tries_at_once_and_counts(
    clock: HandClock,
) -> None:
    """Somebody mended it in DSM and restarts the daemon; or does so in a loop."""
    store = Kept()
    tries: list[float] = []
    while clock.at < 2 * DAY_S:
        gate = RefusalGate(clock, store)
        await gate.recall()
        assert not is_open(gate, by_timer=False) or not tries
        if is_open(gate):
            tries.append(clock.at)
            await refuse(gate)
        await gate.aclose()
        clock.at += 60
    assert tries[:4] == [0, 60, 120, 180]
    assert worst_day(tries) == BY_TIMER_A_DAY


async def test_a_stop_without_refusals_writes_nothing(clock: HandClock) -> None:
    store = Kept()
    await RefusalGate(clock, store).aclose()
    assert store.saved == 0


async def test_success_is_remembered_too(clock: HandClock) -> None:
    store = Kept()
    gate = RefusalGate(clock, store)
    await gate.accepted()
    assert store.saved == 0
    await refuse(gate)
    await gate.accepted()
    restarted = RefusalGate(clock, store)
    await restarted.recall()
    assert is_open(restarted, by_timer=False)


async def test_it_recalls_once(clock: HandClock) -> None:
    store = Kept(Refusals((Refusal(EPOCH, OLD),), 1))
    gate = RefusalGate(clock, store)
    await gate.recall()
    clock.at += 30
    await gate.accepted()
    await gate.recall()
    assert is_open(gate, by_timer=False)


@pytest.mark.parametrize("in_a_row", [1, 10**9])
async def test_a_clock_that_was_wrong_costs_a_wait_at_most(
    clock: HandClock, in_a_row: int
) -> None:
    later = EPOCH + dt.timedelta(days=3650)
    gate = RefusalGate(clock, Kept(Refusals((Refusal(later, OLD),), in_a_row)))
    await gate.recall()
    assert not is_open(gate)
    clock.at += 7200
    assert is_open(gate)


async def test_a_count_that_makes_no_sense_is_none(clock: HandClock) -> None:
    gate = RefusalGate(clock, Kept(Refusals((Refusal(EPOCH, OLD),), -5)))
    await gate.recall()
    assert is_open(gate, by_timer=False)
