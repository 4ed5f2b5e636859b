import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dsm_emulator import DemoKey


ENCRYPT = "/crypto/v1/encrypt"
DECRYPT = "/crypto/v1/decrypt"
SEED = bytes(range(32))


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def encryption(**changes: Any) -> dict[str, Any]:
    """What the Go plugin sends (reference, section 8.1), with changes."""
    body = {
        "key": {"name": "kek"},
        "alg": "AES",
        "mode": "GCM",
        "tag_len": 128,
        "plain": b64(SEED),
    }
    return {k: v for k, v in {**body, **changes}.items() if v is not None}


def decryption(sealed: dict[str, str], **changes: Any) -> dict[str, Any]:
    body = {
        "key": {"kid": sealed["kid"]},
        "alg": "AES",
        "mode": "GCM",
        "cipher": sealed["cipher"],
        "iv": sealed["iv"],
        "tag": sealed.get("tag"),
    }
    return {k: v for k, v in {**body, **changes}.items() if v is not None}


def test_encrypt_by_name_answers_with_the_resolved_kid(
    client: httpx.Client, demo: DemoKey
) -> None:
    answer = client.post(ENCRYPT, json=encryption())
    assert answer.status_code == 200
    sealed = {k: v for k, v in answer.json().items() if k != "kid"}
    assert answer.json()["kid"] == demo.key.kid
    iv, cipher, tag = (base64.b64decode(sealed[k]) for k in ("iv", "cipher", "tag"))
    assert (len(iv), len(cipher), len(tag)) == (12, 32, 16)
    assert demo.key.material is not None
    assert AESGCM(demo.key.material).decrypt(iv, cipher + tag, None) == SEED


def test_what_was_encrypted_is_decrypted(client: httpx.Client, demo: DemoKey) -> None:
    sealed = client.post(ENCRYPT, json=encryption(key={"kid": demo.key.kid})).json()
    answer = client.post(DECRYPT, json=decryption(sealed))
    assert answer.json() == {"kid": demo.key.kid, "plain": b64(SEED)}


def test_alg_may_be_absent_on_decrypt(client: httpx.Client) -> None:
    sealed = client.post(ENCRYPT, json=encryption()).json()
    assert client.post(DECRYPT, json=decryption(sealed, alg=None)).is_success


def test_session_does_as_well_as_the_key(
    client: httpx.Client, connect: Callable[[str], httpx.Client]
) -> None:
    token = client.post("/sys/v1/session/auth").json()["access_token"]
    in_session = connect(f"Bearer {token}")
    sealed = in_session.post(ENCRYPT, json=encryption()).json()
    assert in_session.post(DECRYPT, json=decryption(sealed)).is_success


def test_ad_is_authenticated(client: httpx.Client) -> None:
    sealed = client.post(ENCRYPT, json=encryption(ad=b64(b"ad"))).json()
    assert client.post(DECRYPT, json=decryption(sealed, ad=b64(b"ad"))).is_success
    answer = client.post(DECRYPT, json=decryption(sealed))
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")


def test_given_iv_is_used_and_a_shorter_tag_too(client: httpx.Client) -> None:
    iv = b64(bytes(12))
    sealed = client.post(ENCRYPT, json=encryption(iv=iv, tag_len=96)).json()
    assert sealed["iv"] == iv
    assert len(base64.b64decode(sealed["tag"])) == 12
    assert client.post(DECRYPT, json=decryption(sealed)).is_success


def test_cbc_has_no_tag(client: httpx.Client) -> None:
    body = encryption(mode="CBC", tag_len=None)
    sealed = client.post(ENCRYPT, json=body).json()
    assert "tag" not in sealed
    answer = client.post(DECRYPT, json=decryption(sealed, mode="CBC"))
    assert answer.json()["plain"] == b64(SEED)


def test_after_rekey_name_and_old_kid_lead_to_different_keys(
    client: httpx.Client, demo: DemoKey
) -> None:
    before = client.post(ENCRYPT, json=encryption()).json()
    new = demo.dsm.rekey("kek")
    after = client.post(ENCRYPT, json=encryption()).json()
    pinned = client.post(ENCRYPT, json=encryption(key={"kid": before["kid"]})).json()
    assert (after["kid"], pinned["kid"]) == (new.kid, before["kid"])
    for sealed in (before, after, pinned):
        assert client.post(DECRYPT, json=decryption(sealed)).is_success


