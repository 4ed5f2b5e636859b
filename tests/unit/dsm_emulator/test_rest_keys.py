import base64
from typing import Any

import httpx
import pytest

from dsm_emulator import Condition, DemoKey, Operation
from dsm_emulator.account import Permission
from dsm_emulator.sobject import KeyOp


KEYS = "/crypto/v1/keys"
INFO = "/crypto/v1/keys/info"
REKEY = "/crypto/v1/keys/rekey"
REPLACE = "/crypto/v1/keys/replace"


def key_path(demo: DemoKey, action: str = "") -> str:
    return f"{KEYS}/{demo.key.kid}{action and '/' + action}"


def make(admin: httpx.Client, demo: DemoKey, name: str, **changes: Any) -> Any:
    body = {
        "name": name,
        "obj_type": "AES",
        "key_size": 256,
        "group_id": demo.group.group_id,
        **changes,
    }
    answer = admin.post(KEYS, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def permit(demo: DemoKey, *permissions: Permission) -> None:
    demo.app.groups[demo.group.group_id] |= frozenset(permissions)


def test_info_by_name_and_by_kid_show_the_same_key(
    client: httpx.Client, demo: DemoKey
) -> None:
    by_name = client.post(INFO, params={"view": "json"}, json={"name": "kek"})
    by_kid = client.post(INFO, json={"kid": demo.key.kid})
    assert by_name.status_code == 200
    assert by_name.json() == by_kid.json()
    assert by_name.json()["state"] == "Active"
    assert "value" not in by_name.json()
    assert demo.dsm.journal.count(INFO, kid=demo.key.kid) == 2


def test_effective_policy_is_what_this_app_may_do(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    def effective(who: httpx.Client) -> list[str]:
        shown = who.post(INFO, json={"name": "kek"}).json()
        ops: list[str] = shown["effective_key_policy"]["key_ops"]
        return ops

    assert effective(client) == ["ENCRYPT", "DECRYPT"]
    assert effective(admin) == ["APPMANAGEABLE"]
    demo.app.groups[demo.group.group_id] = frozenset({Permission.DECRYPT})
    assert effective(client) == ["DECRYPT"]


def test_value_is_shown_to_who_may_export(client: httpx.Client, demo: DemoKey) -> None:
    def view_value() -> httpx.Response:
        return client.post(INFO, params={"view": "value"}, json={"name": "kek"})

    assert view_value().status_code == 403
    demo.key.key_ops = (*demo.key.key_ops, KeyOp.EXPORT)
    assert view_value().status_code == 403
    permit(demo, Permission.EXPORT)
    assert base64.b64decode(view_value().json()["value"]) == demo.key.material


def test_destroyed_and_deleted_keys_are_shown_when_asked_for(
    client: httpx.Client, demo: DemoKey
) -> None:
    def info(**params: str) -> httpx.Response:
        return client.post(INFO, params=params, json={"kid": demo.key.kid})

    demo.dsm.destroy(demo.key)
    assert info().status_code == 404
    assert info().text == "sobject does not exist"
    assert info(show_destroyed="true").json()["state"] == "Destroyed"
    demo.dsm.delete(demo.key)
    assert info(show_destroyed="true").status_code == 404
    assert info(show_deleted="true").json()["state"] == "Deleted"


def test_key_of_a_foreign_group_is_refused_by_its_cell(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.app.groups.clear()
    assert client.post(INFO, json={"name": "kek"}).status_code == 403
    demo.dsm.table.set(Condition.FOREIGN_GROUP, Operation.LOOK_UP, 404)
    answer = client.post(INFO, json={"name": "kek"})
    assert (answer.status_code, answer.text) == (404, "sobject does not exist")
    assert client.get(KEYS).json() == []


@pytest.mark.parametrize("body", [{}, {"kid": "x"}, {"name": 1}])
def test_malformed_info_is_400(client: httpx.Client, body: dict[str, Any]) -> None:
    assert client.post(INFO, json=body).status_code == 400


def test_list_is_sorted_paged_and_filtered(
    admin: httpx.Client, client: httpx.Client, demo: DemoKey
) -> None:
    for name in ("a", "b", "c"):
        make(admin, demo, name)

    def names(**params: str) -> list[str]:
        return [key["name"] for key in client.get(KEYS, params=params).json()]

    assert names(sort="name:asc") == ["a", "b", "c", "kek"]
    assert names(sort="name:desc", limit="2", offset="1") == ["c", "b"]
    assert names(name="b") == ["b"]
    assert names(name="none") == []
    kids = [key["kid"] for key in client.get(KEYS).json()]
    assert kids == sorted(kids)


def test_list_hides_destroyed_and_deleted_keys_unless_asked(
    admin: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.destroy(demo.dsm.key(kid=make(admin, demo, "destroyed")["kid"]))
    demo.dsm.delete(demo.dsm.key(kid=make(admin, demo, "deleted")["kid"]))

    def names(**params: str) -> set[str]:
        return {key["name"] for key in admin.get(KEYS, params=params).json()}

    assert names() == {"kek"}
    assert names(show_destroyed="true") == {"kek", "destroyed"}
    assert names(show_deleted="true") == {"kek", "deleted"}


@pytest.mark.parametrize(
    "params",
    [{"limit": "x"}, {"offset": "-1"}, {"sort": "name:up"}, {"sort": "age:asc"}],
)
def test_malformed_list_is_400(client: httpx.Client, params: dict[str, str]) -> None:
    assert client.get(KEYS, params=params).status_code == 400


def test_generated_key_is_usable_under_its_name(
    admin: httpx.Client, client: httpx.Client, demo: DemoKey
) -> None:
    made = make(
        admin, demo, "new", key_size=128, description="d", custom_metadata={"a": "b"}
    )
    shown = client.post(INFO, json={"name": "new"}).json()
    assert shown["kid"] == made["kid"]
    assert (shown["key_size"], shown["description"]) == (128, "d")
    assert shown["custom_metadata"] == {"a": "b"}


def test_imported_key_has_the_given_value(admin: httpx.Client, demo: DemoKey) -> None:
    body = {
        "name": "imported",
        "obj_type": "AES",
        "group_id": demo.group.group_id,
        "value": base64.b64encode(bytes(24)).decode(),
    }
    answer = admin.put(KEYS, json=body)
    assert (answer.status_code, answer.json()["origin"]) == (201, "External")
    assert demo.dsm.key(name="imported").material == bytes(24)


def test_second_key_of_a_name_is_409(admin: httpx.Client, demo: DemoKey) -> None:
    body = {
        "name": "kek",
        "obj_type": "AES",
        "key_size": 256,
        "group_id": demo.group.group_id,
    }
    answer = admin.post(KEYS, json=body)
    assert (answer.status_code, answer.text) == (409, "sobject already exists")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"name": ""},
        {"name": " "},
        {"name": "a\nb"},
        {"name": "x" * 4097},
        {"obj_type": None},
        {"obj_type": "RSA"},
        {"key_size": None},
        {"key_size": 64},
        {"key_ops": "ENCRYPT"},
        {"key_ops": ["FLY"]},
        {"custom_metadata": {"a": 1}},
        {"activation_date": "tomorrow"},
        {"group_id": None},
        {"value": "AQ=="},
        {"value": base64.b64encode(bytes(32)).decode()},
    ],
)
def test_malformed_generate_is_400(
    admin: httpx.Client, demo: DemoKey, changes: dict[str, Any]
) -> None:
    body = {
        "name": "new",
        "obj_type": "AES",
        "key_size": 256,
        "group_id": demo.group.group_id,
        **changes,
    }
    assert admin.post(KEYS, json=body).status_code == 400


def test_import_without_a_value_is_400(admin: httpx.Client, demo: DemoKey) -> None:
    body = {"name": "new", "obj_type": "AES", "group_id": demo.group.group_id}
    assert admin.put(KEYS, json=body).status_code == 400


def test_unknown_group_is_404(admin: httpx.Client) -> None:
    body = {"name": "new", "obj_type": "AES", "key_size": 256, "group_id": "none"}
    assert admin.post(KEYS, json=body).status_code == 404


def test_crypto_app_creates_in_its_default_group_if_permitted(
    client: httpx.Client, demo: DemoKey
) -> None:
    body = {"name": "new", "obj_type": "AES", "key_size": 256}
    assert client.post(KEYS, json=body).status_code == 403
    permit(demo, Permission.CREATE_SOBJECTS)
    assert client.post(KEYS, json=body).json()["group_id"] == demo.group.group_id


def test_patch_changes_what_it_names(admin: httpx.Client, demo: DemoKey) -> None:
    answer = admin.patch(
        key_path(demo),
        json={
            "name": "renamed",
            "enabled": False,
            "key_ops": ["DECRYPT"],
            "custom_metadata": {"a": "b"},
            "deactivation_date": "20990101T000000Z",
        },
    )
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["name"], shown["enabled"], shown["key_ops"]) == (
        "renamed",
        False,
        ["DECRYPT"],
    )
    assert shown["deactivation_date"] == "20990101T000000Z"
    assert admin.post(INFO, json={"name": "kek"}).status_code == 404


