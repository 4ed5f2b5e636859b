"""Stored values are taken apart; whatever else they are, nothing is raised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.docs.support import vectors
from tests.unit.k8s_sdkms_plugin.verify.support import (
    DIRECT,
    ENVELOPED,
    GO_PLUGIN,
    HASH,
    KEY,
    KEY_ID,
    KID,
    OTHER_KID,
    value,
)

from k8s_sdkms_plugin.verify.stored import Source, take_apart


@pytest.mark.parametrize(
    ("sealed_seed", "key_id", "version", "native"),
    [
        (GO_PLUGIN, HASH, 1, False),
        (DIRECT, KEY_ID, 2, True),
        (ENVELOPED, KEY_ID, 3, True),
        (ENVELOPED, f"{KEY_ID}:{OTHER_KID}", 3, True),
    ],
)
def test_object_of_ours_says_provider_key_id_format_and_dsm_key(
    sealed_seed: bytes, key_id: str, version: int, *, native: bool
) -> None:
    found = take_apart(KEY, value(sealed_seed, key_id))

    assert found.damage == ""
    assert (found.provider, found.provider_version, found.provider_name) == (
        *("kms", "v2"),
        "dsm",
    )
    assert found.sealed is not None
    assert found.sealed.key_id == key_id
    assert found.sealed.version == version
    assert found.sealed.native is native
    assert found.sealed.kid == KID
    assert found.sealed.source is Source.SEED
    assert bool(found.sealed.wrapped) is (version == 3)


def test_vector_of_the_formats_is_one() -> None:
    (vector,) = vectors("stored object")
    found = take_apart(vector["etcd_key"].encode(), bytes.fromhex(vector["value"]))
    assert found.damage == ""
    assert found.sealed is not None
    assert found.sealed.kid == KID


@pytest.mark.parametrize(
    "plain", [b"", b"k8s\0\n\x0c", b'{"kind":"Secret"}', b"k8s:en", b"\xff\xfe"]
)
def test_what_has_no_prefix_is_not_encrypted(plain: bytes) -> None:
    found = take_apart(KEY, plain)
    assert (found.provider, found.sealed, found.damage) == ("identity", None, "")


@pytest.mark.parametrize("kind", ["aescbc", "aesgcm", "secretbox"])
def test_providers_with_keys_in_a_file_are_named(kind: str) -> None:
    found = take_apart(KEY, f"k8s:enc:{kind}:v1:key1:".encode() + b"\xff" * 40)
    assert (found.provider, found.provider_version, found.provider_name) == (
        *(kind, "v1"),
        "key1",
    )


def test_kms_v1_is_named_and_not_opened() -> None:
    found = take_apart(KEY, b"k8s:enc:kms:v1:fortanix:\x00\x10data")
    assert (found.provider, found.provider_version) == ("kms", "v1")
    assert found.sealed is None


def test_sealed_seed_of_another_plugin_has_no_version() -> None:
    found = take_apart(KEY, value(b"vault:v1:abcdef", "another"))
    assert found.sealed is not None
    assert (found.sealed.version, found.sealed.kid) == (None, "")
    assert found.damage == ""


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (b"k8s:enc:", "no provider"),
        (b"k8s:enc:rot13:v1:key:data", "no provider"),
        (b"k8s:enc:kms:v2:dsm", "no provider"),
        (b"k8s:enc:kms:v2:dsm:\xff\xff\xff", "no message"),
        (value(data=b""), "no encrypted data"),
        (value(b""), "0 bytes"),
        (value(b"x" * 1025), "1025 bytes"),
        (value(key_id=""), "key_id has 0 bytes"),
        (value(key_id="k" * 1025), "key_id has 1025 bytes"),
        (value(source=2), "not known"),
        (value(source=-1), "not known"),
        (value(annotations={"a.b": b""}), "annotations"),
        (value(key_id=f"sdkms.v1:{OTHER_KID}"), "another key"),
        (value(key_id=f"other.v1:{KID}"), "another scheme"),
        (value(key_id=HASH), "hash"),
        (value(GO_PLUGIN, KEY_ID), "no hash"),
    ],
)
def test_damage_is_said(stored: bytes, says: str) -> None:
    assert says in take_apart(KEY, stored).damage


@given(tail=st.binary(max_size=300), kms=st.booleans())
def test_whatever_is_stored_is_something(*, tail: bytes, kms: bool) -> None:
    start = b"k8s:enc:kms:v2:dsm:" if kms else b"k8s:enc:"
    found = take_apart(KEY, start + tail)
    assert found.damage or found.sealed or found.provider != "unknown"
