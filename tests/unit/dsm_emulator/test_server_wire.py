"""What goes wrong with an answer: in itself, and on its way."""

import base64
import contextlib
import gzip
import json
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from dsm_emulator import DemoKey, EmulatorServer, Fault
from dsm_emulator.fault_kinds import KINDS, FaultKind, Stage
from dsm_emulator.faults import Faults, Subject


INFO = "/crypto/v1/keys/info"
HEALTH = "/sys/v1/health"
REKEY = "/crypto/v1/keys/rekey"
NAMED = {"name": "kek"}
SEALING = {
    "key": NAMED,
    "alg": "AES",
    "mode": "GCM",
    "tag_len": 128,
    "plain": base64.b64encode(bytes(32)).decode(),
}


def encrypt(client: httpx.Client) -> httpx.Response:
    return client.post("/crypto/v1/encrypt", json=SEALING)


def decrypt(client: httpx.Client, sealed: dict[str, str]) -> httpx.Response:
    body = {"key": {"kid": sealed["kid"]}, "alg": "AES", "mode": "GCM"}
    fields = {name: sealed[name] for name in ("cipher", "iv", "tag")}
    return client.post("/crypto/v1/decrypt", json=body | fields)


def raw(server: EmulatorServer, path: str = "/sys/v1/version") -> tuple[bytes, bool]:
    """Return what comes back, byte by byte, and whether TLS ended in order."""
    context = ssl.create_default_context(cafile=server.ca_file)
    received = b""
    with (
        socket.create_connection(("127.0.0.1", server.port), 10) as plain,
        context.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        ) as secure,
    ):
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        try:
            while part := secure.recv(65536):
                received += part
        except ssl.SSLEOFError:
            return received, False
        return received, True


# Defects of the answer (point 27).


@pytest.mark.parametrize("field", ["kid", "iv", "tag"])
def test_encrypt_comes_without_a_field(
    client: httpx.Client, demo: DemoKey, field: str
) -> None:
    demo.dsm.faults.add(Fault("drop-field", field=field, count=1))
    assert field not in encrypt(client).json()
    assert field in encrypt(client).json()


@pytest.mark.parametrize(("field", "size"), [("iv", 16), ("tag", 12), ("cipher", 31)])
def test_bytes_of_a_field_have_another_size(
    client: httpx.Client, demo: DemoKey, field: str, size: int
) -> None:
    demo.dsm.faults.add(Fault("resize-field", field=field, size=size))
    answer = encrypt(client).json()
    assert len(base64.b64decode(answer[field], validate=True)) == size


@pytest.mark.parametrize("size", [0, 31, 33])
def test_plain_is_of_wrong_length(
    client: httpx.Client, demo: DemoKey, size: int
) -> None:
    sealed = encrypt(client).json()
    demo.dsm.faults.add(Fault("resize-field", field="plain", size=size))
    answer = decrypt(client, sealed).json()
    assert base64.b64decode(answer["plain"], validate=True) == bytes(size)


def test_field_that_is_not_there_is_not_resized(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("resize-field", field="none", size=3))
    assert "none" not in encrypt(client).json()


def test_body_comes_compressed_unasked(
    client: httpx.Client, demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("gzip", path="/sys/v1/version"))
    demo.dsm.faults.add(Fault("close-idle"))
    head, _, body = raw(server)[0].partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head
    assert json.loads(gzip.decompress(body))["api_version"] == "v1"


def test_success_can_carry_the_text_of_an_error(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("error-text", text="internal error", count=1))
    answer = encrypt(client)
    assert (answer.status_code, answer.text) == (200, "internal error")
    assert answer.headers["content-type"].startswith("text/plain")


def test_encrypt_can_come_back_with_nothing(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("no-content", count=1))
    answer = encrypt(client)
    assert (answer.status_code, answer.content) == (204, b"")
    assert demo.dsm.journal.entries[-1].faults == (FaultKind.NO_CONTENT,)


# Statuses (point 24).


def test_retry_after_can_be_a_date(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("status", status=429, retry_date_s=7))
    answer = client.post(INFO, json=NAMED)
    after = parsedate_to_datetime(answer.headers["retry-after"])
    now = parsedate_to_datetime(answer.headers["date"])
    assert (after - now).total_seconds() == 7


