from __future__ import annotations

import asyncio

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.docs import independent
from tests.unit.docs.independent import Seed
from tests.unit.docs.support import vectors

from kms_core import (
    Ciphertext,
    KeyDescription,
    KeyProvider,
    NativeKeyId,
    NativeNaming,
    ProviderEnvelope,
    SealedSeed,
    Version,
    go_plugin_key_id,
)
from kms_core.errors import KmsError, SealedSeedMalformed, SealedSeedNotAuthentic
from kms_core.limits import MAX_KEY_ID_BYTES, MAX_SEALED_SEED_BYTES, MAX_SEED_BYTES
from kms_core.sealed_seed import aad_for_seed, decode, encode


SEALED = [
    vector
    for mark in ("version 1", "version 2", "version 2 after a rotation")
    for vector in vectors(mark)
]


class DsmOfTheVectors(KeyProvider):
    """Opens what the key of the vectors made."""

    def __init__(self, kek: bytes) -> None:
        self._aes = AESGCM(kek)

    async def aclose(self) -> None:
        pass

    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        raise AssertionError

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        raise AssertionError

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        sealed = ciphertext.cipher + ciphertext.tag
        try:
            return self._aes.decrypt(ciphertext.iv, sealed, aad)
        except InvalidTag:
            raise SealedSeedNotAuthentic("not of this key") from None


def envelope(vector: dict[str, str]) -> ProviderEnvelope:
    (first, *_) = vectors("go-plugin key_ids")
    return ProviderEnvelope(
        DsmOfTheVectors(bytes.fromhex(vector["kek"])),
        Version.DIRECT,
        "sdkms.v1",
        frozenset({first["key_id"]}),
    )


def as_ours(vector: dict[str, str]) -> SealedSeed:
    parts = (bytes.fromhex(vector[name]) for name in ("cipher", "iv", "tag"))
    version = Version(int(vector["version"]))
    return SealedSeed(version, vector["kid"], Ciphertext(*parts))


@pytest.mark.parametrize("vector", SEALED, ids=lambda v: v["key_id"])
async def test_every_vector_opens(vector: dict[str, str]) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    opened = await envelope(vector).open(
        bytes.fromhex(vector["sealed"]), vector["key_id"], deadline=deadline
    )
    assert opened.hex() == vector["seed"]


@pytest.mark.parametrize("vector", SEALED, ids=lambda v: v["key_id"])
async def test_no_vector_opens_under_the_key_id_of_another(
    vector: dict[str, str],
) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    for key_id in {other["key_id"] for other in SEALED} - {vector["key_id"]}:
        with pytest.raises(KmsError):
            await envelope(vector).open(
                bytes.fromhex(vector["sealed"]), key_id, deadline=deadline
            )


@pytest.mark.parametrize("vector", [*SEALED, *vectors("encoding")])
def test_every_vector_is_written_and_read(vector: dict[str, str]) -> None:
    sealed = bytes.fromhex(vector["sealed"])
    assert encode(as_ours(vector)) == sealed
    assert decode(sealed) == as_ours(vector)


@pytest.mark.parametrize("vector", SEALED, ids=lambda v: v["key_id"])
def test_additional_data_of_every_vector(vector: dict[str, str]) -> None:
    found = aad_for_seed(Version(int(vector["version"])), vector["key_id"])
    assert (found or b"").hex() == vector["aad"]


@pytest.mark.parametrize(("what", "sealed"), vectors("refused")[0].items())
def test_what_must_be_refused_is_refused(what: str, sealed: str) -> None:
    with pytest.raises(SealedSeedMalformed):
        decode(bytes.fromhex(sealed))


def test_native_key_ids() -> None:
    (vector,) = vectors("native key_ids")
    kid, replaced = vector["kid"], vector["replaced"]
    naming = NativeNaming()
    assert naming.key_id(KeyDescription(kid=kid)) == vector["first"]
    rotated = naming.key_id(KeyDescription(kid=kid, replaced=replaced))
    assert rotated == vector["rotated"]
    parsed = NativeKeyId.parse(vector["rotated"])
    assert (parsed.kid, parsed.replaced) == (kid, replaced)


@pytest.mark.parametrize("vector", vectors("go-plugin key_ids"))
def test_go_plugin_key_ids(vector: dict[str, str]) -> None:
    found = go_plugin_key_id(
        vector["endpoint"],
        key_id=vector.get("uuid", ""),
        key_name=vector.get("key_name", ""),
    )
    assert found == vector["key_id"]


def test_limits_of_the_document() -> None:
    assert (MAX_SEALED_SEED_BYTES, MAX_KEY_ID_BYTES, MAX_SEED_BYTES) == (
        1024,
        1024,
        512,
    )


@given(
    version=st.sampled_from(Version),
    kid=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._/-]{0,199}\Z"),
    cipher=st.binary(min_size=1, max_size=512),
    iv=st.binary(max_size=64),
    tag=st.binary(max_size=16),
)
def test_ours_and_the_independent_writer_agree(
    version: Version, kid: str, cipher: bytes, iv: bytes, tag: bytes
) -> None:
    written = independent.write(Seed(version, kid, cipher, iv, tag))
    assert encode(SealedSeed(version, kid, Ciphertext(cipher, iv, tag))) == written
    assert decode(written) == SealedSeed(version, kid, Ciphertext(cipher, iv, tag))


@given(
    vector=st.sampled_from([*SEALED, *vectors("encoding")]),
    place=st.integers(0, 140),
    instead=st.binary(max_size=2),
)
def test_ours_and_the_independent_reader_refuse_the_same(
    vector: dict[str, str], place: int, instead: bytes
) -> None:
    sealed = bytes.fromhex(vector["sealed"])
    changed = sealed[:place] + instead + sealed[place + 1 :]
    assert _is_read_by_us(changed) == _is_read(changed)


def _is_read_by_us(stored: bytes) -> bool:
    try:
        decode(stored)
    except SealedSeedMalformed:
        return False
    return True


def _is_read(stored: bytes) -> bool:
    try:
        independent.read(stored)
    except ValueError:
        return False
    return True
