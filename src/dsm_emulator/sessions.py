"""Bearer sessions with a sliding idle expiry (reference, section 1.2)."""

import secrets
from collections.abc import Iterator

from attrs import define, field

from dsm_emulator.clock import Clock


TOKEN_BYTES = 64
DEFAULT_IDLE_S = 600.0


@define
class Session:
    """A session of one app.

    Attributes:
        app_id: Whose it is.
        token: Opaque, 86 characters.
        last_used_s: From here the idle time counts.
        opened_s: From here the longest life counts, if there is one.
        ends_s: The end that a reset of the secret with a migration period sets.
        certificate_der: The client certificate that it began with, if the app's
            credential has one.
    """

    app_id: str
    last_used_s: float
    token: str = field(
        factory=lambda: secrets.token_urlsafe(TOKEN_BYTES), repr=lambda _: "'***'"
    )
    opened_s: float = 0.0
    ends_s: float | None = None
    certificate_der: bytes | None = field(default=None, repr=False)


class Sessions:
    """All sessions by token.

    Attributes:
        idle_s: After so many idle seconds a session ends; `expires_in` on the wire.
        max_life_s: After so many seconds it ends although it is used. Whether DSM has
            such a limit isn't known (section 1.2).
    """

    def __init__(self, clock: Clock, idle_s: float) -> None:
        self._clock = clock
        self._by_token: dict[str, Session] = {}
        self.idle_s = idle_s
        self.max_life_s: float | None = None

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_token.values()))

    def __len__(self) -> int:
        return len(self._by_token)

    def open(self, app_id: str) -> Session:
        """Start a session for *app_id*."""
        now_s = self._clock.now()
        # Transient leftovers would pile up in a long run; logins are rare.
        for token, session in list(self._by_token.items()):
            if self._is_over(session, now_s):
                del self._by_token[token]
        session = Session(
            app_id=app_id,
            last_used_s=now_s,
            opened_s=now_s,
        )
        self.add(session)
        return session

    def add(self, session: Session) -> None:
        """Take in a session that was opened before."""
        self._by_token[session.token] = session

    def peek(self, token: str) -> Session | None:
        """Return the session of *token* without counting that as use."""
        return self._by_token.get(token)

    def use(self, token: str) -> Session | None:
        """Return the session of *token* and extend its life, if it still lives."""
        session = self._by_token.get(token)
        if session is None:
            return None
        now_s = self._clock.now()
        if self._is_over(session, now_s):
            del self._by_token[token]
            return None
        session.last_used_s = now_s
        return session

    def end(self, token: str) -> None:
        """Terminate one session."""
        self._by_token.pop(token, None)

    def end_all(self, app_id: str | None = None) -> int:
        """Terminate every session, or those of one app; return how many."""
        doomed = [
            token
            for token, session in self._by_token.items()
            if app_id is None or session.app_id == app_id
        ]
        for token in doomed:
            del self._by_token[token]
        return len(doomed)

    def end_at(self, app_id: str, instant_s: float) -> None:
        """Let the present sessions of *app_id* live until *instant_s* at most."""
        for session in self._by_token.values():
            if session.app_id == app_id:
                session.ends_s = instant_s

    def _is_over(self, session: Session, now_s: float) -> bool:
        if now_s - session.last_used_s >= self.idle_s:
            return True
        if self.max_life_s is not None and now_s - session.opened_s >= self.max_life_s:
            return True
        return session.ends_s is not None and now_s >= session.ends_s
