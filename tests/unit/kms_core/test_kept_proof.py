"""What of a proof is kept for the next process, and what of it is believed."""

from __future__ import annotations

import datetime as dt

import pytest

from kms_core.errors import KeyDisabled, ProviderUnreachable
from kms_core.fakes import InMemoryStore, ManualClock
from kms_core.kept_proof import KeptProof
from kms_core.key_id import AnnouncedKey
from kms_core.standing import Phase, Policy, Remembered, Source, Standing, Trouble
from kms_core.store import StoredProof


A = AnnouncedKey("a", "sdkms.v1:a")
B = AnnouncedKey("b", "sdkms.v1:b:a")
POLICY = Policy()
DENIED_TWICE = Trouble(KeyDisabled("x"), Source.LOOK, 0.0, 2)


class Setting:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = InMemoryStore()
        self.proof = KeptProof(self.store, self.clock, 300.0)

    async def sees(
        self,
        phase: Phase = Phase.READY,
        key: AnnouncedKey | None = A,
        *,
        well_ago_s: float = 0.0,
        trouble: Trouble | None = None,
        remembered: Remembered | None = None,
    ) -> list[str]:
        """Update from a standing, and return what the store was asked."""
        self.store.calls.clear()
        well_at = self.clock.monotonic() - well_ago_s
        standing = Standing(
            phase=phase,
            announced=key,
            well_at=well_at,
            trouble=trouble,
            remembered=remembered,
        )
        await self.proof.update(standing, POLICY)
        return self.store.calls


@pytest.fixture
def s() -> Setting:
    return Setting()


async def test_a_proof_is_kept_at_each_announcement(s: Setting) -> None:
    assert await s.sees() == ["save_proof"]
    assert await s.sees() == []
    assert await s.sees(key=B) == ["save_proof"]
    assert s.store.proof == StoredProof(B, s.clock.now())


async def test_and_at_most_every_five_minutes_after_that(s: Setting) -> None:
    await s.sees()
    await s.clock.advance(299.0)
    assert await s.sees() == []
    await s.clock.advance(1.0)
    assert await s.sees() == ["save_proof"]
    assert s.store.proof == StoredProof(A, s.clock.now())


async def test_what_is_kept_is_when_all_was_well_not_when_it_was_written(
    s: Setting,
) -> None:
    began = s.clock.now()
    await s.clock.advance(80.0)
    trouble = Trouble(ProviderUnreachable("x"), Source.LOOK, 0.0, 2)
    await s.sees(well_ago_s=80.0, trouble=trouble)
    assert s.store.proof == StoredProof(A, began)


async def test_ready_in_trouble_for_long_does_not_make_it_look_younger(
    s: Setting,
) -> None:
    await s.sees()
    await s.clock.advance(3600.0)
    assert await s.sees(well_ago_s=3600.0) == []


@pytest.mark.parametrize("phase", [Phase.COASTING, Phase.DEGRADED])
async def test_other_phases_keep_nothing_new_and_lose_nothing(
    s: Setting, phase: Phase
) -> None:
    await s.sees()
    await s.clock.advance(3600.0)
    assert await s.sees(phase) == []
    assert s.store.proof is not None


async def test_a_start_without_a_proof_keeps_nothing(s: Setting) -> None:
    assert await s.sees(Phase.STARTING, None) == []


async def test_a_denied_key_is_forgotten_once_and_kept_again_when_it_heals(
    s: Setting,
) -> None:
    await s.sees()
    assert await s.sees(Phase.DENIED) == ["forget_proof"]
    assert await s.sees(Phase.DENIED) == []
    assert s.store.proof is None
    assert await s.sees() == ["save_proof"]


async def test_a_denied_key_of_an_earlier_process_is_forgotten_too(s: Setting) -> None:
    s.store.proof = StoredProof(A, s.clock.now())
    remembered = await s.proof.recall()
    once = Trouble(KeyDisabled("x"), Source.LOOK, 0.0, 1)
    unreachable = Trouble(ProviderUnreachable("x"), Source.LOOK, 0.0, 9)
    for trouble in (None, once, unreachable):
        assert await s.sees(Phase.STARTING, None, trouble=trouble) == []
    # What was denied is another key than the remembered one.
    assert remembered is not None
    assert (
        await s.sees(Phase.STARTING, None, trouble=DENIED_TWICE, remembered=remembered)
        == []
    )
    assert await s.sees(Phase.STARTING, None, trouble=DENIED_TWICE) == ["forget_proof"]


async def test_nothing_is_forgotten_where_nothing_is_kept(s: Setting) -> None:
    assert await s.sees(Phase.DENIED) == []
    assert await s.sees(Phase.STARTING, None, trouble=DENIED_TWICE) == []


@pytest.mark.parametrize("age_s", [0.0, 59.0, 86_399.0, 10 * 86_400.0])
async def test_age_goes_over_to_the_new_process_clock(s: Setting, age_s: float) -> None:
    s.store.proof = StoredProof(A, s.clock.now() - dt.timedelta(seconds=age_s))
    assert await s.proof.recall() == Remembered(A, s.clock.monotonic() - age_s)
    assert s.proof.first_kid == "a"


async def test_a_proof_from_the_near_future_counts_as_of_now(s: Setting) -> None:
    s.store.proof = StoredProof(A, s.clock.now() + dt.timedelta(seconds=299))
    assert await s.proof.recall() == Remembered(A, s.clock.monotonic())


async def test_a_proof_from_the_far_future_is_not_believed(s: Setting) -> None:
    s.store.proof = StoredProof(A, s.clock.now() + dt.timedelta(seconds=301))
    assert await s.proof.recall() is None


async def test_an_empty_store_remembers_nothing(s: Setting) -> None:
    assert await s.proof.recall() is None
    assert s.proof.first_kid is None
