"""The watcher on fakes: what is kept for the next process, and a start in an outage."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from kms_core.envelope import ProviderEnvelope
from kms_core.errors import (
    CredentialRefused,
    KmsError,
    NotReady,
    PermissionRefused,
    ProviderFaulty,
    ProviderThrottling,
    ProviderUnreachable,
)
from kms_core.fakes import InMemoryKeyProvider, InMemoryStore
from kms_core.key_id import LegacyNaming, go_plugin_key_id
from kms_core.sealed_seed import Version
from kms_core.standing import OnTrouble, Phase
from kms_core.store import StateStore, StoredKek, StoredProof


if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.kms_core.conftest import Scene


DAY_S = 24 * 3600.0
FAIL = {"on_outage": OnTrouble.FAIL, "on_refused": OnTrouble.FAIL}


@pytest.fixture
def store() -> InMemoryStore:
    return InMemoryStore()


@pytest.fixture
async def first(make_scene: Callable[..., Scene], store: InMemoryStore) -> Scene:
    """Return a daemon that became READY and has been stopped ten minutes later."""
    scene = await make_scene(store=store).start()
    await scene.after(600.0)
    await scene.stop()
    assert scene.phase() is Phase.READY
    scene.calls()
    return scene


# What is kept.


async def test_a_proof_is_written_at_each_announcement_and_every_five_minutes(
    make_scene: Callable[..., Scene], store: InMemoryStore
) -> None:
    scene = await make_scene(store=store).start()
    assert store.proof == StoredProof(scene.announced, scene.clock.now())
    assert store.calls == ["load_proof", "save_proof"]
    store.calls.clear()
    await scene.after(299.0)
    assert store.calls == []
    await scene.after(3301.0)
    assert store.calls == ["save_proof"] * 12

    store.calls.clear()
    scene.provider.rekey()
    await scene.after(31.0)
    assert store.calls == ["save_proof"]
    assert store.proof is not None
    assert store.proof.key == scene.announced


async def test_an_outage_does_not_make_the_proof_look_younger(
    make_scene: Callable[..., Scene], store: InMemoryStore
) -> None:
    scene = await make_scene(store=store).start()
    await scene.after(300.0)
    well_at = scene.clock.now()
    scene.provider.outage = ProviderUnreachable("no route")
    await scene.after(3600.0)
    assert store.proof is not None
    assert store.proof.well_at == well_at


# A start in an outage.


@pytest.mark.parametrize(
    "error",
    [ProviderUnreachable("x"), ProviderThrottling("x"), ProviderFaulty("x")],
)
async def test_a_start_in_an_outage_coasts_at_once_under_the_same_key_id(
    first: Scene, make_scene: Callable[..., Scene], error: KmsError
) -> None:
    key_id = first.key_id()
    first.provider.outage = error
    second = await make_scene(before=first).start()
    assert second.phase() is Phase.COASTING
    assert second.key_id() == key_id
    assert second.calls() == ["describe"]
    (report,) = second.reports
    assert (report.state, report.key_id) == ("coasting", key_id)
    assert report.status_fails_at is not None
    assert report.status_fails_at == second.clock.now() + dt.timedelta(days=1)


async def test_it_ends_coast_for_after_the_key_service_was_last_seen_well(
    first: Scene, make_scene: Callable[..., Scene]
) -> None:
    first.provider.outage = ProviderUnreachable("no route")
    await first.after(3600.0)
    second = await make_scene(before=first).start()
    await second.after(DAY_S - 3600.0 - 1.0)
    second.key_id()
    # However often it is restarted.
    await second.stop()
    third = await make_scene(before=second).start()
    third.key_id()
    await third.after(1.0)
    with pytest.raises(NotReady, match="degraded, DSM-UNREACHABLE"):
        third.key_id()


async def test_it_heals_by_a_look_and_a_probe(
    first: Scene, make_scene: Callable[..., Scene]
) -> None:
    key_id = first.key_id()
    first.provider.outage = ProviderUnreachable("no route")
    second = await make_scene(before=first).start()
    second.calls()
    second.provider.outage = None
    await second.after(1.0)
    assert second.calls() == ["describe", "encrypt", "decrypt"]
    assert (second.phase(), second.key_id()) == (Phase.READY, key_id)


async def test_a_rotation_meanwhile_is_announced_once_it_heals(
    first: Scene, make_scene: Callable[..., Scene]
) -> None:
    old = first.announced
    first.provider.outage = ProviderUnreachable("no route")
    second = await make_scene(before=first).start()
    new = second.provider.rekey(deactivate=True)
    assert second.announced == old
    second.provider.outage = None
    await second.after(2.0)
    assert second.key_id() == f"sdkms.v1:{new.kid}:{old.kid}"


async def test_policy_fail_does_not_coast_after_a_restart_either(
    first: Scene, make_scene: Callable[..., Scene]
) -> None:
    first.provider.outage = ProviderUnreachable("no route")
    second = await make_scene(before=first, policy=FAIL).start()
    assert second.phase() is Phase.DEGRADED
    with pytest.raises(NotReady, match="degraded, DSM-UNREACHABLE"):
        second.key_id()
    second.provider.outage = None
    await second.after(1.0)
    assert second.phase() is Phase.READY


@pytest.mark.parametrize("error", [CredentialRefused("x"), PermissionRefused("x")])
async def test_a_refusal_at_the_start_is_asked_about_twice(
    first: Scene, make_scene: Callable[..., Scene], error: KmsError
) -> None:
    first.provider.outage = error
    second = await make_scene(before=first).start()
    assert second.phase() is Phase.STARTING
    await second.after(1.0)
    assert second.phase() is Phase.COASTING
    assert second.key_id() == first.announced.key_id


@pytest.mark.parametrize("age_s", [-301.0, DAY_S, 30 * DAY_S])
async def test_a_proof_from_the_future_or_too_old_is_not_used(
    first: Scene, make_scene: Callable[..., Scene], store: InMemoryStore, age_s: float
) -> None:
    assert store.proof is not None
    well_at = first.clock.now() - dt.timedelta(seconds=age_s)
    store.proof = evolve(store.proof, well_at=well_at)
    first.provider.outage = ProviderUnreachable("no route")
    second = await make_scene(before=first).start()
    await second.after(300.0)
    with pytest.raises(NotReady, match="starting, DSM-UNREACHABLE"):
        second.key_id()


async def test_without_a_state_dir_a_start_in_an_outage_waits_for_dsm(
    make_scene: Callable[..., Scene],
) -> None:
    first = await make_scene().start()
    await first.stop()
    first.provider.outage = ProviderUnreachable("no route")
    second = await make_scene(before=first).start()
    await second.after(300.0)
    with pytest.raises(NotReady, match="starting, DSM-UNREACHABLE"):
        second.key_id()
    second.provider.outage = None
    await second.after(31.0)
    assert second.phase() is Phase.READY


# What was denied is not gone on with.


async def test_a_denied_key_at_the_start_is_not_gone_on_with(
    first: Scene, make_scene: Callable[..., Scene], store: InMemoryStore
) -> None:
    first.provider.change(first.announced.kid, enabled=False)
    second = await make_scene(before=first).start()
    await second.after(1.0)
    assert second.phase() is Phase.STARTING
    assert store.proof is None
    # Neither when an outage follows, nor in the next process.
    second.provider.outage = ProviderUnreachable("no route")
    await second.after(120.0)
    assert second.phase() is Phase.STARTING
    await second.stop()
    third = await make_scene(before=second).start()
    await third.after(120.0)
    assert third.phase() is Phase.STARTING
    third.provider.outage = None
    third.provider.change(third.provider.configured, enabled=True)
    await third.after(31.0)
    assert third.phase() is Phase.READY


async def test_a_key_denied_before_the_restart_is_not_gone_on_with(
    make_scene: Callable[..., Scene], store: InMemoryStore
) -> None:
    first = await make_scene(store=store).start()
    first.provider.change(first.announced.kid, enabled=False)
    await first.after(31.0)
    assert first.phase() is Phase.DENIED
    await first.stop()
    first.provider.outage = ProviderUnreachable("no route")
    second = await make_scene(before=first).start()
    await second.after(120.0)
    assert second.phase() is Phase.STARTING


async def test_a_denied_key_that_heals_is_kept_again(
    make_scene: Callable[..., Scene], store: InMemoryStore
) -> None:
    scene = await make_scene(store=store).start()
    scene.provider.change(scene.announced.kid, enabled=False)
    await scene.after(31.0)
    assert store.proof is None
    scene.provider.change(scene.announced.kid, enabled=True)
    await scene.after(31.0)
    assert store.proof is not None


# With a local KEK.


async def test_a_restart_uses_the_local_kek_of_before_again(
    make_scene: Callable[..., Scene], store: InMemoryStore
) -> None:
    first = await make_scene(store=store, local_kek=True).start()
    sealed = await first.seal()
    await first.stop()
    first.calls()
    second = await make_scene(before=first, local_kek=True).start()
    assert second.calls() == [
        *("describe", "describe"),
        *("decrypt", "encrypt", "decrypt"),
    ]
    assert await second.decrypt(sealed) == await second.decrypt(await second.seal())
    assert second.calls() == []


async def test_a_start_in_an_outage_says_ok_though_it_can_neither_seal_nor_open(
    make_scene: Callable[..., Scene], store: InMemoryStore
) -> None:
    # With an unchanged key_id kube-apiserver asks for Status alone.
    first = await make_scene(store=store, local_kek=True).start()
    sealed = await first.seal()
    await first.stop()
    first.provider.outage = ProviderUnreachable("no route")
    second = await make_scene(before=first, local_kek=True).start()
    assert second.key_id() == sealed.key_id
    with pytest.raises(ProviderUnreachable):
        await second.encrypt()
    with pytest.raises(ProviderUnreachable):
        await second.decrypt(sealed)
    second.provider.outage = None
    assert await second.decrypt(sealed) == bytes(range(32))
    assert await second.encrypt() == sealed.key_id


# The Go plugin's format.


async def test_a_rotation_while_the_daemon_was_away_is_said_in_go_plugin_format(
    make_scene: Callable[..., Scene], store: InMemoryStore
) -> None:
    fixed = go_plugin_key_id("https://dsm.test", key_name="kek")

    def go_plugin(provider: InMemoryKeyProvider) -> ProviderEnvelope:
        return ProviderEnvelope(
            provider, Version.GO_PLUGIN, "sdkms.v1", frozenset({fixed})
        )

    choices = {"naming": LegacyNaming(fixed), "envelope": go_plugin}
    first = await make_scene(store=store, **choices).start()
    await first.stop()
    first.provider.rekey()
    second = await make_scene(before=first, **choices).start()
    assert second.reports[-1].code == "ROTATION-HIDDEN"


# A store with a defect.


class FaultyStore(StateStore):
    """Raises, although it must not."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def load_kek(self) -> StoredKek | None:
        raise RuntimeError("a defect")

    async def save_kek(self, stored: StoredKek) -> None:
        raise RuntimeError("a defect")

    async def load_proof(self) -> StoredProof | None:
        self.asked.append("load")
        raise RuntimeError("a defect")

    async def save_proof(self, stored: StoredProof) -> None:
        self.asked.append("save")
        raise RuntimeError("a defect")

    async def forget_proof(self) -> None:
        self.asked.append("forget")
        raise RuntimeError("a defect")


async def test_a_store_that_raises_does_not_end_the_watcher(
    make_scene: Callable[..., Scene],
) -> None:
    store = FaultyStore()
    scene = await make_scene(store=store).start()
    assert scene.phase() is Phase.READY
    scene.provider.change(scene.announced.kid, enabled=False)
    await scene.after(31.0)
    scene.provider.change(scene.announced.kid, enabled=True)
    await scene.after(31.0)
    assert scene.phase() is Phase.READY
    assert store.asked == ["load", "save", "forget", "save"]
    assert [d.where for d in scene.defects] == ["store"] * 4
    assert "a defect" not in repr(scene.telemetry.events)
