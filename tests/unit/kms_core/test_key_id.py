from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kms_core.errors import KeyIdMalformed, KeyIdMismatch, ProviderAnswerRefused
from kms_core.key_id import (
    LegacyNaming,
    NativeKeyId,
    NativeNaming,
    go_plugin_key_id,
    is_kid,
    is_legacy,
    require_native,
)
from kms_core.limits import MAX_KEY_ID_BYTES
from kms_core.provider import KeyDescription


A = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
B = "00000000-0000-4000-8000-00000000000b"
HASH = "b9626df6ee008b246363fa1a9c32af1926b8fbbae8772af30383367aac70a57a"

SCHEMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,31}", fullmatch=True)
KIDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", fullmatch=True)


@settings(deadline=None)
@given(scheme=SCHEMES, kid=KIDS, replaced=st.none() | KIDS)
def test_native_key_id_comes_back_from_its_text(
    scheme: str, kid: str, replaced: str | None
) -> None:
    key_id = NativeKeyId(scheme, kid, replaced)
    assert NativeKeyId.parse(str(key_id)) == key_id
    assert len(str(key_id).encode()) <= MAX_KEY_ID_BYTES
    assert not is_legacy(str(key_id))


@settings(deadline=None)
@given(st.text(max_size=300) | st.from_regex(r"[a-z.1]*(:[0-9a-z-]*){0,3}"))
def test_any_text_is_refused_or_is_the_only_spelling(text: str) -> None:
    try:
        parsed = NativeKeyId.parse(text)
    except KeyIdMalformed:
        return
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sdkms.v1",
        "sdkms.v1:",
        f":{A}",
        f"sdkms.v1:{A}:",
        f"sdkms.v1::{A}",
        f"sdkms.v1:{A}:{B}:{A}",
        f"sdkms.v1:{A} ",
        f" sdkms.v1:{A}",
        f"sdkms.v1:{A}\n",
        f"sdkms.v1:{A}\n:{B}",
        f"SDKMS.v1:{A}",
        f"sdkms.v1:-{A}",
        f"sdkms.v1:{'a' * 201}",
        f"{'s' * 33}:{A}",
        "sdkms.v1:ké",
        "sdkms.v1:\ud800",
        "sdkms.v1:\u0661",
        HASH,
        "x" * 100_000,
        ":" * 100_000,
    ],
)
def test_malformed_key_id_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(KeyIdMalformed) as caught:
        NativeKeyId.parse(text)
    assert caught.value.cause == f"a key_id of {len(text)} characters is not native"


def test_longest_native_key_id_is_far_below_the_limit() -> None:
    longest = NativeKeyId("s" * 32, "k" * 200, "r" * 200)
    assert NativeKeyId.parse(str(longest)) == longest
    assert len(str(longest)) == 434


@pytest.mark.parametrize("kid", [A, "a", "0", "projects/p/keys/k.1", "a" * 200])
def test_possible_kids(kid: str) -> None:
    assert is_kid(kid)


@pytest.mark.parametrize("kid", ["", "a b", "a:b", "-a", ".a", "/a", "a\n", "a" * 201])
def test_impossible_kids(kid: str) -> None:
    assert not is_kid(kid)


@pytest.mark.parametrize(
    "text", ["", HASH[:-1], HASH + "0", HASH.upper(), HASH + "\n", "g" * 64, "٣" * 64]
)
def test_other_texts_do_not_have_the_form_of_a_go_plugin_hash(text: str) -> None:
    assert not is_legacy(text)


# The vectors of dsm-api.md 8.1.
def test_go_plugin_hash_of_endpoint_and_name() -> None:
    endpoint, name = "https://sdkms.fortanix.com", "Kubernetes Secret Encryption Key"
    assert go_plugin_key_id(endpoint, key_name=name) == HASH
    assert is_legacy(HASH)


def test_go_plugin_hash_of_endpoint_and_uuid() -> None:
    assert go_plugin_key_id("https://sdkms.fortanix.com", key_id=A) == (
        "0f6d48c098ffb398407c761db58b7e3397d44ee5e73391c5699d95231b77db49"
    )


def test_go_plugin_hash_changes_with_a_trailing_slash() -> None:
    found = go_plugin_key_id("https://sdkms.fortanix.com/", key_id=A)
    assert found.startswith("f9dcd512")


def test_go_plugin_hash_is_of_the_plain_concatenation() -> None:
    assert go_plugin_key_id("e", "k", "n") == go_plugin_key_id("ek", "", "n")


def named(kid: str, replaced: str | None = None) -> str:
    return NativeNaming().key_id(KeyDescription(kid=kid, replaced=replaced))


def test_a_key_without_lineage_is_named_by_its_kid() -> None:
    assert named(A) == f"sdkms.v1:{A}"


def test_from_a_to_b_and_back_to_a_gives_three_names() -> None:
    first, second, third = named(A), named(B, A), named(A, B)
    assert second == f"sdkms.v1:{B}:{A}"
    assert len({first, second, third}) == 3


def test_name_does_not_depend_on_anything_else_that_is_said_of_the_key() -> None:
    bare = KeyDescription(kid=A)
    told = KeyDescription(
        kid=A, name="other", enabled=False, size_bits=128, replacement=B
    )
    assert NativeNaming().key_id(bare) == NativeNaming().key_id(told)


def test_scheme_may_be_another() -> None:
    assert NativeNaming("mykms.v1").key_id(KeyDescription(kid="k")) == "mykms.v1:k"


@pytest.mark.parametrize(
    ("kid", "replaced"), [("a b", None), ("", None), (A, ""), (A, "x:y"), (A, "a\nb")]
)
def test_a_kid_of_unknown_form_gets_no_name(kid: str, replaced: str | None) -> None:
    with pytest.raises(ProviderAnswerRefused):
        named(kid, replaced)


def test_legacy_name_is_the_same_for_every_key() -> None:
    naming = LegacyNaming(HASH)
    assert naming.key_id(KeyDescription(kid=A)) == HASH
    assert naming.key_id(KeyDescription(kid=B, replaced=A)) == HASH


@pytest.mark.parametrize("text", ["", "sdkms.v1:a", HASH.upper()])
def test_legacy_name_must_be_a_go_plugin_hash(text: str) -> None:
    with pytest.raises(ValueError, match="not a Go plugin's key_id"):
        LegacyNaming(text)


@pytest.mark.parametrize("key_id", [f"sdkms.v1:{A}", f"sdkms.v1:{A}:{B}"])
def test_a_native_seed_belongs_to_a_key_id_that_names_its_kid(key_id: str) -> None:
    require_native(key_id, A, "sdkms.v1")


@pytest.mark.parametrize(
    ("key_id", "error"),
    [
        (f"sdkms.v1:{B}", KeyIdMismatch),
        # The key that it took over from is not the key that it names.
        (f"sdkms.v1:{B}:{A}", KeyIdMismatch),
        (f"sdkms.v1:{A.upper()}", KeyIdMismatch),
        (HASH, KeyIdMismatch),
        (f"other.v1:{A}", KeyIdMalformed),
        (f"sdkms.v2:{A}", KeyIdMalformed),
        (f"sdkms.v1:{A}\n", KeyIdMalformed),
        ("", KeyIdMalformed),
        (A, KeyIdMalformed),
    ],
)
def test_a_native_seed_belongs_to_no_other_key_id(
    key_id: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        require_native(key_id, A, "sdkms.v1")
