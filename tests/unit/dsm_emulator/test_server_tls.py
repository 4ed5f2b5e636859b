import ssl
import warnings

import httpx
import pytest
import trustme

from dsm_emulator import DemoKey, EmulatorServer, Fault
from dsm_emulator.credentials import AuthType, Credential, TrustedCa
from dsm_emulator.tls import ClientCertificates


VERSION = "/sys/v1/version"
AUTH = "/sys/v1/session/auth"


def trusting(server: EmulatorServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.ca_file)


def get(server: EmulatorServer, context: ssl.SSLContext) -> httpx.Response:
    return httpx.get(server.url + VERSION, verify=context, trust_env=False)


def with_certificate(
    server: EmulatorServer, issued: trustme.LeafCert
) -> ssl.SSLContext:
    context = trusting(server)
    issued.configure_cert(context)
    return context


def der_of(issued: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


def by_certificate(issued: trustme.LeafCert) -> Credential:
    return Credential(AuthType.CERTIFICATE, certificate_der=der_of(issued))


def test_app_logs_in_with_its_certificate(
    demo: DemoKey, server: EmulatorServer
) -> None:
    issued = server.issue_client_certificate("my-node")
    app = demo.dsm.add_app("by certificate", credential=by_certificate(issued))
    with httpx.Client(
        base_url=server.url, verify=with_certificate(server, issued), trust_env=False
    ) as client:
        opened = client.post(AUTH)
    assert opened.json()["entity_id"] == app.app_id


def test_login_without_the_certificate_is_refused(
    demo: DemoKey, server: EmulatorServer
) -> None:
    issued = server.issue_client_certificate("my-node")
    demo.dsm.add_app("by certificate", credential=by_certificate(issued))
    answer = httpx.post(server.url + AUTH, verify=trusting(server), trust_env=False)
    assert answer.status_code == 401


def test_certificate_of_a_foreign_ca_is_accepted_once_an_app_has_it(
    demo: DemoKey, server: EmulatorServer
) -> None:
    issued = trustme.CA().issue_cert(common_name="my-node")
    context = with_certificate(server, issued)
    with pytest.raises(httpx.TransportError):
        get(server, context)
    demo.dsm.add_app("foreign", credential=by_certificate(issued))
    assert get(server, context).is_success


@pytest.mark.parametrize("wanted", list(ClientCertificates))
def test_server_asks_as_it_is_told(demo: DemoKey, wanted: ClientCertificates) -> None:
    with EmulatorServer(demo.dsm, client_certificates=wanted) as server:
        assert get(
            server, with_certificate(server, server.issue_client_certificate("x"))
        ).is_success
        if wanted is ClientCertificates.REQUIRED:
            with pytest.raises(httpx.TransportError):
                get(server, trusting(server))
        else:
            assert get(server, trusting(server)).is_success


def test_plain_http_has_no_certificates(demo: DemoKey) -> None:
    server = EmulatorServer(demo.dsm, tls=False)
    with pytest.raises(ValueError, match="TLS"):
        server.issue_client_certificate("x")
    with pytest.raises(ValueError, match="TLS"):
        _ = server.authority


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("tls-expired", "certificate has expired"),
        ("tls-wrong-host", "IP address mismatch"),
        ("tls-unknown-ca", "unable to get local issuer certificate"),
        # asyncio ends a handshake without the alert that says why.
        ("tls-1.1", "UNEXPECTED_EOF"),
    ],
)
def test_bad_handshake_is_seen_by_the_client_once(
    demo: DemoKey, server: EmulatorServer, kind: str, complaint: str
) -> None:
    demo.dsm.faults.add(Fault(kind, count=1))
    context = trusting(server)
    with pytest.raises(httpx.ConnectError, match=complaint):
        get(server, context)
    assert get(server, context).is_success
    assert demo.dsm.journal.count() == 1
    assert demo.dsm.journal.connections["accepted"] == 2


def test_client_that_speaks_tls_1_1_gets_it(
    demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("tls-1.1"))
    context = trusting(server)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    assert get(server, context).is_success


def test_client_certificate_can_be_required_for_a_while(
    demo: DemoKey, server: EmulatorServer
) -> None:
    demo.dsm.faults.add(Fault("tls-client-certificate", seconds=60))
    issued = server.issue_client_certificate("my-node")
    with pytest.raises(httpx.TransportError):
        get(server, trusting(server))
    assert get(server, with_certificate(server, issued)).is_success
    demo.dsm.clock.advance(60)
    assert get(server, trusting(server)).is_success


def test_fault_of_tls_waits_for_a_connection_with_tls(demo: DemoKey) -> None:
    demo.dsm.faults.add(Fault("tls-expired", count=1))
    with EmulatorServer(demo.dsm, tls=False) as plain:
        assert httpx.get(plain.url + VERSION, trust_env=False).is_success
    assert demo.dsm.faults


def test_two_servers_can_share_a_ca(demo: DemoKey, server: EmulatorServer) -> None:
    with EmulatorServer(demo.dsm, authority=server.authority) as other:
        assert get(other, trusting(server)).is_success


def test_trusted_ca_lets_its_certificates_in(
    demo: DemoKey, server: EmulatorServer
) -> None:
    authority = trustme.CA()
    authority_der = ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())
    trusted = TrustedCa(ca_certificates_der=(authority_der,))
    app = demo.dsm.add_app(
        "of a CA", credential=Credential(AuthType.TRUSTED_CA, trusted_ca=trusted)
    )
    context = with_certificate(server, authority.issue_cert(common_name="any-node"))
    opened = httpx.post(server.url + AUTH, verify=context, trust_env=False)
    assert opened.json()["entity_id"] == app.app_id
