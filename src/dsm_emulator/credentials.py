"""What an app proves itself with: secret, client certificate, signed JWT, or two.

The reference's section 1.4 names the kinds; DSM's `All` is one of the certificate kinds
together with a secret or a JWT, presented at once.

| kind | what a login shows |
|---|---|
| Secret | Basic `<app id>:<secret>` |
| Certificate, TrustedCa | Basic `<app id>:`, or nothing, and a TLS client certificate |
| SignedJwt | Bearer `<JWT>` whose subject names the app; how it is sent is assumed |
| All | one of the first or third row, and the certificate |
"""

from enum import StrEnum

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from dsm_emulator.signed_jwt import JwtCredential


MAX_TRUSTED = 16


class AuthType(StrEnum):
    """The kinds that the emulator knows, by DSM's names."""

    SECRET = "Secret"  # noqa: S105 - the name of a kind
    CERTIFICATE = "Certificate"
    TRUSTED_CA = "TrustedCa"
    SIGNED_JWT = "SignedJwt"
    ALL = "All"


@frozen
class TrustedCa:
    """Any certificate that one of these CAs issued directly, and for such a subject.

    Attributes:
        ca_certificates_der: 1 to 16 CA certificates.
        subjects: Names as RFC 4514 writes them, or DNS names of the alternative name;
            one has to agree, 16 at most. None at all: any subject. How DSM compares
            them is assumed.
    """

    ca_certificates_der: tuple[bytes, ...]
    subjects: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: No CA, or too many CAs or subjects.
        """
        if not 1 <= len(self.ca_certificates_der) <= MAX_TRUSTED:
            raise ValueError("1 to 16 CA certificates are allowed")
        if len(self.subjects) > MAX_TRUSTED:
            raise ValueError("at most 16 subjects are allowed")

    def accepts(self, certificate_der: bytes) -> bool:
        """Return whether a CA of these issued this certificate, for a known subject."""
        certificate = x509.load_der_x509_certificate(certificate_der)
        return self._names(certificate) and any(
            _has_issued(x509.load_der_x509_certificate(authority), certificate)
            for authority in self.ca_certificates_der
        )

    def _names(self, certificate: x509.Certificate) -> bool:
        if not self.subjects:
            return True
        names = {certificate.subject.rfc4514_string(), *_dns_names(certificate)}
        return not names.isdisjoint(self.subjects)


@frozen
class Credential:
    """The kind of an app's credential, and all of it but the secret.

    The secret stays in the app, since it changes in the app's life.

    Attributes:
        auth_type: The kind.
        certificate_der: The one client certificate of Certificate.
        trusted_ca: The authorities of TrustedCa.
        signed_jwt: What a JWT has to agree with.
    """

    auth_type: AuthType = AuthType.SECRET
    certificate_der: bytes | None = None
    trusted_ca: TrustedCa | None = None
    signed_jwt: JwtCredential | None = None

    def __attrs_post_init__(self) -> None:
        """Check that kind and content agree.

        Raises:
            ValueError: They don't, or the certificate is none.
        """
        kinds = {
            AuthType.CERTIFICATE: self.certificate_der is not None,
            AuthType.TRUSTED_CA: self.trusted_ca is not None,
            AuthType.SIGNED_JWT: self.signed_jwt is not None,
        }
        given = {kind for kind, is_given in kinds.items() if is_given}
        mutual_tls = given - {AuthType.SIGNED_JWT}
        wanted = {self.auth_type} - {AuthType.SECRET}
        if self.auth_type is AuthType.ALL:
            if len(mutual_tls) != 1:
                raise ValueError("All is a certificate or a CA, and one thing more")
        elif given != wanted:
            raise ValueError(f"{self.auth_type} has exactly the content of its kind")
        if self.certificate_der is not None:
            x509.load_der_x509_certificate(self.certificate_der)

    @property
    def needs_certificate(self) -> bool:
        """Whether a TLS client certificate belongs to it."""
        return self.certificate_der is not None or self.trusted_ca is not None

    @property
    def needs_jwt(self) -> bool:
        """Whether a signed JWT belongs to it."""
        return self.signed_jwt is not None

    @property
    def needs_secret(self) -> bool:
        """Whether the app's secret belongs to it."""
        return self.auth_type is AuthType.SECRET or (
            self.auth_type is AuthType.ALL and not self.needs_jwt
        )

    @property
    def trusts(self) -> tuple[bytes, ...]:
        """The certificates that a TLS server has to accept for it, as DER."""
        if self.certificate_der is not None:
            return (self.certificate_der,)
        return () if self.trusted_ca is None else self.trusted_ca.ca_certificates_der

    def accepts_certificate(self, certificate_der: bytes | None, now_s: float) -> bool:
        """Return whether the certificate of a connection is the app's, and not expired.

        Args:
            certificate_der: What the client proved in the handshake, if anything.
            now_s: DSM takes no expired certificate (section 1.4); that a certificate
                isn't valid yet is left to the handshake.
        """
        if certificate_der is None:
            return False
        certificate = x509.load_der_x509_certificate(certificate_der)
        if certificate.not_valid_after_utc.timestamp() <= now_s:
            return False
        if self.certificate_der is not None:
            return certificate_der == self.certificate_der
        return self.trusted_ca is not None and self.trusted_ca.accepts(certificate_der)


def certificate_der(pem: str) -> bytes:
    """Return the first certificate in *pem* as DER.

    Raises:
        ValueError: There is none.
    """
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return certificate.public_bytes(Encoding.DER)


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _has_issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
