"""The KeyProvider contract; every implementation of the port passes it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from kms_core.errors import (
    KeyCompromised,
    KeyDeactivated,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KmsError,
    ProviderError,
    ProviderTimeout,
    RefusalError,
    SealedSeedNotAuthentic,
)
from kms_core.provider import Ciphertext, KeyState


# Tests are collected by path; what they share is imported by name.
sys.path.append(str(Path(__file__).parents[2]))

from tests.contract.key_provider.services import IMPLEMENTATIONS, KeyServiceControl


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kms_core.provider import KeyProvider


SEED = bytes(range(32))
AAD = b"kms.v2 \x00\xff"


@pytest.fixture(params=IMPLEMENTATIONS)
async def service(request: pytest.FixtureRequest) -> AsyncIterator[KeyServiceControl]:
    async with IMPLEMENTATIONS[request.param]() as made:
        yield made


@pytest.fixture
def provider(service: KeyServiceControl) -> KeyProvider:
    return service.provider


def soon() -> float:
    return asyncio.get_running_loop().time() + 10


def flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


async def test_the_configured_key_is_described(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    found = await provider.describe(deadline=soon())
    assert found.kid == service.configured
    assert (found.state, found.enabled) == (KeyState.ACTIVE, True)
    assert (found.algorithm, found.size_bits) == ("AES", 256)
    assert (found.replaced, found.replacement) == (None, None)
    found.judge()


async def test_a_key_is_described_by_kid(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    other = service.make_key()
    assert (await provider.describe(other, deadline=soon())).kid == other


async def test_a_rotation_leads_the_configured_name_to_a_new_key(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    sealed = await provider.encrypt(service.configured, SEED, AAD, deadline=soon())
    new = service.rekey()
    found = await provider.describe(deadline=soon())
    assert (found.kid, found.replaced) == (new, service.configured)
    old = await provider.describe(service.configured, deadline=soon())
    assert (old.kid, old.replacement) == (service.configured, new)
    opened = await provider.decrypt(service.configured, sealed, AAD, deadline=soon())
    assert opened == SEED


@pytest.mark.parametrize("aad", [None, b"x", AAD, bytes(512)])
@pytest.mark.parametrize("size", [1, 16, 32, 512])
async def test_what_was_encrypted_decrypts(
    service: KeyServiceControl, provider: KeyProvider, aad: bytes | None, size: int
) -> None:
    plaintext = bytes(range(256)) * 2
    kid = service.configured
    sealed = await provider.encrypt(kid, plaintext[:size], aad, deadline=soon())
    assert type(sealed) is Ciphertext
    opened = await provider.decrypt(kid, sealed, aad, deadline=soon())
    assert opened == plaintext[:size]


async def test_equal_plaintexts_give_different_ciphertexts(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    kid = service.configured
    first = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    second = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    assert first.iv != second.iv
    assert first.cipher != second.cipher


@pytest.mark.parametrize(
    ("change", "aad"),
    [
        (lambda sealed: evolve(sealed, cipher=flipped(sealed.cipher)), AAD),
        (lambda sealed: evolve(sealed, iv=flipped(sealed.iv)), AAD),
        (lambda sealed: evolve(sealed, tag=flipped(sealed.tag)), AAD),
        (lambda sealed: evolve(sealed, cipher=sealed.cipher[:-1]), AAD),
        (lambda sealed: evolve(sealed, cipher=sealed.cipher + b"x"), AAD),
        (lambda sealed: sealed, AAD + b"x"),
        (lambda sealed: sealed, b""),
        (lambda sealed: sealed, None),
    ],
    ids=["cipher", "iv", "tag", "shorter", "longer", "aad", "empty aad", "no aad"],
)
async def test_what_was_changed_is_not_authentic(
    service: KeyServiceControl,
    provider: KeyProvider,
    change: Callable[[Ciphertext], Ciphertext],
    aad: bytes | None,
) -> None:
    kid = service.configured
    sealed = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    with pytest.raises(SealedSeedNotAuthentic):
        await provider.decrypt(kid, change(sealed), aad, deadline=soon())


@pytest.mark.parametrize("part", ["iv", "tag"])
@pytest.mark.parametrize(
    "change",
    [lambda v: b"", lambda v: v[:-1], lambda v: v + b"x", lambda v: v * 100],
    ids=["empty", "shorter", "longer", "far longer"],
)
async def test_what_has_another_length_is_not_authentic(
    service: KeyServiceControl,
    provider: KeyProvider,
    part: str,
    change: Callable[[bytes], bytes],
) -> None:
    kid = service.configured
    sealed = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    changed = evolve(sealed, **{part: change(getattr(sealed, part))})
    with pytest.raises(SealedSeedNotAuthentic):
        await provider.decrypt(kid, changed, AAD, deadline=soon())


async def test_bytes_do_not_move_between_the_parts(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    kid = service.configured
    sealed = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    moved = Ciphertext(sealed.cipher + sealed.tag[:1], sealed.iv, sealed.tag[1:])
    with pytest.raises(SealedSeedNotAuthentic):
        await provider.decrypt(kid, moved, AAD, deadline=soon())


async def test_another_key_does_not_open_it(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    sealed = await provider.encrypt(service.configured, SEED, AAD, deadline=soon())
    with pytest.raises(SealedSeedNotAuthentic):
        await provider.decrypt(service.make_key(), sealed, AAD, deadline=soon())


async def test_an_unknown_key_is_not_found(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    kid = service.unknown_kid
    sealed = await provider.encrypt(service.configured, SEED, AAD, deadline=soon())
    with pytest.raises(KeyNotFound):
        await provider.describe(kid, deadline=soon())
    with pytest.raises(KeyNotFound):
        await provider.encrypt(kid, SEED, AAD, deadline=soon())
    with pytest.raises(KeyNotFound):
        await provider.decrypt(kid, sealed, AAD, deadline=soon())


@pytest.mark.parametrize(
    "kid",
    ["", "x", "../keys", "a\r\nX-Forged: b", '"}', "\u0664" * 36, "\ud800", "k" * 5000],
)
async def test_what_can_be_no_kid_is_refused_in_one_line(
    service: KeyServiceControl, provider: KeyProvider, kid: str
) -> None:
    sealed = await provider.encrypt(service.configured, SEED, AAD, deadline=soon())
    with pytest.raises(KeyNotFound) as described:
        await provider.describe(kid, deadline=soon())
    with pytest.raises(KeyNotFound) as encrypted:
        await provider.encrypt(kid, SEED, AAD, deadline=soon())
    # Here the kid came with the ciphertext, so that it may be what is damaged.
    with pytest.raises((KeyNotFound, SealedSeedNotAuthentic)) as decrypted:
        await provider.decrypt(kid, sealed, AAD, deadline=soon())
    for text in (c.value.text() for c in (described, encrypted, decrypted)):
        assert text.isprintable()
        assert len(text.encode()) <= 512


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda service, kid: service.disable(kid), KeyDisabled),
        (lambda service, kid: service.deactivate(kid), KeyDeactivated),
        (lambda service, kid: service.compromise(kid), KeyCompromised),
        (lambda service, kid: service.destroy(kid), KeyDestroyed),
    ],
    ids=["disabled", "deactivated", "compromised", "destroyed"],
)
async def test_a_description_tells_why_a_key_is_unfit(
    service: KeyServiceControl,
    provider: KeyProvider,
    change: Callable[[KeyServiceControl, str], None],
    expected: type[KmsError],
) -> None:
    change(service, service.configured)
    found = await provider.describe(service.configured, deadline=soon())
    with pytest.raises(expected):
        found.judge()


async def test_a_deleted_key_is_not_found(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    service.delete(service.configured)
    with pytest.raises(KeyNotFound):
        await provider.describe(service.configured, deadline=soon())


async def test_a_deactivated_key_opens_but_does_not_seal(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    kid = service.configured
    sealed = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    service.deactivate(kid)
    assert await provider.decrypt(kid, sealed, AAD, deadline=soon()) == SEED
    with pytest.raises(RefusalError):
        await provider.encrypt(kid, SEED, AAD, deadline=soon())


async def test_a_rotated_and_deactivated_key_still_opens_beside_the_new_one(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    old = service.configured
    sealed = await provider.encrypt(old, SEED, AAD, deadline=soon())
    new = service.rekey()
    service.deactivate(old)
    assert await provider.decrypt(old, sealed, AAD, deadline=soon()) == SEED
    again = await provider.encrypt(new, SEED, AAD, deadline=soon())
    assert await provider.decrypt(new, again, AAD, deadline=soon()) == SEED
    with pytest.raises(SealedSeedNotAuthentic):
        await provider.decrypt(new, sealed, AAD, deadline=soon())


async def test_a_disabled_key_does_neither(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    kid = service.configured
    sealed = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    service.disable(kid)
    with pytest.raises(ProviderError):
        await provider.encrypt(kid, SEED, AAD, deadline=soon())
    with pytest.raises(ProviderError):
        await provider.decrypt(kid, sealed, AAD, deadline=soon())


@pytest.mark.parametrize("late_by_s", [0.0, 0.001, 1000.0])
async def test_a_deadline_in_the_past_is_a_timeout_at_once(
    service: KeyServiceControl, provider: KeyProvider, late_by_s: float
) -> None:
    kid = service.configured
    sealed = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    loop = asyncio.get_running_loop()
    started = loop.time()
    past = started - late_by_s
    with pytest.raises(ProviderTimeout):
        await provider.describe(deadline=past)
    with pytest.raises(ProviderTimeout):
        await provider.encrypt(kid, SEED, AAD, deadline=past)
    with pytest.raises(ProviderTimeout):
        await provider.decrypt(kid, sealed, AAD, deadline=past)
    assert loop.time() - started < 0.5


async def test_cancellation_passes(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    call = asyncio.create_task(
        provider.encrypt(service.configured, SEED, AAD, deadline=soon())
    )
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await provider.describe(deadline=soon())).kid == service.configured


async def test_concurrent_calls_do_not_mix(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    kids = [service.configured, service.make_key(), service.make_key()]

    async def round_trip(number: int) -> bool:
        kid = kids[number % len(kids)]
        plaintext, aad = number.to_bytes(32, "big"), number.to_bytes(2, "big")
        sealed = await provider.encrypt(kid, plaintext, aad, deadline=soon())
        opened = await provider.decrypt(kid, sealed, aad, deadline=soon())
        return opened == plaintext

    assert all(await asyncio.gather(*[round_trip(n) for n in range(1, 61)]))


async def test_renewal_disturbs_no_call(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    kid = service.configured
    sealed = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    calls = [
        asyncio.create_task(provider.decrypt(kid, sealed, AAD, deadline=soon()))
        for _ in range(10)
    ]
    await asyncio.sleep(0)
    await provider.renew()
    assert set(await asyncio.gather(*calls)) == {SEED}
    assert (await provider.describe(deadline=soon())).kid == kid


async def test_a_call_that_the_end_overtakes_ends_too(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    kid = service.configured
    sealed = await provider.encrypt(kid, SEED, AAD, deadline=soon())
    calls = [
        asyncio.create_task(provider.decrypt(kid, sealed, AAD, deadline=soon()))
        for _ in range(20)
    ]
    await asyncio.sleep(0)
    await provider.aclose()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert outcome == SEED or isinstance(outcome, ProviderError)


async def test_it_can_be_closed_twice_used_or_not(
    service: KeyServiceControl, provider: KeyProvider
) -> None:
    await provider.describe(deadline=soon())
    await provider.aclose()
    await provider.aclose()
    async with type(service)() as unused:
        await unused.provider.aclose()
        await unused.provider.aclose()
