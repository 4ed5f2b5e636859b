from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kms_core.errors import SealedSeedMalformed
from kms_core.limits import MAX_SEALED_SEED_BYTES, MAX_SEED_BYTES
from kms_core.local_kek import MAX_PART_BYTES
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


KID = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
CIPHERTEXT = Ciphertext(bytes(range(32)), bytes(range(12)), bytes(range(16)))

# dsm-api.md 8.1: what the Go plugin 0.3.0 writes.
GOLDEN_1 = bytes.fromhex(
    "a56756657273696f6e01634b4944782434623364313361382d326333612d34376463"
    "2d383737392d333131646164363834336132664369706865725820000102030405"
    "060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f6249564c000102"
    "030405060708090a0b6354616750000102030405060708090a0b0c0d0e0f"
)
GOLDEN_2 = bytes.fromhex(
    "a56756657273696f6e02634b4944782434623364313361382d326333612d34376463"
    "2d383737392d333131646164363834336132664369706865725820000102030405"
    "060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f6249564c000102"
    "030405060708090a0b6354616750000102030405060708090a0b0c0d0e0f"
)
GOLDEN = [
    pytest.param(Version.GO_PLUGIN, GOLDEN_1, id="version 1"),
    pytest.param(Version.DIRECT, GOLDEN_2, id="version 2"),
]

# The same fields as those of the vectors above, a salt and a seed after them.
GOLDEN_3 = (
    b"\xa7"
    + GOLDEN_2[1:9]
    + b"\x03"
    + GOLDEN_2[10:]
    + bytes.fromhex(
        "6453616c745820606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d"
        "7e7f64536565645830c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadb"
        "dcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef"
    )
)
ENVELOPED = EnvelopedSeed(
    KID, CIPHERTEXT, bytes(range(0x60, 0x80)), bytes(range(0xC0, 0xF0))
)

HEAD = b"\xa5\x67Version"
HEAD_3 = b"\xa7\x67Version"


def fields(version: object = 1, **changes: Any) -> dict[str, Any]:
    return {
        "Version": version,
        "KID": KID,
        "Cipher": CIPHERTEXT.cipher,
        "IV": CIPHERTEXT.iv,
        "Tag": CIPHERTEXT.tag,
    } | changes


@pytest.mark.parametrize(("version", "golden"), GOLDEN)
def test_golden_vector_both_ways(version: Version, golden: bytes) -> None:
    sealed = SealedSeed(version, KID, CIPHERTEXT)
    assert encode(sealed) == golden
    assert decode(golden) == sealed
    assert len(golden) == 130


@pytest.mark.parametrize(("seed_bytes", "sealed_bytes"), [(16, 113), (48, 146)])
def test_size_grows_with_the_seed_as_the_go_plugin_does(
    seed_bytes: int, sealed_bytes: int
) -> None:
    ciphertext = Ciphertext(bytes(seed_bytes), bytes(12), bytes(16))
    sealed = SealedSeed(Version.GO_PLUGIN, KID, ciphertext)
    assert len(encode(sealed)) == sealed_bytes


def test_version_1_is_bound_to_nothing() -> None:
    assert aad_for_seed(Version.GO_PLUGIN, f"sdkms.v1:{KID}") is None


def test_version_2_is_bound_to_version_purpose_and_key_id() -> None:
    # Array of three; 2; text "seed"; text of 45 bytes.
    assert aad_for_seed(Version.DIRECT, f"sdkms.v1:{KID}") == bytes.fromhex(
        "8302647365656478"
        "2d"
        "73646b6d732e76313a34623364313361382d326333612d343764632d383737392d"
        "333131646164363834336132"
    )


@settings(deadline=None)
@given(
    version=st.sampled_from([Version.GO_PLUGIN, Version.DIRECT]),
    kid=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", fullmatch=True),
    cipher=st.binary(min_size=1, max_size=512),
    iv=st.binary(max_size=16),
    tag=st.binary(max_size=16),
)
def test_every_sealed_seed_comes_back_from_its_bytes(
    version: Version, kid: str, cipher: bytes, iv: bytes, tag: bytes
) -> None:
    sealed = SealedSeed(version, kid, Ciphertext(cipher, iv, tag))
    assert decode(encode(sealed)) == sealed
    assert len(encode(sealed)) < MAX_SEALED_SEED_BYTES


