import asyncio
import json
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from dsm_emulator import DemoKey, EmulatorServer, Fault


INFO = "/crypto/v1/keys/info"
HEALTH = "/sys/v1/health"
NAMED = {"name": "kek"}


def test_status_has_a_path_and_a_count(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(
        Fault("status", path=INFO, count=2, status=503, retry_after="7")
    )
    assert client.get(HEALTH).status_code == 204
    for _ in range(2):
        answer = client.post(INFO, json=NAMED)
        assert (answer.status_code, answer.text) == (503, "injected fault")
        assert answer.headers["retry-after"] == "7"
        assert "x-request-id" in answer.headers
    assert client.post(INFO, json=NAMED).status_code == 200
    assert demo.dsm.journal.count(INFO, status=503) == 2


def test_status_is_for_one_app(
    client: httpx.Client, admin: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("status", app=demo.app.app_id, status=403))
    assert client.post(INFO, json=NAMED).status_code == 403
    assert admin.post(INFO, json=NAMED).status_code == 200


@pytest.mark.parametrize(
    ("form", "content_type", "body"),
    [
        ("text", "text/plain; charset=utf-8", b"oh no"),
        ("json", "application/json", b'{"message": "oh no"}'),
        ("json-string", "application/json", b'"oh no"'),
        ("html", "text/html", b"<html><body><h1>oh no</h1></body></html>\n"),
        ("empty", None, b""),
        ("huge", "text/plain; charset=utf-8", b"oh no" + b"." * 995),
    ],
)
def test_status_comes_in_every_form(
    client: httpx.Client,
    demo: DemoKey,
    form: str,
    content_type: str | None,
    body: bytes,
) -> None:
    demo.dsm.faults.add(Fault("status", status=502, body=form, text="oh no", size=1000))
    answer = client.post(INFO, json=NAMED)
    assert answer.status_code == 502
    assert answer.headers.get("content-type") == content_type
    assert answer.content == body


def test_status_can_be_a_success_with_another_text(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("status", status=200, text="maintenance", count=1))
    demo.dsm.faults.add(Fault("status", status=204, count=1))
    assert client.post(INFO, json=NAMED).text == "maintenance"
    answer = client.post(INFO, json=NAMED)
    assert (answer.status_code, answer.content) == (204, b"")


def test_stand_in_means_that_nothing_happened(
    admin: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("status", status=500))
    admin.post("/crypto/v1/keys/rekey", json=NAMED)
    assert demo.dsm.key(name="kek") is demo.key


def test_latency_is_that_of_the_model_and_of_faults(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.latency_ms = 30
    demo.dsm.faults.add(Fault("latency", ms=40, count=1))
    start_s = time.monotonic()
    assert client.get(HEALTH).status_code == 204
    assert time.monotonic() - start_s >= 0.07
    assert not demo.dsm.faults


def test_lost_sessions_are_gone_before_the_answer(
    client: httpx.Client, connect: Callable[[str], httpx.Client], demo: DemoKey
) -> None:
    def log_in() -> httpx.Client:
        token = client.post("/sys/v1/session/auth").json()["access_token"]
        return connect(f"Bearer {token}")

    in_session = log_in()
    demo.dsm.faults.add(Fault("session-lost", path=INFO, count=1))
    answer = in_session.post(INFO, json=NAMED)
    assert (answer.status_code, answer.text) == (401, "Session does not exist")
    assert log_in().post(INFO, json=NAMED).status_code == 200


def test_defect_spoils_an_answer_but_no_refusal(
    client: httpx.Client, stranger: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("drop-field", path=INFO, field="kid", count=1))
    assert stranger.post(INFO, json=NAMED).status_code == 401
    assert client.get("/crypto/v1/keys").json()[0]["kid"] == demo.key.kid
    assert "kid" not in client.post(INFO, json=NAMED).json()
    assert client.post(INFO, json=NAMED).json()["kid"] == demo.key.kid


def test_defect_for_every_path_lets_lists_be(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("not-json"))
    assert isinstance(client.get("/crypto/v1/keys").json(), list)
    answer = client.post(INFO, json=NAMED)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_encrypt_can_answer_with_a_wrong_field(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("set-field", field="iv", value="AA=="))
    body = {"key": NAMED, "alg": "AES", "mode": "GCM", "tag_len": 128, "plain": ""}
    assert client.post("/crypto/v1/encrypt", json=body).json()["iv"] == "AA=="


def test_redirect_names_the_other_url(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("redirect", location="https://other.test/x", count=1))
    demo.dsm.faults.add(Fault("redirect", location="https://other.test/x", status=308))
    for status in (307, 308):
        answer = client.post(INFO, json=NAMED)
        assert answer.status_code == status
        assert answer.headers["location"] == "https://other.test/x"


async def test_reset_is_a_real_one(demo: DemoKey, server: EmulatorServer) -> None:
    demo.dsm.faults.add(Fault("reset", count=1))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        server.port,
        ssl=ssl.create_default_context(cafile=server.ca_file),
        server_hostname="localhost",
    )
    writer.write(b"GET /sys/v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()
    assert [entry.status for entry in demo.dsm.journal.entries] == [None]


def test_hang_ends_with_its_release(client: httpx.Client, demo: DemoKey) -> None:
    hang = Fault("hang", path=INFO, count=1)
    demo.dsm.faults.add(hang)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, INFO, json=NAMED)
        assert demo.dsm.faults.wait_for_hanging(1)
        assert not answer.done()
        demo.dsm.faults.remove(hang)
        assert answer.result(timeout=10).status_code == 200


def test_hang_ends_when_the_client_gives_up(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("hang", path=INFO, count=2))
    for _ in range(2):
        with pytest.raises(httpx.ReadTimeout):
            client.post(INFO, json=NAMED, timeout=httpx.Timeout(5, read=0.05))
    assert client.post(INFO, json=NAMED).status_code == 200


def test_hang_ends_when_the_server_stops(
    client: httpx.Client, demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("hang"))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, INFO, json=NAMED)
        assert demo.dsm.faults.wait_for_hanging(1)
        server.stop()
        with pytest.raises(httpx.TransportError):
            answer.result(timeout=10)
    # What let go then has no loop to tell; that must not matter.
    demo.dsm.faults.clear()
    server.start()
    assert client.post(INFO, json=NAMED).status_code == 200
