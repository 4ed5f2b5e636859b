"""The contract of the StateStore port, run on every implementation that keeps."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from k8s_sdkms_plugin.state_dir import StateDir
from kms_core.fakes import InMemoryStore, RecordedTelemetry
from kms_core.kek_cache import WrappedKek
from kms_core.key_id import AnnouncedKey
from kms_core.provider import Ciphertext
from kms_core.store import NoStore, StateStore, StoredKek, StoredProof


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)
WRAPPED = WrappedKek(
    "4b3d13a8-2c3a-47dc-8779-311dad6843a2",
    "sdkms.v1:4b3d13a8-2c3a-47dc-8779-311dad6843a2",
    Ciphertext(bytes(range(224, 256)), bytes(12), bytes(16)),
)
KEK = StoredKek(WRAPPED, NOW)
PROOF = StoredProof(AnnouncedKey("a", "sdkms.v1:a:b"), NOW)


def in_memory(_folder: Path) -> Callable[[], StateStore]:
    store = InMemoryStore()
    return lambda: store


def state_dir(folder: Path) -> Callable[[], StateStore]:
    return lambda: StateDir(folder, "this daemon", RecordedTelemetry())


@pytest.fixture(
    params=[
        pytest.param(in_memory, id="in memory"),
        pytest.param(state_dir, id="state_dir"),
    ]
)
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], StateStore]:
    """Return what makes the store of one more process."""
    made: Callable[[], StateStore] = request.param(tmp_path)
    return made


@pytest.fixture
def store(process: Callable[[], StateStore]) -> StateStore:
    return process()


async def test_an_empty_store_has_nothing(store: StateStore) -> None:
    assert await store.load_kek() is None
    assert await store.load_proof() is None


async def test_what_was_kept_comes_back_in_the_next_process(
    process: Callable[[], StateStore],
) -> None:
    before = process()
    await before.save_kek(KEK)
    await before.save_proof(PROOF)
    for after in (before, process()):
        assert await after.load_kek() == KEK
        assert await after.load_proof() == PROOF


@pytest.mark.parametrize(
    "ciphertext",
    [
        Ciphertext(b"\x00", b"", b""),
        Ciphertext(bytes(64), bytes(64), bytes(64)),
        Ciphertext(bytes(range(64)), bytes(range(192, 256)), b"\xff" * 64),
    ],
)
async def test_any_wrapped_local_kek_that_may_be_made_can_be_kept(
    store: StateStore, ciphertext: Ciphertext
) -> None:
    kek = evolve(KEK, wrapped=evolve(WRAPPED, ciphertext=ciphertext))
    await store.save_kek(kek)
    assert await store.load_kek() == kek


async def test_the_longest_names_can_be_kept(store: StateStore) -> None:
    kid, former = "k" * 200, "f" * 200
    key = AnnouncedKey(kid, f"{'s' * 32}:{kid}:{former}")
    await store.save_proof(StoredProof(key, NOW))
    await store.save_kek(evolve(KEK, wrapped=evolve(WRAPPED, kid=kid)))
    assert await store.load_proof() == StoredProof(key, NOW)
    assert (await store.load_kek()) is not None


async def test_the_latest_takes_the_place_of_what_was_there(store: StateStore) -> None:
    for age in range(5):
        made = NOW + dt.timedelta(days=age)
        await store.save_kek(evolve(KEK, made_at=made))
        await store.save_proof(evolve(PROOF, well_at=made))
    assert await store.load_kek() == evolve(KEK, made_at=made)
    assert await store.load_proof() == evolve(PROOF, well_at=made)


async def test_a_forgotten_proof_is_gone_in_the_next_process_too(
    process: Callable[[], StateStore],
) -> None:
    before = process()
    await before.save_kek(KEK)
    await before.save_proof(PROOF)
    await before.forget_proof()
    await before.forget_proof()
    for after in (before, process()):
        assert await after.load_proof() is None
        assert await after.load_kek() == KEK


async def test_many_at_once_do_not_disturb_each_other(store: StateStore) -> None:
    await asyncio.gather(
        *(store.save_kek(KEK) for _ in range(5)),
        *(store.save_proof(PROOF) for _ in range(5)),
    )
    found = await asyncio.gather(
        *(store.load_kek() for _ in range(5)), *(store.load_proof() for _ in range(5))
    )
    assert found == [KEK] * 5 + [PROOF] * 5


async def test_a_daemon_without_a_store_keeps_nothing() -> None:
    none = NoStore()
    await none.save_kek(KEK)
    await none.save_proof(PROOF)
    await none.forget_proof()
    assert await none.load_kek() is None
    assert await none.load_proof() is None
