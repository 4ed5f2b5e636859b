import base64
from typing import Any

import httpx
import pytest

from dsm_emulator import DemoKey


ENCRYPT = "/crypto/v1/keys/batch/encrypt"
DECRYPT = "/crypto/v1/keys/batch/decrypt"
GENERIC = "/batch/v1"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
PLAIN = base64.b64encode(b"seed").decode()
REQUEST = {"alg": "AES", "mode": "GCM", "plain": PLAIN, "tag_len": 128}


def item(kid: str, **changes: Any) -> dict[str, Any]:
    return {"kid": kid, "request": REQUEST | changes}


def single(operation: str, body: Any, method: str = "POST") -> dict[str, Any]:
    inner = {"method": method, "operation": operation, "body": body}
    return {"SingleItem": inner}


def test_each_item_has_its_own_status_in_order(
    client: httpx.Client, demo: DemoKey
) -> None:
    items = [
        item(demo.key.kid),
        item(UNKNOWN),
        item(demo.key.kid, tag_len=1),
        {"kid": demo.key.kid},
        "nonsense",
        item(demo.key.kid, plain="!"),
    ]
    answer = client.post(ENCRYPT, json=items)
    assert answer.status_code == 200
    assert [i["status"] for i in answer.json()] == [200, 404, 400, 400, 400, 400]
    assert answer.json()[1] == {"status": 404, "error": "sobject does not exist"}
    assert answer.json()[0]["body"]["kid"] == demo.key.kid


def test_batch_decrypts_what_batch_encrypted(
    client: httpx.Client, demo: DemoKey
) -> None:
    sealed = client.post(ENCRYPT, json=[item(demo.key.kid)] * 3).json()
    items: list[dict[str, Any]] = [
        {
            "kid": demo.key.kid,
            "request": {"mode": "GCM"}
            | {field: one["body"][field] for field in ("cipher", "iv", "tag")},
        }
        for one in sealed
    ]
    items[1]["request"]["tag"] = base64.b64encode(bytes(16)).decode()
    answers = client.post(DECRYPT, json=items).json()
    assert [one["status"] for one in answers] == [200, 400, 200]
    assert answers[0]["body"] == {"kid": demo.key.kid, "plain": PLAIN}


def test_quorum_and_permission_apply_to_each_item(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.group.protect_crypto_operations = True
    (one,) = client.post(ENCRYPT, json=[item(demo.key.kid)]).json()
    assert one == {"status": 403, "error": "This operation requires approval"}


@pytest.mark.parametrize("path", [ENCRYPT, GENERIC])
def test_batch_over_512_kb_is_413(client: httpx.Client, path: str) -> None:
    answer = client.post(path, content=b" " * (512 * 1024 + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize("body", ["{}", "x", "1"])
def test_batch_that_is_no_array_is_400(client: httpx.Client, body: str) -> None:
    assert client.post(ENCRYPT, content=body).status_code == 400


def test_batch_needs_a_login(stranger: httpx.Client) -> None:
    for path in (ENCRYPT, DECRYPT, GENERIC):
        assert stranger.post(path, json=[]).status_code == 401


def test_generic_batch_carries_out_one_operation(
    client: httpx.Client, demo: DemoKey
) -> None:
    body = REQUEST | {"key": {"name": "kek"}}
    answer = client.post(GENERIC, json=single("/crypto/v1/encrypt", body)).json()
    result = answer["SingleItem"]["Result"]
    assert result["status"] == 200
    assert result["body"]["kid"] == demo.key.kid


def test_serial_batch_stops_at_its_first_failure(client: httpx.Client) -> None:
    good = single("/crypto/v1/keys?limit=1", None, "GET")
    bad = single("/crypto/v1/keys/info", {"name": "none"})
    for kind, statuses in (
        ("Serial", [200, 404, None]),
        ("Unordered", [200, 404, 200]),
    ):
        body = {"Batch": {"batch_execution_type": kind, "items": [good, bad, good]}}
        items = client.post(GENERIC, json=body).json()["Batch"]["items"]
        results = [one["SingleItem"].get("Result") for one in items]
        assert [r and r["status"] for r in results] == statuses
    assert items[1]["SingleItem"]["Result"]["body"] == "sobject does not exist"


def test_serial_batch_within_a_batch_fails_as_a_whole(client: httpx.Client) -> None:
    bad = single("/crypto/v1/keys/info", {"name": "none"})
    inner = {"Batch": {"batch_execution_type": "Serial", "items": [bad, bad]}}
    outer = {"Batch": {"batch_execution_type": "Serial", "items": [inner, bad]}}
    items = client.post(GENERIC, json=outer).json()["Batch"]["items"]
    assert "Skipped" in items[0]["Batch"]["items"][1]["SingleItem"]
    assert "Skipped" in items[1]["SingleItem"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"SingleItem": {}, "Batch": {}},
        {"SingleItem": 1},
        {"SingleItem": {"method": "GET"}},
        {"Batch": {"items": []}},
        {"Batch": {"batch_execution_type": "Odd", "items": []}},
        {"Batch": {"batch_execution_type": "Serial", "items": 1}},
        single(GENERIC, {}),
    ],
)
def test_malformed_generic_batch_is_400(
    client: httpx.Client, body: dict[str, Any]
) -> None:
    assert client.post(GENERIC, json=body).status_code == 400


def test_batch_that_nests_too_deep_is_400(client: httpx.Client) -> None:
    body = single("/sys/v1/version", None, "GET")
    for _ in range(20):
        body = {"Batch": {"batch_execution_type": "Serial", "items": [body]}}
    assert client.post(GENERIC, json=body).status_code == 400
