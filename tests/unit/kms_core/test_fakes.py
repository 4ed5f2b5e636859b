"""What tests rely on in the fakes, beyond the contracts of the ports."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from kms_core.errors import (
    KeyDeactivated,
    KeyNotFound,
    PermissionRefused,
    ProviderTimeout,
    ProviderUnreachable,
)
from kms_core.fakes import InMemoryKeyProvider, ManualClock
from kms_core.provider import KeyState


if TYPE_CHECKING:
    from kms_core.provider import Ciphertext


def soon() -> float:
    return asyncio.get_running_loop().time() + 30.0


async def test_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock()
    before = clock.monotonic(), clock.now()
    await asyncio.sleep(0.001)
    assert (clock.monotonic(), clock.now()) == before
    await clock.advance(1.5)
    assert clock.monotonic() == before[0] + 1.5
    assert clock.now() == before[1] + dt.timedelta(seconds=1.5)


async def test_sleepers_wake_in_order_each_at_its_own_time() -> None:
    clock = ManualClock()
    start = clock.monotonic()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, *pauses: float) -> None:
        for pause in pauses:
            await clock.sleep(pause)
            woken.append((name, clock.monotonic() - start))

    tasks = [
        asyncio.create_task(sleep("late", 5.0)),
        asyncio.create_task(sleep("twice", 1.0, 3.0)),
        asyncio.create_task(sleep("never", 60.0)),
        asyncio.create_task(sleep("early", 0.5)),
    ]
    # One move wakes even those who sleep again within it.
    await clock.advance(10.0)
    assert woken == [("early", 0.5), ("twice", 1.0), ("twice", 4.0), ("late", 5.0)]
    assert clock.monotonic() - start == 10.0
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_sleepers_of_one_moment_wake_together_exactly_then() -> None:
    clock = ManualClock()
    # 0.1 is no sum of powers of two: the clock's start must not spoil it.
    tasks = [asyncio.create_task(clock.sleep(0.1)) for _ in range(3)]
    await clock.advance(0.1)
    assert all(task.done() for task in tasks)


async def test_rekey_moves_the_name_and_links_both_ways() -> None:
    provider = InMemoryKeyProvider()
    old = provider.configured
    new = provider.rekey()
    assert provider.configured == new.kid
    found = await provider.describe(deadline=soon())
    former = await provider.describe(old, deadline=soon())
    assert (found.kid, found.replaced) == (new.kid, old)
    assert (former.replacement, former.state) == (new.kid, KeyState.ACTIVE)
    provider.rekey(deactivate=True)
    former = await provider.describe(new.kid, deadline=soon())
    assert former.state is KeyState.DEACTIVATED


async def sealed_by(provider: InMemoryKeyProvider) -> Ciphertext:
    return await provider.encrypt(provider.configured, b"seed", None, deadline=soon())


async def test_a_deactivated_key_opens_but_does_not_seal() -> None:
    provider = InMemoryKeyProvider()
    ciphertext = await sealed_by(provider)
    provider.change(provider.configured, state=KeyState.DEACTIVATED)
    with pytest.raises(KeyDeactivated):
        await sealed_by(provider)
    opened = await provider.decrypt(
        provider.configured, ciphertext, None, deadline=soon()
    )
    assert opened == b"seed"


@pytest.mark.parametrize(
    ("state", "enabled", "opens"),
    [
        (KeyState.ACTIVE, False, False),
        (KeyState.DESTROYED, True, False),
        (KeyState.DELETED, True, False),
        (KeyState.PRE_ACTIVE, True, False),
        (KeyState.COMPROMISED, True, True),
    ],
)
async def test_unfit_keys_do_not_seal(
    state: KeyState, *, enabled: bool, opens: bool
) -> None:
    provider = InMemoryKeyProvider()
    kid, ciphertext = provider.configured, await sealed_by(provider)
    provider.change(kid, state=state, enabled=enabled)
    with pytest.raises(PermissionRefused):
        await sealed_by(provider)
    if opens:
        assert await provider.decrypt(kid, ciphertext, None, deadline=soon())
    else:
        with pytest.raises(PermissionRefused):
            await provider.decrypt(kid, ciphertext, None, deadline=soon())


async def test_a_key_without_an_operation_refuses_it() -> None:
    provider = InMemoryKeyProvider()
    kid, ciphertext = provider.configured, await sealed_by(provider)
    provider.keys[kid] = evolve(
        provider.keys[kid], can_encrypt=False, can_decrypt=False
    )
    with pytest.raises(PermissionRefused, match="may not encrypt"):
        await sealed_by(provider)
    with pytest.raises(PermissionRefused, match="may not decrypt"):
        await provider.decrypt(kid, ciphertext, None, deadline=soon())


async def test_a_key_that_is_not_there_is_not_found() -> None:
    provider = InMemoryKeyProvider()
    with pytest.raises(KeyNotFound):
        await provider.describe("nobody", deadline=soon())
    with pytest.raises(KeyNotFound):
        await provider.encrypt("nobody", b"s", None, deadline=soon())


async def test_an_outage_ends_every_call_and_is_counted() -> None:
    provider = InMemoryKeyProvider()
    ciphertext = await sealed_by(provider)
    provider.outage = ProviderUnreachable("no route")
    with pytest.raises(ProviderUnreachable):
        await provider.describe(deadline=soon())
    with pytest.raises(ProviderUnreachable):
        await provider.decrypt(provider.configured, ciphertext, None, deadline=soon())
    assert provider.calls == ["encrypt", "describe", "decrypt"]
    assert provider.outage.__traceback__ is None


async def test_a_call_whose_time_is_over_times_out() -> None:
    provider = InMemoryKeyProvider()
    with pytest.raises(ProviderTimeout):
        await provider.describe(deadline=asyncio.get_running_loop().time())


async def test_closing_and_renewing_are_noted() -> None:
    provider = InMemoryKeyProvider()
    await provider.renew()
    await provider.aclose()
    assert (provider.renewed, provider.closed) == (1, True)
