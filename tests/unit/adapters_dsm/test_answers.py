"""Strict checks on what DSM answers; nothing that fails one is used."""

from __future__ import annotations

import base64
import json

import pytest
from tests.unit.adapters_dsm.support import IV, KID, SEED, TAG, sobject

from adapters_dsm.answers import (
    Answer,
    Login,
    read_ciphertext,
    read_key,
    read_login,
    read_plaintext,
)
from kms_core.errors import ProviderAnswerRefused
from kms_core.provider import KeyDescription, KeyState


OTHER = "00000000-0000-4000-8000-000000000001"
CIPHER = bytes(reversed(range(32)))


def answer(content: object) -> Answer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Answer(200, "application/json", None, "", body)


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def described(**changes: object) -> KeyDescription:
    return read_key(answer(sobject(**changes)), None, "here")


def without(content: dict[str, object], *fields: str) -> dict[str, object]:
    return {name: value for name, value in content.items() if name not in fields}


def sealed(**changes: object) -> dict[str, object]:
    return {
        "kid": KID,
        "cipher": b64(CIPHER),
        "iv": b64(IV),
        "tag": b64(TAG),
        **changes,
    }


def opened(**changes: object) -> dict[str, object]:
    return {"kid": KID, "plain": b64(SEED), **changes}


def test_a_key_is_described() -> None:
    assert described(
        kid=KID.upper(),
        links={"replaced": OTHER.upper(), "copiedTo": [KID]},
        unknown_field={"any": ["thing"]},
    ) == KeyDescription(kid=KID, name="a key", size_bits=256, replaced=OTHER)


def test_optional_fields_may_be_absent_or_null() -> None:
    optional = ("name", "state", "key_size", "effective_key_policy", "links")
    bare = without(sobject(), *optional)
    nulls = sobject(**dict.fromkeys(optional))
    expected = KeyDescription(kid=KID)
    assert read_key(answer(bare), KID, "here") == expected
    assert read_key(answer(nulls), KID, "here") == expected
    assert described(links={"replaced": None, "replacement": None}).replaced is None


@pytest.mark.parametrize("state", KeyState)
def test_every_state_is_known(state: KeyState) -> None:
    assert described(state=state.value).state is state
    assert described(state="None").state is KeyState.ACTIVE


def test_operations_are_what_key_and_caller_both_may() -> None:
    both = ["ENCRYPT", "DECRYPT", "SOMETHING-NEW"]
    encrypt_only = {"key_ops": ["ENCRYPT"]}
    decrypting = described(key_ops=["DECRYPT"])
    assert (decrypting.can_encrypt, decrypting.can_decrypt) == (False, True)
    limited = described(key_ops=both, effective_key_policy=encrypt_only)
    assert (limited.can_encrypt, limited.can_decrypt) == (True, False)
    silent: list[dict[str, object]] = [{}, {"key_ops": None}, {"export_policy": {}}]
    for policy in silent:
        free = described(key_ops=both, effective_key_policy=policy)
        assert free.can_encrypt
        assert free.can_decrypt


@pytest.mark.parametrize(
    ("given", "shown"),
    [("AES", "AES"), ("RSA", "RSA"), ("aes", "unknown"), ("A" * 17, "unknown")],
)
def test_an_odd_algorithm_is_not_repeated(given: str, shown: str) -> None:
    assert described(obj_type=given).algorithm == shown


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\ud800", "n" * 4097])
def test_a_name_that_no_log_can_show_is_dropped(name: str) -> None:
    assert described(name=name).name is None


@pytest.mark.parametrize(
    "changes",
    [
        {"kid": "not a uuid"},
        {"kid": None},
        {"kid": 1},
        {"state": "Elated"},
        {"state": 1},
        {"enabled": "true"},
        {"enabled": 1},
        {"enabled": None},
        {"obj_type": None},
        {"key_ops": "ENCRYPT"},
        {"key_ops": None},
        {"key_ops": [1]},
        {"key_ops": {"ENCRYPT": 1}},
        {"key_size": "256"},
        {"key_size": True},
        {"name": 5},
        {"links": []},
        {"links": {"replaced": "x"}},
        {"links": {"replacement": 5}},
        {"effective_key_policy": {"key_ops": "ENCRYPT"}},
        {"effective_key_policy": "ENCRYPT"},
    ],
)
def test_an_odd_key_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ProviderAnswerRefused):
        described(**changes)