@settings(deadline=None)
@given(
    st.binary(max_size=1100)
    | st.binary(max_size=1000).map(lambda tail: HEAD + tail)
    | st.binary(max_size=100).map(lambda tail: GOLDEN_1[:60] + tail)
)
@example(b"")
@example(HEAD)
@example(GOLDEN_2)
def test_any_bytes_are_refused_or_are_the_only_encoding(stored: bytes) -> None:
    try:
        sealed = decode(stored)
    except SealedSeedMalformed:
        return
    assert encode(sealed) == stored


CBOR = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=40)
    | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | inner.map(lambda value: cbor2.CBORTag(40_000, value))
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    name=st.sampled_from(["Version", "KID", "Cipher", "IV", "Tag"]),
    value=CBOR,
    canonical=st.booleans(),
)
def test_any_value_in_any_field_is_refused_or_is_the_only_encoding(
    name: str, value: object, *, canonical: bool
) -> None:
    stored = cbor2.dumps(fields() | {name: value}, canonical=canonical)
    try:
        sealed = decode(stored)
    except SealedSeedMalformed:
        return
    assert encode(sealed) == stored


@pytest.mark.parametrize(("version", "golden"), GOLDEN)
def test_each_flipped_bit_is_refused_or_read_as_what_it_then_says(
    version: Version, golden: bytes
) -> None:
    for position in range(len(golden)):
        for bit in range(8):
            stored = bytearray(golden)
            stored[position] ^= 1 << bit
            try:
                sealed = decode(bytes(stored))
            except SealedSeedMalformed:
                continue
            assert sealed != SealedSeed(version, KID, CIPHERTEXT)
            assert encode(sealed) == stored


@pytest.mark.parametrize(("version", "golden"), GOLDEN)
def test_each_truncation_is_refused(version: Version, golden: bytes) -> None:
    for size in range(len(golden)):
        with pytest.raises(SealedSeedMalformed):
            decode(golden[:size])


@pytest.mark.parametrize("extra", [b"\x00", b"\xf6", b"\xff", b"\n", GOLDEN_1])
def test_trailing_bytes_are_refused(extra: bytes) -> None:
    with pytest.raises(SealedSeedMalformed):
        decode(GOLDEN_1 + extra)


@pytest.mark.parametrize("size", [MAX_SEALED_SEED_BYTES, MAX_SEALED_SEED_BYTES + 1])
def test_size_limit_stands_before_everything_else(size: int) -> None:
    room = size - len(encode(SealedSeed(Version.DIRECT, KID, CIPHERTEXT))) + 31
    cipher = bytes(room)
    stored = encode(SealedSeed(Version.DIRECT, KID, Ciphertext(cipher, b"", b"")))
    stored += bytes(size - len(stored))
    with pytest.raises(SealedSeedMalformed) as caught:
        decode(stored)
    assert ("more than any sealed seed" in caught.value.cause) == (size > 1024)


def refuses(stored: bytes) -> str:
    with pytest.raises(SealedSeedMalformed) as caught:
        decode(stored)
    assert KID not in caught.value.text()
    return caught.value.cause


def test_empty_bytes_are_refused() -> None:
    assert refuses(b"") == "the ciphertext is empty"


@pytest.mark.parametrize("version", [0, 3, 99, 23, 24, 255, 2**32, 2**64 - 1, -1, -2])
def test_unknown_versions_are_refused(version: int) -> None:
    assert "version that is not known" in refuses(cbor2.dumps(fields(version)))


@pytest.mark.parametrize("version", [True, 1.0, "1", b"\x01", None, 2**64, [1], {1: 1}])
def test_a_version_of_another_type_is_refused(version: object) -> None:
    assert "version that is not known" in refuses(cbor2.dumps(fields(version)))


@pytest.mark.parametrize("name", ["KID", "Cipher", "IV", "Tag"])
@pytest.mark.parametrize("value", [None, 1, "", [1], {}, False, 1.5, "text"])
def test_a_field_of_another_type_is_refused(name: str, value: object) -> None:
    if name == "KID" and value == "text":
        value = b"text"
    refuses(cbor2.dumps(fields(**{name: value})))


