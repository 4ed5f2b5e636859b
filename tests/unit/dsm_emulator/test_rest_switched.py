"""Calls that a switch of the model lets through, refuses or answers in another way."""

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from dsm_emulator import Clock, Condition, DemoKey, Operation
from dsm_emulator.answer_shape import ErrorForm
from dsm_emulator.key_index import RotatedNameForm
from dsm_emulator.sobject import KeyState


KEYS = "/crypto/v1/keys"
INFO = KEYS + "/info"
ENCRYPT = "/crypto/v1/encrypt"
DECRYPT = "/crypto/v1/decrypt"
REQUIRED = {
    "acct_id",
    "created_at",
    "creator",
    "enabled",
    "key_ops",
    "obj_type",
    "origin",
    "public_only",
}
IV = base64.b64encode(bytes(12)).decode()


def body(**changes: Any) -> dict[str, Any]:
    return {
        "key": {"name": "kek"},
        "alg": "AES",
        "mode": "GCM",
        "plain": base64.b64encode(b"seed").decode(),
        "tag_len": 128,
        **changes,
    }


# Read-only mode, limits.


def test_read_only_mode_does_crypto_and_reads_and_refuses_writes(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.read_only = True
    revision = demo.dsm.revision
    path = f"{KEYS}/{demo.key.kid}"
    app = f"/sys/v1/apps/{demo.app.app_id}"
    assert client.post(ENCRYPT, json=body()).status_code == 200
    assert client.post(INFO, json={"name": "kek"}).status_code == 200
    assert client.post("/sys/v1/session/auth").status_code == 200
    writes: list[tuple[str, str, Any]] = [
        ("POST", KEYS, {"name": "x", "obj_type": "AES", "key_size": 256}),
        ("PUT", KEYS, {}),
        ("POST", KEYS + "/rekey", {"name": "kek"}),
        ("POST", KEYS + "/replace", {}),
        ("PATCH", path, {"enabled": False}),
        ("DELETE", path, {}),
        ("POST", path + "/activate", {}),
        ("POST", path + "/revoke", {"code": "Superseded"}),
        ("POST", path + "/destroy", {}),
        ("PUT", path + "/revert", {}),
        ("POST", "/sys/v1/apps", {"name": "x"}),
        ("PATCH", app, {}),
        ("POST", app + "/reset_secret", {}),
        ("POST", "/sys/v1/groups", {"name": "x"}),
        ("POST", "/sys/v1/approval_requests", {}),
    ]
    statuses = [
        admin.request(method, url, json=sent).status_code
        for method, url, sent in writes
    ]
    assert statuses == [503] * len(writes)
    assert demo.dsm.revision == revision
    demo.dsm.read_only = False
    assert admin.post(KEYS + "/rekey", json={"name": "kek"}).is_success
    assert demo.dsm.revision > revision


def test_whether_read_only_mode_does_crypto_is_a_cell(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.read_only = True
    demo.dsm.table.set(Condition.READ_ONLY, Operation.ENCRYPT, 503)
    demo.dsm.table.set_text(Condition.READ_ONLY, "no quorum of nodes")
    answer = client.post(ENCRYPT, json=body())
    assert (answer.status_code, answer.text) == (503, "no quorum of nodes")


def test_operations_in_a_second_are_limited(
    client: httpx.Client, demo: DemoKey, clock: Clock
) -> None:
    demo.dsm.quota.per_second = 2
    statuses = [client.post(ENCRYPT, json=body()).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert client.post(INFO, json={"name": "kek"}).status_code == 200
    clock.advance(1)
    assert client.post(ENCRYPT, json=body()).status_code == 200


def test_operations_at_all_are_limited(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.quota.total = 1
    statuses = [client.post(ENCRYPT, json=body()).status_code for _ in range(3)]
    assert statuses == [200, 429, 429]
    assert demo.dsm.quota.used == 1


# The cipher.


def test_key_with_random_iv_takes_none_from_the_caller(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    path = f"{KEYS}/{demo.key.kid}"
    shown = admin.patch(path, json={"aes": {"random_iv": True}}).json()
    assert shown["aes"] == {"random_iv": True}
    assert client.post(ENCRYPT, json=body(iv=IV)).status_code == 400
    assert client.post(ENCRYPT, json=body()).status_code == 200
    demo.dsm.table.set(Condition.CALLER_IV, Operation.ENCRYPT, 200)
    assert client.post(ENCRYPT, json=body(iv=IV)).json()["iv"] == IV


@pytest.mark.parametrize(
    "limits", [{"cipher_mode": "CBC"}, {"tag_length": 96}, {"iv_length": 16}]
)
def test_limits_of_a_key_bind_its_encryptions(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey, limits: dict[str, Any]
) -> None:
    admin.patch(f"{KEYS}/{demo.key.kid}", json={"aes": limits})
    assert client.post(ENCRYPT, json=body(iv=IV)).status_code == 400


@pytest.mark.parametrize("aes", [1, {"random_iv": "yes"}])
def test_malformed_limits_are_400(
    admin: httpx.Client, demo: DemoKey, aes: object
) -> None:
    path = f"{KEYS}/{demo.key.kid}"
    assert admin.patch(path, json={"aes": aes}).status_code == 400


def test_length_of_the_iv_is_a_switch(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.cipher.gcm_iv_bytes = 16
    sealed = client.post(ENCRYPT, json=body()).json()
    assert len(base64.b64decode(sealed["iv"])) == 16
    opened = client.post(DECRYPT, json=body() | sealed)
    assert opened.json()["plain"] == body()["plain"]
    assert client.post(ENCRYPT, json=body(iv=IV)).status_code == 400


def test_tag_lengths_are_a_switch(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.cipher.gcm_tag_bits = frozenset({128})
    assert client.post(ENCRYPT, json=body(tag_len=96)).status_code == 400
    short = {"iv": IV, "tag": "A" * 16, "cipher": ""}
    assert client.post(DECRYPT, json=body() | short).status_code == 400


@pytest.mark.parametrize(
    ("plain", "strict"), [("-_-_", "+/+/"), ("YQ", "YQ=="), ("YWI", "YWI=")]
)
def test_leniency_to_other_base64_is_a_switch(
    client: httpx.Client, demo: DemoKey, *, plain: str, strict: str
) -> None:
    sent = body(plain=plain)
    assert client.post(ENCRYPT, json=sent).status_code == 400
    demo.dsm.rules.loose_base64 = True
    sealed = client.post(ENCRYPT, json=sent).json()
    assert client.post(DECRYPT, json=body() | sealed).json()["plain"] == strict
    items = [{"kid": demo.key.kid, "request": sent}]
    (one,) = client.post(KEYS + "/batch/encrypt", json=items).json()
    assert one["status"] == 200


# Undo.


@pytest.fixture
def undo(demo: DemoKey) -> DemoKey:
    demo.dsm.account.key_undo_window_s = 7 * 86_400
    return demo


def _disable(demo: DemoKey) -> None:
    demo.dsm.disable(demo.key)


def _destroy(demo: DemoKey) -> None:
    demo.dsm.destroy(demo.key)


def _delete(demo: DemoKey) -> None:
    demo.dsm.delete(demo.key)


def _compromise(demo: DemoKey) -> None:
    demo.dsm.compromise(demo.key)


@pytest.mark.parametrize("harm", [_disable, _destroy, _delete, _compromise])
def test_revert_undoes_what_happened_to_a_key(
    client: httpx.Client,
    admin: httpx.Client,
    undo: DemoKey,
    *,
    harm: Callable[[DemoKey], None],
) -> None:
    sealed = client.post(ENCRYPT, json=body()).json()
    harm(undo)
    assert not client.post(ENCRYPT, json=body()).is_success
    reverted = admin.put(f"{KEYS}/{undo.key.kid}/revert")
    assert reverted.status_code == 200
    assert reverted.json()["state"] == "Active"
    assert client.post(DECRYPT, json=body() | sealed).status_code == 200
    assert client.post(ENCRYPT, json=body()).status_code == 200


def test_history_item_can_be_chosen(admin: httpx.Client, undo: DemoKey) -> None:
    undo.dsm.deactivate(undo.key)
    undo.dsm.disable(undo.key)
    history = admin.post(INFO, json={"kid": undo.key.kid}).json()["history"]
    assert [item["state"]["state"] for item in history] == ["Active", "Deactivated"]
    chosen = {"ids": [history[0]["id"]]}
    shown = admin.put(f"{KEYS}/{undo.key.kid}/revert", json=chosen).json()
    assert (shown["state"], shown["enabled"]) == ("Active", True)
    assert "deactivation_date" not in shown
    assert shown["history"] == []


def test_window_of_the_policy_ends(
    admin: httpx.Client, undo: DemoKey, clock: Clock
) -> None:
    undo.dsm.deactivate(undo.key)
    clock.advance(7 * 86_400 + 1)
    assert admin.put(f"{KEYS}/{undo.key.kid}/revert").status_code == 400
    assert undo.key.state is KeyState.DEACTIVATED


def test_without_a_policy_nothing_is_reverted(
    admin: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.deactivate(demo.key)
    assert admin.put(f"{KEYS}/{demo.key.kid}/revert").status_code == 403
    demo.dsm.undo(demo.key)
    assert demo.dsm.key(name="kek").state is KeyState.ACTIVE


def test_deleted_key_whose_name_is_taken_stays_deleted(
    admin: httpx.Client, undo: DemoKey
) -> None:
    undo.dsm.delete(undo.key)
    made = {
        "name": "kek",
        "obj_type": "AES",
        "key_size": 256,
        "group_id": undo.group.group_id,
    }
    assert admin.post(KEYS, json=made).status_code == 201
    assert admin.put(f"{KEYS}/{undo.key.kid}/revert").status_code == 409


# Versions and forms.


def test_paths_before_5_8_are_there_if_wanted(
    client: httpx.Client, demo: DemoKey
) -> None:
    path = f"{KEYS}/{demo.key.kid}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("POST", path + "/encrypt", body()),
        ("POST", path + "/decrypt", body()),
    ]
    for method, url, sent in calls:
        assert client.request(method, url, json=sent).status_code == 404
    demo.dsm.rules.legacy_paths = True
    assert client.get(path).json()["kid"] == demo.key.kid
    sealed = client.post(path + "/encrypt", json=body()).json()
    opened = client.post(path + "/decrypt", json=body() | sealed).json()
    assert opened == {"kid": demo.key.kid, "plain": body()["plain"]}
    demo.dsm.destroy(demo.key)
    assert client.get(path).status_code == 404
    shown = client.get(path, params={"show_destroyed": "true"}).json()
    assert shown["state"] == "Destroyed"


def test_version_and_info_need_no_login(stranger: httpx.Client, demo: DemoKey) -> None:
    version = stranger.get("/sys/v1/version").json()
    assert set(version) == {"version", "api_version", "server_mode"}
    assert stranger.get("/sys/v1/info").json() == version | {"external_entropy": None}
    demo.dsm.rules.fips_level = 3
    demo.dsm.rules.server_mode = "Sgx"
    shown = stranger.get("/sys/v1/version").json()
    assert (shown["fips_level"], shown["server_mode"]) == (3, "Sgx")


def test_tls_public_keys_are_those_of_the_server(
    stranger: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.tls_public_keys_der = [b"spki"]
    shown = stranger.get("/sys/v1/tls_public_keys").json()
    assert shown == [{"spki": "c3BraQ==", "is_active": True}]


def test_client_configs_are_for_apps(
    client: httpx.Client, stranger: httpx.Client, demo: DemoKey
) -> None:
    path = "/sys/v1/apps/client_configs"
    assert stranger.get(path).status_code == 401
    assert client.get(path).json() == {"common": {}}
    demo.dsm.rules.client_retry_timeout_ms = 3000
    assert client.get(path).json() == {"common": {"retry_timeout_millis": 3000}}


def test_app_selects_no_account(client: httpx.Client) -> None:
    token = client.post("/sys/v1/session/auth").json()["access_token"]
    path = "/sys/v1/session/select_account"
    header = {"Authorization": f"Bearer {token}"}
    assert client.post(path, headers=header).status_code == 403


def test_answers_can_carry_fields_that_nobody_knows(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.shape.unknown_fields = True
    assert "x_future_field" in client.post(ENCRYPT, json=body()).json()
    assert "x_future_field" in client.get(KEYS).json()[0]
    assert client.get("/sys/v1/health").content == b""
    assert client.post(INFO, json={"name": "none"}).text == "sobject does not exist"


def test_requests_can_carry_fields_that_nobody_knows(client: httpx.Client) -> None:
    assert client.post(ENCRYPT, json=body(x_future_field=[{}])).status_code == 200
    assert client.post(INFO, json={"name": "kek", "x": 1}).status_code == 200


def test_key_has_the_required_fields_and_no_nulls(client: httpx.Client) -> None:
    shown = client.post(INFO, json={"name": "kek"}).json()
    assert shown.keys() >= REQUIRED
    assert None not in shown.values()


def test_absent_fields_can_be_null(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.shape.nulls = True
    shown = client.post(INFO, json={"name": "kek"}).json()
    assert shown["links"] is None
    assert shown["deactivation_date"] is None
    assert shown["state"] == "Active"


def test_fields_can_be_left_out(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.shape.omitted = frozenset({"state", "name"})
    demo.dsm.shape.effective_key_policy = False
    shown = client.post(INFO, json={"name": "kek"}).json()
    assert shown.keys().isdisjoint({"state", "name", "effective_key_policy"})


def test_check_values_are_shown_if_wanted(client: httpx.Client, demo: DemoKey) -> None:
    demo.key.material = bytes(32)
    assert "kcv" not in client.post(INFO, json={"name": "kek"}).json()
    demo.dsm.shape.kcv = True
    shown = client.post(INFO, json={"name": "kek"}).json()
    # AES-256 of a block of zeros under a key of zeros begins dc95c0.
    assert shown["kcv"] == "dc95c0"
    assert len(shown["kcv_cmac"]) == 10
    demo.dsm.destroy(demo.key)
    params = {"show_destroyed": "true"}
    destroyed = client.post(INFO, json={"name": "kek"}, params=params).json()
    assert "kcv" not in destroyed


@pytest.mark.parametrize(
    ("form", "content_type", "content"),
    [
        (ErrorForm.TEXT, "text/plain; charset=utf-8", b"sobject does not exist"),
        (ErrorForm.JSON, "application/json", b'{"message":"sobject does not exist"}'),
        (ErrorForm.JSON_STRING, "application/json", b'"sobject does not exist"'),
        (ErrorForm.EMPTY, None, b""),
    ],
)
def test_refusals_come_in_the_forms_that_clients_have_met(
    client: httpx.Client,
    demo: DemoKey,
    *,
    form: ErrorForm,
    content_type: str | None,
    content: bytes,
) -> None:
    demo.dsm.shape.error_form = form
    answer = client.post(INFO, json={"name": "none"})
    assert answer.status_code == 404
    assert answer.headers.get("content-type") == content_type
    assert answer.content == content


def test_unknown_path_is_404(client: httpx.Client) -> None:
    assert client.get("/crypto/v2/keys").status_code == 404


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (RotatedNameForm.BASIC_ISO, "kek (rotated at 20231114T221320Z)"),
        (RotatedNameForm.ISO, "kek (rotated at 2023-11-14T22:13:20Z)"),
        (RotatedNameForm.EPOCH, "kek (rotated at 1700000000)"),
    ],
)
def test_form_of_a_rotated_name_is_a_switch(
    demo: DemoKey, *, form: RotatedNameForm, name: str
) -> None:
    demo.dsm.keys.rules.rotated_name_form = form
    demo.dsm.rekey("kek")
    assert demo.key.name == name


def test_dates_act_only_if_they_are_to(demo: DemoKey, clock: Clock) -> None:
    rules = demo.dsm.keys.rules
    rules.dates_move_states = False
    demo.key.deactivation_date = clock.now() + 1
    clock.advance(2)
    assert demo.dsm.key(name="kek").state is KeyState.ACTIVE
    rules.dates_move_states = True
    assert demo.dsm.key(kid=demo.key.kid).state is KeyState.DEACTIVATED
