"""Who is calling: API keys, certificates, JWTs and sessions (section 1).

Every entry point takes the Authorization header, the client certificate that the
connection proved, and the client's address. The callers hold `Dsm.lock`.
"""

import binascii
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from dsm_emulator import signed_jwt
from dsm_emulator.account import App
from dsm_emulator.clock import Clock
from dsm_emulator.errors import DsmError
from dsm_emulator.failed_keys import FailedKeys
from dsm_emulator.journal import Journal
from dsm_emulator.login_rules import (
    JwtSubject,
    JwtTransport,
    LoginRules,
    SessionCertificate,
)
from dsm_emulator.sessions import Session, Sessions


class Logins:
    """The apps by id, and the sessions that they have.

    Attributes:
        apps: By app id.
        sessions: All bearer sessions.
        rules: Switches.
        lost_session_status: 401, or 403 as some clients expect, for a session that
            isn't there.
        fips: Whether 100 failed API keys in 24 hours replace an app's secret.
        failed_keys: The count of them, kept with and without `fips`.
        fips_resets: How often that happened, by app id.
    """

    def __init__(self, sessions: Sessions, clock: Clock, journal: Journal) -> None:
        self.apps: dict[str, App] = {}
        self.sessions = sessions
        self.rules = LoginRules()
        self.lost_session_status = 401
        self.fips = False
        self.failed_keys = FailedKeys()
        self.fips_resets: Counter[str] = Counter()
        self._clock = clock
        self._journal = journal

    def named_app(self, authorization: str | None) -> str | None:
        """Return the id of the app that a credential names, proved or not."""
        scheme, credential = _split_authorization(authorization)
        if scheme == "bearer":
            session = self.sessions.peek(credential)
            if session is not None:
                return session.app_id
            app = self._subject_of(credential)
            return None if app is None else app.app_id
        app_id, _ = _split_api_key(credential)
        return app_id if app_id in self.apps else None

    def authenticate(
        self,
        authorization: str | None,
        certificate_der: bytes | None = None,
        address: str | None = None,
    ) -> App:
        """Return the app that a credential, session or other, proves.

        Raises:
            DsmError: 401 for a bad key, a disabled app or no credential at all; 401 or
                `lost_session_status` for a session that isn't there.
        """
        scheme, credential = _split_authorization(authorization)
        if scheme == "bearer":
            return self._by_session(credential, certificate_der, address)[0]
        return self._by_key(scheme, credential, certificate_der, address)

    def log_in(
        self,
        authorization: str | None,
        certificate_der: bytes | None = None,
        address: str | None = None,
    ) -> Session:
        """Start a session for the app that a key, certificate or JWT proves.

        Raises:
            DsmError: 401.
        """
        scheme, credential = _split_authorization(authorization)
        if scheme == "bearer":
            app = self._by_jwt(credential, certificate_der, address)
        else:
            app = self._by_key(scheme, credential, certificate_der, address)
        return self._opened(app, certificate_der)

    def log_in_again(
        self,
        authorization: str | None,
        certificate_der: bytes | None = None,
        address: str | None = None,
    ) -> Session:
        """Start a new session from one that lives; that one lives on.

        Raises:
            DsmError: 401 or `lost_session_status`.
        """
        old = self.session_of(authorization, certificate_der, address)
        return self._opened(self.apps[old.app_id], certificate_der)

    def session_of(
        self,
        authorization: str | None,
        certificate_der: bytes | None = None,
        address: str | None = None,
    ) -> Session:
        """Return the session whose token is given; that counts as use.

        Raises:
            DsmError: 401 or `lost_session_status`.
        """
        scheme, credential = _split_authorization(authorization)
        if scheme != "bearer":
            raise DsmError(401, self.rules.no_credential_text)
        return self._by_session(credential, certificate_der, address)[1]

    def reset_secret(
        self, app: App, migration_s: float | None, size_bytes: int | None = None
    ) -> None:
        """Give *app* a new secret; see `Dsm.reset_secret`."""
        self.failed_keys.forget(app.app_id)
        if migration_s is None:
            app.reset_secret(None, size_bytes)
            self.sessions.end_all(app.app_id)
            return
        until_s = self._clock.now() + migration_s
        app.reset_secret(until_s, size_bytes)
        self.sessions.end_at(app.app_id, until_s)

    def _opened(self, app: App, certificate_der: bytes | None) -> Session:
        session = self.sessions.open(app.app_id)
        if app.credential.needs_certificate:
            session.certificate_der = certificate_der
        return session

    def _by_key(
        self,
        scheme: str,
        credential: str,
        certificate_der: bytes | None,
        address: str | None,
    ) -> App:
        if scheme == "basic":
            app_id, secret = _split_api_key(credential)
            app = None if app_id is None else self.apps.get(app_id)
        elif scheme or certificate_der is None:
            raise DsmError(401, self.rules.no_credential_text)
        else:
            app, secret = self._holder_of(certificate_der), ""
        now_s = self._clock.now()
        if app is None or not self._proves(app, secret, certificate_der, now_s):
            raise self._refused(app)
        self._expect_address(app, address)
        return app

    def _by_jwt(
        self, token: str, certificate_der: bytes | None, address: str | None
    ) -> App:
        app = self._subject_of(token)
        now_s = self._clock.now()
        if (
            app is None
            or not app.enabled
            or self.rules.jwt_transport is not JwtTransport.BEARER
            or not _jwt_proves(app, token, now_s)
            or not _certificate_proves(app, certificate_der, now_s)
        ):
            raise self._refused(app)
        self._expect_address(app, address)
        return app

    def _by_session(
        self, token: str, certificate_der: bytes | None, address: str | None
    ) -> tuple[App, Session]:
        session = self.sessions.use(token)
        if session is None or not self.apps[session.app_id].enabled:
            raise self._lost()
        app = self.apps[session.app_id]
        if session.certificate_der is not None and not self._still_proves(
            app, session.certificate_der, certificate_der
        ):
            raise DsmError(401, self.rules.bad_credential_text)
        if app.ip_whitelist is not None:
            self._expect_address(app, address)
        return app, session

    def _proves(
        self, app: App, secret: str, certificate_der: bytes | None, now_s: float
    ) -> bool:
        credential = app.credential
        if credential.needs_jwt:
            proved = (
                self.rules.jwt_transport is JwtTransport.BASIC
                and self._subject_of(secret) is app
                and _jwt_proves(app, secret, now_s)
            )
        elif credential.needs_secret:
            proved = app.accepts(secret, now_s)
            if not proved:
                self._count_failed_key(app, now_s)
        else:
            proved = not secret
        return (
            proved and app.enabled and _certificate_proves(app, certificate_der, now_s)
        )

    def _still_proves(
        self, app: App, at_login_der: bytes, certificate_der: bytes | None
    ) -> bool:
        rule = self.rules.session_certificate
        if rule is SessionCertificate.SAME:
            return certificate_der == at_login_der
        return rule is SessionCertificate.NONE or _certificate_proves(
            app, certificate_der, self._clock.now()
        )

    def _count_failed_key(self, app: App, now_s: float) -> None:
        if self.failed_keys.add(app.app_id, now_s) and self.fips:
            self.fips_resets[app.app_id] += 1
            self.reset_secret(app, None)

    def _holder_of(self, certificate_der: bytes) -> App | None:
        """Return the one app that the certificate alone logs in."""
        now_s = self._clock.now()
        holders = [
            app
            for app in self.apps.values()
            if app.credential.needs_certificate
            and app.credential.accepts_certificate(certificate_der, now_s)
        ]
        return holders[0] if len(holders) == 1 else None

    def _subject_of(self, token: str) -> App | None:
        subject = signed_jwt.subject(token)
        if subject is None:
            return None
        if self.rules.jwt_subject is JwtSubject.APP_ID:
            return self.apps.get(subject)
        named = [app for app in self.apps.values() if app.name == subject]
        return named[0] if len(named) == 1 else None

    def _expect_address(self, app: App, address: str | None) -> None:
        if app.ip_whitelist is not None and not _is_listed(address, app.ip_whitelist):
            raise DsmError(
                self.rules.address_status, "IP address is not allowed for this app"
            )

    def _refused(self, app: App | None) -> DsmError:
        self._journal.failed_logins[None if app is None else app.app_id] += 1
        rules = self.rules
        return DsmError(rules.bad_credential_status, rules.bad_credential_text)

    def _lost(self) -> DsmError:
        return DsmError(self.lost_session_status, self.rules.lost_session_text)


def _certificate_proves(app: App, certificate_der: bytes | None, now_s: float) -> bool:
    credential = app.credential
    return not credential.needs_certificate or credential.accepts_certificate(
        certificate_der, now_s
    )


def _jwt_proves(app: App, token: str, now_s: float) -> bool:
    trusted = app.credential.signed_jwt
    return trusted is not None and trusted.accepts(token, now_s)


def _is_listed(address: str | None, networks: Iterable[str]) -> bool:
    if address is None:
        return False
    client = ip_address(address)
    return any(client in ip_network(network, strict=False) for network in networks)


def _split_authorization(authorization: str | None) -> tuple[str, str]:
    scheme, _, credential = (authorization or "").partition(" ")
    return scheme.lower(), credential.strip()


def _split_api_key(api_key: str) -> tuple[str | None, str]:
    try:
        app_id, colon, secret = binascii.a2b_base64(api_key).decode().partition(":")
    except ValueError:
        return None, ""
    return (app_id, secret) if colon else (None, "")
