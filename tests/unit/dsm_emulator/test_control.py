import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from dsm_emulator import Clock, DemoKey, EmulatorServer
from dsm_emulator.account import Permission
from dsm_emulator.all_switches import ALL_SWITCHES
from dsm_emulator.command import Steered
from dsm_emulator.command_table import COMMANDS
from dsm_emulator.commands_of_server import period_s
from dsm_emulator.errors import DsmError
from dsm_emulator.fault_names import fault_named
from dsm_emulator.sobject_request import SobjectRequest


Do = Callable[..., Any]


@pytest.fixture
def control(demo: DemoKey) -> Iterator[httpx.Client]:
    with (
        EmulatorServer(demo.dsm, control_token="the-token") as server,
        httpx.Client(
            base_url=server.url + "/emulator/v1",
            verify=ssl.create_default_context(cafile=server.ca_file),
            headers={"Authorization": "Bearer the-token"},
            trust_env=False,
        ) as client,
    ):
        yield client


@pytest.fixture
def do(demo: DemoKey) -> Do:
    """Run a command as the API does, without HTTP."""

    def do(called: str, /, **body: Any) -> Any:
        command = COMMANDS[called]
        return command.run(Steered(demo.dsm, None), command.read(body))

    return do


# The API itself.


@pytest.mark.parametrize("authorization", ["", "Bearer other", "Basic the-token"])
def test_only_the_token_opens_it(control: httpx.Client, authorization: str) -> None:
    control.headers["Authorization"] = authorization
    assert control.get("/journal").status_code == 401


def test_without_a_token_there_is_no_control(client: httpx.Client) -> None:
    answer = client.get("/emulator/v1/journal", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ["refuse", "stall-accept", "tls-expired", "hang"])
def test_what_goes_wrong_at_the_front_can_be_ended(demo: DemoKey, name: str) -> None:
    with EmulatorServer(demo.dsm, control_token="t") as server:
        demo.dsm.faults.add(fault_named(name))
        answer = httpx.post(
            f"{server.control_url}/emulator/v1/clear-faults",
            verify=ssl.create_default_context(cafile=server.ca_file),
            headers={"Authorization": "Bearer t"},
            trust_env=False,
        )
        assert answer.json() == {"cleared": 1}
    assert not demo.dsm.faults
    assert demo.dsm.journal.connections["accepted"] == 0


def test_door_of_the_control_api_is_for_it_alone(demo: DemoKey) -> None:
    with EmulatorServer(demo.dsm, tls=False, control_token="t") as server:
        url = server.control_url
        assert url is not None
        headers = {"Authorization": "Bearer t"}
        answer = httpx.get(f"{url}/sys/v1/health", headers=headers, trust_env=False)
        assert answer.status_code == 404
        server.stop()
        server.start()
        assert server.control_url == url


def test_without_a_token_there_is_no_door_for_it(server: EmulatorServer) -> None:
    assert server.control_url is None


def test_unknown_call_is_404(control: httpx.Client) -> None:
    assert control.get("/nothing").status_code == 404


def test_showing_is_get_and_doing_is_post(control: httpx.Client) -> None:
    assert control.post("/journal").status_code == 405
    assert control.get("/rekey").status_code == 405


def test_control_leaves_no_trace_and_knows_no_faults(
    control: httpx.Client, demo: DemoKey
) -> None:
    control.post("/fault", json={"name": "server-error"})
    assert control.get("/journal").json() == []
    assert control.get("/counters").json()["path"] == {}
    assert demo.dsm.faults


def test_views_show_the_model(control: httpx.Client, demo: DemoKey) -> None:
    control.get(f"{control.base_url.join('/')}sys/v1/version")
    assert [e["path"] for e in control.get("/journal").json()] == ["/sys/v1/version"]
    counters = control.get("/counters").json()
    assert counters["path"] == {"/sys/v1/version": 1}
    assert counters["connections"] == {"accepted": 1}
    assert [key["kid"] for key in control.get("/keys").json()] == [demo.key.kid]
    assert control.get("/status").json()["starts"] == 1
    control.post("/clear-journal")
    assert control.get("/counters").json()["path"] == {}


