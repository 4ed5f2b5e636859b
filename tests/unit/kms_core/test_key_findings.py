"""What is said of a key, and when it is said again."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from kms_core.events import KeyFindingReported, Unexpected
from kms_core.fakes import InMemoryKeyProvider
from kms_core.key_findings import KeyFinding, ReportedFindings, key_findings
from kms_core.key_id import LegacyNaming, go_plugin_key_id
from kms_core.key_rules import RULES, Severity, finding_codes
from kms_core.provider import KeyDescription, KeyState, RotationPlan


if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.kms_core.conftest import Scene


KID = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
NEW = "00000000-0000-4000-8000-000000000002"
OLD = "00000000-0000-4000-8000-000000000001"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def key(**changes: Any) -> KeyDescription:
    return evolve(KeyDescription(kid=KID, size_bits=256), **changes)


def found(*, hides_rotation: bool = False, **changes: Any) -> list[KeyFinding]:
    return list(key_findings(key(**changes), NOW, hides_rotation=hides_rotation))


def codes(findings: list[KeyFinding]) -> list[str]:
    return [finding.code for finding in findings]


def after(**time: float) -> dt.datetime:
    return NOW + dt.timedelta(**time)


def test_nothing_is_said_of_a_key_that_is_as_it_should_be() -> None:
    assert found() == []
    assert found(size_bits=None, replaced=OLD) == []
    assert found(hides_rotation=True) == []


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"size_bits": 128}, "KEY-SIZE", "has 128 bits"),
        ({"exportable": True}, "KEY-EXPORTABLE", "may be exported"),
        (
            {"more_permissions": ("SIGN", "WRAPKEY")},
            "KEY-PERMISSIONS",
            "may also be used for SIGN, WRAPKEY",
        ),
        ({"audited": False}, "KEY-NOT-AUDITED", "HIGHVOLUME"),
        ({"compliant": False}, "KEY-NOT-COMPLIANT", "DSM may refuse its use"),
        ({"replacement": NEW}, "KEY-REPLACED", f"was replaced by {NEW}"),
        ({"unread": ("deactivation_date",)}, "KEY-UNREAD", ": deactivation_date"),
    ],
)
def test_each_is_a_warning_with_a_remedy(
    changes: dict[str, Any], code: str, words: str
) -> None:
    (finding,) = found(**changes)
    assert (finding.severity, finding.code) == (Severity.WARNING, code)
    assert words in finding.cause
    assert KID in finding.cause
    assert finding.remedy


@pytest.mark.parametrize(
    ("left", "code", "words"),
    [
        ({"days": 31}, "KEY-DEACTIVATION-SET", "deactivated at 2026-02-01T00:00:00Z"),
        ({"days": 30, "seconds": 1}, "KEY-DEACTIVATION-SET", "will be deactivated"),
        ({"days": 30}, "KEY-DEACTIVATION-NEAR", "2026-01-31T00:00:00Z, within 30 days"),
        ({"days": 7, "seconds": 1}, "KEY-DEACTIVATION-NEAR", "within 30 days"),
        ({"days": 7}, "KEY-DEACTIVATION-NEAR", "within 7 days"),
        ({"days": 1}, "KEY-DEACTIVATION-NEAR", "within 1 day"),
        ({"days": 0}, "KEY-DEACTIVATION-NEAR", "was to be deactivated at 2026-01-01"),
        ({"days": -400}, "KEY-DEACTIVATION-NEAR", "was to be deactivated at 2024-11-"),
    ],
)
def test_the_deactivation_date_is_warned_of_30_days_ahead(
    left: dict[str, float], code: str, words: str
) -> None:
    (finding,) = found(deactivates_at=after(**left))
    assert finding.code == code
    assert words in finding.cause
    expected = Severity.NOTICE if code.endswith("SET") else Severity.WARNING
    assert finding.severity is expected


def test_a_date_that_has_done_its_work_is_not_warned_of() -> None:
    past = found(deactivates_at=after(days=-1), state=KeyState.DEACTIVATED)
    assert codes(past) == ["KEY-DEACTIVATED"]


def test_a_scheduled_rotation_is_told_with_its_date() -> None:
    (dated,) = found(rotation=RotationPlan(at=after(days=3)))
    assert (dated.severity, dated.code) == (Severity.NOTICE, "KEY-ROTATION-SCHEDULED")
    assert "at 2026-01-04T00:00:00Z" in dated.cause
    (undated,) = found(rotation=RotationPlan())
    assert "a date that it does not tell" in undated.cause


def test_a_rotation_that_deactivates_or_hides_is_warned_of() -> None:
    deactivating = RotationPlan(at=after(days=3), deactivates_old=True)
    both = found(rotation=deactivating, hides_rotation=True)
    assert [(f.severity, f.code) for f in both] == [
        (Severity.NOTICE, "KEY-ROTATION-SCHEDULED"),
        (Severity.WARNING, "KEY-ROTATION-DEACTIVATES"),
        (Severity.WARNING, "KEY-ROTATION-HIDDEN"),
    ]
    assert "opens what is stored, but not if the account disables" in both[1].cause


def test_a_name_that_came_back_is_no_replacement() -> None:
    assert found(replaced=OLD, replacement=OLD) == []
    assert codes(found(replaced=OLD, replacement=NEW)) == ["KEY-REPLACED"]


def test_errors_come_first_and_all_of_them() -> None:
    findings = found(
        exportable=True,
        state=KeyState.DEACTIVATED,
        enabled=False,
        algorithm="RSA",
        size_bits=2048,
        can_encrypt=False,
        can_decrypt=False,
    )
    assert [(f.severity.value, f.code) for f in findings] == [
        ("error", "KEY-DEACTIVATED"),
        ("error", "KEY-DISABLED"),
        ("error", "KEY-UNSUITABLE"),
        ("error", "KEY-UNSUITABLE"),
        ("warning", "KEY-EXPORTABLE"),
    ]
    assert all(finding.remedy for finding in findings)


def test_a_cause_is_one_line_however_much_there_is_to_say() -> None:
    words = tuple("A" * 32 for _ in range(100))
    (finding,) = found(more_permissions=words)
    assert finding.cause.isprintable()
    assert len(finding.cause) <= 512


def test_codes_are_unique_and_rules_documented() -> None:
    assert len(set(finding_codes())) == len(RULES)
    assert all(rule.what.endswith(".") and rule.remedy for rule in RULES)


class Said:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.reported = ReportedFindings(self.events.append)

    def by(self, described: KeyDescription, now: dt.datetime = NOW) -> list[str]:
        """Return what is said of *described*, a minus before what has gone."""
        self.events.clear()
        self.reported.update(described, now, hides_rotation=False)
        return [f"{'-' if e.gone else '+'}{e.code}" for e in self.events]


def test_a_finding_is_said_when_it_appears_and_once_when_it_goes() -> None:
    said = Said()
    assert said.by(key()) == []
    assert said.by(key(exportable=True)) == ["+KEY-EXPORTABLE"]
    assert said.events[0] == KeyFindingReported(
        kid=KID,
        code="KEY-EXPORTABLE",
        severity="warning",
        cause=f"the material of key {KID} may be exported",
        remedy="take EXPORT off the key in DSM, or rotate to a key without it",
        gone=False,
    )
    assert said.by(key(exportable=True)) == []
    assert said.by(key(exportable=True, audited=False)) == ["+KEY-NOT-AUDITED"]
    assert said.by(key(audited=False)) == ["-KEY-EXPORTABLE"]
    assert said.by(key(audited=False)) == []
    assert said.by(key()) == ["-KEY-NOT-AUDITED"]


def test_a_date_is_said_again_as_it_comes_near_and_when_it_moves() -> None:
    said = Said()
    ending = key(deactivates_at=after(days=40))
    assert said.by(ending) == ["+KEY-DEACTIVATION-SET"]
    assert said.by(ending, after(days=9.9)) == []
    near = said.by(ending, after(days=10))
    assert near == ["-KEY-DEACTIVATION-SET", "+KEY-DEACTIVATION-NEAR"]
    assert said.by(ending, after(days=20)) == []
    assert said.by(ending, after(days=33)) == ["+KEY-DEACTIVATION-NEAR"]
    assert said.by(ending, after(days=39)) == ["+KEY-DEACTIVATION-NEAR"]
    moved = key(deactivates_at=after(days=39.5))
    assert said.by(moved, after(days=39)) == ["+KEY-DEACTIVATION-NEAR"]
    assert said.by(moved, after(days=39.1)) == []


def test_another_key_begins_anew() -> None:
    said = Said()
    said.by(key(exportable=True))
    other = evolve(key(exportable=True), kid=NEW)
    assert said.by(other) == ["-KEY-EXPORTABLE", "+KEY-EXPORTABLE"]
    assert [event.kid for event in said.events] == [KID, NEW]


def test_errors_are_left_to_the_standing() -> None:
    assert Said().by(key(enabled=False)) == []


# Told by the watcher.


def told(scene: Scene) -> list[str]:
    events = [e for e in scene.telemetry.events if isinstance(e, KeyFindingReported)]
    scene.telemetry.events.clear()
    return [f"{e.kid} {'-' if e.gone else '+'}{e.code}" for e in events]


def make(provider: InMemoryKeyProvider, **changes: Any) -> None:
    """Change what is said of the configured key."""
    kid = provider.configured
    provider.keys[kid] = evolve(provider.keys[kid], **changes)


async def test_each_look_may_find_something(
    make_scene: Callable[..., Scene],
) -> None:
    provider = InMemoryKeyProvider()
    make(provider, audited=False)
    scene = await make_scene(provider=provider).start()
    kid = provider.configured
    assert told(scene) == [f"{kid} +KEY-NOT-AUDITED"]
    await scene.after(300)
    assert told(scene) == []
    make(provider, exportable=True)
    await scene.after(30)
    assert told(scene) == [f"{kid} +KEY-EXPORTABLE"]
    make(provider, exportable=False, audited=True)
    await scene.after(30)
    assert told(scene) == [f"{kid} -KEY-EXPORTABLE", f"{kid} -KEY-NOT-AUDITED"]


async def test_a_new_key_is_told_of_once_it_is_announced(scene: Scene) -> None:
    old = scene.provider.configured
    make(scene.provider, audited=False)
    await scene.after(30)
    assert told(scene) == [f"{old} +KEY-NOT-AUDITED"]
    new = scene.provider.rekey().kid
    make(scene.provider, exportable=True)
    await scene.after(70)
    assert told(scene) == [f"{old} -KEY-NOT-AUDITED", f"{new} +KEY-EXPORTABLE"]


async def test_a_rotation_that_the_format_would_hide_is_told(
    make_scene: Callable[..., Scene],
) -> None:
    provider = InMemoryKeyProvider()
    make(provider, rotation=RotationPlan())
    legacy = LegacyNaming(go_plugin_key_id("https://dsm.test", key_name="kek"))
    scene = await make_scene(provider=provider, naming=legacy).start()
    assert [line.split("+")[1] for line in told(scene)] == [
        "KEY-ROTATION-SCHEDULED",
        "KEY-ROTATION-HIDDEN",
    ]


async def test_a_defect_in_the_words_costs_no_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ReportedFindings, "update", fail)
    await scene.after(30)
    assert scene.phase().value == "ready"
    (defect,) = [e for e in scene.telemetry.events if isinstance(e, Unexpected)]
    assert (defect.where, defect.what.split()[0]) == ("findings", "ZeroDivisionError")
