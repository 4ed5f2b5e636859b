"""What is special to ProviderEnvelope; the port's contract is in tests/contract."""

from __future__ import annotations

import asyncio

import pytest

from kms_core.envelope import ProviderEnvelope
from kms_core.errors import (
    AnswerTooLarge,
    KeyIdMismatch,
    KeyIdNotAccepted,
    KeyNotFound,
)
from kms_core.fakes import InMemoryKeyProvider
from kms_core.key_id import AnnouncedKey, go_plugin_key_id
from kms_core.provider import Ciphertext
from kms_core.sealed_seed import SealedSeed, Version, aad_for_seed, decode, encode


HASH = go_plugin_key_id("https://dsm.test", key_name="kek")
FORMER_HASH = go_plugin_key_id("https://old.test", key_name="kek")
SEED = bytes(range(32))


def soon() -> float:
    return asyncio.get_running_loop().time() + 30.0


def envelope_of(
    provider: InMemoryKeyProvider, writes: Version = Version.DIRECT
) -> ProviderEnvelope:
    return ProviderEnvelope(
        provider, writes, "sdkms.v1", frozenset({HASH, FORMER_HASH})
    )


async def made_by_the_go_plugin(provider: InMemoryKeyProvider, kid: str) -> bytes:
    ciphertext = await provider.encrypt(kid, SEED, None, deadline=soon())
    return encode(SealedSeed(Version.GO_PLUGIN, kid, ciphertext))


@pytest.mark.parametrize("writes", Version)
@pytest.mark.parametrize("key_id", [HASH, FORMER_HASH])
async def test_version_1_opens_under_accepted_hashes_whatever_kid_it_names(
    writes: Version, key_id: str
) -> None:
    provider = InMemoryKeyProvider()
    for kid in (provider.configured, provider.make_key().kid):
        stored = await made_by_the_go_plugin(provider, kid)
        opened = await envelope_of(provider, writes).open(
            stored, key_id, deadline=soon()
        )
        assert opened == SEED


async def test_version_1_names_a_key_that_is_gone() -> None:
    provider = InMemoryKeyProvider()
    stored = encode(
        SealedSeed(Version.GO_PLUGIN, "gone", Ciphertext(b"c", bytes(12), bytes(16)))
    )
    with pytest.raises(KeyNotFound):
        await envelope_of(provider).open(stored, HASH, deadline=soon())


async def test_version_1_does_not_open_under_a_hash_that_is_not_listed() -> None:
    provider = InMemoryKeyProvider()
    stored = await made_by_the_go_plugin(provider, provider.configured)
    none_listed = ProviderEnvelope(provider, Version.DIRECT, "sdkms.v1", frozenset())
    with pytest.raises(KeyIdNotAccepted):
        await none_listed.open(stored, HASH, deadline=soon())


async def test_version_1_does_not_open_under_a_native_key_id() -> None:
    provider = InMemoryKeyProvider()
    kid = provider.configured
    stored = await made_by_the_go_plugin(provider, kid)
    provider.calls.clear()
    with pytest.raises(KeyIdMismatch):
        await envelope_of(provider).open(stored, f"sdkms.v1:{kid}", deadline=soon())
    assert provider.calls == []


async def test_version_2_is_bound_to_its_key_id_at_the_key_service() -> None:
    provider = InMemoryKeyProvider()
    kid = provider.configured
    key = AnnouncedKey(kid, f"sdkms.v1:{kid}")
    stored = await envelope_of(provider).seal(SEED, key, deadline=soon())
    sealed = decode(stored)
    assert isinstance(sealed, SealedSeed)
    assert (sealed.version, sealed.kid) == (Version.DIRECT, kid)
    opened = await provider.decrypt(
        kid,
        sealed.ciphertext,
        aad_for_seed(Version.DIRECT, key.key_id),
        deadline=soon(),
    )
    assert opened == SEED


async def test_sealing_encrypts_once_and_opens_once() -> None:
    provider = InMemoryKeyProvider()
    key = AnnouncedKey(provider.configured, HASH)
    await envelope_of(provider, Version.GO_PLUGIN).seal(SEED, key, deadline=soon())
    assert provider.calls == ["encrypt", "decrypt"]


class Verbose(InMemoryKeyProvider):
    """Answers with far more than it was given."""

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        return Ciphertext(bytes(2000), bytes(12), bytes(16))


async def test_an_answer_too_large_for_kube_apiserver_is_not_stored() -> None:
    provider = Verbose()
    key = AnnouncedKey(provider.configured, HASH)
    with pytest.raises(AnswerTooLarge):
        await envelope_of(provider).seal(SEED, key, deadline=soon())