@pytest.mark.parametrize("kid", ["", "a b", "a:b", "../x", "k\n", "é", "a" * 201])
def test_an_impossible_kid_is_refused(kid: str) -> None:
    assert refuses(cbor2.dumps(fields(KID=kid))) == (
        "the sealed seed names no possible key"
    )


def test_a_sealed_seed_without_a_seed_is_refused() -> None:
    assert refuses(cbor2.dumps(fields(Cipher=b""))) == ("the sealed seed holds no seed")


def test_another_order_of_fields_is_refused() -> None:
    # RFC 8949's canonical order, shortest key first.
    stored = cbor2.dumps(fields(), canonical=True)
    assert sorted(stored) == sorted(GOLDEN_1)
    refuses(stored)
    swapped = {
        name: fields()[name] for name in ("Version", "KID", "IV", "Cipher", "Tag")
    }
    assert "other fields" in refuses(cbor2.dumps(swapped))


@pytest.mark.parametrize("name", ["version", "VERSION", "Versio"])
def test_another_spelling_of_a_field_is_refused(name: str) -> None:
    renamed = {name if key == "Version" else key: v for key, v in fields().items()}
    refuses(cbor2.dumps(renamed))


def test_a_missing_field_is_refused() -> None:
    less = fields()
    del less["Tag"]
    refuses(cbor2.dumps(less))
    refuses(HEAD + cbor2.dumps(less)[9:])


def test_an_unknown_field_is_refused() -> None:
    more = cbor2.dumps(fields(Note=b""))
    refuses(more)
    refuses(b"\xa5" + more[1:])


def test_a_duplicate_field_is_refused() -> None:
    tag = GOLDEN_1[-21:]
    assert tag.startswith(b"\x63Tag")
    assert cbor2.loads(b"\xa6" + GOLDEN_1[1:] + tag) == fields()
    refuses(b"\xa6" + GOLDEN_1[1:] + tag)
    refuses(GOLDEN_1 + tag)
    refuses(GOLDEN_1[:-21] + b"\x62IV\x4c" + CIPHERTEXT.iv)


def test_indefinite_lengths_are_refused() -> None:
    refuses(b"\xbf" + GOLDEN_1[1:] + b"\xff")
    chunked = GOLDEN_1[:-17] + b"\x5f" + GOLDEN_1[-17:] + b"\xff"
    assert cbor2.loads(chunked) == fields()
    assert refuses(chunked) == "the ciphertext is not in its only encoding"
    refuses(
        GOLDEN_1.replace(b"\x78\x24", b"\x7f\x78\x24").replace(b"\x66C", b"\xff\x66C")
    )


def test_longer_spellings_of_numbers_and_lengths_are_refused() -> None:
    for longer in (b"\x18\x01", b"\x19\x00\x01", b"\x1a\x00\x00\x00\x01"):
        stored = GOLDEN_1.replace(b"Version\x01", b"Version" + longer)
        assert cbor2.loads(stored) == fields()
        assert refuses(stored) == "the ciphertext is not in its only encoding"
    long_tag = GOLDEN_1[:-17] + b"\x58\x10" + GOLDEN_1[-16:]
    assert cbor2.loads(long_tag) == fields()
    refuses(long_tag)
    refuses(b"\xb8\x05" + GOLDEN_1[1:])
    refuses(GOLDEN_1.replace(b"\x67Version", b"\x78\x07Version"))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\xc2\x41\x01", id="bignum 1"),
        pytest.param(b"\xd9\xd9\xf7\x01", id="self-described 1"),
        pytest.param(b"\xc1\x01", id="date"),
        pytest.param(b"\xd8\x1e\x82\x01\x01", id="rational"),
        pytest.param(b"\xd8\x23\x61a", id="regular expression"),
        pytest.param(b"\xd8\x1c\x01", id="shareable"),
        pytest.param(b"\xd8\x1d\x00", id="reference"),
        pytest.param(b"\xd9\x01\x02\x81\x01", id="set"),
        pytest.param(b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01", id="huge decimal"),
        pytest.param(b"\xc5\x82\x1b" + b"\x7f" * 8 + b"\x01", id="huge bigfloat"),
    ],
)
def test_tags_are_refused(value: bytes) -> None:
    refuses(GOLDEN_1.replace(b"Version\x01", b"Version" + value))
    refuses(value[:-1] + GOLDEN_1)
    refuses(GOLDEN_1[:-17] + value)


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(b"\x81" * 1000, id="arrays in arrays"),
        pytest.param(b"\xa1\x00" * 500, id="maps in maps"),
        pytest.param(b"\xc1" * 1000, id="tags in tags"),
        pytest.param(b"\x9f" * 1000, id="endless arrays"),
        pytest.param(b"\x9b" + b"\x7f" * 8, id="an array of 2**63"),
        pytest.param(b"\x9a\xff\xff\xff\xff", id="an array of 2**32"),
        pytest.param(b"\xbb" + b"\x7f" * 8, id="a map of 2**63"),
        pytest.param(b"\x5b" + b"\x7f" * 8, id="bytes of 2**63"),
        pytest.param(b"\x7a\xff\xff\xff\xff", id="text of 2**32"),
        pytest.param(b"\xc2\x59\x03\xd0" + b"\xff" * 976, id="a big number"),
    ],
)
@pytest.mark.parametrize("before", [HEAD, HEAD + b"\x01"])
def test_bombs_are_refused(before: bytes, bomb: bytes) -> None:
    assert refuses((before + bomb)[:1024]) == "the ciphertext is not valid CBOR"


