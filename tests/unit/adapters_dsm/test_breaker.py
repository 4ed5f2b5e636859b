"""The breaker: when it opens, and when somebody looks at the endpoint again."""

from __future__ import annotations

import pytest
from tests.unit.adapters_dsm.test_gate import HandClock

from adapters_dsm.breaker import (
    AFTER_FAILURE,
    AFTER_REFUSED_LOGIN,
    ANSWERED_FAILURES,
    FORGOTTEN_S,
    Breaker,
)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def breaker(clock: HandClock) -> Breaker:
    return Breaker(clock)


def is_open(breaker: Breaker) -> bool:
    return breaker.opened_at is not None


def is_due(breaker: Breaker) -> bool:
    return breaker.is_due


def test_it_is_closed_at_first(breaker: Breaker) -> None:
    assert not is_open(breaker)
    assert not is_due(breaker)


def test_looks_wait_longer_each_time_it_opens_again(
    breaker: Breaker, clock: HandClock
) -> None:
    for wait_s in (10, 20, 40, 80, 160, 300, 300):
        breaker.open(AFTER_FAILURE)
        clock.at += wait_s - 1
        assert not is_due(breaker)
        clock.at += 1
        assert is_due(breaker)
        breaker.close()
        assert not is_due(breaker)


def test_a_look_that_fails_makes_it_wait_longer_too(
    breaker: Breaker, clock: HandClock
) -> None:
    breaker.open(AFTER_FAILURE)
    clock.at += 10
    breaker.open(AFTER_FAILURE)
    clock.at += 19
    assert not is_due(breaker)
    clock.at += 1
    assert is_due(breaker)


def test_calls_that_were_under_way_do_not_count_again(
    breaker: Breaker, clock: HandClock
) -> None:
    for _ in range(50):
        breaker.open(AFTER_FAILURE)
    clock.at += 10
    assert is_due(breaker)


def test_a_refused_login_keeps_it_open_for_long(
    breaker: Breaker, clock: HandClock
) -> None:
    breaker.open(AFTER_REFUSED_LOGIN)
    clock.at += 599
    assert not is_due(breaker)


def test_one_bad_answer_opens_nothing(breaker: Breaker) -> None:
    for _ in range(ANSWERED_FAILURES - 1):
        breaker.answered_badly()
    breaker.worked(0.0)
    for _ in range(ANSWERED_FAILURES - 1):
        breaker.answered_badly()
    assert not is_open(breaker)
    breaker.answered_badly()
    assert is_open(breaker)


def test_only_a_call_that_was_begun_since_closes_it(
    breaker: Breaker, clock: HandClock
) -> None:
    clock.at = 5.0
    breaker.open(AFTER_FAILURE)
    breaker.worked(4.0)
    assert is_open(breaker)
    breaker.worked(6.0)
    assert not is_open(breaker)


def test_what_worked_for_long_starts_anew(breaker: Breaker, clock: HandClock) -> None:
    for _ in range(5):
        breaker.open(AFTER_FAILURE)
        breaker.close()
    clock.at += FORGOTTEN_S
    breaker.worked(clock.at)
    breaker.open(AFTER_FAILURE)
    clock.at += 10
    assert is_due(breaker)
