"""The daemon's envelope: one version is written, every version is read."""

from __future__ import annotations

import asyncio

import pytest

from kms_core.any_version import AnyVersionEnvelope
from kms_core.envelope import ProviderEnvelope
from kms_core.errors import KeyIdMismatch, KmsError, SealedSeedMalformed
from kms_core.fakes import (
    InMemoryKeyProvider,
    InMemoryStore,
    ManualClock,
    SeededRandomness,
)
from kms_core.key_id import AnnouncedKey, go_plugin_key_id
from kms_core.local_kek import LocalKekEnvelope
from kms_core.sealed_seed import Version, decode


HASH = go_plugin_key_id("https://dsm.test", key_name="kek")
SEED = bytes(range(32))


class Daemon:
    def __init__(
        self,
        provider: InMemoryKeyProvider,
        *,
        writes_local_keks: bool,
        otherwise: Version = Version.DIRECT,
    ) -> None:
        self.provider = provider
        self.local = LocalKekEnvelope(
            provider,
            "sdkms.v1",
            clock=ManualClock(),
            randomness=SeededRandomness(),
            store=InMemoryStore(),
        )
        self.envelope = AnyVersionEnvelope(
            ProviderEnvelope(provider, otherwise, "sdkms.v1", frozenset({HASH})),
            self.local,
            writes_local_keks=writes_local_keks,
        )
        writes_v1 = not writes_local_keks and otherwise is Version.GO_PLUGIN
        kid = provider.configured
        self.key = AnnouncedKey(kid, HASH if writes_v1 else f"sdkms.v1:{kid}")

    async def seal(self) -> bytes:
        return await self.envelope.seal(SEED, self.key, deadline=soon())

    async def open(self, stored: bytes, key_id: str) -> bytes:
        return await self.envelope.open(stored, key_id, deadline=soon())


def soon() -> float:
    return asyncio.get_running_loop().time() + 30.0


def daemons() -> dict[int, Daemon]:
    """Return a daemon for each version that can be written, on one key service."""
    provider = InMemoryKeyProvider()
    return {
        1: Daemon(provider, writes_local_keks=False, otherwise=Version.GO_PLUGIN),
        2: Daemon(provider, writes_local_keks=False),
        3: Daemon(provider, writes_local_keks=True),
    }


async def test_every_daemon_reads_what_every_other_wrote() -> None:
    made = daemons()
    for version, writer in made.items():
        stored = await writer.seal()
        assert stored[9] == version
        for reader in made.values():
            assert await reader.open(stored, writer.key.key_id) == SEED


async def test_each_version_opens_under_its_own_kind_of_key_id_alone() -> None:
    made = daemons()
    native, legacy = made[3].key.key_id, made[1].key.key_id
    for version, wrong in ((1, native), (2, legacy), (3, legacy)):
        stored = await made[version].seal()
        made[version].provider.calls.clear()
        for reader in made.values():
            with pytest.raises(KeyIdMismatch):
                await reader.open(stored, wrong)
        assert made[version].provider.calls == []


@pytest.mark.parametrize("stored", [b"", b"\xa5", b"\xa7", bytes(200), b"\xa7" * 1025])
async def test_what_is_no_sealed_seed_reaches_no_envelope(stored: bytes) -> None:
    for reader in daemons().values():
        with pytest.raises(SealedSeedMalformed):
            await reader.open(stored, reader.key.key_id)
        assert reader.provider.calls == []


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_relabelled_version_does_not_open(version: int) -> None:
    made = daemons()
    stored = bytearray(await made[version].seal())
    for other in {1, 2, 3} - {version}:
        stored[9] = other
        for key_id in (HASH, made[3].key.key_id):
            with pytest.raises(KmsError):
                await made[3].open(bytes(stored), key_id)


async def test_whether_sealing_proves_is_the_writer_s_word() -> None:
    made = daemons()
    proves = {version: one.envelope.sealing_proves for version, one in made.items()}
    assert proves == {1: True, 2: True, 3: False}


@pytest.mark.parametrize(("version", "kept"), [(1, 0), (2, 0), (3, 1)])
async def test_a_proof_is_the_writer_s(version: int, kept: int) -> None:
    daemon = daemons()[version]
    await daemon.envelope.prove(daemon.key, SEED, deadline=soon())
    assert daemon.provider.calls == ["encrypt", "decrypt"]
    assert daemon.local.kept == kept


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_local_keks_that_were_met_are_dropped_and_closed_whoever_writes(
    version: int,
) -> None:
    made = daemons()
    stored = await made[3].seal()
    reader, key_id = made[version], made[3].key.key_id
    await reader.open(stored, key_id)
    assert reader.local.kept == 1
    assert reader.envelope.drop(reader.key.kid) == 1
    await reader.open(stored, key_id)
    await reader.envelope.aclose()
    assert reader.local.kept == 0
    assert decode(stored).kid == reader.key.kid
