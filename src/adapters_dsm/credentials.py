"""The app's credential: what a login presents, read from what files hold.

DSM takes one of these (dsm-api.md, 1.1 and 1.4):

| kind | the login's Authorization | TLS client certificate |
|---|---|---|
| API key | ``Basic <api key>`` | no |
| signed JWT | ``Bearer <jwt>``; assumed, DSM's API does not say | no |
| certificate | ``Basic <app_id:>``, or none if no ``app_id`` is given | yes |
| DSM's "All" | that of the API key or of the JWT | yes |

A certificate goes with every connection, that of later calls too.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from adapters_dsm.credential_source import CERTIFICATE, CredentialSource
from adapters_dsm.events import CredentialDoubted
from adapters_dsm.settings import Secret, check_api_key


if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        PrivateKeyTypes,
        PublicKeyTypes,
    )


MAX_JWT_CHARS: Final = 8000
"""Longest JWT; common HTTP servers take no longer header."""

MAX_CERTIFICATES: Final = 10
"""Longest chain of a client certificate."""

CERTIFICATE_NOTICE: Final = dt.timedelta(days=30)
"""So long before its end a certificate is warned of: DSM sends no warning."""

SHORT_LIFE: Final = dt.timedelta(days=14)
"""What is made for no longer is renewed by a machine, and warned of later."""

_JWT = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")


class Unfit(Exception):
    """What stands in a file is no credential of its kind.

    Attributes:
        setting: The setting that names the file.
        what: What is wrong; it quotes nothing of the file.
    """

    def __init__(self, setting: str, what: str) -> None:
        super().__init__(setting)
        self.setting = setting
        self.what = what


@frozen
class Term:
    """How long a part of the credential lasts, by our clock.

    Attributes:
        setting: The setting that names its file.
        begins_at: When it begins to be good; None if it does not say.
        ends_at: When it ends.
        notice: So long before its end it is warned of.
    """

    setting: str
    begins_at: dt.datetime | None
    ends_at: dt.datetime
    notice: dt.timedelta

    def runs(self, now: dt.datetime) -> bool:
        """Return whether it has begun and has not ended."""
        begun = self.begins_at is None or self.begins_at <= now
        return begun and now < self.ends_at

    def doubt(self, now: dt.datetime) -> CredentialDoubted | None:
        """Return what a person should hear of it now."""
        if self.runs(now) and now < self.ends_at - self.notice:
            return None
        if now >= self.ends_at:
            what = f"ended at {_shown(self.ends_at)}"
        elif self.begins_at is not None and now < self.begins_at:
            what = f"is not good before {_shown(self.begins_at)}"
        else:
            what = f"ends at {_shown(self.ends_at)}"
        return CredentialDoubted(
            setting=self.setting,
            what=what,
            remedy="put a new one into the file: DSM sends no warning of its own",
        )


@frozen
class ClientCertificate:
    """A certificate with its chain and its key, found to belong together.

    Attributes:
        pem: All three; a secret.
        term: How long it lasts.
    """

    pem: bytes = field(repr=False)
    term: Term


@frozen
class Credential:
    """What a login presents.

    Attributes:
        setting: The setting that it comes from, the first if there are several.
        authorization: Value of the login's Authorization header; None for none.
        certificate: The TLS client certificate, if there is one.
        terms: How long its parts last, those that say so.
    """

    setting: str
    authorization: Secret | None
    certificate: ClientCertificate | None = None
    terms: tuple[Term, ...] = ()

    @functools.cached_property
    def fingerprint(self) -> str:
        """Eight hex digits to tell it from others, too few to find it by trying.

        They are kept across restarts (see ``gate``), where no secret is.
        """
        told = hashlib.blake2b(digest_size=4, person=b"dsm-credential")
        if self.authorization is not None:
            told.update(self.authorization.reveal().encode())
        if self.certificate is not None:
            told.update(self.certificate.pem)
        return told.hexdigest()

    @property
    def expires_at(self) -> dt.datetime | None:
        """When the first of its parts ends, or None if none says so."""
        return min((term.ends_at for term in self.terms), default=None)

    def runs(self, now: dt.datetime) -> bool:
        """Return whether all its parts are good by our clock."""
        return all(term.runs(now) for term in self.terms)


def make_credential(source: CredentialSource, contents: dict[str, bytes]) -> Credential:
    """Return the credential of *source*.

    Args:
        source: The settings.
        contents: What stands in the files, by setting.

    Raises:
        Unfit: One of the files holds no such thing.
    """
    certificate: ClientCertificate | None = None
    authorization: Secret | None = None
    terms: list[Term] = []
    if source.client_cert_file is not None:
        certificate = _read_certificate(*(contents[name] for name in CERTIFICATE))
        terms.append(certificate.term)
    if source.api_key is not None:
        authorization = _basic(source.api_key)
    elif source.api_key_file is not None:
        authorization = _basic(_read_api_key(contents["api_key_file"]))
    elif source.jwt_file is not None:
        jwt, term = _read_jwt(contents["jwt_file"])
        authorization = Secret(f"Bearer {jwt}")
        terms += [] if term is None else [term]
    elif source.app_id is not None:
        pair = base64.b64encode(f"{source.app_id.lower()}:".encode())
        authorization = Secret(f"Basic {pair.decode()}")
    return Credential(source.main_setting, authorization, certificate, tuple(terms))


def _basic(api_key: Secret) -> Secret:
    # The key is base64 already and goes as it is (dsm-api.md, 1.1).
    return Secret(f"Basic {api_key.reveal()}")


def _read_api_key(content: bytes) -> Secret:
    key = Secret(_one_word("api_key_file", content))
    try:
        check_api_key(key)
    except ValueError as problem:
        raise Unfit("api_key_file", f"its content {problem}") from None
    return key


def _one_word(setting: str, content: bytes) -> str:
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise Unfit(setting, "it does not hold visible ASCII alone") from None


def _read_jwt(content: bytes) -> tuple[str, Term | None]:
    """Return the JWT (RFC 7519) and how long it lasts; DSM checks the signature."""
    text = _one_word("jwt_file", content)
    match = _JWT.fullmatch(text) if len(text) <= MAX_JWT_CHARS else None
    claims: Any = None
    if match is not None:
        middle = match[1] + "=" * (-len(match[1]) % 4)
        try:
            claims = json.loads(base64.urlsafe_b64decode(middle))
        except (ValueError, RecursionError):
            claims = None
    if type(claims) is not dict:
        raise Unfit("jwt_file", "it holds no signed JWT")
    ends_at = _date(claims, "exp")
    if ends_at is None:
        return text, None
    begins_at = _date(claims, "nbf")
    made_at = _date(claims, "iat") or begins_at
    life = None if made_at is None else ends_at - made_at
    return text, Term("jwt_file", begins_at, ends_at, _short_notice(life))


def _date(claims: dict[str, Any], name: str) -> dt.datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    if type(value) not in (int, float):
        raise Unfit("jwt_file", f"its claim {name} is no date")
    try:
        return dt.datetime.fromtimestamp(value, dt.UTC)
    except (ValueError, OverflowError, OSError):
        raise Unfit("jwt_file", f"its claim {name} is no date") from None


def _short_notice(life: dt.timedelta | None) -> dt.timedelta:
    """A tenth of its life: whoever writes the file renews it well before that."""
    if life is None or life <= dt.timedelta():
        return dt.timedelta()
    return min(life / 10, CERTIFICATE_NOTICE)


def _read_certificate(chain: bytes, key: bytes) -> ClientCertificate:
    cert_file, key_file = CERTIFICATE
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        public = _spki(certificates[0].public_key())
        begins_at = certificates[0].not_valid_before_utc
        ends_at = certificates[0].not_valid_after_utc
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise Unfit(cert_file, "it holds no certificate in PEM form") from None
    if len(certificates) > MAX_CERTIFICATES:
        raise Unfit(cert_file, f"it holds more than {MAX_CERTIFICATES} certificates")
    private = _read_private_key(key)
    if _spki(private.public_key()) != public:
        raise Unfit(key_file, "it is not the key of the certificate")
    life = ends_at - begins_at
    notice = _short_notice(life) if life <= SHORT_LIFE else CERTIFICATE_NOTICE
    pem = b"".join(
        [
            *(c.public_bytes(serialization.Encoding.PEM) for c in certificates),
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        ]
    )
    return ClientCertificate(pem, Term(cert_file, begins_at, ends_at, notice))


def _read_private_key(content: bytes) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise Unfit(CERTIFICATE[1], "the key is encrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unfit(CERTIFICATE[1], "it holds no private key in PEM form") from None


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _shown(date: dt.datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")
