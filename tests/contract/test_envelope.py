"""The contract of the Envelope port, run on every implementation of it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from attrs import evolve, frozen

from kms_core.envelope import Envelope, ProviderEnvelope
from kms_core.errors import (
    CallError,
    KeyIdMalformed,
    KeyIdMismatch,
    KeyIdNotAccepted,
    KmsError,
    OutageError,
    ProviderError,
    ProviderTimeout,
    ProviderUnreachable,
    SealedSeedMalformed,
    SealedSeedNotAuthentic,
)
from kms_core.fakes import InMemoryKeyProvider
from kms_core.key_id import AnnouncedKey, NativeNaming, go_plugin_key_id
from kms_core.limits import MAX_SEALED_SEED_BYTES, MAX_SEED_BYTES
from kms_core.provider import Ciphertext, KeyDescription
from kms_core.sealed_seed import Version, decode, encode


if TYPE_CHECKING:
    from collections.abc import Callable


SCHEME = "sdkms.v1"
HASH = go_plugin_key_id("https://dsm.test", key_name="kek")
FORMER_HASH = go_plugin_key_id("https://old.test", key_name="kek")
FOREIGN_HASH = go_plugin_key_id("https://foreign.test", key_name="kek")
SEED = bytes(range(32))

NOT_OURS = (
    SealedSeedMalformed,
    SealedSeedNotAuthentic,
    KeyIdMalformed,
    KeyIdMismatch,
    KeyIdNotAccepted,
)


@frozen
class Subject:
    """An envelope with what it works on, and how its key_ids are made."""

    envelope: Envelope
    provider: InMemoryKeyProvider
    key_id_of: Callable[[KeyDescription], str]

    def key(self) -> AnnouncedKey:
        description = self.provider.keys[self.provider.configured]
        return AnnouncedKey(description.kid, self.key_id_of(description))

    async def seal(self, seed: bytes = SEED) -> bytes:
        return await self.envelope.seal(seed, self.key(), deadline=soon())

    async def open(self, stored: bytes, key_id: str | None = None) -> bytes:
        wanted = self.key().key_id if key_id is None else key_id
        return await self.envelope.open(stored, wanted, deadline=soon())


def soon() -> float:
    return asyncio.get_running_loop().time() + 30.0


def provider_envelope(provider: InMemoryKeyProvider, writes: Version) -> Envelope:
    return ProviderEnvelope(
        provider=provider,
        writes=writes,
        scheme=SCHEME,
        accept_key_ids=frozenset({HASH, FORMER_HASH}),
    )


def direct() -> Subject:
    provider = InMemoryKeyProvider()
    envelope = provider_envelope(provider, Version.DIRECT)
    return Subject(envelope, provider, NativeNaming(SCHEME).key_id)


def go_plugin() -> Subject:
    provider = InMemoryKeyProvider()
    envelope = provider_envelope(provider, Version.GO_PLUGIN)
    return Subject(envelope, provider, lambda _description: HASH)


# Each implementation of the port has a line here.
NATIVE = [pytest.param(direct, id="direct")]
ALL = [*NATIVE, pytest.param(go_plugin, id="go-plugin")]


@pytest.fixture(params=ALL)
def subject(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param()
    return made


@pytest.fixture(params=NATIVE)
def native(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param()
    return made


async def test_seeds_of_every_size_come_back(subject: Subject) -> None:
    for size in range(1, MAX_SEED_BYTES + 1):
        seed = random.Random(size).randbytes(size)  # noqa: S311 - repeatable
        sealed = await subject.seal(seed)
        assert await subject.open(sealed) == seed
        assert len(sealed) < MAX_SEALED_SEED_BYTES


async def test_the_same_seed_is_sealed_differently_each_time(subject: Subject) -> None:
    sealed = {await subject.seal() for _ in range(20)}
    assert len(sealed) == 20


async def test_the_seed_does_not_stand_in_what_is_stored(subject: Subject) -> None:
    assert SEED not in await subject.seal()


async def test_one_seed_opened_many_times_at_once(subject: Subject) -> None:
    sealed = await subject.seal()
    opened = await asyncio.gather(*(subject.open(sealed) for _ in range(50)))
    assert set(opened) == {SEED}


async def test_a_changed_byte_at_any_place_never_opens_to_other_bytes(
    subject: Subject,
) -> None:
    sealed = await subject.seal()
    for position in range(len(sealed)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            stored = bytearray(sealed)
            stored[position] ^= flip
            # A changed kid leads to a key that the service does not have.
            with pytest.raises((*NOT_OURS, ProviderError)):
                await subject.open(bytes(stored))


async def test_truncated_and_prolonged_seeds_do_not_open(subject: Subject) -> None:
    sealed = await subject.seal()
    mutants = [sealed[:size] for size in range(len(sealed))]
    mutants += [sealed + b"\x00", sealed + sealed, b"\x00" + sealed, bytes(1024)]
    for stored in mutants:
        with pytest.raises(SealedSeedMalformed):
            await subject.open(stored)


async def test_noise_does_not_open(subject: Subject) -> None:
    chance = random.Random(7)  # noqa: S311 - repeatable
    for size in (0, 1, 130, 1024, 1025, 65_536):
        with pytest.raises(SealedSeedMalformed):
            await subject.open(chance.randbytes(size))


@pytest.mark.parametrize(
    "key_id",
    [
        "",
        "garbage",
        "sdkms.v1:",
        "sdkms.v1:no-such-key",
        "other.v1:no-such-key",
        FOREIGN_HASH,
        HASH.upper(),
        HASH[:-1],
        HASH + ":" + HASH,
        "x" * 10_000,
        "\ud800",
        "\x00",
    ],
)
async def test_a_foreign_key_id_is_refused_before_the_key_service_is_called(
    subject: Subject, key_id: str
) -> None:
    sealed = await subject.seal()
    subject.provider.calls.clear()
    with pytest.raises((KeyIdMalformed, KeyIdMismatch, KeyIdNotAccepted)):
        await subject.open(sealed, key_id)
    assert subject.provider.calls == []


async def test_a_foreign_hash_is_refused_by_a_text_that_names_it_and_the_setting(
    subject: Subject,
) -> None:
    sealed = await subject.seal()
    with pytest.raises(KeyIdNotAccepted) as caught:
        await subject.open(sealed, FOREIGN_HASH)
    assert FOREIGN_HASH in caught.value.text()
    assert "accept_key_ids" in caught.value.text()


async def test_a_malformed_seed_is_refused_before_the_key_service_is_called(
    subject: Subject,
) -> None:
    with pytest.raises(SealedSeedMalformed):
        await subject.open(b"garbage")
    assert subject.provider.calls == []


async def test_another_kid_in_the_key_id_is_refused_before_the_call(
    native: Subject,
) -> None:
    sealed = await native.seal()
    other = native.provider.make_key()
    native.provider.calls.clear()
    with pytest.raises(KeyIdMismatch):
        await native.open(sealed, native.key_id_of(other))
    assert native.provider.calls == []


async def test_another_lineage_in_the_key_id_does_not_open(native: Subject) -> None:
    sealed = await native.seal()
    kid = native.provider.configured
    for replaced in ("some-other-key", kid):
        with pytest.raises(SealedSeedNotAuthentic):
            await native.open(sealed, f"{SCHEME}:{kid}:{replaced}")


async def test_a_lineage_left_out_of_the_key_id_does_not_open(native: Subject) -> None:
    new = native.provider.rekey()
    sealed = await native.seal()
    assert await native.open(sealed) == SEED
    with pytest.raises(SealedSeedNotAuthentic):
        await native.open(sealed, f"{SCHEME}:{new.kid}")


async def test_another_scheme_is_refused(native: Subject) -> None:
    sealed = await native.seal()
    with pytest.raises(KeyIdMalformed):
        await native.open(sealed, native.key().key_id.replace(SCHEME, "other.v1"))


@pytest.mark.parametrize("key_id", [HASH, FORMER_HASH])
async def test_a_native_seed_does_not_open_under_a_hash(
    native: Subject, key_id: str
) -> None:
    sealed = await native.seal()
    native.provider.calls.clear()
    with pytest.raises(KeyIdMismatch):
        await native.open(sealed, key_id)
    assert native.provider.calls == []


async def test_seeds_open_after_rotations_under_their_own_key_ids(
    subject: Subject,
) -> None:
    stored = []
    for number in range(3):
        seed = bytes([number]) * 32
        stored.append((await subject.seal(seed), subject.key().key_id, seed))
        subject.provider.rekey(deactivate=True)
    for sealed, key_id, seed in stored:
        assert await subject.open(sealed, key_id) == seed


async def test_seeds_and_key_ids_of_two_keys_can_not_be_swapped(
    native: Subject,
) -> None:
    first, first_id = await native.seal(), native.key().key_id
    native.provider.rekey()
    second, second_id = await native.seal(), native.key().key_id
    for sealed, key_id in ((first, second_id), (second, first_id)):
        with pytest.raises(KeyIdMismatch):
            await native.open(sealed, key_id)


@pytest.mark.parametrize("field", ["cipher", "iv", "tag"])
async def test_fields_of_two_seeds_can_not_be_swapped(
    subject: Subject, field: str
) -> None:
    one, two = decode(await subject.seal()), decode(await subject.seal(SEED[::-1]))
    other = {field: getattr(two.ciphertext, field)}
    mixed = evolve(one, ciphertext=evolve(one.ciphertext, **other))
    with pytest.raises(SealedSeedNotAuthentic):
        await subject.open(encode(mixed))


async def test_bytes_can_not_move_between_fields(subject: Subject) -> None:
    sealed = decode(await subject.seal())
    c = sealed.ciphertext
    for moved in (
        Ciphertext(c.cipher[:-1], c.iv, c.cipher[-1:] + c.tag),
        Ciphertext(c.cipher + c.tag[:1], c.iv, c.tag[1:]),
        Ciphertext(c.cipher + c.tag, c.iv, b""),
        Ciphertext(c.cipher, c.iv, c.tag[:-1]),
        Ciphertext(c.cipher, b"", c.tag),
        Ciphertext(c.cipher, c.iv + b"\x00", c.tag),
    ):
        with pytest.raises(SealedSeedNotAuthentic):
            await subject.open(encode(evolve(sealed, ciphertext=moved)))


async def test_a_version_can_not_be_passed_off_as_another(subject: Subject) -> None:
    sealed = decode(await subject.seal())
    for version in set(Version) - {sealed.version}:
        relabelled = encode(evolve(sealed, version=version))
        for key_id in (HASH, f"{SCHEME}:{sealed.kid}"):
            with pytest.raises((KeyIdMismatch, SealedSeedNotAuthentic)):
                await subject.open(relabelled, key_id)


async def test_another_process_with_the_same_key_service_opens_it(
    subject: Subject,
) -> None:
    sealed = await subject.seal()
    for writes in Version:
        other = evolve(subject, envelope=provider_envelope(subject.provider, writes))
        assert await other.open(sealed, subject.key().key_id) == SEED


async def test_an_outage_raises_the_provider_s_error_and_heals(
    subject: Subject,
) -> None:
    sealed = await subject.seal()
    subject.provider.outage = ProviderUnreachable("no route")
    with pytest.raises(ProviderUnreachable):
        await subject.seal()
    with pytest.raises(ProviderUnreachable):
        await subject.open(sealed)
    subject.provider.outage = None
    assert await subject.open(sealed) == SEED


async def test_a_deadline_that_has_passed_ends_the_call(subject: Subject) -> None:
    past = asyncio.get_running_loop().time() - 1.0
    with pytest.raises(ProviderTimeout):
        await subject.envelope.seal(SEED, subject.key(), deadline=past)


async def test_a_key_that_may_not_be_used_neither_seals_nor_opens(
    subject: Subject,
) -> None:
    sealed = await subject.seal()
    subject.provider.change(subject.provider.configured, enabled=False)
    with pytest.raises(ProviderError):
        await subject.seal()
    with pytest.raises(ProviderError):
        await subject.open(sealed)


async def test_a_cancelled_call_raises_cancellation(subject: Subject) -> None:
    task = asyncio.create_task(subject.seal())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def damaged(c: Ciphertext) -> list[Ciphertext]:
    flipped = bytes([c.cipher[0] ^ 1]) + c.cipher[1:]
    return [
        evolve(c, cipher=flipped),
        evolve(c, cipher=c.cipher[:-1]),
        evolve(c, cipher=b""),
        evolve(c, iv=c.iv[::-1]),
        evolve(c, iv=b""),
        evolve(c, tag=c.tag[::-1]),
        evolve(c, tag=b""),
    ]


class DamagingProvider(InMemoryKeyProvider):
    """Damages what it encrypts or decrypts, as told."""

    def __init__(self) -> None:
        super().__init__()
        self.damage: int | None = None
        self.plaintext: bytes | None = None

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        made = await super()._encrypt(kid, plaintext, aad, deadline)
        return made if self.damage is None else damaged(made)[self.damage]

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        opened = await super()._decrypt(kid, ciphertext, aad, deadline)
        return opened if self.plaintext is None else self.plaintext


def damaging(subject: Subject) -> tuple[DamagingProvider, Subject]:
    provider = DamagingProvider()
    version = Version.GO_PLUGIN if subject.key().key_id == HASH else Version.DIRECT
    envelope = provider_envelope(provider, version)
    return provider, evolve(subject, provider=provider, envelope=envelope)


@pytest.mark.parametrize("damage", range(7))
async def test_sealing_proves_that_the_answer_opens(
    subject: Subject, damage: int
) -> None:
    provider, bad = damaging(subject)
    await bad.seal()
    provider.damage = damage
    with pytest.raises(OutageError) as caught:
        await bad.seal()
    assert caught.value.code == "DSM-ANSWER-REFUSED"


@pytest.mark.parametrize("plaintext", [b"", SEED[:-1], SEED + b"\x00", SEED[::-1]])
async def test_sealing_proves_that_the_answer_opens_to_the_same_bytes(
    subject: Subject, plaintext: bytes
) -> None:
    provider, bad = damaging(subject)
    provider.plaintext = plaintext
    with pytest.raises(OutageError) as caught:
        await bad.seal()
    assert caught.value.code == "DSM-ANSWER-REFUSED"


async def test_errors_hold_neither_seed_nor_ciphertext(subject: Subject) -> None:
    sealed = await subject.seal(b"top-secret-seed-of-32-bytes-----")
    texts = []
    for stored, key_id in (
        (sealed[:-1], None),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), None),
        (sealed, FOREIGN_HASH),
        (sealed, "garbage\nkey-id"),
    ):
        with pytest.raises(CallError) as caught:
            await subject.open(stored, key_id)
        texts.append(caught.value.text())
    for text in texts:
        assert "top-secret" not in text
        assert "garbage" not in text
        assert sealed.hex() not in text


async def test_every_refusal_is_of_the_error_family(subject: Subject) -> None:
    sealed = await subject.seal()
    chance = random.Random(11)  # noqa: S311 - repeatable
    for _ in range(500):
        stored = bytearray(sealed)
        for _ in range(chance.randint(1, 6)):
            stored[chance.randrange(len(stored))] = chance.randrange(256)
        if stored == sealed:
            continue
        with pytest.raises(KmsError):
            await subject.open(bytes(stored))
