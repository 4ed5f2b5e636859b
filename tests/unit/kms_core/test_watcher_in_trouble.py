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
from kms_core.standing import OnDenied, OnTrouble, Phase


if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.kms_core.conftest import Scene

    from kms_core.fakes import ManualClock
    from kms_core.provider import Ciphertext, KeyDescription


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


async def test_a_refused_decrypt_of_another_key_moves_nothing(scene: Scene) -> None:
    old, sealed = scene.announced, await scene.seal()
    scene.provider.rekey()
    await scene.after(31.0)
    before = scene.watcher.standing
    scene.provider.change(old.kid, enabled=False)
    for _ in range(5):
        with pytest.raises(PermissionRefused):
            await scene.decrypt(sealed)
    assert scene.watcher.standing == before
    await scene.after(120.0)
    assert scene.phase() is Phase.READY


# With a local KEK.


@pytest.fixture
async def local(make_scene: Callable[..., Scene]) -> Scene:
    ready = await make_scene(local_kek=True).start()
    ready.calls()
    ready.telemetry.events.clear()
    return ready


async def test_coasting_seals_and_opens_from_memory(local: Scene) -> None:
    sealed = await local.seal()
    local.provider.outage = ProviderUnreachable("no route")
    await local.after(3600.0)
    assert local.phase() is Phase.COASTING
    local.calls()
    assert await local.decrypt(sealed) == await local.decrypt(await local.seal())
    assert local.calls() == []


async def test_degraded_opens_from_memory_but_does_not_seal(
    make_scene: Callable[..., Scene],
) -> None:
    scene = await make_scene(local_kek=True, policy=FAIL).start()
    sealed = await scene.seal()
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(120.0)
    with pytest.raises(NotReady):
        await scene.encrypt()
    assert await scene.decrypt(sealed)


async def test_the_key_is_proven_hourly_though_sealing_asks_nobody(
    local: Scene,
) -> None:
    for _ in range(100):
        await local.after(60.0)
        await local.encrypt()
    assert local.calls().count("encrypt") == 1


async def test_a_local_kek_is_replaced_after_90_days_and_the_old_one_opens(
    local: Scene,
) -> None:
    sealed = await local.seal()
    local.clock._ahead_s += 90 * 24 * 3600.0
    await local.after(31.0)
    new = await local.seal()
    assert new.ciphertext[:120] != sealed.ciphertext[:120]
    local.calls()
    assert await local.decrypt(sealed) == await local.decrypt(new)
    assert local.calls() == []


@pytest.mark.parametrize(
    ("enabled", "state"),
    [
        (False, KeyState.ACTIVE),
        (True, KeyState.COMPROMISED),
        (True, KeyState.DESTROYED),
    ],
)
async def test_a_denied_key_s_local_keks_are_dropped(
    local: Scene, *, enabled: bool, state: KeyState
) -> None:
    kid, sealed = local.announced.kid, await local.seal()
    local.provider.change(kid, enabled=enabled, state=state)
    await local.after(30.0)
    assert local.dropped == []
    assert await local.decrypt(sealed)
    await local.after(1.0)
    assert local.dropped == [(kid, 1)]
    local.calls()
    if state is not KeyState.COMPROMISED:
        with pytest.raises(PermissionRefused):
            await local.decrypt(sealed)
    else:
        # A compromised key still opens: what is stored must be rewritten.
        assert await local.decrypt(sealed)
    assert local.calls() == ["decrypt"]

    local.provider.change(kid, enabled=True, state=KeyState.ACTIVE)
    await local.after(31.0)
    assert local.phase() is Phase.READY
    assert await local.decrypt(sealed) == await local.decrypt(await local.seal())


async def test_on_denied_keep_goes_on_opening_from_memory(
    make_scene: Callable[..., Scene],
) -> None:
    keep = {"on_denied": OnDenied.KEEP}
    scene = await make_scene(local_kek=True, policy=keep).start()
    sealed = await scene.seal()
    scene.provider.change(scene.announced.kid, enabled=False)
    await scene.after(3600.0)
    assert scene.phase() is Phase.DENIED
    assert await scene.decrypt(sealed)
    with pytest.raises(KeyDisabled):
        await scene.encrypt()
    assert scene.dropped == []


@pytest.mark.parametrize("how", ["deactivated", "gone", "permission", "credential"])
async def test_what_may_be_a_mistake_drops_nothing(
    make_scene: Callable[..., Scene], how: str
) -> None:
    hour = {"coast_for_s": 3600.0}
    local = await make_scene(local_kek=True, policy=hour).start()
    kid, sealed = local.announced.kid, await local.seal()
    match how:
        case "deactivated":
            local.provider.change(kid, state=KeyState.DEACTIVATED)
        case "gone":
            del local.provider.keys[kid]
        case "permission":
            local.provider.outage = PermissionRefused("403")
        case "credential":
            local.provider.outage = CredentialRefused("401")
    await local.after(2 * 3600.0)
    assert local.phase() is Phase.DEGRADED
    assert await local.decrypt(sealed)
    assert local.dropped == []


async def test_a_denial_found_while_another_key_fails_its_probe_drops_as_well(
    local: Scene,
) -> None:
    old, sealed = local.announced, await local.seal()
    new = local.provider.make_key(replaced=old.kid)
    original = local.provider._encrypt

    async def refuse(
        kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        if kid == new.kid:
            raise PermissionRefused("may not")
        return await original(kid, plaintext, aad, deadline)

    local.provider._encrypt = refuse  # type: ignore[method-assign]
    local.provider.configured = new.kid
    await local.after(120.0)
    local.provider.change(old.kid, enabled=False)
    await local.after(120.0)
    assert local.phase() is Phase.DENIED
    assert local.dropped == [(old.kid, 1)]
    with pytest.raises(PermissionRefused):
        await local.decrypt(sealed)


async def test_a_key_denied_before_its_first_proof_is_dropped_too(
    make_scene: Callable[..., Scene],
) -> None:
    neighbour = await make_scene(local_kek=True).start()
    sealed, kid = await neighbour.seal(), neighbour.announced.kid
    original = neighbour.provider._encrypt

    async def refuse(*_args: object) -> Ciphertext:
        raise PermissionRefused("may not")

    neighbour.provider._encrypt = refuse  # type: ignore[assignment, method-assign]
    scene = await make_scene(before=neighbour, local_kek=True).start()
    assert scene.phase() is Phase.STARTING
    assert await scene.decrypt(sealed)
    scene.provider.change(kid, enabled=False)
    await scene.after(31.0)
    assert scene.dropped == [(kid, 1)]
    neighbour.provider._encrypt = original  # type: ignore[method-assign]


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
