"""Who is calling: API keys and sessions from the Authorization header (section 1).

The callers hold `Dsm.lock`.
"""

import binascii

from dsm_emulator.account import App
from dsm_emulator.clock import Clock
from dsm_emulator.errors import NO_SUCH_SESSION, DsmError
from dsm_emulator.journal import Journal
from dsm_emulator.sessions import Session, Sessions


class Logins:
    """The apps by id, and the sessions that they have.

    Attributes:
        apps: By app id.
        sessions: All bearer sessions.
        lost_session_status: 401, or 403 as some clients expect, for a session that
            isn't there.
    """

    def __init__(self, sessions: Sessions, clock: Clock, journal: Journal) -> None:
        self.apps: dict[str, App] = {}
        self.sessions = sessions
        self.lost_session_status = 401
        self._clock = clock
        self._journal = journal

    def named_app(self, authorization: str | None) -> str | None:
        """Return the id of the app that a credential names, proved or not."""
        scheme, credential = _split_authorization(authorization)
        if scheme == "bearer":
            session = self.sessions.peek(credential)
            return None if session is None else session.app_id
        app_id, _ = _split_api_key(credential)
        return app_id if app_id in self.apps else None

    def authenticate(self, authorization: str | None) -> App:
        """Return the app that a credential, API key or session, proves.

        Raises:
            DsmError: 401 for a bad key, a disabled app or no credential at all; 401 or
                `lost_session_status` for a session that isn't there.
        """
        scheme, credential = _split_authorization(authorization)
        if scheme == "basic":
            return self._by_key(credential)
        if scheme == "bearer":
            return self._by_session(credential)[0]
        raise _no_credential()

    def log_in(self, authorization: str | None) -> Session:
        """Start a session for the app whose API key is given.

        Raises:
            DsmError: 401.
        """
        scheme, credential = _split_authorization(authorization)
        if scheme != "basic":
            raise _no_credential()
        return self.sessions.open(self._by_key(credential).app_id)

    def session_of(self, authorization: str | None) -> Session:
        """Return the session whose token is given; that counts as use.

        Raises:
            DsmError: 401 or `lost_session_status`.
        """
        scheme, credential = _split_authorization(authorization)
        if scheme != "bearer":
            raise _no_credential()
        return self._by_session(credential)[1]

    def reset_secret(self, app: App, migration_s: float | None) -> None:
        """Give *app* a new secret; see `Dsm.reset_secret`."""
        if migration_s is None:
            app.reset_secret(None)
            self.sessions.end_all(app.app_id)
            return
        until_s = self._clock.now() + migration_s
        app.reset_secret(until_s)
        self.sessions.end_at(app.app_id, until_s)

    def _by_key(self, api_key: str) -> App:
        app_id, secret = _split_api_key(api_key)
        app = None if app_id is None else self.apps.get(app_id)
        if app is None or not app.accepts(secret, self._clock.now()) or not app.enabled:
            self._journal.failed_logins[None if app is None else app.app_id] += 1
            # DSM's own text isn't known (section 1.2).
            raise DsmError(401, "Invalid credentials")
        return app

    def _by_session(self, token: str) -> tuple[App, Session]:
        session = self.sessions.use(token)
        if session is None or not self.apps[session.app_id].enabled:
            raise DsmError(self.lost_session_status, NO_SUCH_SESSION)
        return self.apps[session.app_id], session


def _no_credential() -> DsmError:
    return DsmError(401, "Authentication required")


def _split_authorization(authorization: str | None) -> tuple[str, str]:
    scheme, _, credential = (authorization or "").partition(" ")
    return scheme.lower(), credential.strip()


def _split_api_key(api_key: str) -> tuple[str | None, str]:
    try:
        app_id, colon, secret = binascii.a2b_base64(api_key).decode().partition(":")
    except ValueError:
        return None, ""
    return (app_id, secret) if colon else (None, "")
