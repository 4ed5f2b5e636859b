"""The watcher on fakes: start, rotation, wake-ups and the end."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from kms_core.envelope import ProviderEnvelope
from kms_core.errors import (
    CredentialRefused,
    KeyDeactivated,
    KeyDisabled,
    NotReady,
    PermissionRefused,
    ProviderAnswerRefused,
    ProviderTimeout,
    ProviderUnreachable,
)
from kms_core.fakes import InMemoryKeyProvider, RecordedTelemetry, settle
from kms_core.key_id import KeyNaming, LegacyNaming, NativeNaming, go_plugin_key_id
from kms_core.provider import Ciphertext, KeyDescription, KeyState
from kms_core.sealed_seed import Version
from kms_core.standing import Phase


if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.kms_core.conftest import Scene

    from kms_core.ports import Event


FIXED = go_plugin_key_id("https://dsm.test", key_name="kek")
LOOK_AND_PROBE = ["describe", "describe", "encrypt", "decrypt"]


async def test_start_takes_two_looks_and_one_probe(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    with pytest.raises(NotReady, match="starting, the key is being proven"):
        scene.key_id()
    await scene.start()
    assert scene.phase() is Phase.READY
    assert scene.calls() == LOOK_AND_PROBE
    assert scene.key_id() == f"sdkms.v1:{scene.provider.configured}"


async def test_one_look_every_30_s_while_all_is_well(scene: Scene) -> None:
    for _ in range(10):
        await scene.after(29.9)
        assert scene.calls() == []
        await scene.after(0.1)
        assert scene.calls() == ["describe"]


async def test_looks_of_daemons_spread_out(make_scene: Callable[..., Scene]) -> None:
    scene = await make_scene(jitter=0.2).start()
    pauses = []
    for _ in range(20):
        scene.calls()
        ((until, _sleeper),) = scene.clock._sleepers
        pauses.append(until - scene.clock._ahead_s)
        await scene.after(pauses[-1])
        assert scene.calls() == ["describe"]
    assert all(24.0 <= pause <= 30.0 for pause in pauses)
    assert len(set(pauses)) == 20


async def test_the_key_is_proven_again_each_hour(scene: Scene) -> None:
    await scene.after(3599.0)
    assert set(scene.calls()) == {"describe"}
    await scene.after(31.0)
    assert "encrypt" in scene.calls()


async def test_encrypts_prove_the_key_instead(scene: Scene) -> None:
    await scene.after(3000.0)
    await scene.encrypt()
    scene.calls()
    await scene.after(3000.0)
    assert set(scene.calls()) == {"describe"}


@pytest.mark.parametrize("deactivate", [False, True])
async def test_a_rotation_is_announced_after_two_looks_and_a_probe(
    scene: Scene, *, deactivate: bool
) -> None:
    old = scene.announced
    new = scene.provider.rekey(deactivate=deactivate)
    await scene.after(30.0)
    assert scene.calls() == ["describe"]
    assert scene.key_id() == old.key_id
    await scene.after(1.0)
    assert scene.calls() == ["describe", "encrypt", "decrypt"]
    assert scene.key_id() == f"sdkms.v1:{new.kid}:{old.kid}"
    assert await scene.encrypt() == scene.key_id()
    assert [(r.state, r.key_id, r.kid) for r in scene.reports] == [
        ("ready", scene.key_id(), new.kid)
    ]


async def test_there_and_back_again_gives_a_third_key_id(scene: Scene) -> None:
    first, key_ids = scene.announced, [scene.key_id()]
    new = scene.provider.rekey()
    await scene.after(31.0)
    key_ids.append(scene.key_id())
    back = evolve(scene.provider.keys[first.kid], replaced=new.kid)
    scene.provider.keys[first.kid] = back
    scene.provider.configured = first.kid
    await scene.after(31.0)
    key_ids.append(scene.key_id())
    assert len(set(key_ids)) == 3
    assert scene.announced.kid == first.kid


async def test_a_name_that_goes_back_without_links_is_followed_after_a_minute(
    scene: Scene,
) -> None:
    first = scene.announced
    scene.provider.rekey()
    await scene.after(31.0)
    second = scene.announced
    scene.provider.configured = first.kid
    await scene.after(31.0)
    assert scene.announced == second
    await scene.after(60.0)
    assert scene.announced == first


async def test_seeds_sealed_before_a_rotation_open_after_it(scene: Scene) -> None:
    deadline = asyncio.get_running_loop().time() + 30.0
    answer = await scene.service.encrypt(b"s" * 32, deadline=deadline)
    scene.provider.rekey(deactivate=True)
    await scene.after(31.0)
    assert scene.key_id() != answer.key_id
    opened = await scene.service.decrypt(
        answer.ciphertext, answer.key_id, annotated=False, deadline=deadline
    )
    assert opened == b"s" * 32


class SlowProvider(InMemoryKeyProvider):
    """Encrypts only once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.let.set()

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        await self.let.wait()
        return await super()._encrypt(kid, plaintext, aad, deadline)


