from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.e2e.harness import stored as harness

from kms_conformance.api_server.stored import (
    AES_KEY,
    SEED,
    DataKey,
    EncryptedObject,
    Unreadable,
)
from kms_conformance.connection import Sealed


WHERE = "/registry/secrets/default/one"
SECRET = bytes(range(32))
SALT = bytes(range(100, 144))

# Written by hand from the field numbers of contract 3.3.
GOLDEN = b"k8s:enc:kms:v2:kit:" + bytes.fromhex(
    "0a0101"  # 1, encryptedData: 01
    "12016b"  # 2, keyID: k
    "1a0102"  # 3, encryptedDEKSource: 02
    "22080a03612e62120103"  # 4, annotations: a.b -> 03
    "2801"  # 5, encryptedDEKSourceType: 1
)
OBJECT = EncryptedObject("kit", b"\x01", Sealed(b"\x02", "k", (("a.b", b"\x03"),)))

KUBERNETES = json.loads(Path(__file__).with_name("kubernetes.json").read_text())


@pytest.mark.parametrize("written", KUBERNETES["written"])
def test_value_that_kubernetes_has_written_is_read(written: dict[str, str]) -> None:
    stored = EncryptedObject.from_etcd(bytes.fromhex(written["value"]))
    assert stored.provider == written["provider"]
    assert (stored.sealed.ciphertext, stored.sealed.key_id) == (b"sealed", "a")
    assert stored.sealed.annotations in {
        (),
        (("a.b", b""), ("b.c", b"\x00\xff")),
    }
    assert stored.source_type == (AES_KEY if stored.provider == "old" else SEED)
    key = DataKey(bytes.fromhex(written["secret"]), stored.source_type)
    plaintext = key.decrypt(stored.data, KUBERNETES["etcd_key"])
    assert plaintext == KUBERNETES["content"].encode()


def test_stored_value_has_the_bytes_that_kubernetes_writes() -> None:
    assert OBJECT.to_etcd() == GOLDEN
    assert EncryptedObject.from_etcd(GOLDEN) == OBJECT


def test_stored_value_is_what_the_end_to_end_harness_reads() -> None:
    theirs = harness.EncryptedObject.from_etcd(OBJECT.to_etcd())
    assert (theirs.provider, theirs.key_id, theirs.source_type) == ("kit", "k", SEED)
    assert (theirs.encrypted_data, theirs.sealed_seed) == (b"\x01", b"\x02")
    assert EncryptedObject.from_etcd(theirs.to_etcd()) == OBJECT


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"k8s:enc:kms:v1:kit:",
        b"k8s:enc:kms:v2:kit",
        GOLDEN[:-1],
        b"k8s:enc:kms:v2:\xff:",
    ],
)
def test_other_values_are_unreadable(value: bytes) -> None:
    with pytest.raises(Unreadable):
        EncryptedObject.from_etcd(value)


def test_key_of_an_object_is_one_step_of_hkdf_expand() -> None:
    info, nonce = SALT[:32], SALT[32:]
    derived = hmac.new(SECRET, info + b"\x01", hashlib.sha256).digest()
    expected = SALT + AESGCM(derived).encrypt(nonce, b"object", WHERE.encode())
    assert DataKey(SECRET).encrypt(b"object", WHERE, SALT) == expected


def test_object_of_1_27_is_encrypted_under_the_key_itself() -> None:
    nonce = SALT[:12]
    expected = nonce + AESGCM(SECRET).encrypt(nonce, b"object", WHERE.encode())
    key = DataKey(SECRET, AES_KEY)
    assert key.encrypt(b"object", WHERE, nonce) == expected
    assert key.decrypt(expected, WHERE) == b"object"


def test_end_to_end_harness_reads_our_objects_and_we_read_its() -> None:
    ours = DataKey(SECRET).encrypt(b"object", WHERE, SALT)
    assert harness.decrypt(ours, SECRET, WHERE) == b"object"
    theirs = harness.encrypt(b"object", SECRET, WHERE)
    assert DataKey(SECRET).decrypt(theirs, WHERE) == b"object"


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (DataKey(SECRET).encrypt(b"object", WHERE, SALT), "/registry/secrets/x/y"),
        (DataKey(bytes(32)).encrypt(b"object", WHERE, SALT), WHERE),
        (DataKey(SECRET).encrypt(b"object", WHERE, SALT)[:-1], WHERE),
        (SALT, WHERE),
        (b"", WHERE),
    ],
)
def test_other_data_is_unreadable(data: bytes, where: str) -> None:
    with pytest.raises(Unreadable):
        DataKey(SECRET).decrypt(data, where)


@pytest.mark.parametrize(
    ("length", "source_type"), [(31, SEED), (0, SEED), (31, AES_KEY), (32, 2)]
)
def test_secret_of_a_wrong_length_or_type_is_refused(
    length: int, source_type: int
) -> None:
    with pytest.raises(Unreadable):
        DataKey(bytes(length), source_type)


def test_longer_seed_is_accepted_as_kubernetes_does() -> None:
    assert DataKey(bytes(33)).secret == bytes(33)


def test_secret_is_not_shown() -> None:
    assert "secret" not in repr(DataKey(SECRET))
