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
    AnnouncedKey,
    AnyVersionEnvelope,
    Ciphertext,
    EnvelopedSeed,
    KeyDescription,
    KeyProvider,
    LocalKekEnvelope,
    NativeKeyId,
    NativeNaming,
    NoStore,
    ProviderEnvelope,
    SealedSeed,
    Version,
    go_plugin_key_id,
)
from kms_core.errors import KmsError, SealedSeedMalformed, SealedSeedNotAuthentic
from kms_core.fakes import ManualClock, SeededRandomness
from kms_core.limits import MAX_KEY_ID_BYTES, MAX_SEALED_SEED_BYTES, MAX_SEED_BYTES
from kms_core.sealed_seed import (
    aad_for_enveloped_seed,
    aad_for_local_kek,
    aad_for_seed,
    decode,
    encode,
)


BY_DSM = [
    vector
    for mark in ("version 1", "version 2", "version 2 after a rotation")
    for vector in vectors(mark)
]
BY_LOCAL_KEK = [
    vector
    for mark in ("version 3", "version 3 after a rotation")
    for vector in vectors(mark)
]
SEALED = [*BY_DSM, *BY_LOCAL_KEK]
REFUSED = [
    refused
    for mark in ("refused", "refused, version 3")
    for refused in vectors(mark)[0].items()
]
KIDS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._/-]{0,199}\Z")


class DsmOfTheVectors(KeyProvider):
    """Has the key of a vector, and chooses its nonce."""

    def __init__(self, vector: dict[str, str]) -> None:
        self._aes = AESGCM(bytes.fromhex(vector["kek"]))
        self._iv = bytes.fromhex(vector["iv"])

    async def aclose(self) -> None:
        pass

    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        raise AssertionError

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        sealed = self._aes.encrypt(self._iv, plaintext, aad)
        return Ciphertext(sealed[:-16], self._iv, sealed[-16:])

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        sealed = ciphertext.cipher + ciphertext.tag
        try:
            return self._aes.decrypt(ciphertext.iv, sealed, aad)
        except InvalidTag:
            raise SealedSeedNotAuthentic("not of this key") from None


class RandomnessOfTheVectors(SeededRandomness):
    """Gives the local KEK of a vector, and its salt."""

    def __init__(self, vector: dict[str, str]) -> None:
        super().__init__()
        self._tokens = [bytes.fromhex(vector[name]) for name in ("local_kek", "salt")]

    def token(self, size: int) -> bytes:
        token = self._tokens.pop(0)
        assert len(token) == size
        return token


def envelope(vector: dict[str, str]) -> AnyVersionEnvelope:
    """Return an envelope that writes the version of *vector*, as it was written."""
    (first, *_) = vectors("go-plugin key_ids")
    provider = DsmOfTheVectors(vector)
    version = Version(int(vector["version"]))
    local = version is Version.LOCAL_KEK
    return AnyVersionEnvelope(
        ProviderEnvelope(
            provider,
            Version.DIRECT if local else version,
            "sdkms.v1",
            frozenset({first["key_id"]}),
        ),
        LocalKekEnvelope(
            provider,
            "sdkms.v1",
            clock=ManualClock(),
            randomness=RandomnessOfTheVectors(vector) if local else SeededRandomness(),
            store=NoStore(),
        ),
        writes_local_keks=local,
    )


def as_ours(vector: dict[str, str]) -> SealedSeed | EnvelopedSeed:
    made = Ciphertext(
        *(bytes.fromhex(vector[name]) for name in ("cipher", "iv", "tag"))
    )
    version = Version(int(vector["version"]))
    if version is not Version.LOCAL_KEK:
        return SealedSeed(version, vector["kid"], made)
    salt, inner = (bytes.fromhex(vector[name]) for name in ("salt", "inner"))
    return EnvelopedSeed(vector["kid"], made, salt, inner)


def named(vector: dict[str, str]) -> str:
    return f"{vector['version']} {vector['key_id']}"


@pytest.mark.parametrize("vector", SEALED, ids=named)
async def test_every_vector_opens(vector: dict[str, str]) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    opened = await envelope(vector).open(
        bytes.fromhex(vector["sealed"]), vector["key_id"], deadline=deadline
    )
    assert opened.hex() == vector["seed"]


@pytest.mark.parametrize("vector", SEALED, ids=named)
async def test_every_vector_is_what_we_seal(vector: dict[str, str]) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    key = AnnouncedKey(vector["kid"], vector["key_id"])
    sealed = await envelope(vector).seal(
        bytes.fromhex(vector["seed"]), key, deadline=deadline
    )
    assert sealed.hex() == vector["sealed"]


@pytest.mark.parametrize("vector", SEALED, ids=named)
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


@pytest.mark.parametrize("vector", BY_DSM, ids=named)
def test_additional_data_of_every_seed_that_dsm_seals(vector: dict[str, str]) -> None:
    found = aad_for_seed(Version(int(vector["version"])), vector["key_id"])
    assert (found or b"").hex() == vector["aad"]


@pytest.mark.parametrize("vector", BY_LOCAL_KEK, ids=named)
def test_additional_data_of_both_layers(vector: dict[str, str]) -> None:
    sealed = decode(bytes.fromhex(vector["sealed"]))
    assert isinstance(sealed, EnvelopedSeed)
    assert aad_for_local_kek(vector["key_id"]).hex() == vector["aad"]
    inner = aad_for_enveloped_seed(vector["key_id"], sealed.kid, sealed.wrapped)
    assert inner.hex() == vector["inner_aad"]


@pytest.mark.parametrize(("what", "sealed"), REFUSED)
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
    version=st.sampled_from([Version.GO_PLUGIN, Version.DIRECT]),
    kid=KIDS,
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
    kid=KIDS,
    wrapped=st.builds(
        Ciphertext,
        st.binary(min_size=1, max_size=64),
        st.binary(max_size=64),
        st.binary(max_size=64),
    ),
    salt=st.binary(min_size=32, max_size=32),
    inner=st.binary(min_size=17, max_size=528),
)
def test_ours_and_the_independent_writer_agree_on_version_3(
    kid: str, wrapped: Ciphertext, salt: bytes, inner: bytes
) -> None:
    made = (wrapped.cipher, wrapped.iv, wrapped.tag)
    written = independent.write(Seed(3, kid, *made, salt, inner))
    ours = EnvelopedSeed(kid, wrapped, salt, inner)
    assert encode(ours) == written
    assert decode(written) == ours


@given(
    vector=st.sampled_from([*SEALED, *vectors("encoding")]),
    place=st.integers(0, 225),
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
