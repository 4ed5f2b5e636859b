import json
from typing import Any

import pytest

from dsm_emulator import Clock, Fault, FaultKind
from dsm_emulator.defects import spoil
from dsm_emulator.faults import Faults, Subject


INFO = "/crypto/v1/keys/info"


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "no-such-kind"},
        {"kind": "latency"},
        {"kind": "status"},
        {"kind": "redirect"},
        {"kind": "drop-field"},
        {"kind": "set-field"},
        {"kind": "status", "status": 500, "body": "no-such-form"},
        {"kind": "reset", "count": 0},
        {"kind": "latency", "ms": -1},
        {"kind": "latency", "ms": float("nan")},
        {"kind": "refuse", "seconds": -1},
        {"kind": "status", "status": 99},
        {"kind": "redirect", "location": "https://x/\r\nSet-Cookie: a"},
        {"kind": "status", "status": 429, "retry_after": "\u00e9"},
        {"kind": "disconnect", "stage": "nowhere"},
    ],
)
def test_fault_that_says_too_little_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Fault(**fields)


def test_kind_may_be_given_as_text() -> None:
    assert Fault("reset") == Fault(FaultKind.RESET)


def test_count_runs_out() -> None:
    faults = Faults()
    faults.add(Fault("status", status=500, count=2))
    seen = [faults.before(Subject(INFO, None)).stand_in is not None for _ in range(3)]
    assert seen == [True, True, False]
    assert not faults


def test_fault_is_for_its_path_and_app_alone() -> None:
    faults = Faults()
    faults.add(Fault("status", status=500, path=INFO, app="a", count=1))
    for path, app in ((INFO, "b"), (INFO, None), ("/sys/v1/health", "a")):
        assert faults.before(Subject(path, app)).stand_in is None
    assert faults.before(Subject(INFO, "a")).stand_in is not None


def test_path_may_be_a_pattern() -> None:
    faults = Faults()
    faults.add(Fault("reset", path="/crypto/*"))
    assert faults.before(Subject(INFO, None)).stand_in is not None
    assert faults.before(Subject("/sys/v1/health", None)).stand_in is None


def test_first_stand_in_wins_and_the_next_is_not_spent() -> None:
    faults = Faults()
    faults.add(Fault("latency", ms=20))
    faults.add(Fault("latency", ms=30, count=1))
    faults.add(Fault("status", status=500, count=1))
    faults.add(Fault("status", status=502, count=1))
    first, second = (
        faults.before(Subject(INFO, None)),
        faults.before(Subject(INFO, None)),
    )
    assert first.stand_in is not None
    assert second.stand_in is not None
    assert (first.stand_in.status, second.stand_in.status) == (500, 502)
    assert (first.delay_s, second.delay_s) == (0.05, 0.02)


def test_fault_ends_with_its_time_and_lets_go_what_hangs(clock: Clock) -> None:
    faults = Faults(clock)
    faults.add(Fault("hang", seconds=10))
    (released,) = faults.before(Subject(INFO)).hangs
    clock.advance(9)
    assert faults.of_listener() == (None, 1.0)
    assert not released.done()
    clock.advance(1)
    assert faults.of_listener() == (None, None)
    assert released.done()


def test_watchers_hear_of_changes_and_of_moved_time(clock: Clock) -> None:
    faults = Faults(clock)
    heard: list[int] = []
    with faults.watched_by(lambda: heard.append(1)):
        faults.add(Fault("refuse"))
        faults.clear()
        faults.clear()
        clock.advance(1)
    clock.advance(1)
    faults.add(Fault("refuse"))
    assert len(heard) == 3


def test_fault_is_for_one_connection() -> None:
    faults = Faults()
    faults.add(Fault("status", status=500, connection=3))
    struck = [faults.before(Subject(INFO, connection=n)).stand_in for n in (1, 3)]
    assert [fault is not None for fault in struck] == [False, True]


def test_defect_waits_for_an_answer() -> None:
    faults = Faults()
    faults.add(Fault("wrong-kid", count=1))
    assert faults.before(Subject(INFO, None)).stand_in is None
    assert len(faults.defects(Subject(INFO, None))) == 1
    assert faults.defects(Subject(INFO, None)) == []


def test_removed_and_cleared_faults_let_go_what_hangs() -> None:
    faults = Faults()
    hang, other = Fault("hang", count=1), Fault("hang", path=INFO)
    faults.add(hang)
    faults.add(other)
    hangs = faults.before(Subject(INFO, None)).hangs
    assert [released.done() for released in hangs] == [False, False]
    assert len(faults.before(Subject(INFO, None)).hangs) == 1
    faults.remove(hang)
    assert [released.done() for released in hangs] == [True, False]
    assert list(faults) == [other]
    faults.clear()
    assert [released.done() for released in hangs] == [True, True]
    assert not faults


def test_waiting_for_hanging_requests_ends() -> None:
    faults = Faults()
    assert not faults.wait_for_hanging(1, timeout_s=0)
    faults.count_hanging(1)
    assert faults.wait_for_hanging(1, timeout_s=0)


ANSWER = {"kid": "a", "cipher": "AQ==", "iv": "AQ=="}


@pytest.mark.parametrize(
    ("faults", "body"),
    [
        ([Fault("drop-field", field="kid")], {"cipher": "AQ==", "iv": "AQ=="}),
        ([Fault("drop-field", field="none")], ANSWER),
        ([Fault("set-field", field="iv", value=5)], {**ANSWER, "iv": 5}),
        ([Fault("set-field", field="iv")], {**ANSWER, "iv": None}),
        (
            [Fault("drop-field", field="kid"), Fault("set-field", field="x", value=[])],
            {"cipher": "AQ==", "iv": "AQ==", "x": []},
        ),
    ],
)
def test_answer_is_spoilt_field_by_field(
    faults: list[Fault], body: dict[str, Any]
) -> None:
    assert json.loads(spoil(ANSWER, faults).body) == body
    assert ANSWER["iv"] == "AQ=="


def test_wrong_kid_is_another_one() -> None:
    spoilt = json.loads(spoil(ANSWER, [Fault("wrong-kid")]).body)
    assert spoilt["kid"] != "a"
    assert spoilt["cipher"] == "AQ=="


def test_huge_body_is_valid_json() -> None:
    body = spoil(ANSWER, [Fault("huge-body", size=100_000)]).body
    assert len(body) > 100_000
    assert json.loads(body)["kid"] == "a"


@pytest.mark.parametrize("kind", ["not-json", "truncated-json"])
def test_body_can_be_no_json(kind: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(spoil(ANSWER, [Fault(kind)]).body)