@pytest.mark.parametrize(
    "stored",
    [b"\x01", b"\xa0", b"\xf6", b"{}", b"k8s:enc:kms:v2:", cbor2.dumps([1] * 5)],
)
def test_other_bytes_are_refused_before_they_are_parsed(stored: bytes) -> None:
    assert refuses(stored) == "the ciphertext is not a sealed seed"


# Version 3.


def fields_3(version: object = 3, **changes: Any) -> dict[str, Any]:
    more = {"Salt": ENVELOPED.salt, "Seed": ENVELOPED.seed}
    return fields(version) | more | changes


def test_golden_vector_of_version_3_both_ways() -> None:
    assert encode(ENVELOPED) == GOLDEN_3
    assert decode(GOLDEN_3) == ENVELOPED
    assert len(GOLDEN_3) == 224
    assert cbor2.dumps(fields_3()) == GOLDEN_3


def test_a_wrapped_local_kek_is_bound_to_version_purpose_and_key_id() -> None:
    # Array of three; 3; text "local-kek"; text of 45 bytes.
    assert aad_for_local_kek(f"sdkms.v1:{KID}") == bytes.fromhex(
        "8303696c6f63616c2d6b656b782d73646b6d732e76313a34623364313361382d326333612d"
        "343764632d383737392d333131646164363834336132"
    )


def test_a_seed_of_version_3_is_bound_to_its_wrapped_local_kek_as_well() -> None:
    # Array of seven: 3, "seed", the key_id, the kid, and the three parts.
    assert aad_for_enveloped_seed(f"sdkms.v1:{KID}", KID, CIPHERTEXT) == (
        bytes.fromhex("87036473656564782d")
        + f"sdkms.v1:{KID}".encode()
        + b"\x78\x24"
        + KID.encode()
        + b"\x58\x20"
        + CIPHERTEXT.cipher
        + b"\x4c"
        + CIPHERTEXT.iv
        + b"\x50"
        + CIPHERTEXT.tag
    )


def test_a_probe_is_bound_to_a_purpose_of_its_own() -> None:
    assert aad_for_probe("sdkms.v1:k") == b"\x83\x03\x65probe\x6asdkms.v1:k"


def test_no_two_purposes_are_bound_to_the_same_bytes() -> None:
    key_id = f"sdkms.v1:{KID}"
    bound = [
        aad_for_seed(Version.GO_PLUGIN, key_id),
        aad_for_seed(Version.DIRECT, key_id),
        aad_for_local_kek(key_id),
        aad_for_probe(key_id),
        aad_for_enveloped_seed(key_id, KID, CIPHERTEXT),
    ]
    assert len(set(bound)) == 5


