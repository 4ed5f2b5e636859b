"""Certificates, keys and tokens as files, for the tests of credentials."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


if TYPE_CHECKING:
    from pathlib import Path


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
"""What ``SkippingClock`` says."""

DAY = dt.timedelta(days=1)


@frozen
class Pair:
    """A self-signed certificate and its key, in PEM."""

    certificate: bytes
    key: bytes

    @property
    def der(self) -> bytes:
        return x509.load_pem_x509_certificate(self.certificate).public_bytes(
            serialization.Encoding.DER
        )

    def write(self, folder: Path) -> dict[str, Any]:
        files: dict[str, Any] = {
            "client_cert_file": folder / "tls.crt",
            "client_key_file": folder / "tls.key",
        }
        write(files["client_cert_file"], self.certificate)
        write(files["client_key_file"], self.key)
        return files


def pair(
    *,
    begins: dt.datetime = NOW - DAY,
    ends: dt.datetime = NOW + 365 * DAY,
    password: bytes | None = None,
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a node")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        ),
    )


def jwt(claims: object) -> str:
    """Return a token whose signature nobody checks."""
    parts: list[Any] = [{"alg": "ES256", "kid": "k1"}, claims]
    coded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode() for p in parts]
    return ".".join([*(part.rstrip("=") for part in coded), "c2lnbmF0dXJl"])


def write(path: Path, content: bytes | str, *, mode: int = 0o600) -> Path:
    """Put a file in place whole, as ``mv`` does."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content.encode() if isinstance(content, str) else content)
    fresh.chmod(mode)
    fresh.rename(path)
    return path
