import base64
import contextlib
import socket
import ssl
import stat
import threading
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dsm_emulator import DemoKey, EmulatorServer


VERSION = "/sys/v1/version"


def get(server: EmulatorServer, path: str = VERSION) -> httpx.Response:
    context = ssl.create_default_context(cafile=server.ca_file)
    return httpx.get(server.url + path, verify=context, trust_env=False)


def test_certificate_is_good_for_every_name_of_the_loopback(
    server: EmulatorServer,
) -> None:
    context = ssl.create_default_context(cafile=server.ca_file)
    for name in ("localhost", "127.0.0.1", "::1"):
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            assert secure.version() == "TLSv1.3"


def test_nobody_else_trusts_the_ca(server: EmulatorServer) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(server.url, verify=ssl.create_default_context(), trust_env=False)


def test_plain_http_on_request(demo: DemoKey) -> None:
    with EmulatorServer(demo.dsm, tls=False) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert httpx.get(server.url + VERSION, trust_env=False).is_success
        with pytest.raises(ValueError, match="TLS"):
            _ = server.ca_file


def test_ipv6_loopback(demo: DemoKey) -> None:
    with EmulatorServer(demo.dsm, "::1", tls=False) as server:
        assert server.url.startswith("http://[::1]:")
        assert httpx.get(server.url + VERSION, trust_env=False).is_success


def test_stop_and_start_keep_url_ca_and_model(demo: DemoKey) -> None:
    with EmulatorServer(demo.dsm) as server:
        url, ca = server.url, server.ca_file.read_bytes()
        context = ssl.create_default_context(cafile=server.ca_file)
        with httpx.Client(
            base_url=url,
            verify=context,
            headers={"Authorization": f"Basic {demo.api_key}"},
            trust_env=False,
        ) as client:
            token = client.post("/sys/v1/session/auth").json()["access_token"]
            server.stop()
            server.stop()
            with pytest.raises(httpx.ConnectError):
                client.get(VERSION)
            server.start()
            server.start()
            assert (server.url, server.ca_file.read_bytes()) == (url, ca)
            bearer = {"Authorization": f"Bearer {token}"}
            answer = client.post("/sys/v1/session/refresh", headers=bearer)
            assert answer.status_code == 204


def test_nothing_is_left_behind(demo: DemoKey) -> None:
    threads = set(threading.enumerate())
    with EmulatorServer(demo.dsm) as server:
        folder = server.ca_file.parent
        # Neither an idle connection nor one amid its handshake may outlive the server.
        with (
            socket.create_connection(("127.0.0.1", server.port)) as silent,
            httpx.Client(
                verify=ssl.create_default_context(cafile=server.ca_file),
                trust_env=False,
            ) as client,
        ):
            assert client.get(server.url + VERSION).is_success
            server.close()
            silent.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert silent.recv(1) == b""
    assert set(threading.enumerate()) == threads
    assert not folder.exists()


def test_closed_server_can_start_anew(demo: DemoKey) -> None:
    server = EmulatorServer(demo.dsm)
    for _ in range(2):
        with server:
            assert get(server).is_success
        with pytest.raises(ValueError, match="started"):
            _ = server.ca_file


def test_given_folder_gets_the_ca_and_no_private_key(
    demo: DemoKey, tmp_path: Path
) -> None:
    with EmulatorServer(demo.dsm, folder=tmp_path) as server:
        assert server.ca_file == tmp_path / "ca.pem"
        assert get(server).is_success
    assert [file.name for file in tmp_path.iterdir()] == ["ca.pem"]
    assert "PRIVATE" not in server.ca_file.read_text()


def test_own_folder_is_private(server: EmulatorServer) -> None:
    assert stat.S_IMODE(server.ca_file.parent.stat().st_mode) == 0o700


def test_taken_port_is_an_error_of_start(demo: DemoKey, server: EmulatorServer) -> None:
    other = EmulatorServer(demo.dsm, port=server.port)
    with pytest.raises(OSError, match="in use"):
        other.start()
    other.close()


def test_client_that_goes_amid_its_body_is_no_request(
    demo: DemoKey, server: EmulatorServer
) -> None:
    context = ssl.create_default_context(cafile=server.ca_file)
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(
            b"POST /crypto/v1/encrypt HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        )
    assert get(server).is_success
    assert demo.dsm.journal.count() == 1


def test_bug_of_the_emulator_is_a_500_and_in_the_log(
    server: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("dsm_emulator.rest.answer", fail)
    answer = get(server)
    assert answer.status_code == 500
    assert "a bug" not in answer.text
    assert "the emulator failed on GET /sys/v1/version" in caplog.text


def test_body_that_is_too_large_is_refused(server: EmulatorServer) -> None:
    answer = httpx.post(
        f"{server.url}/crypto/v1/encrypt",
        content=bytes(600 * 1024),
        verify=ssl.create_default_context(cafile=server.ca_file),
        trust_env=False,
    )
    assert answer.status_code == 413


def test_public_key_of_the_server_is_that_of_its_certificate(
    server: EmulatorServer,
) -> None:
    shown = get(server, "/sys/v1/tls_public_keys").json()
    context = ssl.create_default_context(cafile=server.ca_file)
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    spki = x509.load_der_x509_certificate(der).public_key()
    expected = spki.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert expected in [base64.b64decode(key["spki"]) for key in shown]