@given(
    kid=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", fullmatch=True),
    cipher=st.binary(min_size=1, max_size=MAX_PART_BYTES),
    iv=st.binary(max_size=MAX_PART_BYTES),
    tag=st.binary(max_size=MAX_PART_BYTES),
    salt=st.binary(min_size=32, max_size=32),
    seed=st.binary(min_size=17, max_size=MAX_SEED_BYTES + 16),
)
@example("k" * 200, *(bytes(MAX_PART_BYTES),) * 3, bytes(32), bytes(528))
def test_every_seed_of_version_3_comes_back_from_its_bytes(  # noqa: PLR0917
    kid: str, cipher: bytes, iv: bytes, tag: bytes, salt: bytes, seed: bytes
) -> None:
    sealed = EnvelopedSeed(kid, Ciphertext(cipher, iv, tag), salt, seed)
    assert decode(encode(sealed)) == sealed
    assert len(encode(sealed)) < MAX_SEALED_SEED_BYTES


@given(
    st.binary(max_size=1000).map(lambda tail: HEAD_3 + tail)
    | st.binary(max_size=100).map(lambda tail: GOLDEN_3[:150] + tail)
)
def test_any_bytes_that_begin_like_version_3_are_refused_or_the_only_encoding(
    stored: bytes,
) -> None:
    try:
        sealed = decode(stored)
    except SealedSeedMalformed:
        return
    assert encode(sealed) == stored


@given(
    name=st.sampled_from(["Version", "KID", "Cipher", "IV", "Tag", "Salt", "Seed"]),
    value=CBOR,
    canonical=st.booleans(),
)
def test_any_value_in_any_field_of_version_3_is_refused_or_the_only_encoding(
    name: str, value: object, *, canonical: bool
) -> None:
    stored = cbor2.dumps(fields_3() | {name: value}, canonical=canonical)
    try:
        sealed = decode(stored)
    except SealedSeedMalformed:
        return
    assert encode(sealed) == stored


def test_each_flipped_bit_of_version_3_is_refused_or_read_as_what_it_then_says() -> (
    None
):
    for position in range(len(GOLDEN_3)):
        for bit in range(8):
            stored = bytearray(GOLDEN_3)
            stored[position] ^= 1 << bit
            try:
                sealed = decode(bytes(stored))
            except SealedSeedMalformed:
                continue
            assert sealed != ENVELOPED
            assert encode(sealed) == stored


def test_each_truncation_and_prolongation_of_version_3_is_refused() -> None:
    for size in range(len(GOLDEN_3)):
        refuses(GOLDEN_3[:size])
    for extra in (b"\x00", b"\xf6", GOLDEN_3, b"\x64Salt\x40"):
        refuses(GOLDEN_3 + extra)


@pytest.mark.parametrize("version", [0, 1, 2, 4, 24, -1, True, 3.0, "3", None])
def test_seven_fields_are_of_version_3_alone(version: object) -> None:
    assert "version that is not known" in refuses(cbor2.dumps(fields_3(version)))


@pytest.mark.parametrize("name", ["KID", "Cipher", "IV", "Tag", "Salt", "Seed"])
@pytest.mark.parametrize("value", [None, 1, "", [1], {}, False, 1.5])
def test_a_field_of_version_3_of_another_type_is_refused(
    name: str, value: object
) -> None:
    refuses(cbor2.dumps(fields_3(**{name: value})))


@pytest.mark.parametrize(
    "change",
    [
        {"Salt": b""},
        {"Salt": bytes(31)},
        {"Salt": bytes(33)},
        {"Seed": b""},
        {"Seed": bytes(16)},
    ],
)
def test_salt_and_seed_have_their_lengths(change: dict[str, bytes]) -> None:
    assert "wrong length" in refuses(cbor2.dumps(fields_3(**change)))


def test_version_3_without_a_wrapped_local_kek_is_refused() -> None:
    assert "holds no seed" in refuses(cbor2.dumps(fields_3(Cipher=b"")))


def test_another_order_or_another_set_of_fields_of_version_3_is_refused() -> None:
    swapped = dict(fields_3())
    swapped["Salt"] = swapped.pop("Salt")
    assert "other fields" in refuses(cbor2.dumps(swapped))
    for name in ("Salt", "Seed"):
        less = fields_3()
        del less[name]
        refuses(cbor2.dumps(less))
        refuses(b"\xa7" + cbor2.dumps(less)[1:])
    refuses(cbor2.dumps(fields_3(Note=b"")))
    refuses(b"\xa5" + GOLDEN_3[1:])
    refuses(b"\xa7" + GOLDEN_2[1:])
