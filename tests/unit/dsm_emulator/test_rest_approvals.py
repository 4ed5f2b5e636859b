from typing import Any

import httpx
import pytest

from dsm_emulator import DemoKey


REQUESTS = "/sys/v1/approval_requests"
BODY = {
    "key": {"name": "kek"},
    "alg": "AES",
    "mode": "GCM",
    "plain": "",
    "tag_len": 128,
}
ASKED = {
    "method": "post",
    "operation": "/crypto/v1/encrypt",
    "body": BODY,
    "description": "please",
}


@pytest.fixture(autouse=True)
def _quorum(demo: DemoKey) -> None:
    demo.group.protect_crypto_operations = True


def ask(client: httpx.Client, **changes: Any) -> str:
    answer = client.post(REQUESTS, json=ASKED | changes)
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] in {"PENDING", "APPROVED"}
    return f"{REQUESTS}/{answer.json()['request_id']}"


def test_approved_request_yields_its_result(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    path = ask(client)
    assert client.get(path).json()["description"] == "please"
    assert client.post(path + "/result").status_code == 400
    approved = admin.post(path + "/approve").json()
    assert approved["approvers"] == [{"app": demo.admin.app_id}]
    result = client.post(path + "/result").json()
    assert result["status"] == 200
    assert result["body"]["kid"] == demo.key.kid
    assert client.post(path + "/result").json() == result
    assert client.get(path).json()["status"] == "APPROVED"


def test_direct_call_still_needs_approval_afterwards(
    client: httpx.Client, admin: httpx.Client
) -> None:
    path = ask(client)
    admin.post(path + "/approve")
    client.post(path + "/result")
    answer = client.post("/crypto/v1/encrypt", json=BODY)
    assert answer.text == "This operation requires approval"
    assert answer.status_code == 403


def test_denied_request_has_no_result(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    path = ask(client)
    denied = admin.post(path + "/deny").json()
    assert (denied["status"], denied["denier"]) == (
        "DENIED",
        {"app": demo.admin.app_id},
    )
    assert client.post(path + "/result").status_code == 400
    assert admin.post(path + "/approve").status_code == 400


def test_request_that_fails_says_how(client: httpx.Client, admin: httpx.Client) -> None:
    path = ask(client, body=BODY | {"key": {"name": "none"}})
    admin.post(path + "/approve")
    result = client.post(path + "/result").json()
    assert result == {"status": 404, "body": "sobject does not exist"}
    assert client.get(path).json()["status"] == "FAILED"


def test_approval_can_be_automatic(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.approvals.automatic = True
    assert client.post(ask(client) + "/result").json()["status"] == 200
    assert len(demo.dsm.sessions) == 0


def test_requester_that_is_gone_gets_nothing(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    path = ask(client)
    admin.post(path + "/approve")
    demo.dsm.delete_app(demo.app)
    assert admin.post(path + "/result").json()["status"] == 403


def test_requests_are_listed_by_status_and_deleted(
    client: httpx.Client, admin: httpx.Client
) -> None:
    first, second = ask(client), ask(client)
    admin.post(second + "/approve")

    def listed(who: httpx.Client, **params: str) -> list[str]:
        requests = who.get(REQUESTS, params=params).json()
        return [f"{REQUESTS}/{one['request_id']}" for one in requests]

    assert listed(client) == listed(admin) == [first, second]
    assert listed(client, status="PENDING") == [first]
    assert client.delete(first).status_code == 204
    assert listed(client) == [second]
    assert client.get(first).status_code == 404


def test_others_see_no_request_and_approve_none(
    client: httpx.Client, demo: DemoKey, connect: Any
) -> None:
    path = ask(client)
    other = connect(f"Basic {demo.dsm.add_app('other').api_key}")
    assert other.get(path).status_code == 404
    assert other.get(REQUESTS).json() == []
    assert client.post(path + "/approve").status_code == 403
    assert client.put(path).status_code == 404


def test_other_operations_are_no_matter_of_a_quorum(client: httpx.Client) -> None:
    body = ASKED | {"operation": "/sys/v1/session/auth"}
    assert client.post(REQUESTS, json=body).status_code == 400
