"""The watcher on fakes: outages, refusals, denials, and what it reports of them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from kms_core.errors import (
    CredentialRefused,
    KeyCompromised,
    KeyDestroyed,
    KeyDisabled,
    KmsError,
    NotReady,
    PermissionRefused,
    ProviderThrottling,
    ProviderTimeout,
    ProviderUnreachable,
)
from kms_core.fakes import InMemoryKeyProvider
from kms_core.provider import KeyState
from kms_core.standing import OnTrouble, Phase


if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.kms_core.conftest import Scene

    from kms_core.fakes import ManualClock
    from kms_core.provider import KeyDescription


FAIL = {"on_outage": OnTrouble.FAIL, "on_refused": OnTrouble.FAIL}


async def test_an_outage_is_coasted_through_and_heals_with_a_probe(
    scene: Scene,
) -> None:
    key_id = scene.key_id()
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(30.0)
    assert scene.phase() is Phase.READY
    await scene.after(59.0)
    assert scene.phase() is Phase.READY
    await scene.after(2.0 + 30.0)
    assert scene.phase() is Phase.COASTING
    assert scene.key_id() == key_id

    scene.calls()
    scene.provider.outage = None
    await scene.after(30.0)
    assert scene.phase() is Phase.READY
    assert scene.calls() == ["describe", "encrypt", "decrypt"]
    assert scene.key_id() == key_id


async def test_pauses_after_failed_looks_double_up_to_the_usual_one(
    scene: Scene,
) -> None:
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(30.0)
    moments = []
    for second in range(1, 130):
        scene.calls()
        await scene.after(1.0)
        if scene.calls():
            moments.append(second)
    assert moments == [1, 3, 7, 15, 31, 61, 91, 121]


async def test_one_failed_look_changes_nothing_that_is_answered(scene: Scene) -> None:
    key_id = scene.key_id()
    scene.provider.outage = ProviderThrottling("429")
    await scene.after(30.0)
    scene.provider.outage = None
    assert scene.key_id() == key_id
    await scene.after(1.0)
    assert scene.phase() is Phase.READY
    assert scene.watcher.standing.trouble is None


async def test_looks_that_are_good_while_probes_fail_do_not_hurry_it(
    scene: Scene,
) -> None:
    kid = scene.provider.configured
    original = scene.provider._encrypt

    async def refuse(*args: object) -> object:
        await scene.provider._called("encrypt", scene.clock.monotonic() + 30)
        raise PermissionRefused("may not")

    scene.provider._encrypt = refuse  # type: ignore[assignment]
    with pytest.raises(PermissionRefused):
        await scene.encrypt()
    await scene.after(60.0)
    assert scene.phase() is Phase.COASTING
    scene.calls()
    await scene.after(3600.0)
    assert scene.calls().count("encrypt") <= 121
    scene.provider._encrypt = original  # type: ignore[method-assign]
    await scene.after(30.0)
    assert (scene.phase(), scene.announced.kid) == (Phase.READY, kid)


async def test_coasting_ends_after_a_day_even_between_looks(scene: Scene) -> None:
    began = scene.clock.monotonic()
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(3600.0)
    assert scene.phase() is Phase.COASTING
    last = began + 24 * 3600.0
    await scene.after(last - scene.clock.monotonic() - 0.5)
    scene.key_id()
    # Nobody looks in this half second: Status itself sees that the time is spent.
    scene.clock._ahead_s += 0.5
    with pytest.raises(NotReady, match="degraded, DSM-UNREACHABLE: no route"):
        scene.key_id()
    scene.provider.outage = None
    await scene.after(31.0)
    assert scene.phase() is Phase.READY


async def test_policy_fail_degrades(make_scene: Callable[..., Scene]) -> None:
    scene = await make_scene(policy=FAIL).start()
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(120.0)
    assert scene.phase() is Phase.DEGRADED
    with pytest.raises(NotReady, match="degraded, DSM-UNREACHABLE"):
        scene.key_id()
    with pytest.raises(NotReady):
        await scene.encrypt()
    scene.provider.outage = None
    await scene.after(30.0)
    assert scene.phase() is Phase.READY


@pytest.mark.parametrize(
    ("enabled", "state", "expected"),
    [
        (False, KeyState.ACTIVE, KeyDisabled),
        (True, KeyState.COMPROMISED, KeyCompromised),
        (True, KeyState.DESTROYED, KeyDestroyed),
    ],
)
async def test_an_explicit_word_ends_the_use_of_the_key_within_a_minute(
    scene: Scene,
    *,
    enabled: bool,
    state: KeyState,
    expected: type[KmsError],
) -> None:
    kid, key_id = scene.announced.kid, scene.key_id()
    scene.provider.change(kid, enabled=enabled, state=state)
    await scene.after(30.0)
    assert scene.key_id() == key_id
    assert scene.provider.renewed == 0
    await scene.after(1.0)
    # The second look was on a fresh session.
    assert scene.provider.renewed == 1
    assert scene.phase() is Phase.DENIED
    with pytest.raises(expected) as caught:
        scene.key_id()
    assert caught.value.rpc_code.value == "FAILED_PRECONDITION"
    with pytest.raises(expected):
        await scene.encrypt()

    scene.provider.change(kid, enabled=True, state=KeyState.ACTIVE)
    await scene.after(31.0)
    assert scene.key_id() == key_id


async def test_a_denied_key_stays_denied_through_an_outage(scene: Scene) -> None:
    scene.provider.change(scene.announced.kid, enabled=False)
    await scene.after(31.0)
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(3600.0)
    with pytest.raises(KeyDisabled):
        scene.key_id()
    assert scene.reports[-1].code == "DSM-UNREACHABLE"


async def test_a_deactivated_key_is_coasted_on_even_if_it_is_disabled_as_well(
    scene: Scene,
) -> None:
    scene.provider.change(
        scene.announced.kid, state=KeyState.DEACTIVATED, enabled=False
    )
    await scene.after(31.0)
    assert scene.phase() is Phase.COASTING
    assert scene.reports[-1].code == "KEY-DEACTIVATED"
    assert scene.reports[-1].meaning == "refused"


async def test_a_credential_refused_at_the_start_heals(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    scene.provider.outage = CredentialRefused("the API key is unknown")
    await scene.start()
    await scene.after(120.0)
    assert scene.phase() is Phase.STARTING
    with pytest.raises(NotReady) as caught:
        scene.key_id()
    assert "CREDENTIAL-REFUSED: the API key is unknown" in caught.value.text()
    assert "timer" in caught.value.text()
    scene.provider.outage = None
    await scene.after(30.0)
    assert scene.phase() is Phase.READY


async def test_the_key_service_away_at_the_start_is_waited_for(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.start()
    with pytest.raises(NotReady, match="starting, DSM-UNREACHABLE: no route"):
        scene.key_id()
    scene.provider.outage = None
    await scene.after(1.0)
    assert scene.phase() is Phase.READY


async def test_a_denied_key_at_the_start_is_not_ready(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    scene.provider.change(scene.provider.configured, enabled=False)
    await scene.start()
    await scene.after(120.0)
    with pytest.raises(NotReady, match="starting, KEY-DISABLED"):
        scene.key_id()
    scene.provider.change(scene.provider.configured, enabled=True)
    await scene.after(31.0)
    assert scene.phase() is Phase.READY


async def test_refused_encrypts_alone_do_not_deny(scene: Scene) -> None:
    for _ in range(20):
        scene.watcher.seal_failed(scene.announced, KeyDisabled("x"))
    assert scene.phase() is Phase.READY
    await scene.after(1.0)
    # The look and the probe that they asked for say otherwise.
    assert scene.watcher.standing.trouble is None
    assert scene.phase() is Phase.READY


# Reports.


def brief(scene: Scene) -> list[tuple[str, str]]:
    return [(r.state, r.code) for r in scene.reports]


async def test_one_report_at_each_change(scene: Scene) -> None:
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(150.0)
    scene.provider.outage = None
    await scene.after(30.0)
    assert brief(scene) == [
        ("ready", "DSM-UNREACHABLE"),
        ("coasting", "DSM-UNREACHABLE"),
        ("ready", ""),
    ]


async def test_the_first_report_of_a_good_start_says_ready(
    make_scene: Callable[..., Scene],
) -> None:
    scene = await make_scene().start()
    assert brief(scene) == [("ready", "")]
    assert scene.reports[0].kid == scene.provider.configured
    await scene.after(3000.0)
    assert len(scene.reports) == 1


async def test_trouble_is_reported_every_five_minutes(scene: Scene) -> None:
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(150.0)
    before = len(scene.reports)
    await scene.after(3600.0)
    again = scene.reports[before:]
    assert 11 <= len(again) <= 12
    assert {r.state for r in again} == {"coasting"}


async def test_a_report_says_what_the_operator_needs(scene: Scene) -> None:
    ends = scene.clock.now() + dt.timedelta(days=1)
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(150.0)
    report = scene.reports[-1]
    assert report.state == "coasting"
    assert report.key_id == scene.key_id()
    assert report.kid == scene.announced.kid
    assert report.code == "DSM-UNREACHABLE"
    assert report.cause == "no route"
    assert report.remedy == ProviderUnreachable.hint
    assert report.meaning == "outage"
    assert report.next_look_s == 30.0
    assert report.status_fails_at is not None
    assert abs(report.status_fails_at - ends) < dt.timedelta(milliseconds=1)


async def test_status_fails_when_the_report_said(scene: Scene) -> None:
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(150.0)
    fails_at = scene.reports[-1].status_fails_at
    assert fails_at is not None
    left_s = (fails_at - scene.clock.now()).total_seconds()
    await scene.after(left_s - 0.01)
    scene.key_id()
    await scene.after(0.02)
    with pytest.raises(NotReady):
        scene.key_id()


async def test_only_coasting_tells_when_status_will_fail(
    make_scene: Callable[..., Scene],
) -> None:
    scene = await make_scene(policy=FAIL).start()
    scene.provider.outage = ProviderTimeout("late")
    await scene.after(400.0)
    assert brief(scene)[-1] == ("degraded", "DSM-TIMEOUT")
    assert {r.status_fails_at for r in scene.reports} == {None}


async def test_before_the_first_proof_a_report_names_no_key(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.start()
    await scene.after(700.0)
    assert brief(scene) == [("starting", "DSM-UNREACHABLE")] * 3
    assert {(r.key_id, r.kid) for r in scene.reports} == {("", "")}
    assert scene.reports[0].next_look_s == 1.0


class PatienceRecorded(InMemoryKeyProvider):
    """Notes how long each look may take, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.clock: ManualClock | None = None
        self.patience: list[int] = []

    async def describe(
        self, kid: str | None = None, *, deadline: float
    ) -> KeyDescription:
        assert self.clock is not None
        self.patience.append(round(deadline - self.clock.monotonic()))
        return await super().describe(kid, deadline=deadline)


async def test_a_start_in_trouble_says_why_after_a_second_and_then_has_patience(
    make_scene: Callable[..., Scene],
) -> None:
    provider = PatienceRecorded()
    provider.outage = ProviderUnreachable("nobody listens")
    scene = make_scene(provider=provider)
    provider.clock = scene.clock
    await scene.start()
    for _ in range(5):
        await scene.after(16.0)
    assert provider.patience[:5] == [1, 2, 4, 8, 10]
    provider.outage = None
    await scene.after(60.0)
    assert scene.phase() is Phase.READY
    assert provider.patience[-1] == 10