@pytest.mark.parametrize("field", ["kid", "obj_type", "enabled", "key_ops"])
def test_required_fields_of_a_key(field: str) -> None:
    with pytest.raises(ProviderAnswerRefused, match="lacks a field"):
        read_key(answer(without(sobject(), field)), None, "here")


def test_another_key_than_asked_for_is_refused() -> None:
    with pytest.raises(ProviderAnswerRefused, match="another key"):
        read_key(answer(sobject()), OTHER, "here")


def test_a_ciphertext_is_read() -> None:
    found = read_ciphertext(answer(sealed(kid=KID.upper())), KID, SEED, "here")
    assert (found.cipher, found.iv, found.tag) == (CIPHER, IV, TAG)


@pytest.mark.parametrize("length", [8, 12, 16, 64])
def test_a_nonce_of_another_length_passes(length: int) -> None:
    content = sealed(iv=b64(bytes(length)))
    assert len(read_ciphertext(answer(content), KID, SEED, "here").iv) == length


def test_a_very_short_plaintext_may_stay_the_same() -> None:
    content = sealed(cipher=b64(b"x"))
    assert read_ciphertext(answer(content), KID, b"x", "here").cipher == b"x"


@pytest.mark.parametrize(
    "changes",
    [
        {"kid": OTHER},
        {"kid": None},
        {"cipher": b64(CIPHER[:-1])},
        {"cipher": b64(CIPHER + b"x")},
        {"cipher": b64(SEED)},
        {"cipher": ""},
        {"cipher": None},
        {"cipher": [1]},
        {"tag": b64(TAG[:-1])},
        {"tag": b64(TAG[:12])},
        {"tag": b64(TAG + b"x")},
        {"tag": ""},
        {"iv": b64(bytes(7))},
        {"iv": b64(bytes(65))},
        {"iv": ""},
        {"iv": b64(IV) + "\n"},
        {"iv": " " + b64(IV)},
        {"tag": b64(TAG).rstrip("=")},
        {"tag": b64(TAG) + "="},
        {"tag": b64(TAG)[:-3] + "/=="},
        {"cipher": base64.urlsafe_b64encode(b"\xff" * 32).decode()},
        {"cipher": "\u00e4" * 44},
    ],
)
def test_an_odd_ciphertext_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ProviderAnswerRefused):
        read_ciphertext(answer(sealed(**changes)), KID, SEED, "here")


@pytest.mark.parametrize("field", ["kid", "cipher", "iv", "tag"])
def test_required_fields_of_a_ciphertext(field: str) -> None:
    with pytest.raises(ProviderAnswerRefused, match="lacks a field"):
        read_ciphertext(answer(without(sealed(), field)), KID, SEED, "here")


def test_a_plaintext_is_read() -> None:
    for content in (opened(), opened(kid=KID.upper()), without(opened(), "kid")):
        assert read_plaintext(answer(content), KID, 32, "here") == SEED


@pytest.mark.parametrize(
    "content",
    [
        opened(kid=OTHER),
        opened(kid=5),
        opened(plain=b64(SEED[:-1])),
        opened(plain=b64(SEED + b"x")),
        opened(plain=SEED.hex()),
        opened(plain=None),
        without(opened(), "plain"),
        [opened()],
        "text",
        b"",
        b"{}{}",
        json.dumps(opened()).encode()[:-1],
        json.dumps(opened()).encode("utf-16"),
    ],
)
def test_an_odd_plaintext_is_refused_and_not_kept(content: object) -> None:
    with pytest.raises(ProviderAnswerRefused) as caught:
        read_plaintext(answer(content), KID, 32, "here")
    error = caught.value
    assert error.__context__ is None, "what json and cattrs raise holds the answer"
    assert b64(SEED)[:10] not in error.text()


def test_a_login_is_read() -> None:
    content: dict[str, object]
    content = {"access_token": "abc", "expires_in": 600, "token_type": "bearer"}
    assert read_login(answer(content), "here") == Login("Bearer abc", 600)
    content["token_type"] = None
    assert read_login(answer(content), "here") == Login("Bearer abc", 600)
    del content["token_type"]
    assert read_login(answer(content), "here") == Login("Bearer abc", 600)
    assert "abc" not in repr(read_login(answer(content), "here"))