@pytest.mark.parametrize("name", [n for n, c in COMMANDS.items() if c.is_view])
def test_no_view_shows_a_secret(
    control: httpx.Client, demo: DemoKey, name: str
) -> None:
    demo.dsm.logins.log_in(f"Basic {demo.api_key}")
    shown = control.get(f"/{name}")
    assert shown.is_success
    assert demo.app.secret not in shown.text
    assert demo.api_key not in shown.text


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("rekey", {"nothing": 1}),
        ("rekey", {"name": 1}),
        ("rekey", {"name": "kek", "deactivate": "yes"}),
        ("rename", {"name": "kek"}),
        ("create-key", {}),
        ("create-key", {"name": "x", "key_size": 1.5}),
        ("create-key", {"name": "x", "fields": []}),
        ("grant", {"app": "admin", "permissions": ["FLY"]}),
        ("grant", {"app": "admin", "permissions": "ENCRYPT"}),
        ("grant", {}),
        ("create-app", {"name": "x", "role": "king"}),
        ("create-app", {"name": "x", "certificate": "none"}),
        ("reset-secret", {"app": "admin", "migration_seconds": -1}),
        ("fault", {"name": "nothing"}),
        ("fault", {"name": "refuse", "count": 1}),
        ("fault", {"name": "server-error", "count": True}),
        ("latency", {"ms": -1}),
        ("latency", {"ms": "1"}),
        ("latency", {}),
        ("clock", {"move": "soon"}),
        ("clock", {"move": "9999999d"}),
        ("switch", {"name": "healthy", "value": "maybe"}),
        ("switch", {"name": "date-skew", "value": True}),
    ],
)
def test_malformed_command_is_refused(do: Do, name: str, body: dict[str, Any]) -> None:
    with pytest.raises(DsmError) as refused:
        do(name, **body)
    assert refused.value.status == 400
    assert "\n" not in refused.value.text


def test_number_that_is_none_is_refused(control: httpx.Client) -> None:
    answer = control.post("/latency", content=b'{"ms": NaN}')
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("enable", {"name": "none"}, 404),
        ("enable", {}, 404),
        ("reset-secret", {"app": "none"}, 404),
        ("switch", {"name": "none", "value": 1}, 404),
        ("delete-group", {"group": "none"}, 404),
        ("status", {}, 409),
        ("save", {}, 409),
        ("restart", {}, 409),
    ],
)
def test_command_that_cannot_be_done_says_so(
    do: Do, name: str, body: dict[str, Any], status: int
) -> None:
    with pytest.raises(DsmError) as refused:
        do(name, **body)
    assert refused.value.status == status


# Keys.


@pytest.mark.parametrize(
    ("action", "state", "enabled"),
    [
        ("disable", "Active", False),
        ("deactivate", "Deactivated", True),
        ("compromise", "Compromised", True),
        ("destroy", "Destroyed", True),
        ("delete", "Deleted", True),
    ],
)
def test_actions_change_the_key(
    do: Do,
    demo: DemoKey,
    action: str,
    state: str,
    enabled: bool,  # noqa: FBT001 - a column of the table
) -> None:
    shown = do(action, name="kek")
    assert (shown["kid"], shown["state"], shown["enabled"]) == (
        demo.key.kid,
        state,
        enabled,
    )


def test_key_is_enabled_by_kid(do: Do, demo: DemoKey) -> None:
    demo.dsm.disable(demo.key)
    do("enable", kid=demo.key.kid)
    assert demo.key.enabled


def test_rekey_answers_with_the_new_key(do: Do, demo: DemoKey) -> None:
    new = do("rekey", name="kek", deactivate=True)
    assert new["kid"] == demo.dsm.key(name="kek").kid != demo.key.kid
    assert demo.key.state.value == "Deactivated"


