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
- At each look of the watcher (``keep_up``) a session that lies idle is refreshed, and
  one of another credential than the files now hold is replaced: by a new login, while
  calls go on with the old session, which goes on for good if DSM refuses the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from adapters_dsm.events import CredentialReplaced
from adapters_dsm.failures import AttemptFailed
from adapters_dsm.session_calls import log_in, log_out, refresh
from adapters_dsm.statuses import doubts_session, says_session_is_dead
from kms_core.errors import CredentialRefused, ProviderUnreachable
from kms_core.ports import serving_no_call


if TYPE_CHECKING:
    from collections.abc import Coroutine

    from adapters_dsm.answers import Answer
    from adapters_dsm.credential_files import Credentials
    from adapters_dsm.credentials import Credential
    from adapters_dsm.exchange import Exchanges
    from adapters_dsm.gate import RefusalGate
    from adapters_dsm.ways import Ways
    from kms_core.ports import Clock, Telemetry


BELIEVED_S: Final = 5.0
"""For so many seconds after it was proven a session's 403 is about the key."""

REFRESH_SHARE: Final = 0.5
"""A session that lay idle for this part of its limit is refreshed."""

_MARGIN_S = 30.0
_MARGIN_SHARE = 0.1


@define(eq=False)
class Session:
    """A login that DSM took.

    Attributes:
        authorization: Value of the Authorization header; a secret.
        way: The connections that it holds on, with the certificate of its login.
        credential: What was presented.
        idle_limit_s: For how long it may lie unused and still be offered.
        used_at: When it was last sent, on the clock.
        proven_at: When it last served a call well, or was made.
    """

    authorization: str = field(repr=False)
    way: Exchanges
    credential: Credential
    idle_limit_s: float
    used_at: float
    proven_at: float


class Sessions:
    """Keeps the current session at one endpoint and replaces it.

    Args:
        ways: Connections to the endpoint.
        credentials: What to present; of all endpoints together.
        gate: When to present it; likewise.
        clock: Time.
        telemetry: Is told when another credential is in use.
    """

    def __init__(
        self,
        ways: Ways,
        credentials: Credentials,
        gate: RefusalGate,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._ways = ways
        self._credentials = credentials
        self._gate = gate
        self._clock = clock
        self._telemetry = telemetry
        self._current: Session | None = None
        self._login: asyncio.Task[Session | AttemptFailed] | None = None
        self._aside: set[asyncio.Task[None]] = set()
        self._closed = False

    def usable(self) -> Session | None:
        """Return the current session, unless it may have ended by itself."""
        session = self._current
        if session is None:
            return None
        if self._clock.monotonic() - session.used_at >= session.idle_limit_s:
            self._current = None
            self._later(self._ways.leave(session.way))
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
        outcome = await _outcome(self._login or self._start_login(by_timer=by_timer))
        if isinstance(outcome, Session):
            return outcome
        # A copy for each who waited: raising marks an exception.
        raise AttemptFailed(
            outcome.error.without_traceback(),
            retry_after_s=outcome.retry_after_s,
            hung=outcome.hung,
            sent=outcome.sent,
        )

    async def keep_up(self) -> None:
        """Refresh the session if it lies idle; replace it if the credential changed.

        Raises nothing. Nothing is done without a session: the next call logs in.
        """
        session = self.usable()
        if session is None or self._closed or self._login is not None:
            return
        if self._credentials.latest != session.credential:
            # Whatever comes of it: refused before and not due again, perhaps.
            with contextlib.suppress(AttemptFailed):
                await _outcome(self._start_login(by_timer=True))
            session = self.usable()
            if session is None or self._closed:
                return
        idle_s = self._clock.monotonic() - session.used_at
        if idle_s >= session.idle_limit_s * REFRESH_SHARE:
            await self._refresh(session)

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
        if says_session_is_dead(answer):
            self._later(self._ways.leave(session.way))
        else:
            self._later(self._log_out(session))

    def renew(self) -> None:
        """Let the next call log in anew; calls in flight go on.

        A session whose credential is no longer at hand is kept: DSM may not have taken
        the new one, and then there would be none.
        """
        session = self._current
        if session is None or self._credentials.latest != session.credential:
            return
        self._current = None
        self._later(self._log_out(session))

    async def aclose(self) -> None:
        """End the current session, within 2 s, and every task; raises nothing."""
        self._closed = True
        session = self._current
        self._current = None
        tasks: list[asyncio.Task[Any]] = [*self._aside]
        if self._login is not None:
            tasks.append(self._login)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if session is not None:
            await self._log_out(session)

    def _start_login(self, *, by_timer: bool) -> asyncio.Task[Session | AttemptFailed]:
        credential = self._credentials.latest
        if credential is not None:
            # So that a call that would be refused costs neither a task nor a thread.
            try:
                self._gate.check(credential.fingerprint, by_timer=by_timer)
            except CredentialRefused as refused:
                raise AttemptFailed(refused, sent=0) from None
        self._login = asyncio.create_task(self._log_in(by_timer=by_timer))
        return self._login

    async def _log_in(self, *, by_timer: bool) -> Session | AttemptFailed:
        try:
            await self._gate.recall()
            credential = await self._credentials.current()
            self._gate.check(credential.fingerprint, by_timer=by_timer)
            way = self._way_for(credential)
            with self._gate.offering():
                login = await log_in(way, credential, self._clock)
            await self._gate.accepted()
        except CredentialRefused as refused:
            return AttemptFailed(refused, sent=0)
        except AttemptFailed as failure:
            if isinstance(failure.error, CredentialRefused):
                await self._gate.refused(
                    failure.error, credential.fingerprint, failure.sent
                )
            return failure
        finally:
            self._login = None
        now = self._clock.monotonic()
        margin_s = min(_MARGIN_S, login.expires_in_s * _MARGIN_SHARE)
        old = self._current
        self._current = Session(
            authorization=login.authorization,
            way=way,
            credential=credential,
            idle_limit_s=login.expires_in_s - margin_s,
            used_at=now,
            proven_at=now,
        )
        if old is not None:
            self._telemetry.emit(CredentialReplaced(setting=credential.setting))
            self._later(self._log_out(old))
        return self._current

    def _way_for(self, credential: Credential) -> Exchanges:
        before = self._ways.latest
        way = self._ways.of(credential)
        serving = None if self._current is None else self._current.way
        if before is not None and before not in (way, serving):
            # No session came of it, whose end would close it.
            self._later(self._ways.leave(before))
        return way

    async def _refresh(self, session: Session) -> None:
        session.used_at = self._clock.monotonic()
        try:
            await refresh(session.way, session.authorization, self._clock)
            session.proven_at = self._clock.monotonic()
        except AttemptFailed as failure:
            if failure.answer is not None and says_session_is_dead(failure.answer):
                self.drop(session, failure.answer)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, context=serving_no_call())
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _log_out(self, session: Session) -> None:
        await log_out(session.way, session.authorization, self._clock)
        await self._ways.leave(session.way)


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