def test_patch_can_remove_key_ops_but_not_add_them(
    admin: httpx.Client, demo: DemoKey
) -> None:
    answer = admin.patch(key_path(demo), json={"key_ops": ["ENCRYPT", "EXPORT"]})
    assert answer.status_code == 400
    assert "EXPORT" not in demo.key.key_ops


def test_patch_to_a_taken_name_is_409_and_to_its_own_nothing(
    admin: httpx.Client, demo: DemoKey
) -> None:
    make(admin, demo, "taken")
    assert admin.patch(key_path(demo), json={"name": "taken"}).status_code == 409
    assert admin.patch(key_path(demo), json={"name": "kek"}).status_code == 200


def test_key_goes_through_its_life(admin: httpx.Client, demo: DemoKey) -> None:
    kid = make(admin, demo, "new", activation_date="20990101T000000Z")["kid"]
    path = f"{KEYS}/{kid}"

    def state() -> str:
        asked = {"show_destroyed": "true", "show_deleted": "true"}
        return str(admin.post(INFO, params=asked, json={"kid": kid}).json()["state"])

    assert state() == "PreActive"
    assert admin.post(f"{path}/activate").status_code == 204
    assert state() == "Active"
    assert admin.post(f"{path}/activate").status_code == 400
    revocation = {"code": "Superseded", "message": "old"}
    assert admin.post(f"{path}/revoke", json=revocation).status_code == 204
    assert state() == "Deactivated"
    assert demo.dsm.key(kid=kid).revocation_reason == revocation
    compromise = {"code": "CACompromise"}
    assert admin.post(f"{path}/revoke", json=compromise).status_code == 204
    assert state() == "Compromised"
    assert admin.post(f"{path}/destroy").status_code == 204
    assert state() == "Destroyed"
    assert admin.delete(path).status_code == 204
    assert state() == "Deleted"
    assert admin.delete(path).status_code == 404