def test_deactivated_key_decrypts_but_does_not_encrypt(
    client: httpx.Client, demo: DemoKey
) -> None:
    sealed = client.post(ENCRYPT, json=encryption()).json()
    demo.dsm.deactivate(demo.key)
    assert client.post(ENCRYPT, json=encryption()).status_code == 403
    assert client.post(DECRYPT, json=decryption(sealed)).status_code == 200


@pytest.mark.parametrize("key", ["deleted", "name", "kid"])
def test_key_that_is_not_there_is_404(
    client: httpx.Client, demo: DemoKey, key: str
) -> None:
    sealed = client.post(ENCRYPT, json=encryption()).json()
    described = {
        "deleted": {"kid": demo.key.kid},
        "name": {"name": "other"},
        "kid": {"kid": "00000000-0000-0000-0000-000000000000"},
    }[key]
    demo.dsm.delete(demo.key)
    for answer in (
        client.post(ENCRYPT, json=encryption(key=described)),
        client.post(DECRYPT, json=decryption(sealed, key=described)),
    ):
        assert (answer.status_code, answer.text) == (404, "sobject does not exist")


def test_unknown_fields_are_ignored(client: httpx.Client) -> None:
    assert client.post(ENCRYPT, json=encryption(label="x", future={})).is_success


def test_content_type_may_be_missing(client: httpx.Client) -> None:
    body = httpx.Request("POST", "http://x", json=encryption()).content
    answer = client.post(ENCRYPT, content=body)
    assert "content-type" not in answer.request.headers
    assert answer.is_success


@pytest.mark.parametrize(
    "changes",
    [
        {"plain": None},
        {"plain": "AQ"},
        {"plain": "_-8="},
        {"plain": 1},
        {"alg": None},
        {"alg": "RSA"},
        {"mode": None},
        {"mode": "XTS"},
        {"tag_len": None},
        {"tag_len": 16},
        {"tag_len": "128"},
        {"iv": "AQ=="},
        {"key": None},
        {"key": "kek"},
        {"key": {}},
        {"key": {"name": "kek", "kid": "00000000-0000-0000-0000-000000000000"}},
        {"key": {"kid": "not-a-uuid"}},
    ],
)
def test_malformed_encrypt_is_400(
    client: httpx.Client, changes: dict[str, Any]
) -> None:
    answer = client.post(ENCRYPT, json=encryption(**changes))
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "changes",
    [
        {"cipher": None},
        {"cipher": "AQ"},
        {"alg": "RSA"},
        {"mode": None},
        {"iv": None},
        {"iv": b64(bytes(16))},
        {"tag": None},
        {"tag": b64(bytes(12))},
        {"tag": b64(bytes(16))},
        {"tag": b64(bytes(4))},
    ],
)
def test_malformed_or_changed_decrypt_is_400(
    client: httpx.Client, changes: dict[str, Any]
) -> None:
    sealed = client.post(ENCRYPT, json=encryption()).json()
    answer = client.post(DECRYPT, json=decryption(sealed, **changes))
    assert answer.status_code == 400


def test_body_that_is_no_json_is_400(client: httpx.Client) -> None:
    assert client.post(ENCRYPT, content=b"{").status_code == 400


def test_without_credential_it_is_401_before_the_body_is_read(
    stranger: httpx.Client,
) -> None:
    assert stranger.post(ENCRYPT, content=b"{").status_code == 401


def test_journal_names_app_and_key_and_holds_no_secret(
    client: httpx.Client, demo: DemoKey
) -> None:
    sealed = client.post(ENCRYPT, json=encryption()).json()
    client.post(DECRYPT, json=decryption(sealed, tag=b64(bytes(16))))
    journal = demo.dsm.journal
    assert [
        (e.method, e.path, e.app, e.kid, e.status, e.time_s) for e in journal.entries
    ] == [
        ("POST", ENCRYPT, demo.app.app_id, demo.key.kid, 200, demo.dsm.clock.now()),
        ("POST", DECRYPT, demo.app.app_id, demo.key.kid, 400, demo.dsm.clock.now()),
    ]
    assert journal.count(ENCRYPT, app=demo.app.app_id, kid=demo.key.kid) == 1
    written = str(journal.entries_json()) + str(journal.counters_json())
    for secret in (demo.api_key, demo.app.secret, b64(SEED), sealed["cipher"]):
        assert secret not in written
