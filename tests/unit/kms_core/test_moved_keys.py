"""Keys under a new kid: only what opens says the new one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kms_core.any_version import AnyVersionEnvelope
from kms_core.envelope import ProviderEnvelope
from kms_core.errors import KeyNotFound
from kms_core.fakes import (
    InMemoryKeyProvider,
    InMemoryStore,
    ManualClock,
    SeededRandomness,
)
from kms_core.key_id import AnnouncedKey
from kms_core.local_kek import LocalKekEnvelope
from kms_core.moved_keys import MovedKeys
from kms_core.sealed_seed import Version


if TYPE_CHECKING:
    from kms_core.provider import KeyProvider


SEED = bytes(range(32))


def soon() -> float:
    return asyncio.get_running_loop().time() + 30.0


def moved_from(old: InMemoryKeyProvider) -> InMemoryKeyProvider:
    """Return another key service that has the material under another kid."""
    new = InMemoryKeyProvider()
    new._material[new.configured] = old._material[old.configured]
    return new


def envelope(
    provider: KeyProvider, moves: dict[str, str], *, local: bool
) -> AnyVersionEnvelope:
    keks = LocalKekEnvelope(
        provider,
        "sdkms.v1",
        clock=ManualClock(),
        randomness=SeededRandomness(),
        store=InMemoryStore(),
    )
    direct = ProviderEnvelope(provider, Version.DIRECT, "sdkms.v1", frozenset())
    return AnyVersionEnvelope(direct, keks, writes_local_keks=local, moves=moves)


@pytest.mark.parametrize("local", [True, False])
async def test_what_the_old_kid_sealed_opens_under_its_own_key_id(
    *, local: bool
) -> None:
    old = InMemoryKeyProvider()
    key = AnnouncedKey(old.configured, f"sdkms.v1:{old.configured}")
    stored = await envelope(old, {}, local=local).seal(SEED, key, deadline=soon())
    new = moved_from(old)
    moves = {old.configured: new.configured}

    with pytest.raises(KeyNotFound):
        await envelope(new, {}, local=local).open(stored, key.key_id, deadline=soon())
    reader = envelope(MovedKeys(new, moves), moves, local=local)
    assert await reader.open(stored, key.key_id, deadline=soon()) == SEED


async def test_local_keks_of_the_old_kid_go_with_the_new_one() -> None:
    old = InMemoryKeyProvider()
    key = AnnouncedKey(old.configured, f"sdkms.v1:{old.configured}")
    stored = await envelope(old, {}, local=True).seal(SEED, key, deadline=soon())
    new = moved_from(old)
    moves = {old.configured: new.configured}
    reader = envelope(MovedKeys(new, moves), moves, local=True)
    await reader.open(stored, key.key_id, deadline=soon())

    assert reader.drop("another") == 0
    assert reader.drop(new.configured) == 1


UPPER, LOWER = (
    "9C1F7E02-5D3B-4A86-B0C4-7F2AD91E6B35",
    "9c1f7e02-5d3b-4a86-b0c4-7f2ad91e6b35",
)


@pytest.mark.parametrize(("said", "stored"), [(LOWER, UPPER), (UPPER, LOWER)])
async def test_an_old_uuid_is_found_in_any_case(said: str, stored: str) -> None:
    new = InMemoryKeyProvider()
    made = await new.encrypt(new.configured, SEED, b"aad", deadline=soon())
    moved = MovedKeys(new, {said: new.configured})
    assert await moved.decrypt(stored, made, b"aad", deadline=soon()) == SEED


async def test_an_old_kid_that_is_no_uuid_is_found_letter_by_letter() -> None:
    new = InMemoryKeyProvider()
    made = await new.encrypt(new.configured, SEED, b"aad", deadline=soon())
    moved = MovedKeys(new, {"kek": new.configured})
    with pytest.raises(KeyNotFound):
        await moved.decrypt("KEK", made, b"aad", deadline=soon())


async def test_all_else_is_the_key_services() -> None:
    new = InMemoryKeyProvider()
    moved = MovedKeys(new, {"old": new.configured})

    assert (await moved.describe(deadline=soon())).kid == new.configured
    with pytest.raises(KeyNotFound):
        await moved.describe("old", deadline=soon())
    with pytest.raises(KeyNotFound):
        await moved.encrypt("old", SEED, None, deadline=soon())
    made = await moved.encrypt(new.configured, SEED, b"aad", deadline=soon())
    for kid in ("old", new.configured):
        assert await moved.decrypt(kid, made, b"aad", deadline=soon()) == SEED
    await moved.renew()
    await moved.aclose()
    assert (new.renewed, new.closed) == (1, True)
