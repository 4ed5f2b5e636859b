"""DSM sessions: log in once for everybody, notice when the session is dead.

DSM's sessions end when they are idle for ``expires_in`` seconds, so each use extends
them; one that may have ended by itself is not offered any more. DSM may also end one
early, and says so with 401, with 403, or with a text under yet another code
(dsm-api.md, 1.2). A 403 is ambiguous: it is also what a withdrawn permission looks
like.

- One login at a time, in a task of its own that callers wait for behind a shield.
- A doubted session is dropped only if it is still the current one.
- A 403 is believed, without a login, from a session that was made or has served a call
  within the last 5 s.
- After a refused login the gate decides (``gate``).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import httpx
from attrs import define, field

from adapters_dsm.answers import Answer, Login, read_login
from adapters_dsm.exchange import Attempt, Exchanges, Request
from adapters_dsm.failures import AttemptFailed
from adapters_dsm.gate import RefusalGate
from adapters_dsm.statuses import (
    NO_CONTENT,
    OK,
    doubts_session,
    login_refusal,
    refusal,
    says_session_is_dead,
)
from kms_core.errors import CredentialRefused, ProviderUnreachable


if TYPE_CHECKING:
    from adapters_dsm.settings import Endpoint, Secret
    from kms_core.ports import Clock


BELIEVED_S: Final = 5.0
"""For so many seconds after it was proven a session's 403 is about the key."""

LOGIN_TRIES_S: Final = (1.5, 8.5)
"""How long each try of a login may take, in seconds. The first leaves time for another
connection within kube-apiserver's 3 s; the second is for a DSM that is slow and no
more.
"""

LOGOUT_S: Final = 2.0
"""How long a logout may take; DSM forgets the session anyway when it is idle."""

_MARGIN_S = 30.0
_MARGIN_SHARE = 0.1


@define(eq=False)
class Session:
    """A login that DSM took.

    Attributes:
        authorization: Value of the Authorization header; a secret.
        idle_limit_s: For how long it may lie unused and still be offered.
        used_at: When it was last sent, on the clock.
        proven_at: When it last served a call well, or was made.
    """

    authorization: str = field(repr=False)
    idle_limit_s: float
    used_at: float
    proven_at: float


