"""The contract of the Envelope port, run on every implementation of it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from attrs import evolve, frozen

from kms_core.any_version import AnyVersionEnvelope
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
from kms_core.fakes import InMemoryKeyProvider, InMemoryStore
from kms_core.key_id import AnnouncedKey, NativeNaming, go_plugin_key_id
from kms_core.limits import MAX_SEALED_SEED_BYTES, MAX_SEED_BYTES
from kms_core.local_kek import LocalKekEnvelope
from kms_core.sealed_seed import Version
from kms_core.system import LoopClock, SystemRandomness


if TYPE_CHECKING:
    from collections.abc import Callable

    from kms_core.provider import Ciphertext, KeyDescription


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

    build: Callable[[InMemoryKeyProvider], Envelope]
    provider: InMemoryKeyProvider
    envelope: Envelope
    key_id_of: Callable[[KeyDescription], str]

    @classmethod
    def of(
        cls,
        build: Callable[[InMemoryKeyProvider], Envelope],
        key_id_of: Callable[[KeyDescription], str],
        provider: InMemoryKeyProvider | None = None,
    ) -> Subject:
        keys = provider or InMemoryKeyProvider()
        return cls(build, keys, build(keys), key_id_of)

    def another(self, provider: InMemoryKeyProvider | None = None) -> Subject:
        """Return a new process, on the same key service or on another."""
        return Subject.of(self.build, self.key_id_of, provider or self.provider)

    def key(self) -> AnnouncedKey:
        description = self.provider.keys[self.provider.configured]
        return AnnouncedKey(description.kid, self.key_id_of(description))

    async def seal(self, seed: bytes = SEED) -> bytes:
        return await self.envelope.seal(seed, self.key(), deadline=soon())

    async def open(self, stored: bytes, key_id: str | None = None) -> bytes:
        wanted = self.key().key_id if key_id is None else key_id
        return await self.envelope.open(stored, wanted, deadline=soon())

    async def prove(self) -> None:
        await self.envelope.prove(self.key(), SEED, deadline=soon())


def soon() -> float:
    return asyncio.get_running_loop().time() + 30.0


def by_provider(provider: InMemoryKeyProvider, writes: Version) -> ProviderEnvelope:
    return ProviderEnvelope(
        provider=provider,
        writes=writes,
        scheme=SCHEME,
        accept_key_ids=frozenset({HASH, FORMER_HASH}),
    )


def by_local_kek(provider: InMemoryKeyProvider) -> LocalKekEnvelope:
    return LocalKekEnvelope(
        provider,
        SCHEME,
        clock=LoopClock(),
        randomness=SystemRandomness(),
        store=InMemoryStore(),
    )


def any_version(
    provider: InMemoryKeyProvider, writes: Version, *, writes_local_keks: bool
) -> Envelope:
    return AnyVersionEnvelope(
        by_provider(provider, writes),
        by_local_kek(provider),
        writes_local_keks=writes_local_keks,
    )


def always_hash(_description: KeyDescription) -> str:
    return HASH


natively = NativeNaming(SCHEME).key_id


def direct() -> Subject:
    return Subject.of(lambda p: by_provider(p, Version.DIRECT), natively)


def go_plugin() -> Subject:
    return Subject.of(lambda p: by_provider(p, Version.GO_PLUGIN), always_hash)


def local_kek() -> Subject:
    return Subject.of(by_local_kek, natively)


def daemon_direct() -> Subject:
    return Subject.of(
        lambda p: any_version(p, Version.DIRECT, writes_local_keks=False), natively
    )


def daemon_go_plugin() -> Subject:
    return Subject.of(
        lambda p: any_version(p, Version.GO_PLUGIN, writes_local_keks=False),
        always_hash,
    )


def daemon_local_kek() -> Subject:
    return Subject.of(
        lambda p: any_version(p, Version.DIRECT, writes_local_keks=True), natively
    )


# Each implementation of the port has a line here, and each way to configure it.
DIRECT = [
    pytest.param(direct, id="direct"),
    pytest.param(daemon_direct, id="any version, direct"),
]
LOCAL = [
    pytest.param(local_kek, id="local KEK"),
    pytest.param(daemon_local_kek, id="any version, local KEK"),
]
LEGACY = [
    pytest.param(go_plugin, id="go-plugin"),
    pytest.param(daemon_go_plugin, id="any version, go-plugin"),
]
NATIVE = [*DIRECT, *LOCAL]
ASKING = [*DIRECT, *LEGACY]
ALL = [*NATIVE, *LEGACY]


@pytest.fixture(params=ALL)
def subject(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param()
    return made


@pytest.fixture(params=NATIVE)
def native(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param()
    return made


@pytest.fixture(params=LEGACY)
def legacy(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param()
    return made


@pytest.fixture(params=LOCAL)
def local(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param()
    return made


@pytest.fixture(params=ASKING)
def asking(request: pytest.FixtureRequest) -> Subject:
    """Return one that asks the key service for each seed."""
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
    legacy: Subject,
) -> None:
    sealed = await legacy.seal()
    with pytest.raises(KeyIdNotAccepted) as caught:
        await legacy.open(sealed, FOREIGN_HASH)
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


def parts(stored: bytes) -> dict[str, Any]:
    """Return what stands in *stored*, by name; ``cbor2.dumps`` puts it back."""
    loaded: dict[str, Any] = cbor2.loads(stored)
    assert cbor2.dumps(loaded) == stored
    return loaded


async def test_fields_of_two_seeds_can_not_be_swapped(subject: Subject) -> None:
    # Of two processes, so that a local KEK, if there is one, differs too.
    one = parts(await subject.seal())
    two = parts(await subject.another().seal(SEED[::-1]))
    for name in set(one) - {"Version", "KID"}:
        assert one[name] != two[name]
        mixed = cbor2.dumps(one | {name: two[name]})
        for node in (subject, subject.another()):
            with pytest.raises(SealedSeedNotAuthentic):
                await node.open(mixed)


async def test_bytes_can_not_move_between_fields(subject: Subject) -> None:
    sealed = parts(await subject.seal())
    cipher, iv, tag = sealed["Cipher"], sealed["IV"], sealed["Tag"]
    for moved in (
        (cipher[:-1], iv, cipher[-1:] + tag),
        (cipher + tag[:1], iv, tag[1:]),
        (cipher + tag, iv, b""),
        (cipher, iv, tag[:-1]),
        (cipher, b"", tag),
        (cipher, iv + b"\x00", tag),
    ):
        mixed = sealed | dict(zip(("Cipher", "IV", "Tag"), moved, strict=True))
        with pytest.raises(SealedSeedNotAuthentic):
            await subject.open(cbor2.dumps(mixed))


async def test_a_version_can_not_be_passed_off_as_another(subject: Subject) -> None:
    sealed = parts(await subject.seal())
    for version in set(Version) - {sealed["Version"]}:
        relabelled = cbor2.dumps(sealed | {"Version": int(version)})
        for key_id in (HASH, f"{SCHEME}:{sealed['KID']}"):
            with pytest.raises(
                (KeyIdMismatch, SealedSeedNotAuthentic, SealedSeedMalformed)
            ):
                await subject.open(relabelled, key_id)


async def test_another_process_with_the_same_key_service_opens_it(
    subject: Subject,
) -> None:
    sealed = await subject.seal()
    assert await subject.another().open(sealed) == SEED


async def test_a_daemon_opens_it_whatever_it_writes_itself(subject: Subject) -> None:
    sealed, key_id = await subject.seal(), subject.key().key_id
    for build in (daemon_direct, daemon_go_plugin, daemon_local_kek):
        daemon = build().another(subject.provider)
        assert await daemon.open(sealed, key_id) == SEED


async def test_an_outage_raises_the_provider_s_error_and_heals(
    subject: Subject,
) -> None:
    sealed = await subject.seal()
    cold = subject.another()
    subject.provider.outage = ProviderUnreachable("no route")
    for attempt in (cold.seal(), cold.open(sealed), cold.prove(), subject.prove()):
        with pytest.raises(ProviderUnreachable):
            await attempt
    subject.provider.outage = None
    assert await cold.open(sealed) == SEED
    assert await subject.open(await cold.seal()) == SEED


async def test_one_that_asks_for_each_seed_feels_an_outage_though_it_is_warm(
    asking: Subject,
) -> None:
    sealed = await asking.seal()
    asking.provider.outage = ProviderUnreachable("no route")
    for attempt in (asking.seal(), asking.open(sealed)):
        with pytest.raises(ProviderUnreachable):
            await attempt


async def test_one_with_a_local_kek_seals_and_opens_through_an_outage(
    local: Subject,
) -> None:
    sealed = await local.seal()
    local.provider.outage = ProviderUnreachable("no route")
    assert await local.open(sealed) == await local.open(await local.seal()) == SEED


async def test_proving_makes_it_ready_to_seal(subject: Subject) -> None:
    await subject.prove()
    assert subject.provider.calls == ["encrypt", "decrypt"]
    assert await subject.open(await subject.seal()) == SEED


async def test_every_proof_asks_the_key_service(subject: Subject) -> None:
    for _ in range(3):
        subject.provider.calls.clear()
        await subject.prove()
        assert subject.provider.calls == ["encrypt", "decrypt"]


async def test_whether_sealing_proves_is_what_it_says(subject: Subject) -> None:
    await subject.prove()
    subject.provider.calls.clear()
    await subject.seal()
    asked = subject.provider.calls == ["encrypt", "decrypt"]
    assert asked is subject.envelope.sealing_proves


async def test_after_a_drop_it_goes_on_by_asking(subject: Subject) -> None:
    sealed = await subject.seal()
    subject.envelope.drop(subject.provider.configured)
    assert subject.envelope.drop(subject.provider.configured) == 0
    subject.provider.calls.clear()
    assert await subject.open(sealed) == SEED
    assert subject.provider.calls == ["decrypt"]
    assert await subject.open(await subject.seal()) == SEED


async def test_dropping_another_kid_drops_nothing(subject: Subject) -> None:
    await subject.seal()
    assert subject.envelope.drop("another") == 0


async def test_closing_twice_does_no_harm(subject: Subject) -> None:
    await subject.seal()
    await subject.envelope.aclose()
    await subject.envelope.aclose()


async def test_a_deadline_that_has_passed_ends_the_call(subject: Subject) -> None:
    past = asyncio.get_running_loop().time() - 1.0
    sealed = await subject.another().seal()
    envelope, key = subject.envelope, subject.key()
    for attempt in (
        envelope.seal(SEED, key, deadline=past),
        envelope.open(sealed, key.key_id, deadline=past),
        envelope.prove(key, SEED, deadline=past),
    ):
        with pytest.raises(ProviderTimeout):
            await attempt


async def test_a_key_that_may_not_be_used_neither_seals_nor_opens(
    subject: Subject,
) -> None:
    sealed = await subject.seal()
    subject.provider.change(subject.provider.configured, enabled=False)
    cold = subject.another()
    for attempt in (cold.seal(), cold.open(sealed), cold.prove(), subject.prove()):
        with pytest.raises(ProviderError):
            await attempt


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
    return provider, subject.another(provider)


@pytest.mark.parametrize("damage", range(7))
async def test_sealing_proves_that_the_answer_opens(
    subject: Subject, damage: int
) -> None:
    provider, bad = damaging(subject)
    await bad.another().seal()
    provider.damage = damage
    for act in (bad.seal, bad.prove):
        with pytest.raises(OutageError) as caught:
            await act()
        assert caught.value.code == "DSM-ANSWER-REFUSED"


@pytest.mark.parametrize("plaintext", [b"", SEED[:-1], SEED + b"\x00", SEED[::-1]])
async def test_sealing_proves_that_the_answer_opens_to_the_same_bytes(
    subject: Subject, plaintext: bytes
) -> None:
    provider, bad = damaging(subject)
    provider.plaintext = plaintext
    for act in (bad.seal, bad.prove):
        with pytest.raises(OutageError) as caught:
            await act()
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
