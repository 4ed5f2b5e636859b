"""Certificates and tokens that apps of the tests prove themselves with."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID


_HASHES: dict[str, type[SHA256 | SHA384 | SHA512]] = {
    "256": SHA256,
    "384": SHA384,
    "512": SHA512,
}


@frozen
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()


def issue(
    name: str,
    by: Issued | None = None,
    *,
    dns_name: str | None = None,
    days: float = 30,
    from_s: float = 1_700_000_000.0,
) -> Issued:
    """Issue a certificate; by itself when no CA is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    since = datetime.fromtimestamp(from_s, UTC) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=1 + days))
    )
    if dns_name is not None:
        names = x509.SubjectAlternativeName([x509.DNSName(dns_name)])
        builder = builder.add_extension(names, critical=False)
    return Issued(builder.sign(key if by is None else by.key, SHA256()), key)


def public_der(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def make_jwt(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    claims: dict[str, Any],
    *,
    algorithm: str,
    kid: str = "k1",
) -> str:
    header = {"typ": "JWT", "alg": algorithm, "kid": kid}
    signed = f"{_part(header)}.{_part(claims)}"
    digest = _HASHES[algorithm[2:]]()
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        padded = pss if algorithm.startswith("PS") else padding.PKCS1v15()
        signature = key.sign(signed.encode(), padded, digest)
    else:
        size = (key.curve.key_size + 7) // 8
        pair = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(digest)))
        signature = b"".join(number.to_bytes(size, "big") for number in pair)
    return f"{signed}.{_base64url(signature)}"


def _part(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value).encode())


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