class Sessions:
    """Keeps the current session and replaces it.

    Args:
        exchanges: Asks DSM.
        endpoint: Where DSM is.
        api_key: The credential.
        clock: Time.
    """

    def __init__(
        self, exchanges: Exchanges, endpoint: Endpoint, api_key: Secret, clock: Clock
    ) -> None:
        self._exchanges = exchanges
        base = f"{endpoint.base_url}/sys/v1/session"
        self._login_request = Request("login", "", httpx.URL(f"{base}/auth"), b"")
        self._logout_request = Request(
            "logout", "", httpx.URL(f"{base}/terminate"), b""
        )
        self._api_key = api_key
        self._clock = clock
        self._gate = RefusalGate(clock)
        self._current: Session | None = None
        self._login: asyncio.Task[Session | AttemptFailed] | None = None
        self._logouts: set[asyncio.Task[None]] = set()
        self._closed = False

    def usable(self) -> Session | None:
        """Return the current session, unless it may have ended by itself."""
        session = self._current
        if session is None:
            return None
        if self._clock.monotonic() - session.used_at >= session.idle_limit_s:
            self._current = None
            return None
        return session

    async def obtain(self, *, by_timer: bool) -> Session:
        """Return a session, logging in if there is none.

        Args:
            by_timer: Whether the watcher asks; only it may offer a refused credential
                again.

        Raises:
            AttemptFailed: With CredentialRefused, or why there was no login.
        """
        session = self.usable()
        if session is not None:
            return session
        if self._closed:
            raise AttemptFailed(ProviderUnreachable("the adapter is closed"))
        if self._login is None:
            try:
                self._gate.check(by_timer=by_timer)
            except CredentialRefused as refused:
                raise AttemptFailed(refused) from None
            self._login = asyncio.create_task(self._log_in())
        outcome = await _outcome(self._login)
        if isinstance(outcome, Session):
            return outcome
        # A copy for each who waited: raising marks an exception.
        raise AttemptFailed(
            outcome.error.without_traceback(),
            retry_after_s=outcome.retry_after_s,
        )

    def doubts(self, session: Session, answer: Answer | None) -> bool:
        """Return whether *answer* may mean no more than that *session* is dead."""
        if answer is None or not doubts_session(answer):
            return False
        if says_session_is_dead(answer):
            return True
        return self._clock.monotonic() - session.proven_at >= BELIEVED_S

    def drop(self, session: Session, answer: Answer) -> None:
        """Stop using *session*, if it is still the current one."""
        if self._current is not session:
            return
        self._current = None
        if not says_session_is_dead(answer):
            self._log_out_later(session)

    def renew(self) -> None:
        """Let the next call log in anew; calls in flight go on."""
        session = self._current
        self._current = None
        if session is not None:
            self._log_out_later(session)

    def retry_credential_now(self) -> None:
        """Let the watcher's next look offer a refused credential again."""
        self._gate.open_now()

    async def aclose(self) -> None:
        """End the current session, within 2 s, and every task; raises nothing."""
        self._closed = True
        session = self._current
        self._current = None
        tasks: list[asyncio.Task[Any]] = [*self._logouts]
        if self._login is not None:
            tasks.append(self._login)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if session is not None:
            await self._log_out(session)

    async def _log_in(self) -> Session | AttemptFailed:
        try:
            login = await self._try_login()
        except AttemptFailed as failure:
            if isinstance(failure.error, CredentialRefused):
                self._gate.refused(failure.error)
            return failure
        finally:
            self._login = None
        self._gate.accepted()
        now = self._clock.monotonic()
        margin_s = min(_MARGIN_S, login.expires_in_s * _MARGIN_SHARE)
        self._current = Session(
            authorization=login.authorization,
            idle_limit_s=login.expires_in_s - margin_s,
            used_at=now,
            proven_at=now,
        )
        return self._current

    async def _try_login(self) -> Login:
        # The key is base64 already and goes as it is (dsm-api.md, 1.1).
        basic = f"Basic {self._api_key.reveal()}"
        first, second = LOGIN_TRIES_S
        try:
            return await self._exchanges.ask(
                self._login_request, basic, _read_login, self._attempt(1, first)
            )
        except AttemptFailed as failure:
            if not failure.hung:
                raise
        return await self._exchanges.ask(
            self._login_request, basic, _read_login, self._attempt(2, second)
        )

    def _attempt(self, number: int, timeout_s: float) -> Attempt:
        ends_at = self._clock.monotonic() + timeout_s
        return Attempt(number, ends_at, last=False, fresh=number > 1)

    def _log_out_later(self, session: Session) -> None:
        task = asyncio.create_task(self._log_out(session))
        self._logouts.add(task)
        task.add_done_callback(self._logouts.discard)

    async def _log_out(self, session: Session) -> None:
        with contextlib.suppress(AttemptFailed):
            await self._exchanges.ask(
                self._logout_request,
                session.authorization,
                _read_logout,
                self._attempt(1, LOGOUT_S),
            )


async def _outcome(
    login: asyncio.Task[Session | AttemptFailed],
) -> Session | AttemptFailed:
    try:
        return await asyncio.shield(login)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if login.cancelled() and task is not None and not task.cancelling():
            # aclose ended the login, and nobody this call.
            return AttemptFailed(ProviderUnreachable("the adapter is closed"))
        raise


def _read_login(answer: Answer, where: str) -> Login:
    if answer.status != OK:
        raise login_refusal(where, answer)
    return read_login(answer, where)


def _read_logout(answer: Answer, where: str) -> None:
    if answer.status not in (OK, NO_CONTENT):
        raise refusal("logout", where, answer)
