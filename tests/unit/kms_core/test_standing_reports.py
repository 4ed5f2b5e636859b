"""What is said of a standing, when, and when it is said again."""

from __future__ import annotations

import datetime as dt

import pytest
from attrs import evolve, frozen

from kms_core.errors import KeyNotFound, ProviderUnreachable
from kms_core.events import KeyFindingReported, StandingReported, Unexpected
from kms_core.fakes import ManualClock, RecordedTelemetry
from kms_core.key_id import AnnouncedKey, go_plugin_key_id
from kms_core.provider import KeyDescription
from kms_core.standing import Phase, Policy, Source, Standing, Trouble
from kms_core.standing_reports import StandingReports


A = "00000000-0000-4000-8000-00000000000a"
B = "00000000-0000-4000-8000-00000000000b"
HASH = go_plugin_key_id("https://dsm.test", key_name="kek")
READY = Standing(phase=Phase.READY, announced=AnnouncedKey(A, f"sdkms.v1:{A}"))
STRAY = KeyNotFound("no key of that name")


@frozen
class Desk:
    """Reports and what surrounds them."""

    clock: ManualClock
    telemetry: RecordedTelemetry
    reports: StandingReports

    def said(self) -> list[tuple[str, str]]:
        """Return state and code of the reports since the last time."""
        events = [e for e in self.telemetry.events if isinstance(e, StandingReported)]
        self.telemetry.events.clear()
        return [(event.state, event.code) for event in events]

    def last(self) -> StandingReported:
        event = self.telemetry.events[-1]
        assert isinstance(event, StandingReported)
        return event


def desk(telemetry: RecordedTelemetry | None = None) -> Desk:
    clock, told = ManualClock(), telemetry or RecordedTelemetry()
    return Desk(clock, told, StandingReports(clock, told, Policy(), 300.0))


def troubled(at: Desk, phase: Phase) -> Standing:
    now = at.clock.monotonic()
    trouble = Trouble(ProviderUnreachable("no route"), Source.LOOK, now, 3)
    return evolve(READY, phase=phase, trouble=trouble, well_at=now)


def under(kid: str, key_id: str = HASH) -> Standing:
    return evolve(READY, announced=AnnouncedKey(kid, key_id))


async def test_what_is_well_is_said_once() -> None:
    at = desk()
    for _ in range(3):
        at.reports.tell(READY, None, next_look_s=30.0)
        await at.clock.advance(1000.0)
    assert at.said() == [("ready", "")]


async def test_before_the_first_proof_no_key_is_named() -> None:
    at = desk()
    at.reports.tell(Standing(), None, next_look_s=1.0)
    assert (at.last().state, at.last().key_id, at.last().kid) == ("starting", "", "")


async def test_what_is_not_well_is_said_again_once_the_reminder_is_due() -> None:
    at = desk()
    coasting = troubled(at, Phase.COASTING)
    at.reports.tell(coasting, None, next_look_s=30.0)
    await at.clock.advance(299.0)
    at.reports.tell(coasting, None, next_look_s=30.0)
    assert at.said() == [("coasting", "DSM-UNREACHABLE")]
    await at.clock.advance(1.0)
    at.reports.tell(coasting, None, next_look_s=30.0)
    assert at.said() == [("coasting", "DSM-UNREACHABLE")]


async def test_trouble_waits_for_the_time_of_the_next_look_and_good_news_do_not() -> (
    None
):
    at = desk()
    at.reports.tell(troubled(at, Phase.COASTING), None, next_look_s=None)
    assert at.said() == []
    at.reports.tell(troubled(at, Phase.COASTING), None, next_look_s=4.0)
    assert at.last().next_look_s == 4.0
    at.reports.tell(READY, None, next_look_s=None)
    assert at.said() == [("coasting", "DSM-UNREACHABLE"), ("ready", "")]


async def test_coasting_alone_tells_when_status_will_fail() -> None:
    at = desk()
    at.reports.tell(troubled(at, Phase.COASTING), None, next_look_s=1.0)
    assert at.last().status_fails_at == at.clock.now() + dt.timedelta(days=1)
    at.reports.tell(troubled(at, Phase.DEGRADED), None, next_look_s=1.0)
    assert at.last().status_fails_at is None


async def test_a_stray_name_is_said_unless_there_is_trouble() -> None:
    at = desk()
    at.reports.tell(READY, STRAY, next_look_s=30.0)
    at.reports.tell(troubled(at, Phase.READY), STRAY, next_look_s=30.0)
    at.reports.tell(READY, None, next_look_s=30.0)
    assert at.said() == [
        ("ready", "KEY-NOT-FOUND"),
        ("ready", "DSM-UNREACHABLE"),
        ("ready", ""),
    ]


async def test_a_rotation_that_the_go_plugins_key_id_hides_is_said_for_ever() -> None:
    at = desk()
    for kid in (A, B, A):
        at.reports.tell(under(kid), None, next_look_s=30.0)
    assert at.said() == [
        ("ready", ""),
        ("ready", "ROTATION-HIDDEN"),
        ("ready", "ROTATION-HIDDEN"),
    ]


async def test_the_first_key_of_an_earlier_process_counts() -> None:
    at = desk()
    at.reports.first_kid = A
    at.reports.tell(under(B), None, next_look_s=30.0)
    assert f"from {A} to {B}" in at.last().cause


async def test_a_rotation_that_shows_is_no_concern() -> None:
    at = desk()
    at.reports.tell(READY, None, next_look_s=30.0)
    at.reports.tell(under(B, f"sdkms.v1:{B}:{A}"), None, next_look_s=30.0)
    assert at.said() == [("ready", ""), ("ready", "")]


@pytest.mark.parametrize(("announced", "found"), [(None, 1), (A, 1), (B, 0)])
async def test_findings_are_those_of_the_announced_key(
    announced: str | None, found: int
) -> None:
    at = desk()
    key = None if announced is None else AnnouncedKey(announced, HASH)
    weak = KeyDescription(kid=A, size_bits=128)
    for _ in range(2):
        at.reports.tell_findings(weak, f"sdkms.v1:{A}", key)
    findings = [e for e in at.telemetry.events if isinstance(e, KeyFindingReported)]
    assert [finding.code for finding in findings] == ["KEY-SIZE"] * found


async def test_a_defect_in_the_findings_costs_no_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = desk()

    def fail() -> dt.datetime:
        raise ValueError("no date")

    monkeypatch.setattr(at.clock, "now", fail)
    at.reports.tell_findings(KeyDescription(kid=A), f"sdkms.v1:{A}", None)
    (event,) = at.telemetry.events
    assert isinstance(event, Unexpected)
    assert event.where == "findings"
    assert "no date" not in event.what


async def test_telemetry_that_raises_is_no_concern_of_the_caller() -> None:
    class Broken(RecordedTelemetry):
        def emit(self, event: object) -> None:
            raise OSError("no disk")

    desk(Broken()).reports.tell(READY, None, next_look_s=30.0)
