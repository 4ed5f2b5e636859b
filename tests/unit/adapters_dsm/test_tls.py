"""Whom we trust: ca_file alone, or the system's store as the Go plugin reads it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.unit.adapters_dsm.proofs import DAY, NOW
from tests.unit.adapters_dsm.scripts import answer_well
from tests.unit.adapters_dsm.support import KID, Adapters, RawServer

from adapters_dsm import tls
from adapters_dsm.failures import classify
from adapters_dsm.tls import bare_context, build_context
from kms_core.errors import CredentialRefused, ProviderUntrusted


@pytest.fixture
def empty_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A system whose bundle and certificate folder the test fills."""
    folder = tmp_path / "system"
    folder.mkdir()
    monkeypatch.setattr(tls, "_BUNDLES", (str(folder / "no"), str(folder / "bundle")))
    monkeypatch.setattr(tls, "_DIRECTORIES", (str(folder / "certs"),))
    return folder


def subjects(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509"]


def pem(authority: trustme.CA | None = None) -> str:
    return (authority or trustme.CA()).cert_pem.bytes().decode()


def test_a_context_checks_chain_host_and_version() -> None:
    context = bare_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert subjects(context) == 0


def test_ca_file_replaces_the_system_store(empty_system: Path, tmp_path: Path) -> None:
    (empty_system / "bundle").write_text(pem() + pem())
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(pem())
    assert subjects(build_context(ca_file, {"SSL_CERT_FILE": "/nonexistent"})) == 1


@pytest.mark.parametrize("content", ["", "nothing", "-----BEGIN CERTIFICATE-----\nx"])
def test_a_ca_file_without_certificates_is_said(tmp_path: Path, content: str) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(content)
    with pytest.raises(ProviderUntrusted, match="no certificate in PEM form"):
        build_context(ca_file, {})


def test_a_missing_ca_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProviderUntrusted, match="No such file"):
        build_context(tmp_path / "ca.pem", {})


def test_a_ca_file_that_is_a_pipe_or_a_folder_is_said_and_waited_for_by_nobody(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ProviderUntrusted, match="not a regular file"):
            build_context(path, {})


def test_a_ca_file_that_is_no_path_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProviderUntrusted, match="can't be read"):
        build_context(tmp_path / "a\0b", {})


def test_the_system_store_is_bundle_and_folder(empty_system: Path) -> None:
    (empty_system / "bundle").write_text(pem() + pem())
    certs = empty_system / "certs"
    certs.mkdir()
    (certs / "any-name").write_text(pem())
    (certs / "not-a-certificate").write_text("hello")
    (certs / "folder").mkdir()
    (certs / "0a1b2c3d.0").symlink_to("any-name")
    (certs / "gone").symlink_to("/nonexistent/file")
    elsewhere = empty_system / "elsewhere"
    elsewhere.write_text(pem())
    (certs / "linked").symlink_to(elsewhere)
    assert subjects(build_context(None, {})) == 4


def test_the_real_system_store_is_found() -> None:
    assert subjects(build_context(None, {})) > 0


def test_ssl_cert_file_stands_in_for_the_bundles(
    empty_system: Path, tmp_path: Path
) -> None:
    (empty_system / "bundle").write_text(pem() + pem())
    own = tmp_path / "own.pem"
    own.write_text(pem())
    assert subjects(build_context(None, {"SSL_CERT_FILE": str(own)})) == 1
    # As in Go, an empty value is none.
    assert subjects(build_context(None, {"SSL_CERT_FILE": ""})) == 2


def test_ssl_cert_dir_names_several_folders(empty_system: Path, tmp_path: Path) -> None:
    (empty_system / "bundle").write_text(pem())
    (empty_system / "certs").mkdir()
    (empty_system / "certs" / "a").write_text(pem())
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_text(pem())
    own = f"{tmp_path}/one:{tmp_path}/two:/nonexistent"
    assert subjects(build_context(None, {"SSL_CERT_DIR": own})) == 3


def test_a_broken_certificate_in_a_bundle_does_not_hide_the_others(
    empty_system: Path,
) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (empty_system / "bundle").write_text(pem() + broken + pem())
    assert subjects(build_context(None, {})) == 2


@pytest.mark.usefixtures("empty_system")
def test_a_system_without_certificates_is_said() -> None:
    with pytest.raises(ProviderUntrusted, match="no CA certificate was found"):
        build_context(None, {})


@pytest.mark.usefixtures("empty_system")
async def test_the_environment_reaches_the_connection(
    authority: trustme.CA, adapters: Adapters, ca_file: Path
) -> None:
    async with RawServer(answer_well, authority) as server:
        provider = adapters.open(
            server.url, trust_system=True, environ={"SSL_CERT_FILE": str(ca_file)}
        )
        assert (await provider.describe(deadline=adapters.clock.in_s(3))).kid == KID


async def test_an_unknown_authority_is_untrusted(adapters: Adapters) -> None:
    async with RawServer(answer_well, trustme.CA()) as server:
        provider = adapters.open(server.url)
        with pytest.raises(ProviderUntrusted, match="certificate is not accepted"):
            await provider.describe(deadline=adapters.clock.in_s(3))
    assert server.asked == []


async def test_an_intermediate_in_ca_file_is_an_anchor(
    adapters: Adapters, tmp_path: Path
) -> None:
    issuing = trustme.CA().create_child_ca()
    ca_file = tmp_path / "issuing.pem"
    issuing.cert_pem.write_to_path(str(ca_file))
    async with RawServer(answer_well, issuing) as server:
        provider = adapters.open(server.url, ca_file=ca_file)
        assert (await provider.describe(deadline=adapters.clock.in_s(3))).kid == KID


def client_pem(bits: int) -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a node")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    return certificate.public_bytes(encoding) + key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_our_certificate_is_loaded_and_its_key_comes_into_no_folder(
    ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def note(context: ssl.SSLContext, certfile: str) -> None:
        loaded.append(str(Path(certfile).readlink()))
        load(context, certfile)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", note)
    build_context(ca_file, {}, client_pem(2048))
    assert loaded == ["/memfd:client-certificate (deleted)"]


def test_a_certificate_that_openssl_does_not_take_is_a_refused_credential(
    ca_file: Path,
) -> None:
    with pytest.raises(CredentialRefused, match="OpenSSL does not take it") as caught:
        build_context(ca_file, {}, client_pem(2048)[:900])
    assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", CredentialRefused),
        ("SSLV3_ALERT_BAD_CERTIFICATE", CredentialRefused),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", CredentialRefused),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", CredentialRefused),
        ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", CredentialRefused),
        ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", CredentialRefused),
        ("TLSV1_ALERT_UNKNOWN_CA", CredentialRefused),
        ("TLSV1_ALERT_ACCESS_DENIED", CredentialRefused),
        ("TLSV1_ALERT_PROTOCOL_VERSION", ProviderUntrusted),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", ProviderUntrusted),
        ("WRONG_VERSION_NUMBER", ProviderUntrusted),
        (None, ProviderUntrusted),
    ],
)
def test_alerts_about_our_certificate_are_told_from_other_failures(
    reason: str | None, expected: type[Exception]
) -> None:
    failure = ssl.SSLError()
    failure.reason = reason  # type: ignore[assignment]
    assert type(classify(failure, "login at dsm.test")) is expected
