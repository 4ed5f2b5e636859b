import base64
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit.dsm_emulator.proofs import issue, public_der

from dsm_emulator import Clock, DemoKey
from dsm_emulator.account import Permission


APPS = "/sys/v1/apps"
AUTH = "/sys/v1/session/auth"
OWN = issue("own")
KEY = public_der(ec.generate_private_key(ec.SECP256R1()))


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def own(demo: DemoKey, action: str = "") -> str:
    return f"{APPS}/{demo.app.app_id}{action and '/' + action}"


def test_app_reads_itself_unless_the_switch_forbids(
    client: httpx.Client, demo: DemoKey
) -> None:
    shown = client.get(own(demo)).json()
    assert shown["app_id"] == demo.app.app_id
    assert shown["auth_type"] == "Secret"
    assert shown["groups"] == [demo.group.group_id]
    assert shown["ip_address_policy"] == "allow_all"
    assert demo.app.secret not in str(shown)
    demo.dsm.rules.app_reads_itself = False
    assert client.get(own(demo)).status_code == 403


def test_permissions_are_shown_when_asked_for(
    client: httpx.Client, demo: DemoKey
) -> None:
    shown = client.get(own(demo), params={"group_permissions": "true"}).json()
    assert shown["groups"] == {demo.group.group_id: ["DECRYPT", "ENCRYPT"]}


def test_crypto_app_manages_no_apps(client: httpx.Client, demo: DemoKey) -> None:
    other = f"{APPS}/{demo.admin.app_id}"
    calls = [
        ("GET", APPS),
        ("POST", APPS),
        ("GET", other),
        ("PATCH", other),
        ("DELETE", other),
        ("POST", other + "/reset_secret"),
        ("GET", other + "/credential"),
    ]
    statuses = [client.request(method, path).status_code for method, path in calls]
    assert statuses == [403] * len(calls)


def test_admin_lists_and_reads_apps(admin: httpx.Client, demo: DemoKey) -> None:
    listed = admin.get(APPS).json()
    assert {app["app_id"] for app in listed} == {demo.app.app_id, demo.admin.app_id}
    assert admin.get(own(demo)).json()["name"] == "k8s-sdkms-plugin"
    assert admin.get(f"{APPS}/none").status_code == 404
    assert admin.put(own(demo)).status_code == 404


def test_made_app_can_log_in(
    admin: httpx.Client, stranger: httpx.Client, demo: DemoKey
) -> None:
    body = {
        "name": "second",
        "description": "for tests",
        "add_groups": {demo.group.group_id: ["ENCRYPT"]},
        "ip_address_policy": {"whitelist": ["127.0.0.1", "::1"]},
    }
    made = admin.post(APPS, json=body)
    assert made.status_code == 201
    app_id = made.json()["app_id"]
    given = admin.get(f"{APPS}/{app_id}/credential").json()["credential"]
    key = b64(f"{app_id}:{given['secret']}".encode())
    header = {"Authorization": f"Basic {key}"}
    assert stranger.post(AUTH, headers=header).json()["entity_id"] == app_id
    assert made.json()["description"] == "for tests"
    assert admin.delete(f"{APPS}/{app_id}").status_code == 204
    assert stranger.post(AUTH, headers=header).status_code == 401


def test_patch_changes_an_app_at_run_time(
    admin: httpx.Client, client: httpx.Client, demo: DemoKey
) -> None:
    group_id = demo.group.group_id
    info = "/crypto/v1/keys/info"
    patch = {"name": "renamed", "mod_groups": {group_id: ["DECRYPT"]}}
    assert admin.patch(own(demo), json=patch).json()["name"] == "renamed"
    assert demo.app.groups == {group_id: frozenset({Permission.DECRYPT})}
    admin.patch(own(demo), json={"del_groups": [group_id]})
    assert client.post(info, json={"name": "kek"}).status_code == 403
    admin.patch(own(demo), json={"add_groups": [group_id]})
    assert client.post(info, json={"name": "kek"}).status_code == 200
    admin.patch(own(demo), json={"enabled": False})
    assert client.post(info, json={"name": "kek"}).status_code == 401


