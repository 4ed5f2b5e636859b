from typing import Any

import pytest

from dsm_emulator import Clock, Dsm
from dsm_emulator.switches import SWITCHES


def new() -> Dsm:
    return Dsm(clock=Clock(0))


# Another value than the initial one, for each kind.
OTHERS: dict[str, Any] = {
    "seconds": 7.0,
    "seconds or null": 7.0,
    "seconds since the epoch or null": 7.0,
    "HTTP status": 418,
    "text": "other",
    "count of bytes": 16,
    "count or null": 3,
    "list of numbers": [64, 128],
    "list of texts": ["state"],
}


def another(name: str) -> Any:
    switch = SWITCHES[name]
    now = switch.read(new())
    if switch.type == "bool":
        return not now
    if " | " in switch.type:
        return next(option for option in switch.type.split(" | ") if option != now)
    return OTHERS[switch.type]


@pytest.mark.parametrize("name", SWITCHES)
def test_switch_reads_what_was_written_and_moves_no_other(name: str) -> None:
    dsm = new()
    before = {n: switch.read(dsm) for n, switch in SWITCHES.items()}
    revision = dsm.revision
    value = another(name)
    SWITCHES[name].write(dsm, value)
    after = {n: switch.read(dsm) for n, switch in SWITCHES.items()}
    assert after == before | {name: value}
    assert dsm.revision > revision
    SWITCHES[name].write(dsm, before[name])
    assert {n: switch.read(dsm) for n, switch in SWITCHES.items()} == before


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", [object(), [[]], {"a": 1}])
def test_value_of_another_kind_is_refused(name: str, value: Any) -> None:
    dsm = new()
    before = SWITCHES[name].read(dsm)
    with pytest.raises(ValueError, match="expected"):
        SWITCHES[name].write(dsm, value)
    assert SWITCHES[name].read(dsm) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("session-idle", -1),
        ("session-idle", True),
        ("session-idle", float("nan")),
        ("session-idle", float("inf")),
        ("gcm-iv-bytes", 0),
        ("gcm-iv-bytes", True),
        ("cell.disabled.encrypt", 99),
        ("cell.disabled.encrypt", 600),
        ("cell.destroyed.encrypt", 200),
        ("fips", 1),
        ("lag-per", "month"),
        ("operations-total", -1),
    ],
)
def test_value_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|can't answer 200"):
        SWITCHES[name].write(new(), value)


def test_switch_says_what_it_is() -> None:
    for name, switch in SWITCHES.items():
        assert switch.name == name
        assert switch.type
        assert switch.help
