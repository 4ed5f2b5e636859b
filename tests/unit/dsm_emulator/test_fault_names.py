from typing import Any

import pytest

from dsm_emulator import Fault, FaultKind
from dsm_emulator.fault_kinds import KINDS
from dsm_emulator.fault_names import CASES, catalog, fault_named


NEEDED: dict[str, Any] = {
    "ms": 1,
    "status": 503,
    "location": "https://other.test/",
    "field": "kid",
    "size": 3,
}


def test_every_kind_is_a_name() -> None:
    for kind, rule in KINDS.items():
        fields = {name: NEEDED[name] for name in rule.needs}
        assert fault_named(kind, **fields) == Fault(kind, **fields)


def test_every_case_needs_no_more_and_no_kind_has_its_name() -> None:
    for name, case in CASES.items():
        assert fault_named(name).kind is case.kind
    assert not CASES.keys() & {str(kind) for kind in FaultKind}


def test_given_parameters_win() -> None:
    fault = fault_named("session-revoked", count=3, path="/crypto/*")
    assert (fault.status, fault.text) == (401, "Session does not exist")
    assert (fault.count, fault.path) == (3, "/crypto/*")


@pytest.mark.parametrize(
    ("name", "parameters", "complaint"),
    [
        ("nothing", {}, "no fault is called 'nothing'"),
        ("refuse", {"count": 1}, "refuse knows no count"),
        ("tls-expired", {"path": "/x"}, "tls-expired knows no path"),
        ("throttled", {"field": "x"}, "throttled knows no field"),
        ("latency", {}, "needs ms"),
        ("latency", {"mss": 1}, "unknown parameter"),
        ("latency", {"ms": "x"}, "wrong type"),
    ],
)
def test_what_would_be_ignored_is_refused(
    name: str, parameters: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        fault_named(name, **parameters)


def test_catalog_tells_all_of_them() -> None:
    shown = catalog()
    assert shown.keys() == {str(kind) for kind in KINDS} | CASES.keys()
    assert all(shown.values())