@pytest.mark.parametrize(
    ("credential", "kind"),
    [
        ({"certificate": b64(OWN.der)}, "Certificate"),
        ({"trustedca": {"ca_certificates": [b64(OWN.der)]}}, "TrustedCa"),
        ({"trustedca": {"ca_certificate": b64(OWN.der)}}, "TrustedCa"),
        (
            {
                "signedjwt": {
                    "valid_issuers": ["i"],
                    "signing_keys": {"kind": "Stored", "keys": {"k": b64(KEY)}},
                }
            },
            "SignedJwt",
        ),
        ({"all": {"certificate": b64(OWN.der), "secret": "x"}}, "All"),
        ({"secret": "chosen by the client"}, "Secret"),
    ],
)
def test_credential_of_each_kind_is_set_and_ends_the_sessions(
    admin: httpx.Client, demo: DemoKey, *, credential: dict[str, Any], kind: str
) -> None:
    bearer = f"Bearer {demo.dsm.logins.log_in(f'Basic {demo.api_key}').token}"
    shown = admin.patch(own(demo), json={"credential": credential}).json()
    assert shown["auth_type"] == kind
    assert ("cert_not_after" in shown) is (kind in {"Certificate", "All"})
    assert demo.dsm.logins.named_app(bearer) is None
    assert "chosen by the client" not in demo.app.secret
    given = admin.get(own(demo, "credential")).json()["credential"]
    assert next(iter(given)).lower() == kind.lower()


@pytest.mark.parametrize(
    "body",
    [
        {"credential": 1},
        {"credential": {"certificate": "AAAA"}},
        {"credential": {"certificate": "!"}},
        {"credential": {"trustedca": 1}},
        {"credential": {"trustedca": {}}},
        {"credential": {"trustedca": {"ca_certificates": []}}},
        {"credential": {"trustedca": {"ca_certificates": ["AAAA"], "subjects": 1}}},
        {"credential": {"signedjwt": 1}},
        {"credential": {"signedjwt": {}}},
        {
            "credential": {
                "signedjwt": {"valid_issuers": [], "signing_keys": {"kind": "fetched"}}
            }
        },
        {
            "credential": {
                "signedjwt": {"valid_issuers": [], "signing_keys": {"kind": "stored"}}
            }
        },
        {"credential": {"all": {"secret": "x"}}},
        {"add_groups": 1},
        {"add_groups": {"g": ["ODD"]}},
        {"del_groups": 1},
        {"ip_address_policy": "nobody"},
        {"ip_address_policy": {"whitelist": ["here"]}},
        {"enabled": "yes"},
    ],
)
def test_malformed_app_is_400_and_changes_nothing(
    admin: httpx.Client, demo: DemoKey, body: dict[str, Any]
) -> None:
    before = admin.get(own(demo)).json()
    assert admin.patch(own(demo), json=body).status_code == 400
    assert admin.get(own(demo)).json() == before


def test_role_is_checked(admin: httpx.Client) -> None:
    assert admin.post(APPS, json={"name": "x", "role": "king"}).status_code == 400
    made = admin.post(APPS, json={"name": "x", "role": "admin"})
    assert made.json()["role"] == "admin"


def test_reset_ends_the_old_key_at_once(
    admin: httpx.Client, client: httpx.Client, demo: DemoKey
) -> None:
    assert admin.post(own(demo, "reset_secret")).status_code == 200
    assert client.post(AUTH).status_code == 401


def test_reset_with_a_migration_period_keeps_the_old_key_for_it(
    admin: httpx.Client, client: httpx.Client, demo: DemoKey, clock: Clock
) -> None:
    old = demo.app.secret
    body = {"credential_migration_period": 60, "secret_size": 32}
    assert admin.post(own(demo, "reset_secret"), json=body).status_code == 200
    given = admin.get(own(demo, "credential")).json()
    assert given["previous_credential"]["credential"] == {"secret": old}
    assert given["previous_credential"]["valid_until"] == "20231114T221420Z"
    assert len(base64.urlsafe_b64decode(demo.app.secret + "=")) == 32
    assert client.post(AUTH).status_code == 200
    clock.advance(60)
    assert client.post(AUTH).status_code == 401


def test_app_resets_its_own_secret(client: httpx.Client, demo: DemoKey) -> None:
    assert client.post(own(demo, "reset_secret")).status_code == 200


@pytest.mark.parametrize(
    "body", [{"secret_size": 8}, {"credential_migration_period": -1}]
)
def test_malformed_reset_is_400(
    admin: httpx.Client, client: httpx.Client, demo: DemoKey, body: dict[str, int]
) -> None:
    assert admin.post(own(demo, "reset_secret"), json=body).status_code == 400
    assert client.post(AUTH).status_code == 200