def test_date_of_retry_after_is_as_skewed_as_the_date(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.headers.date_skew_s = -3600
    demo.dsm.faults.add(Fault("status", status=429, retry_date_s=7))
    answer = client.post(INFO, json=NAMED)
    after = parsedate_to_datetime(answer.headers["retry-after"])
    assert after.timestamp() == demo.dsm.clock.now() - 3593


def test_burst_is_over_after_its_time(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("status", status=500, seconds=10))
    assert client.post(INFO, json=NAMED).status_code == 500
    demo.dsm.clock.advance(10)
    assert client.post(INFO, json=NAMED).status_code == 200
    assert not demo.dsm.faults


def test_redirect_can_carry_the_path_on(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("redirect", location="https://other.test{path}"))
    answer = client.post(INFO, json=NAMED)
    assert answer.headers["location"] == f"https://other.test{INFO}"


# The way (points 22 and 23).


def test_reset_before_means_that_nothing_happened_after_that_it_did(
    admin: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("reset", count=1))
    demo.dsm.faults.add(Fault("reset-after", count=1))
    with pytest.raises(httpx.TransportError):
        admin.post(REKEY, json=NAMED)
    assert demo.dsm.key(name="kek") is demo.key
    with pytest.raises(httpx.TransportError):
        admin.post(REKEY, json=NAMED)
    assert demo.dsm.key(name="kek") is not demo.key
    assert [entry.status for entry in demo.dsm.journal.entries] == [None, None]


def test_hanging_up_is_an_end_without_an_answer(
    admin: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("hang-up", path=REKEY))
    with pytest.raises(httpx.RemoteProtocolError):
        admin.post(REKEY, json=NAMED)
    assert demo.dsm.key(name="kek") is demo.key


@pytest.mark.parametrize(
    ("stage", "begins", "ends"),
    [
        ("start", b"", b""),
        ("headers", b"HTTP/1.1 200 Any\r\nx-request-id: ", b""),
        ("body", b"HTTP/1.1 200 Any\r\n", b"\r\n\r\n{"),
    ],
)
def test_connection_breaks_at_each_stage(
    demo: DemoKey, server: EmulatorServer, stage: str, begins: bytes, ends: bytes
) -> None:
    demo.dsm.faults.add(Fault("disconnect", stage=stage))
    received, in_order = raw(server)
    assert received.startswith(begins)
    assert ends in received
    assert (b"\r\n\r\n" in received) == (stage == "body")
    assert not received.endswith(b"}")
    assert not in_order


def test_status_line_is_none(
    client: httpx.Client, demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("bad-status-line"))
    assert raw(server)[0].startswith(b"HTTP/1.1 fine\r\n")
    with pytest.raises(httpx.RemoteProtocolError):
        encrypt(client)


def test_chunk_has_no_size(
    client: httpx.Client, demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("bad-chunk"))
    received, _ = raw(server)
    assert b"transfer-encoding: chunked\r\n\r\nmany\r\n{" in received
    with pytest.raises(httpx.RemoteProtocolError):
        encrypt(client)


def test_headers_are_oversized(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("oversized-headers", size=50_000, count=1))
    assert len(encrypt(client).headers["x-padding"]) == 50_000
    demo.dsm.faults.add(Fault("oversized-headers"))
    with pytest.raises(httpx.RemoteProtocolError):
        encrypt(client)


def test_body_is_shorter_than_it_says(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("short-body"))
    with pytest.raises(httpx.RemoteProtocolError, match="message body"):
        encrypt(client)


def test_body_is_longer_than_it_says(demo: DemoKey, server: EmulatorServer) -> None:
    demo.dsm.faults.add(Fault("long-body"))
    demo.dsm.faults.add(Fault("close-idle", ms=50))
    received, _ = raw(server)
    assert received.endswith(b"\r\n\r\nsurplus")


def test_body_stalls_behind_its_headers(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("stall-headers", count=1))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(encrypt, client)
        assert demo.dsm.faults.wait_for_hanging(1)
        assert not answer.done()
        demo.dsm.faults.clear()
        assert answer.result(timeout=10).json()["kid"] == demo.key.kid


def test_stall_ends_when_the_client_gives_up(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("stall-headers", count=1))
    with pytest.raises(httpx.ReadTimeout):
        client.post(INFO, json=NAMED, timeout=httpx.Timeout(5, read=0.1))
    assert encrypt(client).is_success


def test_body_trickles(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("trickle", ms=5, size=20, count=1))
    started_s = time.monotonic()
    answer = encrypt(client)
    assert answer.json()["kid"] == demo.key.kid
    assert time.monotonic() - started_s >= 0.005 * (len(answer.content) // 20)


def test_trickle_ends_with_the_client(client: httpx.Client, demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("trickle", ms=20, count=1))
    with client.stream("POST", INFO, json=NAMED) as answer:
        next(answer.iter_raw())
    assert encrypt(client).is_success


def test_answer_without_a_body_survives_stall_and_trickle(
    client: httpx.Client, demo: DemoKey
) -> None:
    demo.dsm.faults.add(Fault("trickle", ms=1, count=1))
    assert client.get(HEALTH).status_code == 204
    stall = Fault("stall-headers", count=1)
    demo.dsm.faults.add(stall)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, HEALTH)
        assert demo.dsm.faults.wait_for_hanging(1)
        demo.dsm.faults.remove(stall)
        assert answer.result(timeout=10).status_code == 204


def test_latency_has_jitter_and_a_tail_and_is_the_same_each_time() -> None:
    def delays(**more: Any) -> list[float]:
        faults = Faults()
        faults.add(Fault("latency", ms=10, jitter_ms=5, tail_ms=1000, **more))
        return [faults.before(Subject(INFO)).delay_s for _ in range(200)]

    assert delays(tail_share=0.1) == delays(tail_share=0.1)
    assert delays(tail_share=0.1) != delays(tail_share=0.1, seed=1)
    tail = [delay for delay in delays(tail_share=0.1) if delay > 1]
    assert 5 <= len(tail) <= 50
    assert all(0.01 <= delay <= 0.015 for delay in delays(tail_share=0))


@pytest.mark.parametrize(
    "kind", [kind for kind, rule in KINDS.items() if rule.stage is Stage.WIRE]
)
def test_answer_is_in_the_journal_whatever_its_way(
    client: httpx.Client, demo: DemoKey, kind: FaultKind
) -> None:
    demo.dsm.faults.add(Fault(kind, ms=0, count=1))
    patient = httpx.Timeout(5, read=0.1 if kind is FaultKind.STALL_HEADERS else 5)
    with contextlib.suppress(httpx.TransportError):
        client.post("/crypto/v1/encrypt", json=SEALING, timeout=patient)
    assert demo.dsm.journal.count("/crypto/v1/encrypt", kid=demo.key.kid) == 1
