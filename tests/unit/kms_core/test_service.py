from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kms_core.envelope import Envelope
from kms_core.errors import (
    AnnotationsRefused,
    AnswerTooLarge,
    KeyIdMalformed,
    KmsError,
    NotReady,
    ProviderFaulty,
    ProviderUnreachable,
    SealedSeedMalformed,
    SeedSizeRefused,
)
from kms_core.fakes import settle
from kms_core.key_id import AnnouncedKey, NativeNaming
from kms_core.service import ApiVersion, EncryptAnswer, KmsService, StatusAnswer


if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.kms_core.conftest import Scene

    from kms_core.provider import KeyDescription
    from kms_core.watcher import Watcher


def soon() -> float:
    return asyncio.get_running_loop().time() + 30.0


class StubWatcher:
    """Announces one key, and notes what it is told."""

    def __init__(self, key_id: str = "sdkms.v1:a") -> None:
        self.key = AnnouncedKey("a", key_id)
        self.told: list[tuple[Any, ...]] = []

    def key_to_announce(self) -> AnnouncedKey:
        return self.key

    async def key_to_seal(self, *, deadline: float) -> AnnouncedKey:
        return self.key

    def sealed(self, key: AnnouncedKey) -> None:
        self.told.append(("sealed", key))

    def seal_failed(self, key: AnnouncedKey, error: KmsError) -> None:
        self.told.append(("seal failed", key, error))


class BrokenNaming(NativeNaming):
    """Has a defect."""

    def key_id(self, description: KeyDescription) -> str:
        raise RuntimeError


class StubEnvelope(Envelope):
    """Answers what it is given."""

    def __init__(
        self, answer: bytes = b"sealed", error: Exception | None = None
    ) -> None:
        self.answer = answer
        self.error = error

    async def seal(self, seed: bytes, key: AnnouncedKey, *, deadline: float) -> bytes:
        if self.error is not None:
            raise self.error
        return self.answer

    async def open(self, stored: bytes, key_id: str, *, deadline: float) -> bytes:
        raise NotImplementedError

    async def prove(self, key: AnnouncedKey, probe: bytes, *, deadline: float) -> None:
        raise NotImplementedError


def service_of(watcher: StubWatcher, envelope: Envelope) -> KmsService:
    stub: Any = watcher
    real: Watcher = stub
    return KmsService(real, envelope, ApiVersion.V2)


@pytest.mark.parametrize(
    ("api_version", "text"), [(ApiVersion.V2, "v2"), (ApiVersion.V2BETA1, "v2beta1")]
)
def test_status_says_version_ok_and_the_announced_key_id(
    api_version: ApiVersion, text: str
) -> None:
    watcher: Any = StubWatcher()
    service = KmsService(watcher, StubEnvelope(), api_version)
    assert service.status() == StatusAnswer(text, "ok", "sdkms.v1:a")


@pytest.mark.parametrize("size", [1, 32, 512])
async def test_seeds_within_the_limits_come_back(scene: Scene, size: int) -> None:
    seed = bytes(range(256)) * 2
    answer = await scene.service.encrypt(seed[:size], deadline=soon())
    assert len(answer.ciphertext) <= 1024
    assert answer.key_id == scene.key_id()
    opened = await scene.service.decrypt(
        answer.ciphertext, answer.key_id, annotated=False, deadline=soon()
    )
    assert opened == seed[:size]


@pytest.mark.parametrize("size", [0, 513, 65_536])
async def test_other_sizes_are_refused_before_anybody_is_asked(
    scene: Scene, size: int
) -> None:
    with pytest.raises(SeedSizeRefused, match=f"has {size} bytes"):
        await scene.service.encrypt(bytes(size), deadline=soon())
    assert scene.calls() == []
    assert scene.watcher.standing.trouble is None


async def test_annotations_are_refused_before_anybody_is_asked(scene: Scene) -> None:
    answer = await scene.service.encrypt(bytes(32), deadline=soon())
    scene.calls()
    with pytest.raises(AnnotationsRefused):
        await scene.service.decrypt(
            answer.ciphertext, answer.key_id, annotated=True, deadline=soon()
        )
    assert scene.calls() == []


async def test_hostile_decrypts_are_refused_and_move_no_state(scene: Scene) -> None:
    answer = await scene.service.encrypt(bytes(32), deadline=soon())
    before = scene.watcher.standing
    scene.calls()
    with pytest.raises(SealedSeedMalformed):
        await scene.service.decrypt(
            b"garbage", answer.key_id, annotated=False, deadline=soon()
        )
    with pytest.raises(KeyIdMalformed):
        await scene.service.decrypt(
            answer.ciphertext, "garbage", annotated=False, deadline=soon()
        )
    assert scene.calls() == []
    assert scene.watcher.standing == before


