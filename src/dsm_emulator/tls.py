"""The server's side of TLS: its CA, its certificates, the good ones and the bad ones.

Every way of presenting itself is an `ssl.SSLContext` of its own, made when it is first
wanted. The private keys of the servers never lie in a folder of ours.
"""

import datetime as dt
import ssl
import threading
import warnings
from collections.abc import Iterable
from enum import StrEnum

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


HOSTS = ("localhost", "127.0.0.1", "::1")
_WRONG_HOST = "another-host.test"
_ORGANIZATION = "DSM emulator"
# The cipher suites of TLS 1.1 need SHA-1, which is below OpenSSL's default level.
_OLD_CIPHERS = "DEFAULT:@SECLEVEL=0"


class ClientCertificates(StrEnum):
    """Whether the handshake asks clients for a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class TlsForm(StrEnum):
    """How the server presents itself in a handshake.

    The values are the names of the faults that bring them about, except for `GOOD`.
    """

    GOOD = "good"
    EXPIRED = "tls-expired"
    WRONG_HOST = "tls-wrong-host"
    UNKNOWN_CA = "tls-unknown-ca"
    CLIENT_CERTIFICATE = "tls-client-certificate"
    OLD = "tls-1.1"


class Tls:
    """A CA and what it vouches for."""

    def __init__(
        self,
        hosts: tuple[str, ...],
        clients: ClientCertificates = ClientCertificates.OPTIONAL,
        authority: trustme.CA | None = None,
    ) -> None:
        """Make the certificates.

        Args:
            hosts: Names and addresses of the server besides those of the loopback.
            clients: Whether to ask clients for a certificate.
            authority: An old CA; a new one when absent.
        """
        self.authority = authority or new_authority()
        self._clients = clients
        self._hosts = tuple(dict.fromkeys((*HOSTS, *hosts)))
        self._leaf = self.authority.issue_cert(*self._hosts)
        self._trusted_clients: tuple[bytes, ...] = ()
        self._contexts: dict[TlsForm, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    @property
    def public_key_der(self) -> bytes:
        """The SubjectPublicKeyInfo of the good certificate."""
        leaf = x509.load_pem_x509_certificate(self._leaf.cert_chain_pems[0].bytes())
        return leaf.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )

    def trust_clients(self, certificates_der: Iterable[bytes]) -> None:
        """Accept these certificates, or those that they signed, from clients.

        The own CA is trusted besides. Connections that stand aren't looked at again.
        """
        trusted = tuple(certificates_der)
        with self._lock:
            if trusted != self._trusted_clients:
                self._trusted_clients = trusted
                self._contexts.clear()

    def issue_client_certificate(self, name: str) -> trustme.LeafCert:
        """Return a certificate, with its key, that the handshake accepts."""
        return self.authority.issue_cert(common_name=name)

    def context(self, form: TlsForm = TlsForm.GOOD) -> ssl.SSLContext:
        """Return how to present oneself as *form*."""
        with self._lock:
            known = self._contexts.get(form)
            if known is None:
                known = self._contexts[form] = self._make(form)
            return known

    def _make(self, form: TlsForm) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        self._issue(form).configure_cert(context)
        if form is TlsForm.OLD:
            context.set_ciphers(_OLD_CIPHERS)
            with warnings.catch_warnings():
                # That it is deprecated is what this form is about.
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1_1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
        self._ask_for_certificate(context, form)
        return context

    def _issue(self, form: TlsForm) -> trustme.LeafCert:
        if form is TlsForm.EXPIRED:
            yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
            return self.authority.issue_cert(*self._hosts, not_after=yesterday)
        if form is TlsForm.WRONG_HOST:
            return self.authority.issue_cert(_WRONG_HOST)
        if form is TlsForm.UNKNOWN_CA:
            stranger = trustme.CA(organization_name="Unknown to everybody")
            return stranger.issue_cert(*self._hosts)
        return self._leaf

    def _ask_for_certificate(self, context: ssl.SSLContext, form: TlsForm) -> None:
        required = self._clients is ClientCertificates.REQUIRED
        if form is TlsForm.CLIENT_CERTIFICATE or required:
            context.verify_mode = ssl.CERT_REQUIRED
        elif self._clients is ClientCertificates.OPTIONAL:
            context.verify_mode = ssl.CERT_OPTIONAL
        else:
            return
        # DSM knows an app's certificate by itself, whoever signed it (section 1.4).
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self.authority.configure_trust(context)
        for certificate_der in self._trusted_clients:
            context.load_verify_locations(cadata=certificate_der)


def new_authority() -> trustme.CA:
    """Return a new CA."""
    return trustme.CA(organization_name=_ORGANIZATION)
