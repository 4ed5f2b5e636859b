"""A key that stands in a key_id is found by what it opens."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_conformance.connection import Sealed
from kms_conformance.key_material import opens_with_its_own_name


if TYPE_CHECKING:
    from collections.abc import Callable


KEY = bytes(range(100, 132))
SEED = bytes(range(32))


def sealed(key_id: str, associated: bytes = b"") -> Sealed:
    nonce = bytes(12)
    return Sealed(nonce + AESGCM(KEY).encrypt(nonce, SEED, associated), key_id)


@pytest.mark.parametrize(
    "write",
    [
        bytes.hex,
        lambda key: f"v1:{key.hex()}:3",
        lambda key: base64.b64encode(key).decode(),
        lambda key: f"kek-{key.hex()}",
        lambda key: f"keys/one/{key.hex().upper()}",
        lambda key: base64.b64encode(key).decode().rstrip("="),
        lambda key: "keys/one/" + base64.b64encode(key).decode(),
        lambda key: "kek-" + base64.urlsafe_b64encode(key).decode().rstrip("="),
        lambda key: "kms." + base64.urlsafe_b64encode(key).decode(),
    ],
)
def test_key_is_found_however_it_is_written(write: Callable[[bytes], str]) -> None:
    key_id = write(KEY)
    assert opens_with_its_own_name(sealed(key_id), SEED)
    assert opens_with_its_own_name(sealed(key_id, key_id.encode()), SEED)


@pytest.mark.parametrize("key_id", ["", "kms:1", "0" * 64, KEY[:31].hex(), "=" * 44])
def test_hash_or_name_is_no_key(key_id: str) -> None:
    assert not opens_with_its_own_name(sealed(key_id), SEED)


def test_key_that_opens_something_else_is_not_taken_for_it() -> None:
    assert not opens_with_its_own_name(sealed(KEY.hex()), bytes(32))


def test_ciphertext_that_is_too_short_is_opened_by_no_key() -> None:
    assert not opens_with_its_own_name(Sealed(b"sealed", KEY.hex()), SEED)