async def test_decrypt_works_in_every_phase(scene: Scene) -> None:
    answer = await scene.service.encrypt(b"seed", deadline=soon())
    kid = scene.announced.kid
    scene.provider.rekey()
    scene.provider.change(scene.provider.configured, enabled=False)
    await scene.after(31.0)
    opened = await scene.service.decrypt(
        answer.ciphertext, f"sdkms.v1:{kid}", annotated=False, deadline=soon()
    )
    assert opened == b"seed"


async def test_early_encrypt_is_answered_once_the_first_round_has_proven_the_key(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    early = asyncio.create_task(scene.service.encrypt(bytes(32), deadline=soon()))
    await settle()
    assert not early.done()
    assert scene.calls() == []
    await scene.start()
    assert (await early).key_id == scene.key_id()


async def test_early_encrypt_is_refused_once_the_first_round_has_failed(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    scene.provider.outage = ProviderUnreachable("no route")
    early = asyncio.create_task(scene.service.encrypt(bytes(32), deadline=soon()))
    await settle()
    assert not early.done()
    await scene.start()
    with pytest.raises(NotReady, match="starting, DSM-UNREACHABLE"):
        await early
    # Those that come later find the first round at its end, and wait for nothing.
    with pytest.raises(NotReady, match="starting, DSM-UNREACHABLE"):
        await scene.service.encrypt(bytes(32), deadline=soon())


async def test_early_encrypt_is_refused_at_its_deadline(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene()
    passed = asyncio.get_running_loop().time()
    with pytest.raises(NotReady, match="the key is being proven"):
        await scene.service.encrypt(bytes(32), deadline=passed)
    assert scene.calls() == []


async def test_early_encrypt_outlives_a_first_round_that_breaks(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene(naming=BrokenNaming())
    early = asyncio.create_task(scene.service.encrypt(bytes(32), deadline=soon()))
    await scene.start()
    with pytest.raises(NotReady, match="starting, INTERNAL"):
        await early


async def test_a_good_encrypt_is_told_to_the_watcher() -> None:
    watcher = StubWatcher()
    answer = await service_of(watcher, StubEnvelope()).encrypt(b"s", deadline=soon())
    assert answer == EncryptAnswer(b"sealed", "sdkms.v1:a")
    assert watcher.told == [("sealed", watcher.key)]


async def test_a_failed_encrypt_is_told_to_the_watcher_and_raised() -> None:
    watcher, error = StubWatcher(), ProviderFaulty("x")
    with pytest.raises(ProviderFaulty) as caught:
        await service_of(watcher, StubEnvelope(error=error)).encrypt(
            b"s", deadline=soon()
        )
    assert caught.value is error
    assert watcher.told == [("seal failed", watcher.key, error)]


async def test_what_is_no_error_of_the_family_is_told_to_nobody() -> None:
    watcher = StubWatcher()
    for error in (ZeroDivisionError(), asyncio.CancelledError()):
        service = service_of(watcher, StubEnvelope(error=error))  # type: ignore[arg-type]
        with pytest.raises(type(error)):
            await service.encrypt(b"s", deadline=soon())
    assert watcher.told == []


@pytest.mark.parametrize("size", [1, 1024])
async def test_answers_within_kube_apiserver_s_limits_leave(size: int) -> None:
    service = service_of(StubWatcher("k" * size), StubEnvelope(bytes(size)))
    assert len(service.status().key_id) == size
    answer = await service.encrypt(b"s", deadline=soon())
    assert len(answer.ciphertext) == len(answer.key_id) == size


@pytest.mark.parametrize(
    ("ciphertext", "key_id"), [(0, 9), (1025, 9), (9, 0), (9, 1025)]
)
async def test_other_answers_of_encrypt_do_not(ciphertext: int, key_id: int) -> None:
    service = service_of(StubWatcher("k" * key_id), StubEnvelope(bytes(ciphertext)))
    with pytest.raises(AnswerTooLarge):
        await service.encrypt(b"s", deadline=soon())


@pytest.mark.parametrize("key_id", ["", "k" * 1025, "é" * 513])
def test_other_answers_of_status_do_not(key_id: str) -> None:
    with pytest.raises(AnswerTooLarge, match="key_id"):
        service_of(StubWatcher(key_id), StubEnvelope()).status()
