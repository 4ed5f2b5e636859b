import base64
from collections.abc import Callable

import httpx
import pytest

from dsm_emulator import Clock, DemoKey


AUTH = "/sys/v1/session/auth"
REFRESH = "/sys/v1/session/refresh"
REAUTH = "/sys/v1/session/reauth"
TERMINATE = "/sys/v1/session/terminate"


@pytest.fixture
def in_session(
    client: httpx.Client, connect: Callable[[str], httpx.Client]
) -> httpx.Client:
    return connect(f"Bearer {client.post(AUTH).json()['access_token']}")


def test_health_needs_no_credential(stranger: httpx.Client, demo: DemoKey) -> None:
    answer = stranger.get("/sys/v1/health")
    assert (answer.status_code, answer.content) == (204, b"")
    demo.dsm.healthy = False
    assert stranger.get("/sys/v1/health").status_code == 503


def test_version_needs_no_credential(stranger: httpx.Client) -> None:
    shown = stranger.get("/sys/v1/version").json()
    assert shown["version"].count(".") == 2
    assert {"api_version", "server_mode"} <= shown.keys()


def test_login_answers_with_a_bearer_token(client: httpx.Client, demo: DemoKey) -> None:
    answer = client.post(AUTH)
    assert answer.status_code == 200
    opened = answer.json()
    assert len(opened.pop("access_token")) == 86
    assert opened == {
        "token_type": "Bearer",
        "expires_in": 600,
        "entity_id": demo.app.app_id,
    }


def test_expires_in_is_the_idle_time(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.sessions.idle_s = 3
    assert client.post(AUTH).json()["expires_in"] == 3


def test_bad_key_is_401_in_plain_text(
    connect: Callable[[str], httpx.Client], demo: DemoKey
) -> None:
    bad = base64.b64encode(f"{demo.app.app_id}:wrong".encode()).decode()
    answer = connect(f"Basic {bad}").post(AUTH)
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text
    assert demo.dsm.journal.failed_logins == {demo.app.app_id: 1}


def test_refresh_prolongs_a_session(in_session: httpx.Client, clock: Clock) -> None:
    for _ in range(2):
        clock.advance(599)
        assert in_session.post(REFRESH).status_code == 204
    clock.advance(600)
    answer = in_session.post(REFRESH)
    assert (answer.status_code, answer.text) == (401, "Session does not exist")


def test_reauth_makes_a_second_session(
    in_session: httpx.Client, connect: Callable[[str], httpx.Client]
) -> None:
    second = connect(f"Bearer {in_session.post(REAUTH).json()['access_token']}")
    assert second.post(REFRESH).status_code == 204
    assert in_session.post(REFRESH).status_code == 204


def test_terminated_session_is_dead(in_session: httpx.Client) -> None:
    assert in_session.post(TERMINATE).status_code == 204
    assert in_session.post(TERMINATE).status_code == 401


def test_lost_session_can_be_403_with_the_same_text(
    in_session: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.kill_sessions()
    demo.dsm.logins.lost_session_status = 403
    answer = in_session.post(REFRESH)
    assert (answer.status_code, answer.text) == (403, "Session does not exist")


@pytest.mark.parametrize("path", [REFRESH, REAUTH, TERMINATE])
def test_api_key_is_no_session(client: httpx.Client, path: str) -> None:
    assert client.post(path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("GET", AUTH),
        ("GET", "/crypto/v1/keys/x"),
        ("GET", "/emulator/v2/journal"),
    ],
)
def test_unknown_call_is_404(client: httpx.Client, method: str, path: str) -> None:
    assert client.request(method, path).status_code == 404


def test_double_slash_at_the_front_is_one(client: httpx.Client, demo: DemoKey) -> None:
    answer = client.post(f"{client.base_url}//sys/v1/session/auth")
    assert answer.request.url.raw_path.startswith(b"//sys")
    assert answer.status_code == 200
    assert demo.dsm.journal.count(AUTH) == 1


def test_request_ids_are_unique_journalled_and_can_be_missing(
    stranger: httpx.Client, demo: DemoKey
) -> None:
    ids = [
        stranger.get(path).headers["x-request-id"]
        for path in ("/sys/v1/health", "/sys/v1/version", "/nowhere")
    ]
    assert len(set(ids)) == 3
    assert [entry.request_id for entry in demo.dsm.journal.entries] == ids
    demo.dsm.sends_request_id = False
    assert "x-request-id" not in stranger.get("/sys/v1/version").headers


def test_body_above_the_cap_is_413(client: httpx.Client) -> None:
    answer = client.post("/crypto/v1/encrypt", content=b" " * (512 * 1024 + 1))
    assert answer.status_code == 413
    assert "x-request-id" in answer.headers
    assert client.post(AUTH, content=b" " * 512 * 1024).status_code == 200


def test_bug_of_the_emulator_says_so(
    client: httpx.Client, demo: DemoKey, caplog: pytest.LogCaptureFixture
) -> None:
    del demo.dsm.cipher
    answer = client.post(
        "/crypto/v1/encrypt",
        json={"key": {"name": "kek"}, "alg": "AES", "mode": "GCM", "plain": ""},
    )
    assert answer.status_code == 500
    assert "emulator" in answer.text
    assert "the emulator failed on POST /crypto/v1/encrypt" in caplog.text
