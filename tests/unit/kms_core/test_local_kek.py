"""The envelope with a local KEK: when it is made, proven, used again and forgotten."""

from __future__ import annotations

import asyncio
import datetime as dt
import hmac
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core.envelope import ProviderEnvelope
from kms_core.errors import (
    InternalFault,
    KeyIdMalformed,
    KeyIdMismatch,
    KmsError,
    PermissionRefused,
    ProviderAnswerRefused,
    ProviderFaulty,
    ProviderThrottling,
    ProviderTimeout,
    ProviderUnreachable,
    RequestRefused,
    SealedSeedMalformed,
    SealedSeedNotAuthentic,
    ShuttingDown,
)
from kms_core.fakes import (
    InMemoryKeyProvider,
    InMemoryStore,
    ManualClock,
    SeededRandomness,
    settle,
)
from kms_core.kek_cache import WrappedKek
from kms_core.key_id import AnnouncedKey, NativeNaming
from kms_core.local_kek import LocalKekEnvelope
from kms_core.provider import Ciphertext
from kms_core.sealed_seed import (
    EnvelopedSeed,
    SealedSeed,
    Version,
    aad_for_enveloped_seed,
    aad_for_local_kek,
    aad_for_probe,
    aad_for_seed,
    decode,
    encode,
)
from kms_core.store import StoredKek


if TYPE_CHECKING:
    from collections.abc import Callable


SEED = bytes(range(32))
PROBE = b"p" * 32
DAY_S = 24 * 3600.0
MAKING = ["encrypt", "decrypt"]
PROBING = ["encrypt", "decrypt"]