def test_key_is_created_with_any_field_of_dsm(do: Do, demo: DemoKey) -> None:
    policy = {"interval_days": 30}
    key = do("create-key", name="other", fields={"rotation_policy": policy})
    assert key["key_size"] == 256
    assert key["rotation_policy"]["interval_days"] == 30
    assert demo.dsm.key(name="other").group_id == demo.group.group_id


def test_key_needs_an_admin_and_a_group(do: Do, demo: DemoKey) -> None:
    demo.dsm.add_group("second")
    with pytest.raises(DsmError, match="several groups"):
        do("create-key", name="other")
    assert do("create-key", name="other", group="second")["group_id"] in demo.dsm.groups
    demo.dsm.delete_app(demo.admin)
    with pytest.raises(DsmError, match="admin"):
        do("create-key", name="third", group="second")


def test_name_moves_to_a_key_that_was_there_and_back(do: Do, demo: DemoKey) -> None:
    other = do("create-key", name="other")["kid"]
    assert do("replace", name="kek", by=other)["name"] == "kek"
    assert demo.key.name == "kek (replaced)"
    do("replace", name="kek", by=demo.key.kid, old_name="other again")
    assert demo.dsm.key(name="kek") is demo.key
    do("rename", name="kek", to="new name")
    assert demo.dsm.key(name="new name") is demo.key


def test_change_is_undone_where_a_policy_allows_it(do: Do, demo: DemoKey) -> None:
    do("switch", name="key-undo-window", value=3600)
    do("deactivate", name="kek")
    assert do("undo", name="kek")["state"] == "Active"


# Apps.


def test_app_is_made_and_its_key_logs_in(do: Do, demo: DemoKey) -> None:
    made = do("create-app", name="other")
    session = demo.dsm.logins.log_in(f"Basic {made['api_key']}")
    assert session.app_id == made["app_id"]
    assert [app["name"] for app in do("apps")][-1] == "other"


def test_app_of_a_certificate_has_no_api_key(do: Do, demo: DemoKey) -> None:
    issued = EmulatorServer(demo.dsm).issue_client_certificate("node")
    pem = issued.cert_chain_pems[0].bytes().decode()
    made = do("create-app", name="by certificate", certificate=pem)
    assert made["auth_type"] == "Certificate"
    assert "api_key" not in made
    both = do("create-app", name="both", certificate=pem, and_secret=True)
    assert both["auth_type"] == "All"
    assert both["api_key"]


def test_permission_is_withdrawn_and_granted(do: Do, demo: DemoKey) -> None:
    group = demo.group.group_id
    do("withdraw", app="k8s-sdkms-plugin", group=group, permissions=["decrypt"])
    assert demo.app.groups[group] == {Permission.ENCRYPT}
    do("withdraw", app=demo.app.app_id)
    assert group not in demo.app.groups
    do("grant", app=demo.app.app_id, group="kubernetes")
    assert demo.app.groups[group] == frozenset(Permission)


def test_app_is_disabled_enabled_and_deleted(do: Do, demo: DemoKey) -> None:
    assert do("disable-app", app="k8s-sdkms-plugin")["enabled"] is False
    assert do("enable-app", app="k8s-sdkms-plugin")["enabled"] is True
    do("delete-app", app="k8s-sdkms-plugin")
    assert demo.app.app_id not in demo.dsm.logins.apps


def test_group_is_made_and_deleted(do: Do, demo: DemoKey) -> None:
    made = do("create-group", name="second")
    assert [group["name"] for group in do("groups")] == ["kubernetes", "second"]
    do("delete-group", group="second")
    assert made["group_id"] not in demo.dsm.groups


def test_group_is_protected_by_a_quorum_and_freed(do: Do, demo: DemoKey) -> None:
    assert do("protect-group")["protected"] is True
    assert demo.group.protect_crypto_operations
    do("unprotect-group", group="kubernetes")
    assert not demo.group.protect_crypto_operations


