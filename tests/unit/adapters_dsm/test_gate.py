"""Three daemons on one refused key stay below what resets a FIPS cluster's secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adapters_dsm.gate import RefusalGate
from kms_core.errors import CredentialRefused
from kms_core.ports import Clock


if TYPE_CHECKING:
    import datetime as dt


DAY_S = 86_400
FIPS_LIMIT = 100
DAEMONS = 3
LOOK_EVERY_S = 10


class HandClock(Clock):
    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> dt.datetime:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def is_open(gate: RefusalGate, *, by_timer: bool = True) -> bool:
    try:
        gate.check(by_timer=by_timer)
    except CredentialRefused:
        return False
    return True


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def gate(clock: HandClock) -> RefusalGate:
    return RefusalGate(clock)


def refuse(gate: RefusalGate) -> None:
    gate.refused(CredentialRefused("login was answered with HTTP 401"))


def test_it_is_open_for_all_at_first(gate: RefusalGate) -> None:
    assert is_open(gate, by_timer=False)
    assert is_open(gate)


def test_waits_double_up_to_an_hour(gate: RefusalGate, clock: HandClock) -> None:
    for wait_s in (30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600):
        refuse(gate)
        clock.at += wait_s - 1
        assert not is_open(gate)
        clock.at += 1
        assert is_open(gate)
        assert not is_open(gate, by_timer=False)


def test_what_it_remembers_is_said_to_be_remembered(gate: RefusalGate) -> None:
    refuse(gate)
    with pytest.raises(CredentialRefused, match="answered with HTTP 401") as caught:
        gate.check(by_timer=True)
    assert caught.value.remembered


def test_success_forgets(gate: RefusalGate) -> None:
    refuse(gate)
    gate.accepted()
    assert is_open(gate, by_timer=False)


def test_a_signal_opens_it_for_the_timer_alone(gate: RefusalGate) -> None:
    refuse(gate)
    gate.open_now()
    assert is_open(gate)
    assert not is_open(gate, by_timer=False)


def test_a_signal_does_not_make_the_waits_short_again(
    gate: RefusalGate, clock: HandClock
) -> None:
    for _ in range(8):
        refuse(gate)
        gate.open_now()
    refuse(gate)
    clock.at += 3599
    assert not is_open(gate)


def test_three_daemons_stay_below_the_limit_on_every_day(clock: HandClock) -> None:
    gate = RefusalGate(clock)
    tries: list[float] = []
    while clock.at < 3 * DAY_S:
        if is_open(gate):
            tries.append(clock.at)
            refuse(gate)
        clock.at += LOOK_EVERY_S
    worst = max(sum(start <= t < start + DAY_S for t in tries) for start in tries)
    assert worst * DAEMONS < FIPS_LIMIT