@pytest.mark.parametrize("body", [{}, {"code": "Boredom"}])
def test_malformed_revoke_is_400(
    admin: httpx.Client, demo: DemoKey, body: dict[str, Any]
) -> None:
    assert admin.post(key_path(demo, "revoke"), json=body).status_code == 400


@pytest.mark.parametrize(
    ("method", "action", "permission"),
    [
        ("PATCH", "", Permission.UPDATE_SOBJECTS_PROFILE),
        ("DELETE", "", Permission.DELETE_SOBJECTS),
        ("POST", "destroy", Permission.DESTROY_SOBJECTS),
        ("POST", "destroy", Permission.MANAGE),
    ],
)
def test_crypto_app_manages_with_permission_a_key_that_is_appmanageable(
    client: httpx.Client,
    demo: DemoKey,
    method: str,
    action: str,
    permission: Permission,
) -> None:
    path = key_path(demo, action)
    assert client.request(method, path).status_code == 403
    permit(demo, permission)
    key_ops, demo.key.key_ops = demo.key.key_ops, (KeyOp.ENCRYPT,)
    assert client.request(method, path).status_code == 403
    demo.key.key_ops = key_ops
    assert client.request(method, path).is_success


def test_rekey_by_name_answers_with_the_new_key(
    admin: httpx.Client, client: httpx.Client, demo: DemoKey
) -> None:
    new = admin.post(REKEY, json={"name": "kek"}).json()
    assert new["name"] == "kek"
    assert new["links"] == {"replaced": demo.key.kid}
    old = client.post(INFO, json={"kid": demo.key.kid}).json()
    assert old["name"].startswith("kek (rotated at ")
    assert old["links"] == {"replacement": new["kid"]}
    assert old["state"] == "Active"
    assert client.post(INFO, json={"name": "kek"}).json()["kid"] == new["kid"]


def test_rekey_can_deactivate_the_rotated_key(
    admin: httpx.Client, client: httpx.Client, demo: DemoKey
) -> None:
    body = {"name": "kek", "deactivate_rotated_key": True, "key_size": 128}
    assert admin.post(REKEY, json=body).json()["key_size"] == 128
    old = client.post(INFO, json={"kid": demo.key.kid}).json()
    assert (old["state"], old["enabled"]) == ("Deactivated", True)


def test_rekey_of_an_unknown_name_is_404_and_of_none_400(admin: httpx.Client) -> None:
    assert admin.post(REKEY, json={"name": "none"}).status_code == 404
    assert admin.post(REKEY, json={}).status_code == 400


def test_crypto_app_without_rotate_permission_cannot_rekey(
    client: httpx.Client, demo: DemoKey
) -> None:
    assert client.post(REKEY, json={"name": "kek"}).status_code == 403
    permit(demo, Permission.ROTATE_SOBJECTS)
    assert client.post(REKEY, json={"name": "kek"}).is_success


def test_replace_moves_a_name_back_to_an_old_key(
    admin: httpx.Client, demo: DemoKey
) -> None:
    new = admin.post(REKEY, json={"name": "kek"}).json()
    body = {
        "replaced": new["kid"],
        "replaced_new_name": "abandoned",
        "replacement": demo.key.kid,
    }
    assert admin.post(REPLACE, json=body).status_code == 204
    assert admin.post(INFO, json={"name": "kek"}).json()["kid"] == demo.key.kid
    assert admin.post(REPLACE, json=body).status_code == 409
    invalid = {**body, "replaced_new_name": " "}
    assert admin.post(REPLACE, json=invalid).status_code == 400