class Provider(InMemoryKeyProvider):
    """Does as it is told: waits, damages, or answers with something else."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.let.set()
        self.damage: Callable[[Ciphertext], Ciphertext] = lambda made: made
        self.plaintext: bytes | None = None
        self.refusals: dict[str, KmsError] = {}

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        if "encrypt" in self.refusals:
            raise self.refusals["encrypt"].without_traceback()
        made = await super()._encrypt(kid, plaintext, aad, deadline)
        await self.let.wait()
        return self.damage(made)

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        if "decrypt" in self.refusals:
            raise self.refusals["decrypt"].without_traceback()
        opened = await super()._decrypt(kid, ciphertext, aad, deadline)
        await self.let.wait()
        return opened if self.plaintext is None else self.plaintext


class Node:
    """One process: an envelope, on a service, a clock and a store that outlive it."""

    def __init__(
        self,
        before: Node | None = None,
        *,
        shares_store: bool = True,
        cache_size: int = 1000,
    ) -> None:
        self.provider: Provider = before.provider if before else Provider()
        self.clock: ManualClock = before.clock if before else ManualClock()
        shares = before is not None and shares_store
        self.store: InMemoryStore = (
            before.store if before and shares else InMemoryStore()
        )
        self.randomness: SeededRandomness = (
            before.randomness if before else SeededRandomness()
        )
        self.envelope = LocalKekEnvelope(
            self.provider,
            "sdkms.v1",
            clock=self.clock,
            randomness=self.randomness,
            store=self.store,
            cache_size=cache_size,
        )

    def key(self, kid: str | None = None) -> AnnouncedKey:
        found = self.provider.keys[kid or self.provider.configured]
        return AnnouncedKey(found.kid, NativeNaming().key_id(found))

    def soon(self) -> float:
        return max(asyncio.get_running_loop().time(), self.clock.monotonic()) + 30.0

    async def prove(self, key: AnnouncedKey | None = None) -> None:
        await self.envelope.prove(key or self.key(), PROBE, deadline=self.soon())

    async def seal(
        self, key: AnnouncedKey | None = None, seed: bytes = SEED
    ) -> EnvelopedSeed:
        stored = await self.envelope.seal(seed, key or self.key(), deadline=self.soon())
        sealed = decode(stored)
        assert isinstance(sealed, EnvelopedSeed)
        return sealed

    async def open(
        self, sealed: EnvelopedSeed, key: AnnouncedKey | None = None
    ) -> bytes:
        key_id = (key or self.key()).key_id
        return await self.envelope.open(encode(sealed), key_id, deadline=self.soon())

    def calls(self) -> list[str]:
        seen = list(self.provider.calls)
        self.provider.calls.clear()
        return seen


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def proven(node: Node) -> Node:
    await node.prove()
    node.calls()
    node.store.calls.clear()
    return node


# Made and proven before it seals.


async def test_a_first_proof_makes_a_local_kek_and_is_the_proof(node: Node) -> None:
    await node.prove()
    assert node.calls() == MAKING
    assert node.envelope.kept == 1
    first, second = await node.seal(), await node.seal()
    assert first.wrapped == second.wrapped
    assert first.salt != second.salt


async def test_sealing_and_opening_ask_nobody_once_there_is_one(proven: Node) -> None:
    sealed = [await proven.seal(seed=bytes([n]) * 32) for n in range(50)]
    for number, each in enumerate(sealed):
        assert await proven.open(each) == bytes([number]) * 32
    assert proven.calls() == []
    assert proven.store.calls == []


async def test_they_go_on_in_an_outage(proven: Node) -> None:
    proven.provider.outage = ProviderUnreachable("no route")
    assert await proven.open(await proven.seal()) == SEED
    assert proven.calls() == []


async def test_sealing_makes_one_if_there_is_none(node: Node) -> None:
    assert await node.open(await node.seal()) == SEED
    assert node.calls() == MAKING


async def test_many_seals_at_once_make_one(node: Node) -> None:
    sealed = await asyncio.gather(*(node.seal() for _ in range(20)))
    assert len({each.wrapped for each in sealed}) == 1
    assert node.calls() == MAKING


async def test_a_seal_and_a_proof_at_once_make_one(node: Node) -> None:
    sealed, _ = await asyncio.gather(node.seal(), node.prove())
    assert (await node.seal()).wrapped == sealed.wrapped
    assert node.envelope.kept == 1


async def test_a_caller_that_hangs_up_while_it_is_made_fails_nobody_else(
    node: Node,
) -> None:
    node.provider.let.clear()
    callers = [asyncio.create_task(node.seal()) for _ in range(3)]
    await settle()
    callers[0].cancel()
    await settle()
    node.provider.let.set()
    assert (await callers[1]).wrapped == (await callers[2]).wrapped
    assert callers[0].cancelled()


async def test_a_later_proof_probes_and_keeps_the_local_kek(proven: Node) -> None:
    before = await proven.seal()
    await proven.prove()
    assert proven.calls() == PROBING
    assert (await proven.seal()).wrapped == before.wrapped
    assert proven.store.calls == []


@pytest.mark.parametrize("operation", ["encrypt", "decrypt"])
async def test_a_proof_fails_when_the_service_no_longer_does_its_part(
    proven: Node, operation: str
) -> None:
    proven.provider.refusals[operation] = PermissionRefused("may not")
    with pytest.raises(PermissionRefused):
        await proven.prove()
    # What is in memory goes on: whether it may is for the standing to say.
    assert await proven.open(await proven.seal()) == SEED


async def test_neither_secret_nor_seed_stands_in_what_is_stored(node: Node) -> None:
    chance = SeededRandomness()
    secret = chance.token(32)
    stored = encode(await node.seal())
    assert secret not in stored
    assert SEED not in stored
    assert node.store.kek is not None
    assert secret not in repr(node.store.kek).encode()
    pinned = repr(node.envelope._in_use)
    assert repr(secret) not in pinned
    assert "LocalKek" in pinned


def flipped(part: bytes) -> bytes:
    return part[:-1] + bytes([part[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: evolve(c, cipher=flipped(c.cipher)),
        lambda c: evolve(c, iv=flipped(c.iv)),
        lambda c: evolve(c, tag=flipped(c.tag)),
        lambda c: evolve(c, cipher=c.cipher[:-1]),
        lambda c: evolve(c, cipher=b""),
        lambda c: evolve(c, cipher=bytes(65)),
        lambda c: evolve(c, iv=bytes(65)),
        lambda c: evolve(c, tag=bytes(65)),
    ],
)
async def test_a_damaged_wrap_is_caught_and_nothing_is_kept_of_it(
    node: Node, damage: Callable[[Ciphertext], Ciphertext]
) -> None:
    node.provider.damage = damage
    for act in (node.prove, node.seal):
        with pytest.raises(ProviderAnswerRefused):
            await act()
    assert node.envelope.kept == 0
    assert node.store.kek is None
    node.provider.damage = lambda made: made
    assert await node.open(await node.seal()) == SEED


async def test_a_wrap_that_the_service_opens_but_no_reader_takes_is_refused(
    node: Node,
) -> None:
    # All of it in the tag: a reader would say that it holds no seed.
    made: list[Ciphertext] = []

    def into_the_tag(c: Ciphertext) -> Ciphertext:
        made.append(c)
        return Ciphertext(b"", c.iv, c.cipher + c.tag)

    async def opens(*_args: object) -> bytes:
        return SeededRandomness().token(32)

    node.provider.damage = into_the_tag
    node.provider._decrypt = opens  # type: ignore[assignment, method-assign]
    with pytest.raises(ProviderAnswerRefused, match="unfit size"):
        await node.prove()
    assert made


@pytest.mark.parametrize("plaintext", [b"", bytes(31), bytes(32), bytes(33)])
async def test_a_wrap_that_opens_to_other_bytes_is_caught(
    node: Node, plaintext: bytes
) -> None:
    node.provider.plaintext = plaintext
    with pytest.raises(ProviderAnswerRefused, match="other bytes"):
        await node.prove()
    assert node.envelope.kept == 0


async def test_a_seed_that_would_not_open_does_not_leave(proven: Node) -> None:
    proven.randomness.token = lambda size: bytes(size - 1)  # type: ignore[method-assign]
    with pytest.raises(InternalFault, match="does not open"):
        await proven.seal()


async def test_a_seed_that_opens_to_other_bytes_does_not_leave(
    proven: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kms_core.local_kek._open_here", lambda *_: SEED[::-1])
    with pytest.raises(InternalFault, match="other bytes"):
        await proven.seal()


# Deadlines.


async def test_a_deadline_that_passes_while_it_is_made_is_a_timeout(
    node: Node,
) -> None:
    node.provider.let.clear()
    now = asyncio.get_running_loop().time()
    with pytest.raises(ProviderTimeout):
        await node.envelope.seal(SEED, node.key(), deadline=now + 0.01)
    with pytest.raises(ProviderTimeout):
        await node.envelope.prove(node.key(), PROBE, deadline=now + 0.02)
    node.provider.let.set()
    assert await node.open(await node.seal()) == SEED


async def test_a_deadline_that_passes_while_waiting_for_its_turn_is_a_timeout(
    node: Node,
) -> None:
    node.provider.let.clear()
    making = asyncio.create_task(node.prove())
    await settle()
    now = asyncio.get_running_loop().time()
    with pytest.raises(ProviderTimeout, match="no local KEK before the deadline"):
        await node.envelope.seal(SEED, node.key(), deadline=now + 0.01)
    node.provider.let.set()
    await making
    assert node.envelope.kept == 1


async def test_a_deadline_that_passes_while_it_is_unwrapped_is_a_timeout(
    proven: Node,
) -> None:
    sealed = await proven.seal()
    other = Node(proven)
    other.provider.let.clear()
    now = asyncio.get_running_loop().time()
    with pytest.raises(ProviderTimeout, match="no local KEK before the deadline"):
        await other.envelope.open(
            encode(sealed), other.key().key_id, deadline=now + 0.01
        )
    other.provider.let.set()
    assert await other.open(sealed) == SEED


async def test_an_unwrap_has_a_deadline_of_its_own(proven: Node) -> None:
    sealed = await proven.seal()
    other, seen = Node(proven), []

    async def note(kid: str, sealed: object, aad: object, deadline: float) -> bytes:
        seen.append(deadline)
        raise ProviderThrottling("429")

    other.provider._decrypt = note  # type: ignore[assignment, method-assign]
    with pytest.raises(ProviderThrottling):
        await other.envelope.open(
            encode(sealed), other.key().key_id, deadline=other.soon() + 3600
        )
    assert seen == [other.clock.monotonic() + 10.0]


# Age.


async def test_after_90_days_the_next_proof_replaces_it(proven: Node) -> None:
    old = await proven.seal()
    await proven.clock.advance(90 * DAY_S - 1)
    await proven.prove()
    assert (await proven.seal()).wrapped == old.wrapped
    proven.calls()
    await proven.clock.advance(1)
    await proven.prove()
    assert proven.calls() == MAKING
    new = await proven.seal()
    assert new.wrapped != old.wrapped
    # The old one still opens, and asks nobody.
    assert await proven.open(old) == await proven.open(new) == SEED
    assert proven.calls() == []
    assert proven.store.kek is not None
    assert proven.store.kek.wrapped.ciphertext == new.wrapped


async def test_one_that_can_not_be_replaced_goes_on_sealing(proven: Node) -> None:
    old = await proven.seal()
    await proven.clock.advance(91 * DAY_S)
    proven.provider.outage = ProviderUnreachable("no route")
    with pytest.raises(ProviderUnreachable):
        await proven.prove()
    assert (await proven.seal()).wrapped == old.wrapped


async def test_a_clock_that_was_set_back_does_not_keep_one_young_for_ever(
    proven: Node,
) -> None:
    assert proven.store.kek is not None
    ahead = proven.clock.now() + dt.timedelta(days=400)
    proven.store.kek = evolve(proven.store.kek, made_at=ahead)
    other = Node(proven)
    await other.prove()
    assert proven.store.kek.made_at == proven.clock.now()


# Rotation.


async def test_the_next_key_gets_its_own_while_the_announced_goes_on(
    proven: Node,
) -> None:
    announced, before = proven.key(), await proven.seal()
    proven.provider.rekey()
    candidate = proven.key()
    await proven.prove(candidate)
    assert proven.calls() == MAKING
    assert (await proven.seal(announced)).wrapped == before.wrapped
    new = await proven.seal(candidate)
    assert new.wrapped != before.wrapped
    assert await proven.open(before, announced) == SEED
    assert await proven.open(new, candidate) == SEED
    assert proven.calls() == []


async def test_seeds_of_many_former_keys_open_warm(proven: Node) -> None:
    sealed = []
    for _ in range(6):
        key = proven.key()
        await proven.prove()
        sealed.append((key, await proven.seal(key)))
        proven.provider.rekey(deactivate=True)
    proven.calls()
    for key, each in sealed:
        assert await proven.open(each, key) == SEED
    assert proven.calls() == []
    assert proven.envelope.kept == 6


async def test_the_same_kid_under_another_key_id_gets_its_own(proven: Node) -> None:
    first = proven.key()
    other = AnnouncedKey(first.kid, f"{first.key_id}:former")
    before = await proven.seal()
    await proven.prove(other)
    assert proven.calls() == MAKING
    assert (await proven.seal(other)).wrapped != before.wrapped


async def test_keys_that_fail_their_proof_do_not_displace_the_announced_one(
    proven: Node,
) -> None:
    announced, before = proven.key(), await proven.seal()
    proven.provider.damage = lambda c: evolve(c, tag=flipped(c.tag))
    for _ in range(5):
        proven.provider.rekey()
        with pytest.raises(ProviderAnswerRefused):
            await proven.prove()
    # Nor does one that comes from the store and opens, but no longer encrypts.
    stray = proven.key()
    proven.provider.damage = lambda made: made
    await Node(proven).prove(stray)
    proven.provider.refusals["encrypt"] = PermissionRefused("may not")
    for _ in range(3):
        with pytest.raises(PermissionRefused):
            await proven.prove(stray)
    proven.calls()
    assert (await proven.seal(announced)).wrapped == before.wrapped
    assert proven.calls() == []
    assert proven.envelope.kept == 1


# A restart.


async def test_a_restart_uses_it_again_for_one_decrypt_and_a_probe(
    proven: Node,
) -> None:
    before = await proven.seal()
    after = Node(proven)
    await after.prove()
    assert after.calls() == ["decrypt", *PROBING]
    assert (await after.seal()).wrapped == before.wrapped
    assert await after.open(before) == SEED
    assert after.calls() == []
    assert after.store.calls == ["load_kek"]


async def test_many_restarts_make_no_other(proven: Node) -> None:
    sealed, one = [], proven
    for _ in range(20):
        one = Node(one)
        await one.prove()
        sealed.append(await one.seal())
    last = Node(one)
    last.calls()
    for each in sealed:
        assert await last.open(each) == SEED
    assert last.calls() == ["decrypt"]


async def test_an_encrypt_before_the_first_proof_uses_it_again_too(
    proven: Node,
) -> None:
    before = await proven.seal()
    after = Node(proven)
    assert (await after.seal()).wrapped == before.wrapped
    assert after.calls() == ["decrypt"]
    await after.prove()
    assert after.calls() == PROBING


async def test_one_that_may_no_longer_encrypt_is_no_proof(proven: Node) -> None:
    after = Node(proven)
    after.provider.refusals["encrypt"] = PermissionRefused("may not")
    with pytest.raises(PermissionRefused):
        await after.prove()


async def test_one_from_the_store_that_is_too_old_is_replaced_and_still_opens(
    proven: Node,
) -> None:
    old = await proven.seal()
    await proven.clock.advance(91 * DAY_S)
    after = Node(proven)
    await after.prove()
    assert after.calls() == ["decrypt", *MAKING]
    assert (await after.seal()).wrapped != old.wrapped
    assert await after.open(old) == SEED
    assert after.calls() == []


def lost(stored: StoredKek) -> StoredKek | None:
    return None


def with_cipher(stored: StoredKek, cipher: bytes) -> StoredKek:
    made = evolve(stored.wrapped.ciphertext, cipher=cipher)
    return evolve(stored, wrapped=evolve(stored.wrapped, ciphertext=made))


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        pytest.param(lost, MAKING, id="lost"),
        pytest.param(
            lambda s: with_cipher(s, flipped(s.wrapped.ciphertext.cipher)),
            ["decrypt", *MAKING],
            id="damaged",
        ),
        pytest.param(
            lambda s: with_cipher(s, b""), ["decrypt", *MAKING], id="without content"
        ),
        pytest.param(
            lambda s: evolve(s, wrapped=evolve(s.wrapped, key_id="sdkms.v1:other")),
            MAKING,
            id="of another key_id",
        ),
        pytest.param(
            lambda s: evolve(s, wrapped=evolve(s.wrapped, kid="other")),
            MAKING,
            id="of another kid",
        ),
    ],
)
async def test_what_the_store_lost_or_damaged_costs_one_more(
    proven: Node, change: Callable[[StoredKek], StoredKek | None], calls: list[str]
) -> None:
    before = await proven.seal()
    assert proven.store.kek is not None
    proven.store.kek = change(proven.store.kek)
    after = Node(proven)
    await after.prove()
    assert after.calls() == calls
    new = await after.seal()
    assert new.wrapped != before.wrapped
    assert await after.open(before) == await after.open(new) == SEED
    # And the new one stands in the store.
    assert (await Node(after).seal()).wrapped == new.wrapped


@pytest.mark.parametrize(
    "error",
    [
        RequestRefused("400"),
        ProviderAnswerRefused("a page"),
        ProviderFaulty("500"),
        SealedSeedNotAuthentic("another DSM's"),
    ],
)
async def test_a_service_that_chokes_on_what_the_store_held_does_not_fail_the_start(
    proven: Node, error: KmsError
) -> None:
    after, asked = Node(proven), 0
    original = after.provider._decrypt

    async def choke_once(
        kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise error
        return await original(kid, ciphertext, aad, deadline)

    after.provider._decrypt = choke_once  # type: ignore[method-assign]
    await after.prove()
    assert await after.open(await after.seal()) == SEED


@pytest.mark.parametrize("size", [1, 16, 31, 33, 64])
async def test_a_stored_secret_of_another_size_is_not_used(
    proven: Node, size: int
) -> None:
    key = proven.key()
    aad = aad_for_local_kek(key.key_id)
    made = await proven.provider.encrypt(
        key.kid, b"k" * size, aad, deadline=proven.soon()
    )
    wrapped = WrappedKek(key.kid, key.key_id, made)
    proven.store.kek = StoredKek(wrapped, proven.clock.now())
    after = Node(proven)
    await after.prove()
    assert (await after.seal()).wrapped != made


async def test_an_outage_at_the_start_keeps_what_the_store_holds(proven: Node) -> None:
    before = await proven.seal()
    after = Node(proven)
    after.provider.outage = ProviderUnreachable("no route")
    for act in (after.prove, after.seal):
        with pytest.raises(ProviderUnreachable):
            await act()
    after.provider.outage = None
    await after.prove()
    assert (await after.seal()).wrapped == before.wrapped


# Other nodes' local KEKs.


async def test_seeds_of_another_node_open_for_one_unwrap(proven: Node) -> None:
    other = Node(proven, shares_store=False)
    sealed = [await proven.seal(seed=bytes([n]) * 32) for n in range(10)]
    opened = await asyncio.gather(*(other.open(each) for each in sealed))
    assert opened == [bytes([n]) * 32 for n in range(10)]
    assert other.calls() == ["decrypt"]


async def test_the_cache_is_bounded_and_the_one_in_use_stands_outside(
    proven: Node,
) -> None:
    small = Node(proven, shares_store=False, cache_size=2)
    await small.prove()
    mine = await small.seal()
    for _ in range(5):
        neighbour = Node(proven, shares_store=False)
        await small.open(await neighbour.seal())
    assert small.envelope.kept == 3
    small.calls()
    assert await small.open(mine) == SEED
    assert small.calls() == []


# Forgetting.


async def test_dropping_a_kid_forgets_pinned_and_cached(proven: Node) -> None:
    old_key, old = proven.key(), await proven.seal()
    await proven.clock.advance(91 * DAY_S)
    await proven.prove()
    proven.provider.rekey()
    await proven.prove()
    proven.calls()
    assert proven.envelope.kept == 3
    assert proven.envelope.drop(old_key.kid) == 2
    assert proven.envelope.drop(old_key.kid) == 0
    assert proven.envelope.kept == 1
    # The other key's is still there; the dropped ones ask the service again.
    await proven.seal()
    assert proven.calls() == []
    assert await proven.open(old, old_key) == SEED
    assert proven.calls() == ["decrypt"]


async def test_what_is_made_while_its_kid_is_dropped_is_not_kept(node: Node) -> None:
    for act in (node.prove, node.seal):
        node.provider.let.clear()
        making = asyncio.create_task(act())
        await settle()
        node.envelope.drop(node.key().kid)
        node.provider.let.set()
        await making
        assert node.envelope.kept == 0


async def test_a_drop_costs_no_data_and_the_store_serves_again(proven: Node) -> None:
    before = await proven.seal()
    proven.envelope.drop(proven.key().kid)
    await proven.prove()
    assert proven.calls() == ["decrypt", *PROBING]
    assert (await proven.seal()).wrapped == before.wrapped


async def test_closing_forgets_and_nothing_is_made_after_it(proven: Node) -> None:
    sealed = await proven.seal()
    await proven.envelope.aclose()
    assert proven.envelope.kept == 0
    for attempt in (proven.prove(), proven.seal(), proven.open(sealed)):
        with pytest.raises(ShuttingDown):
            await attempt
    assert proven.envelope.kept == 0


async def test_closing_ends_what_is_under_way(proven: Node) -> None:
    sealed = await proven.seal()
    other = Node(proven, shares_store=False)
    other.provider.let.clear()
    opening = asyncio.create_task(other.open(sealed))
    making = asyncio.create_task(other.seal())
    await settle()
    await other.envelope.aclose()
    with pytest.raises(ShuttingDown):
        await opening
    other.provider.let.set()
    await making
    assert other.envelope.kept == 0


# What does not open.


async def test_a_wrong_key_id_is_refused_before_the_service_is_asked(
    proven: Node,
) -> None:
    sealed = encode(await proven.seal())
    other = Node(proven)
    for key_id, error in (
        ("sdkms.v1:other", KeyIdMismatch),
        (f"sdkms.v1:other:{sealed_kid(sealed)}", KeyIdMismatch),
        (f"other.v1:{sealed_kid(sealed)}", KeyIdMalformed),
        ("a" * 64, KeyIdMismatch),
        ("", KeyIdMalformed),
    ):
        with pytest.raises(error):
            await other.envelope.open(sealed, key_id, deadline=other.soon())
    assert other.calls() == []


def sealed_kid(stored: bytes) -> str:
    return decode(stored).kid


async def test_another_lineage_does_not_open_though_the_local_kek_is_in_memory(
    proven: Node,
) -> None:
    sealed = await proven.seal()
    kid = proven.key().kid
    for lineage in (f"sdkms.v1:{kid}:former", f"sdkms.v1:{kid}:{kid}"):
        with pytest.raises(SealedSeedNotAuthentic):
            await proven.open(sealed, AnnouncedKey(kid, lineage))
    assert proven.envelope.kept == 1


@pytest.mark.parametrize("warm", [True, False])
async def test_parts_of_two_seeds_can_not_be_exchanged(
    proven: Node, *, warm: bool
) -> None:
    one = await proven.seal()
    await proven.clock.advance(91 * DAY_S)
    await proven.prove()
    two = await proven.seal(seed=SEED[::-1])
    assert one.wrapped != two.wrapped
    node = proven if warm else Node(proven)
    assert (await node.open(one), await node.open(two)) == (SEED, SEED[::-1])
    for mixed in (
        evolve(one, wrapped=two.wrapped),
        evolve(one, salt=two.salt),
        evolve(one, seed=two.seed),
        evolve(one, salt=two.salt, seed=two.seed),
        evolve(one, wrapped=two.wrapped, salt=two.salt),
        evolve(one, wrapped=evolve(one.wrapped, iv=two.wrapped.iv)),
    ):
        with pytest.raises(SealedSeedNotAuthentic):
            await node.open(mixed)


@pytest.mark.parametrize("version", [Version.GO_PLUGIN, Version.DIRECT])
async def test_versions_1_and_2_are_left_to_another_envelope(
    proven: Node, version: Version
) -> None:
    key = proven.key()
    made = await proven.provider.encrypt(key.kid, SEED, None, deadline=proven.soon())
    proven.calls()
    stored = encode(SealedSeed(version, key.kid, made))
    with pytest.raises(SealedSeedMalformed, match="has no local KEK"):
        await proven.envelope.open(stored, key.key_id, deadline=proven.soon())
    assert proven.calls() == []


async def test_version_3_is_left_to_this_one(proven: Node) -> None:
    direct = ProviderEnvelope(proven.provider, Version.DIRECT, "sdkms.v1", frozenset())
    stored = encode(await proven.seal())
    with pytest.raises(SealedSeedMalformed, match="of Version 3"):
        await direct.open(stored, proven.key().key_id, deadline=proven.soon())


# Neither can be passed off as the other.


async def test_a_wrapped_local_kek_does_not_open_as_a_seed(proven: Node) -> None:
    key, sealed = proven.key(), await proven.seal()
    direct = ProviderEnvelope(proven.provider, Version.DIRECT, "sdkms.v1", frozenset())
    as_seed = encode(SealedSeed(Version.DIRECT, key.kid, sealed.wrapped))
    with pytest.raises(SealedSeedNotAuthentic):
        await direct.open(as_seed, key.key_id, deadline=proven.soon())


@pytest.mark.parametrize("version", [Version.GO_PLUGIN, Version.DIRECT])
async def test_a_seed_does_not_serve_as_a_local_kek(
    proven: Node, version: Version
) -> None:
    # Whoever knows a seed of 32 bytes could seal what they like under it.
    key, sealed = proven.key(), await proven.seal()
    known = await proven.provider.encrypt(
        key.kid, SEED, aad_for_seed(version, key.key_id), deadline=proven.soon()
    )
    forged = evolve(sealed, wrapped=known)
    with pytest.raises(SealedSeedNotAuthentic):
        await proven.open(forged)
    proven.store.kek = StoredKek(
        WrappedKek(key.kid, key.key_id, known), proven.clock.now()
    )
    after = Node(proven)
    await after.prove()
    assert (await after.seal()).wrapped != known


async def test_a_probe_serves_as_neither(proven: Node) -> None:
    key, sealed = proven.key(), await proven.seal()
    probe = await proven.provider.encrypt(
        key.kid, PROBE, aad_for_probe(key.key_id), deadline=proven.soon()
    )
    with pytest.raises(SealedSeedNotAuthentic):
        await proven.open(evolve(sealed, wrapped=probe))
    direct = ProviderEnvelope(proven.provider, Version.DIRECT, "sdkms.v1", frozenset())
    as_seed = encode(SealedSeed(Version.DIRECT, key.kid, probe))
    with pytest.raises(SealedSeedNotAuthentic):
        await direct.open(as_seed, key.key_id, deadline=proven.soon())


# The bytes, fixed. They were made with HMAC and AES-GCM alone, nothing of ours.

KID = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
KEY = AnnouncedKey(KID, f"sdkms.v1:{KID}")
KEK = bytes(range(0x20, 0x40))
LOCAL_KEK = bytes(range(0x40, 0x60))
SALT = bytes(range(0x60, 0x80))
IV = bytes(range(0xA0, 0xAC))
GOLDEN_3 = bytes.fromhex(
    "a76756657273696f6e03634b4944782434623364313361382d326333612d343764632d38373739"
    "2d3331316461643638343361326643697068657258203e7de6778092c6ede961e7f16a1038e9c1"
    "2e935468e1707557cb91a28f3bf1a76249564ca0a1a2a3a4a5a6a7a8a9aaab635461675073e19c"
    "1eb3c50873586677d676cc064d6453616c745820606162636465666768696a6b6c6d6e6f707172"
    "737475767778797a7b7c7d7e7f64536565645830cdce82ba1e9fc26a17d1c44892b62fc5823e0d"
    "f702ed3f69053342a701fd04dd2b467181dc133a095e5a7040058d150c"
)


class FixedService(InMemoryKeyProvider):
    """One key of known bytes, and one nonce for ever: for vectors alone."""

    def __init__(self) -> None:
        super().__init__()
        self.aads: list[bytes | None] = []

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        self.aads.append(aad)
        sealed = AESGCM(KEK).encrypt(IV, plaintext, aad)
        return Ciphertext(sealed[:-16], IV, sealed[-16:])

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        self.aads.append(aad)
        sealed = ciphertext.cipher + ciphertext.tag
        return AESGCM(KEK).decrypt(ciphertext.iv, sealed, aad)


def golden_node() -> tuple[LocalKekEnvelope, FixedService]:
    service, tokens = FixedService(), [LOCAL_KEK, SALT]
    chance = SeededRandomness()
    chance.token = lambda size: tokens.pop(0)[:size]  # type: ignore[method-assign]
    envelope = LocalKekEnvelope(
        service,
        "sdkms.v1",
        clock=ManualClock(),
        randomness=chance,
        store=InMemoryStore(),
    )
    return envelope, service


async def test_golden_vector_of_version_3_both_ways() -> None:
    envelope, service = golden_node()
    deadline = asyncio.get_running_loop().time() + 30.0
    assert await envelope.seal(SEED, KEY, deadline=deadline) == GOLDEN_3
    assert service.aads == [aad_for_local_kek(KEY.key_id)] * 2
    # In a process that has never met it.
    cold, service = golden_node()
    assert await cold.open(GOLDEN_3, KEY.key_id, deadline=deadline) == SEED
    assert service.aads == [aad_for_local_kek(KEY.key_id)]


async def test_key_and_nonce_of_the_golden_seed_are_hkdf_s() -> None:
    prk = hmac.digest(SALT, LOCAL_KEK, "sha256")
    first = hmac.digest(prk, b"sdkms.v1 seed\x01", "sha256")
    second = hmac.digest(prk, first + b"sdkms.v1 seed\x02", "sha256")
    derived = (first + second)[:44]
    assert derived.hex() == (
        "34ad554c3498108cdafc3adfa583ffff0800ea31ec62613e318bc988ca24131e"
        "67f844fcf11905838ebecd75"
    )
    sealed = decode(GOLDEN_3)
    assert isinstance(sealed, EnvelopedSeed)
    aad = aad_for_enveloped_seed(KEY.key_id, KID, sealed.wrapped)
    assert len(aad) == 156
    assert AESGCM(derived[:32]).decrypt(derived[32:], sealed.seed, aad) == SEED


async def test_the_longest_seed_stays_below_the_limit(proven: Node) -> None:
    sealed = encode(await proven.seal(seed=bytes(512)))
    assert len(encode(await proven.seal())) == 224
    assert len(sealed) == 705
    assert await proven.open(await proven.seal(seed=bytes(512))) == bytes(512)
