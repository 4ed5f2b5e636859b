"""A watcher on fakes, with its time in the test's hand."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, field

from kms_core.envelope import ProviderEnvelope
from kms_core.events import SecretsDropped, StandingReported, Unexpected
from kms_core.fakes import (
    InMemoryKeyProvider,
    ManualClock,
    RecordedTelemetry,
    SeededRandomness,
    settle,
)
from kms_core.key_id import NativeNaming
from kms_core.local_kek import LocalKekEnvelope
from kms_core.sealed_seed import Version
from kms_core.service import ApiVersion, KmsService
from kms_core.standing import Phase, Policy
from kms_core.store import NoStore
from kms_core.system import SystemRandomness
from kms_core.watcher import Surroundings, Timing, Watcher


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kms_core.envelope import Envelope
    from kms_core.key_id import AnnouncedKey, KeyNaming
    from kms_core.service import EncryptAnswer
    from kms_core.store import StateStore


SEED = bytes(range(32))


@define
class Scene:
    """A running watcher and all that surrounds it."""

    provider: InMemoryKeyProvider
    clock: ManualClock
    telemetry: RecordedTelemetry
    envelope: Envelope
    watcher: Watcher
    service: KmsService
    store: StateStore
    tasks: list[asyncio.Task[None]] = field(factory=list)

    async def start(self) -> Scene:
        self.tasks.append(asyncio.create_task(self.watcher.run()))
        await settle()
        return self

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def after(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await settle()

    # A method, since mypy takes a property for something that stays what it was.
    def phase(self) -> Phase:
        return self.watcher.standing.phase

    @property
    def announced(self) -> AnnouncedKey:
        assert self.watcher.standing.announced is not None
        return self.watcher.standing.announced

    def key_id(self) -> str:
        return self.service.status().key_id

    async def encrypt(self, *, within_s: float = 30.0) -> str:
        return (await self.seal(within_s=within_s)).key_id

    async def seal(self, *, within_s: float = 30.0) -> EncryptAnswer:
        deadline = asyncio.get_running_loop().time() + within_s
        return await self.service.encrypt(SEED, deadline=deadline)

    async def decrypt(self, answer: EncryptAnswer) -> bytes:
        return await self.service.decrypt(
            answer.ciphertext,
            answer.key_id,
            annotated=False,
            deadline=asyncio.get_running_loop().time() + 30.0,
        )

    def calls(self) -> list[str]:
        """Return what the provider was asked since the last time."""
        seen = list(self.provider.calls)
        self.provider.calls.clear()
        return seen

    @property
    def reports(self) -> list[StandingReported]:
        return [e for e in self.telemetry.events if isinstance(e, StandingReported)]

    @property
    def dropped(self) -> list[tuple[str, int]]:
        events = self.telemetry.events
        return [(e.kid, e.count) for e in events if isinstance(e, SecretsDropped)]

    @property
    def defects(self) -> list[Unexpected]:
        return [e for e in self.telemetry.events if isinstance(e, Unexpected)]


def build(
    *,
    provider: InMemoryKeyProvider | None = None,
    naming: KeyNaming | None = None,
    envelope: Callable[[InMemoryKeyProvider], Envelope] | None = None,
    policy: dict[str, Any] | None = None,
    jitter: float = 0.0,
    telemetry: RecordedTelemetry | None = None,
    store: StateStore | None = None,
    local_kek: bool = False,
    before: Scene | None = None,
) -> Scene:
    """Return a scene; *before* is the process whose place it takes."""
    if before is not None:
        provider, store = before.provider, before.store
    keys = provider or InMemoryKeyProvider()
    clock = before.clock if before else ManualClock()
    keeps = store or NoStore()
    if local_kek:
        envelope = functools.partial(_local_kek, clock=clock, store=keeps)
    told = telemetry or RecordedTelemetry()
    seals = (
        envelope(keys)
        if envelope
        else ProviderEnvelope(keys, Version.DIRECT, "sdkms.v1", frozenset())
    )
    watcher = Watcher(
        Surroundings(
            provider=keys,
            envelope=seals,
            naming=naming or NativeNaming(),
            clock=clock,
            randomness=SeededRandomness(),
            telemetry=told,
            policy=Policy(**(policy or {})),
            timing=Timing(jitter=jitter),
            store=keeps,
        )
    )
    service = KmsService(watcher, seals, ApiVersion.V2)
    return Scene(keys, clock, told, seals, watcher, service, keeps)


def _local_kek(
    provider: InMemoryKeyProvider, *, clock: ManualClock, store: StateStore
) -> Envelope:
    return LocalKekEnvelope(
        provider,
        "sdkms.v1",
        clock=clock,
        randomness=SystemRandomness(),
        store=store,
    )


@pytest.fixture
async def make_scene() -> AsyncIterator[Callable[..., Scene]]:
    """Return a factory; what it made is stopped at the end."""
    made: list[Scene] = []

    def make(**choices: Any) -> Scene:
        made.append(build(**choices))
        return made[-1]

    yield make
    for scene in made:
        await scene.stop()


@pytest.fixture
async def scene(make_scene: Callable[..., Scene]) -> Scene:
    """Return a watcher that has become READY; its first calls are forgotten."""
    ready = await make_scene().start()
    assert ready.phase() is Phase.READY
    ready.calls()
    ready.telemetry.events.clear()
    return ready