async def test_an_encrypt_keeps_the_key_it_began_with(
    make_scene: Callable[..., Scene],
) -> None:
    provider = SlowProvider()
    scene = await make_scene(provider=provider).start()
    old = scene.announced
    provider.let.clear()
    call = asyncio.create_task(scene.encrypt())
    await settle()
    scene.provider.rekey()
    probing = asyncio.create_task(scene.after(31.0))
    await settle()
    provider.let.set()
    await probing
    assert scene.announced != old
    assert await call == old.key_id


async def test_a_candidate_that_fails_its_probe_is_reported_and_ours_is_looked_at(
    scene: Scene,
) -> None:
    old = scene.announced
    new = scene.provider.make_key(replaced=old.kid)
    scene.provider.keys[new.kid] = evolve(new, can_encrypt=True)
    scene.provider.configured = new.kid
    # keys/info says that it may, and encrypt says that it may not.
    refusing: set[str] = {new.kid}
    original = scene.provider._encrypt

    async def refuse(
        kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        if kid in refusing:
            await scene.provider._called("encrypt", deadline)
            raise PermissionRefused("may not")
        return await original(kid, plaintext, aad, deadline)

    scene.provider._encrypt = refuse  # type: ignore[method-assign]
    await scene.after(31.0)
    assert scene.calls() == ["describe", "describe", "encrypt", "describe"]
    assert (scene.phase(), scene.announced) == (Phase.READY, old)
    assert scene.reports[-1].code == "PERMISSION-REFUSED"
    well_at = scene.watcher.standing.well_at
    assert well_at == scene.clock.monotonic()

    # The pauses grow: what is asked again and again is billed.
    await scene.after(3600.0)
    assert scene.calls().count("encrypt") < 130
    assert scene.phase() is Phase.READY

    # And an explicit word on ours is still heard.
    scene.provider.change(old.kid, enabled=False)
    await scene.after(60.0)
    assert scene.phase() is Phase.DENIED
    refusing.clear()
    await scene.after(90.0)
    assert (scene.phase(), scene.announced.kid) == (Phase.READY, new.kid)


@pytest.mark.parametrize(
    "change",
    [
        {"enabled": False},
        {"state": KeyState.PRE_ACTIVE},
        {"state": KeyState.DESTROYED},
        {"algorithm": "RSA"},
        {"can_encrypt": False},
    ],
)
async def test_an_unfit_key_under_the_name_does_not_dethrone(
    scene: Scene, change: dict[str, Any]
) -> None:
    old = scene.announced
    new = scene.provider.make_key()
    scene.provider.keys[new.kid] = evolve(new, **change)
    scene.provider.configured = new.kid
    await scene.after(120.0)
    assert (scene.phase(), scene.announced) == (Phase.READY, old)
    assert set(scene.calls()) == {"describe"}
    assert [r.state for r in scene.reports] == ["ready"]
    assert new.kid in scene.reports[0].cause
    assert scene.reports[0].remedy


async def test_an_unfit_key_under_the_name_while_ours_is_gone_is_trouble(
    scene: Scene,
) -> None:
    old = scene.announced
    new = scene.provider.make_key()
    scene.provider.change(new.kid, enabled=False)
    scene.provider.configured = new.kid
    del scene.provider.keys[old.kid]
    await scene.after(31.0)
    assert scene.phase() is Phase.COASTING
    assert scene.reports[-1].code == "KEY-NOT-FOUND"
    assert old.kid in scene.reports[-1].cause


async def test_a_name_that_is_gone_keeps_the_key_and_is_reported(scene: Scene) -> None:
    old = scene.announced
    scene.provider.configured = "renamed"
    await scene.after(30.0)
    assert (scene.phase(), scene.announced) == (Phase.READY, old)
    assert scene.calls() == ["describe", "describe"]
    assert (scene.reports[-1].state, scene.reports[-1].code) == (
        "ready",
        "KEY-NOT-FOUND",
    )
    scene.provider.configured = old.kid
    await scene.after(30.0)
    assert (scene.reports[-1].state, scene.reports[-1].code) == ("ready", "")


async def test_a_name_that_is_gone_at_the_start_is_said(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    kid, scene.provider.configured = scene.provider.configured, "misspelt"
    await scene.start()
    with pytest.raises(NotReady, match="KEY-NOT-FOUND"):
        scene.key_id()
    scene.provider.configured = kid
    await scene.after(30.0)
    assert scene.phase() is Phase.READY


async def test_the_same_kid_with_other_links_is_announced_and_said(
    scene: Scene,
) -> None:
    scene.provider.rekey()
    await scene.after(31.0)
    kid = scene.announced.kid
    scene.telemetry.events.clear()
    scene.provider.keys[kid] = evolve(scene.provider.keys[kid], replaced=None)
    await scene.after(31.0)
    assert scene.key_id() == f"sdkms.v1:{kid}"
    assert [r.key_id for r in scene.reports] == [f"sdkms.v1:{kid}"]


@pytest.fixture
async def go_plugin(make_scene: Callable[..., Scene]) -> Scene:
    def go_plugin_envelope(provider: InMemoryKeyProvider) -> ProviderEnvelope:
        return ProviderEnvelope(
            provider, Version.GO_PLUGIN, "sdkms.v1", frozenset({FIXED})
        )

    return await make_scene(
        naming=LegacyNaming(FIXED), envelope=go_plugin_envelope
    ).start()


async def test_a_go_plugin_key_id_stays_while_the_change_of_key_is_reported(
    go_plugin: Scene,
) -> None:
    first = go_plugin.announced.kid
    new = go_plugin.provider.rekey()
    await go_plugin.after(31.0)
    assert go_plugin.key_id() == FIXED
    assert go_plugin.announced.kid == new.kid
    assert [(r.key_id, r.kid, r.code) for r in go_plugin.reports] == [
        (FIXED, first, ""),
        (FIXED, new.kid, "ROTATION-HIDDEN"),
    ]
    assert first in go_plugin.reports[-1].cause
    assert new.kid in go_plugin.reports[-1].cause


async def test_a_hidden_rotation_is_reported_for_as_long_as_the_daemon_runs(
    go_plugin: Scene,
) -> None:
    first = go_plugin.announced.kid
    go_plugin.provider.rekey()
    await go_plugin.after(31.0)
    before = len(go_plugin.reports)
    await go_plugin.after(3600.0)
    again = go_plugin.reports[before:]
    assert 11 <= len(again) <= 12
    assert {(r.state, r.code) for r in again} == {("ready", "ROTATION-HIDDEN")}

    # Through other trouble, and though the first key comes back: seeds are sealed
    # under both.
    go_plugin.provider.outage = ProviderUnreachable("no route")
    await go_plugin.after(120.0)
    assert go_plugin.reports[-1].code == "DSM-UNREACHABLE"
    go_plugin.provider.outage = None
    go_plugin.provider.configured = first
    await go_plugin.after(400.0)
    assert go_plugin.announced.kid == first
    assert go_plugin.reports[-1].code == "ROTATION-HIDDEN"


async def test_a_rotation_that_shows_is_no_concern(scene: Scene) -> None:
    scene.provider.rekey()
    await scene.after(4000.0)
    assert {r.code for r in scene.reports} == {""}


# Wake-ups.


async def test_waking_looks_at_once_and_again_a_second_later(scene: Scene) -> None:
    await scene.after(10.0)
    scene.watcher.look_soon()
    await settle()
    assert scene.calls() == ["describe"]
    await scene.after(1.0)
    assert scene.calls() == ["describe"]
    await scene.after(29.9)
    assert scene.calls() == []


async def test_a_storm_of_wake_ups_does_not_make_it_ask_in_a_row(scene: Scene) -> None:
    await scene.after(10.0)
    for _ in range(100):
        scene.watcher.look_soon()
        await scene.after(0.1)
    # Ten seconds, a look a second.
    assert 10 <= len(scene.calls()) <= 12


async def test_waking_during_a_round_is_not_lost(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    scene.watcher.look_soon()
    await scene.start()
    scene.watcher.look_soon()
    await settle()
    scene.calls()
    await scene.after(1.0)
    assert scene.calls() == ["describe"]


async def test_a_failed_encrypt_wakes_the_watcher_on_a_fresh_session(
    scene: Scene,
) -> None:
    await scene.after(10.0)
    scene.provider.rekey(deactivate=True)
    old = scene.announced
    with pytest.raises(KeyDeactivated):
        await scene.encrypt()
    await settle()
    assert scene.provider.renewed == 1
    await scene.after(1.0)
    assert scene.announced != old
    assert await scene.encrypt() == scene.key_id()


async def test_an_encrypt_that_ran_out_of_time_is_a_reason_to_look_only(
    scene: Scene,
) -> None:
    await scene.after(10.0)
    for _ in range(10):
        with pytest.raises(ProviderTimeout):
            await scene.encrypt(within_s=-1.0)
    await settle()
    assert scene.watcher.standing.trouble is None
    assert scene.calls().count("describe") == 1
    assert scene.provider.renewed == 0


async def test_a_credential_refused_in_an_encrypt_is_left_to_the_timer(
    scene: Scene,
) -> None:
    await scene.after(10.0)
    scene.provider.outage = CredentialRefused("revoked")
    for _ in range(10):
        with pytest.raises(CredentialRefused):
            await scene.encrypt()
        await scene.after(1.0)
    assert "describe" not in scene.calls()
    assert scene.phase() is Phase.READY
    await scene.after(10.0)
    assert "describe" in scene.calls()


async def test_an_encrypt_under_a_key_no_longer_announced_moves_nothing(
    scene: Scene,
) -> None:
    old = scene.announced
    scene.provider.rekey()
    await scene.after(31.0)
    before = scene.watcher.standing
    scene.watcher.seal_failed(old, KeyDisabled("x"))
    scene.watcher.seal_failed(old, KeyDisabled("x"))
    scene.watcher.sealed(old)
    assert scene.watcher.standing == before


# Defects around it, and the end.


class FaultyNaming(KeyNaming):
    """Fails as told, with anything."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def key_id(self, description: KeyDescription) -> str:
        if self.error is not None:
            raise self.error
        return NativeNaming().key_id(description)


async def test_an_exception_in_a_port_does_not_end_the_watcher(
    make_scene: Callable[..., Scene],
) -> None:
    naming = FaultyNaming()
    scene = await make_scene(naming=naming).start()
    naming.error = ZeroDivisionError("a secret")
    await scene.after(120.0)
    assert scene.phase() is Phase.COASTING
    assert {d.where for d in scene.defects} == {"watcher"}
    assert "ZeroDivisionError at " in scene.defects[0].what
    told = repr(scene.telemetry.events)
    assert "a secret" not in told
    assert scene.reports[-1].code == "INTERNAL"
    naming.error = None
    await scene.after(30.0)
    assert scene.phase() is Phase.READY


async def test_a_key_that_gets_no_key_id_is_trouble(
    make_scene: Callable[..., Scene],
) -> None:
    naming = FaultyNaming()
    naming.error = ProviderAnswerRefused("no id")
    scene = await make_scene(naming=naming).start()
    with pytest.raises(NotReady, match="DSM-ANSWER-REFUSED: no id"):
        scene.key_id()


class FaultyTelemetry(RecordedTelemetry):
    """Raises, although it must not."""

    def emit(self, event: Event) -> None:
        super().emit(event)
        raise OSError("disk full")


async def test_telemetry_that_raises_ends_nothing(
    make_scene: Callable[..., Scene],
) -> None:
    scene = await make_scene(telemetry=FaultyTelemetry()).start()
    assert scene.phase() is Phase.READY
    scene.provider.rekey()
    await scene.after(31.0)
    scene.provider.outage = ProviderUnreachable("x")
    await scene.after(120.0)
    assert scene.phase() is Phase.COASTING
    await scene.after(24 * 3600.0)
    with pytest.raises(NotReady):
        scene.key_id()
    assert not any(task.done() for task in scene.tasks)


class HangingProvider(InMemoryKeyProvider):
    """Its renewal never ends, or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False

    async def renew(self) -> None:
        self.renewed += 1
        if self.fails:
            raise RuntimeError("a defect")
        raise TimeoutError


@pytest.mark.parametrize("fails", [False, True])
async def test_a_renewal_that_does_not_end_well_ends_nothing(
    make_scene: Callable[..., Scene], *, fails: bool
) -> None:
    provider = HangingProvider()
    scene = await make_scene(provider=provider).start()
    provider.fails = fails
    provider.change(provider.configured, enabled=False)
    await scene.after(31.0)
    assert provider.renewed >= 1
    # One that hangs costs its time and no more: the second look follows.
    assert (scene.phase() is Phase.DENIED) == (not fails)
    provider.change(provider.configured, enabled=True)
    await scene.after(60.0)
    assert scene.phase() is Phase.READY


class Contradicting(InMemoryKeyProvider):
    """Names another key at each look."""

    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        await self._called("describe", deadline)
        return self.make_key()


async def test_a_service_that_contradicts_itself_does_not_hold_the_watcher(
    make_scene: Callable[..., Scene],
) -> None:
    scene = await make_scene(provider=Contradicting()).start()
    assert scene.phase() is Phase.STARTING
    assert scene.calls() == ["describe"] * 6
    await scene.after(29.9)
    assert scene.calls() == []


@pytest.mark.parametrize("moment", ["waiting", "pausing", "looking"])
async def test_cancelling_the_watcher_leaves_no_task(
    make_scene: Callable[..., Scene], moment: str
) -> None:
    before = asyncio.all_tasks()
    scene = make_scene()
    if moment == "looking":
        scene.tasks.append(asyncio.create_task(scene.watcher.run()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    else:
        await scene.start()
    if moment == "pausing":
        scene.provider.rekey()
        await scene.after(30.0)
    (task,) = scene.tasks
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert scene.clock._sleepers == []


async def test_status_asks_nobody_and_keeps_nothing(scene: Scene) -> None:
    for _ in range(100):
        scene.key_id()
    assert scene.calls() == []

    scene.provider.change(scene.provider.configured, enabled=False)
    await scene.after(31.0)
    assert scene.phase() is Phase.DENIED
    kept = scene.watcher.standing.denial
    for _ in range(50):
        with pytest.raises(KeyDisabled) as caught:
            scene.key_id()
        assert caught.value is not kept
    assert kept is not None
    assert kept.__traceback__ is None
    gc.collect()
