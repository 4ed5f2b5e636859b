import httpx
import pytest

from dsm_emulator import DemoKey


GROUPS = "/sys/v1/groups"
INFO = "/crypto/v1/keys/info"


def own(demo: DemoKey) -> str:
    return f"{GROUPS}/{demo.group.group_id}"


def test_member_sees_its_groups_alone(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    other = admin.post(GROUPS, json={"name": "other"})
    assert other.status_code == 201
    path = f"{GROUPS}/{other.json()['group_id']}"
    assert [group["name"] for group in client.get(GROUPS).json()] == ["kubernetes"]
    assert client.get(own(demo)).json()["name"] == "kubernetes"
    assert client.get(path).status_code == 404
    assert admin.get(path).json()["name"] == "other"
    assert len(admin.get(GROUPS).json()) == 2


def test_crypto_app_manages_no_groups(client: httpx.Client, demo: DemoKey) -> None:
    for method, path in (("POST", GROUPS), ("PATCH", own(demo)), ("DELETE", own(demo))):
        assert client.request(method, path).status_code == 403
    assert client.put(own(demo)).status_code == 404


def test_quorum_policy_is_set_by_patch(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    policy = {"protect_crypto_operations": True}
    shown = admin.patch(own(demo), json={"approval_policy": policy}).json()
    assert shown["approval_policy"] == policy
    assert demo.group.protect_crypto_operations
    assert admin.patch(own(demo), json={"name": "new"}).json()["name"] == "new"
    assert demo.group.protect_crypto_operations


def test_deleted_group_takes_its_members_away(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    assert admin.delete(own(demo)).status_code == 204
    assert demo.app.groups == {}
    assert client.post(INFO, json={"name": "kek"}).status_code == 403
    assert admin.delete(own(demo)).status_code == 404


@pytest.mark.parametrize("policy", [1, {"protect_crypto_operations": "yes"}])
def test_malformed_policy_is_400(admin: httpx.Client, policy: object) -> None:
    body = {"name": "x", "approval_policy": policy}
    assert admin.post(GROUPS, json=body).status_code == 400
