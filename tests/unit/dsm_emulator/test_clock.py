import pytest

from dsm_emulator.clock import Clock, basic_iso, parse_basic_iso


def test_frozen_clock_moves_only_when_told() -> None:
    clock = Clock(100.0)
    assert clock.now() == clock.now() == 100.0
    clock.advance(5)
    assert clock.now() == 105.0


def test_wall_clock_can_be_moved_ahead() -> None:
    clock = Clock()
    before_s = clock.now()
    clock.advance(3600)
    assert clock.now() >= before_s + 3600


def test_dates_are_in_basic_iso_form() -> None:
    assert basic_iso(1_494_313_752.9) == "20170509T070912Z"
    assert parse_basic_iso("20170509T070912Z") == 1_494_313_752


@pytest.mark.parametrize("text", ["2017-05-09T07:09:12Z", "20171309T070912Z", ""])
def test_other_dates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_basic_iso(text)