def test_two_of_a_name_are_told_apart_by_id(do: Do, demo: DemoKey) -> None:
    demo.dsm.add_app("admin")
    with pytest.raises(DsmError, match="several apps"):
        do("disable-app", app="admin")
    assert do("disable-app", app=demo.admin.app_id)["enabled"] is False


def test_sessions_end_for_all_or_for_one(do: Do, demo: DemoKey) -> None:
    for key in (demo.api_key, demo.api_key, demo.admin_api_key):
        demo.dsm.logins.log_in(f"Basic {key}")
    assert do("kill-sessions", app="admin") == {"killed": 1}
    assert do("kill-sessions") == {"killed": 2}


def test_secret_is_reset(do: Do, demo: DemoKey) -> None:
    before = demo.api_key
    reset = do("reset-secret", app=demo.app.app_id)
    assert reset == {"app_id": demo.app.app_id, "api_key": demo.api_key}
    assert demo.api_key != before


# Faults, clock, switches.


def test_faults_are_armed_shown_and_cleared(do: Do, demo: DemoKey) -> None:
    armed = do("fault", name="throttled", count=3, retry_after="7", app="admin")
    assert armed["status"] == 429
    shown = do("faults")
    assert shown == [{**armed, "left": 3}]
    assert shown[0]["app"] == demo.admin.app_id
    assert do("clear-faults") == {"cleared": 1}
    assert do("faults") == []
    assert "refuse" in do("fault-names")


def test_field_can_be_set_to_null(do: Do, demo: DemoKey) -> None:
    do("fault", name="set-field", field="iv", value=None)
    assert [fault.value for fault in demo.dsm.faults] == [None]


def test_latency_is_that_of_the_model(do: Do, demo: DemoKey) -> None:
    assert do("latency", ms=2) == {"latency_ms": 2.0}
    assert demo.dsm.latency_ms == 2


def test_clock_moves_both_ways(do: Do, clock: Clock) -> None:
    before_s = clock.now()
    do("clock", move="+3h")
    assert clock.now() == before_s + 10_800
    do("clock", move="1h30m", back=True)
    assert clock.now() == before_s + 5_400
    assert do("clock")["time"] == "2023-11-14T23:43:20+00:00"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("+3h", 10_800), ("1d12h", 129_600), ("-0.5m", -30)],
)
def test_period_is_read(text: str, seconds: float) -> None:
    assert period_s(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "h", "+-3h", "3h ", "3w", "1e9s"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a period"):
        period_s(text)


def test_every_switch_takes_what_it_shows(do: Do) -> None:
    for name, shown in do("switches").items():
        assert do("switch", name=name, value=shown["value"]) == {name: shown["value"]}
        assert shown["help"]
        assert shown["type"]


def test_switches_of_the_network_reach_the_model(do: Do, demo: DemoKey) -> None:
    do("switch", name="request-id", value=False)
    do("switch", name="date-skew", value=-3600)
    do("switch", name="latency", value=1.5)
    assert not demo.dsm.sends_request_id
    assert demo.dsm.headers.date_skew_s == -3600
    assert demo.dsm.latency_ms == 1.5
    assert {"request-id", "session-idle"} <= ALL_SWITCHES.keys()


def test_switch_can_be_null(do: Do, demo: DemoKey) -> None:
    do("switch", name="trial-ends", value=0)
    do("switch", name="trial-ends", value=None)
    assert demo.dsm.account.trial_ends_s is None


def test_one_of_several_groups_has_to_be_named(do: Do, demo: DemoKey) -> None:
    demo.dsm.create_key(
        SobjectRequest(name="x", key_size=256),
        creator=demo.admin,
        group_id=demo.dsm.add_group("second").group_id,
    )
    with pytest.raises(DsmError, match="several groups"):
        do("grant", app="admin")
