from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kms_core import seed_frame
from kms_core.errors import (
    KeyIdMalformed,
    KeyIdMismatch,
    KmsError,
    SealedSeedMalformed,
)
from kms_core.kek_cache import WrappedKek
from kms_core.key_id import require_native
from kms_core.provider import Ciphertext
from kms_core.sealed_seed import (
    EnvelopedSeed,
    SealedSeed,
    Version,
    aad_for_enveloped_seed,
    decode,
    encode,
)
from kms_core.seed_frame import Opening, read_enveloped


if TYPE_CHECKING:
    from collections.abc import Callable


SCHEME = "sdkms.v1"
KID = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
OTHER_KID = "11111111-2c3a-47dc-8779-311dad6843a2"
KEY_ID = f"{SCHEME}:{KID}"
WRAPPED = Ciphertext(bytes(range(32)), bytes(range(12)), bytes(range(16)))
BETWEEN = b"\x64Seed\x58\x30"


def stored_seed(
    salt: bytes = b"s" * 32, seed: bytes = b"e" * 48, wrapped: Ciphertext = WRAPPED
) -> bytes:
    return encode(EnvelopedSeed(KID, wrapped, salt, seed))


def by_the_decoder_alone(stored: bytes, key_id: str) -> Opening:
    sealed = decode(stored)
    if not isinstance(sealed, EnvelopedSeed):
        raise SealedSeedMalformed("the sealed seed has no local KEK")
    require_native(key_id, sealed.kid, SCHEME)
    return Opening(
        WrappedKek(sealed.kid, key_id, sealed.wrapped),
        aad_for_enveloped_seed(key_id, sealed.kid, sealed.wrapped),
        sealed.salt,
        sealed.seed,
    )


def assert_same_as_the_decoder(stored: bytes, key_id: str = KEY_ID) -> None:
    assert said_of(read_enveloped, stored, key_id, SCHEME) == said_of(
        by_the_decoder_alone, stored, key_id
    )


def said_of(read: Callable[..., Opening], *arguments: object) -> object:
    try:
        return read(*arguments)
    except KmsError as error:
        return type(error), error.text()


def remembered() -> int:
    return seed_frame._framed.cache_info().currsize


@pytest.mark.parametrize("seed_bytes", [17, 47, 48, 49, 120, 528])
def test_seeds_of_any_size_are_read(seed_bytes: int) -> None:
    stored = stored_seed(seed=(bytes(range(256)) * 3)[:seed_bytes])
    opening = read_enveloped(stored, KEY_ID, SCHEME)
    assert opening.seed == (bytes(range(256)) * 3)[:seed_bytes]
    assert opening.salt == b"s" * 32
    assert opening.wrapped == WrappedKek(KID, KEY_ID, WRAPPED)


def test_one_frame_serves_every_salt_and_seed_of_a_local_kek() -> None:
    seed_frame._framed.cache_clear()
    for number in range(5):
        salt, seed = bytes([number]) * 32, bytes([number]) * 48
        opening = read_enveloped(stored_seed(salt, seed), KEY_ID, SCHEME)
        assert (opening.salt, opening.seed) == (salt, seed)
    assert remembered() == 1


@settings(deadline=None)
@given(
    at=st.integers(0, 223),
    bits=st.integers(1, 255),
    known=st.booleans(),
)
def test_a_changed_byte_means_what_the_decoder_says(
    *, at: int, bits: int, known: bool
) -> None:
    stored = bytearray(stored_seed())
    seed_frame._framed.cache_clear()
    if known:
        read_enveloped(bytes(stored), KEY_ID, SCHEME)
    stored[at] ^= bits
    assert_same_as_the_decoder(bytes(stored))


@settings(deadline=None)
@given(
    cut=st.integers(0, 224),
    put=st.binary(max_size=120),
    gone=st.integers(0, 120),
)
def test_bytes_put_in_or_taken_out_mean_what_the_decoder_says(
    cut: int, put: bytes, gone: int
) -> None:
    stored = stored_seed()
    read_enveloped(stored, KEY_ID, SCHEME)
    assert_same_as_the_decoder(stored[:cut] + put + stored[cut + gone :])


@settings(deadline=None)
@given(st.binary(max_size=300))
@example(b"")
@example(BETWEEN)
@example(BETWEEN + bytes(48))
@example(bytes(32) + BETWEEN + bytes(48))
def test_rubbish_means_what_the_decoder_says(stored: bytes) -> None:
    assert_same_as_the_decoder(stored)


@pytest.mark.parametrize("version", [Version.GO_PLUGIN, Version.DIRECT])
def test_other_versions_have_no_local_kek(version: Version) -> None:
    # The tag's field begins 21 bytes before the end, the IV's 38: what looks like a
    # frame's end lies within the cipher.
    cipher = bytes(100)[: 100 - 17] + BETWEEN + bytes(10)
    for sealed in (
        SealedSeed(version, KID, WRAPPED),
        SealedSeed(version, KID, Ciphertext(cipher, bytes(12), bytes(16))),
    ):
        with pytest.raises(SealedSeedMalformed, match="no local KEK"):
            read_enveloped(encode(sealed), KEY_ID, SCHEME)


def test_what_looks_like_a_frame_within_a_long_seed_is_part_of_the_seed() -> None:
    seed = b"x" * 65 + BETWEEN + b"y" * 48
    opening = read_enveloped(stored_seed(seed=seed), KEY_ID, SCHEME)
    assert opening.seed == seed


@pytest.mark.parametrize(
    ("key_id", "error"),
    [
        (f"{SCHEME}:{OTHER_KID}", KeyIdMismatch),
        ("d" * 64, KeyIdMismatch),
        (f"other.v1:{KID}", KeyIdMalformed),
        ("", KeyIdMalformed),
        ("x" * 60_000, KeyIdMalformed),
    ],
)
def test_a_known_frame_is_no_excuse_for_another_key_id(
    key_id: str, error: type[KmsError]
) -> None:
    read_enveloped(stored_seed(), KEY_ID, SCHEME)
    with pytest.raises(error):
        read_enveloped(stored_seed(), key_id, SCHEME)


def test_nothing_that_was_refused_is_remembered() -> None:
    seed_frame._framed.cache_clear()
    stored = stored_seed()
    for key_id in (f"{SCHEME}:{OTHER_KID}", "x" * 60_000):
        with pytest.raises(KmsError):
            read_enveloped(stored, key_id, SCHEME)
    for place in range(0, 130, 7):
        changed = stored[:place] + b"\xff" + stored[place:]
        with pytest.raises(KmsError):
            read_enveloped(changed, KEY_ID, SCHEME)
    assert remembered() == 0
