import ssl
from collections.abc import Iterator

import httpx
import pytest

from dsm_emulator import DemoKey, EmulatorServer


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


@pytest.mark.parametrize("authorization", ["", "Bearer other", "Basic the-token"])
def test_only_the_token_opens_it(control: httpx.Client, authorization: str) -> None:
    control.headers["Authorization"] = authorization
    assert control.get("/journal").status_code == 401


def test_without_a_token_there_is_no_control(client: httpx.Client) -> None:
    answer = client.get("/emulator/v1/journal", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401


def test_unknown_call_is_404(control: httpx.Client) -> None:
    assert control.get("/nothing").status_code == 404


def test_control_leaves_no_trace_and_knows_no_faults(
    control: httpx.Client, demo: DemoKey
) -> None:
    control.post("/faults", json={"kind": "status", "status": 500})
    assert control.get("/journal").json() == []
    assert control.get("/counters").json()["path"] == {}
    assert demo.dsm.faults


def test_views_show_the_model(control: httpx.Client, demo: DemoKey) -> None:
    control.get(f"{control.base_url.join('/')}sys/v1/version")
    assert [e["path"] for e in control.get("/journal").json()] == ["/sys/v1/version"]
    assert control.get("/counters").json()["path"] == {"/sys/v1/version": 1}
    assert [key["kid"] for key in control.get("/keys").json()] == [demo.key.kid]


def test_faults_are_armed_shown_and_cleared(
    control: httpx.Client, demo: DemoKey
) -> None:
    fields = {"kind": "status", "status": 500, "count": 3, "body": "html"}
    assert fields.items() <= control.post("/faults", json=fields).json().items()
    assert [f["kind"] for f in control.get("/faults").json()] == ["status"]
    assert control.delete("/faults").json() == {}
    assert not demo.dsm.faults


@pytest.mark.parametrize(
    "fields", [{}, {"kind": "none"}, {"kind": "status"}, {"kind": "reset", "x": 1}]
)
def test_what_is_no_fault_is_400(
    control: httpx.Client, fields: dict[str, object]
) -> None:
    assert control.post("/faults", json=fields).status_code == 400


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
    control: httpx.Client,
    demo: DemoKey,
    action: str,
    state: str,
    enabled: bool,  # noqa: FBT001 - a column of the table
) -> None:
    shown = control.post("/key", json={"action": action, "name": "kek"}).json()
    assert (shown["kid"], shown["state"], shown["enabled"]) == (
        demo.key.kid,
        state,
        enabled,
    )


def test_key_is_enabled_by_kid(control: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.disable(demo.key)
    control.post("/key", json={"action": "enable", "kid": demo.key.kid})
    assert demo.key.enabled


def test_rekey_answers_with_the_new_key(control: httpx.Client, demo: DemoKey) -> None:
    body = {"action": "rekey", "name": "kek", "deactivate_rotated_key": True}
    new = control.post("/key", json=body).json()
    assert new["kid"] == demo.dsm.key(name="kek").kid != demo.key.kid
    assert demo.key.state.value == "Deactivated"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/key", {"action": "fly", "name": "kek"}, 400),
        ("/key", {"name": "kek"}, 400),
        ("/key", {"action": "enable", "name": "none"}, 404),
        ("/latency", {}, 400),
        ("/latency", {"ms": -1}, 400),
        ("/latency", {"ms": "1"}, 400),
        ("/reset-secret", {}, 400),
        ("/reset-secret", {"app_id": "none"}, 404),
    ],
)
def test_malformed_command_is_refused(
    control: httpx.Client, path: str, body: dict[str, object], status: int
) -> None:
    assert control.post(path, json=body).status_code == status


def test_latency_sessions_and_secret(control: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.logins.log_in(f"Basic {demo.api_key}")
    assert control.post("/latency", json={"ms": 2}).json() == {"latency_ms": 2.0}
    assert demo.dsm.latency_ms == 2
    assert control.post("/kill-sessions").json() == {"killed": 1}
    before = demo.api_key
    reset = control.post("/reset-secret", json={"app_id": demo.app.app_id}).json()
    assert reset == {"app_id": demo.app.app_id, "api_key": demo.api_key}
    assert demo.api_key != before
