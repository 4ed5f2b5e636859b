"""One call of the provider: the endpoints, a session at each, and the retries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from adapters_dsm.failures import AttemptFailed
from adapters_dsm.retries import SHORTEST_ATTEMPT_S
from kms_core.errors import CredentialRefused


if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters_dsm.answers import Answer
    from adapters_dsm.endpoints import Endpoints, Node
    from adapters_dsm.exchange import Attempt, Request
    from adapters_dsm.retries import Retries
    from adapters_dsm.session import Session
    from kms_core.ports import Clock


T = TypeVar("T")

_WAITED_S = SHORTEST_ATTEMPT_S * 0.9
"""An endpoint that did not answer for so long is one that hangs."""


class Calls:
    """Asks whichever endpoint answers, within the caller's deadline.

    Args:
        endpoints: Whom to ask.
        retries: Tries again.
        clock: Time.
    """

    def __init__(self, endpoints: Endpoints, retries: Retries, clock: Clock) -> None:
        self._endpoints = endpoints
        self._retries = retries
        self._clock = clock

    async def ask(
        self,
        request: Request,
        read: Callable[[Answer, str], T],
        deadline: float,
        *,
        by_timer: bool = False,
    ) -> T:
        """Return what *read* makes of the answer to *request*.

        Args:
            request: What to ask.
            read: Takes an answer and the words for where it came from; raises an error
                of the family if it is not a good one.
            deadline: Loop time at which the caller gives up.
            by_timer: Whether the watcher asks.

        Raises:
            KmsError: The error of the last try that failed by itself.
        """
        endpoints = self._endpoints
        tried: list[Node] = []

        async def at_the_one(this: Attempt) -> T:
            node = endpoints.best
            return await self._ask_at(node, request, read, this, by_timer=by_timer)

        async def at_one_of_several(this: Attempt) -> T:
            if len(tried) == len(endpoints.nodes):
                # Another round, in the order of what is known by now.
                tried.clear()
            node = endpoints.next(tried) if tried else endpoints.first()
            tried.append(node)
            began = self._clock.monotonic()
            try:
                found = await self._ask_at(node, request, read, this, by_timer=by_timer)
            except AttemptFailed as failure:
                waited = self._clock.monotonic() - began >= _WAITED_S
                another = endpoints.failed(node, failure, waited=waited)
                failure.elsewhere = another and self._has_another(tried, failure)
                raise
            endpoints.worked(node, began)
            return found

        attempt = at_one_of_several if endpoints.several else at_the_one
        return await self._retries.run(attempt, deadline, len(endpoints.nodes))

    def _has_another(self, tried: list[Node], failure: AttemptFailed) -> bool:
        """Return whether an endpoint is left that may serve the call at once."""
        left = [node for node in self._endpoints.nodes if node not in tried]
        if isinstance(failure.error, CredentialRefused):
            # One call must not fail to authenticate at each endpoint in turn.
            return any(node.sessions.usable() is not None for node in left)
        return bool(left)

    async def _ask_at(
        self,
        node: Node,
        request: Request,
        read: Callable[[Answer, str], T],
        this: Attempt,
        *,
        by_timer: bool,
    ) -> T:
        sessions = node.sessions
        session = sessions.usable()
        if session is None:
            session = await self._session(node, this, by_timer=by_timer)
        try:
            return await self._ask_in(session, request, read, this)
        except AttemptFailed as failure:
            answer = failure.answer
            if answer is None or not sessions.doubts(session, answer):
                raise
        # Once more, with another session; what it says is believed.
        sessions.drop(session, answer)
        session = await self._session(node, this, by_timer=by_timer)
        return await self._ask_in(session, request, read, this)

    async def _ask_in(
        self,
        session: Session,
        request: Request,
        read: Callable[[Answer, str], T],
        attempt: Attempt,
    ) -> T:
        session.used_at = self._clock.monotonic()
        result = await session.way.ask(request, session.authorization, read, attempt)
        session.proven_at = self._clock.monotonic()
        return result

    async def _session(
        self, node: Node, attempt: Attempt, *, by_timer: bool
    ) -> Session:
        left_s = attempt.ends_at - self._clock.monotonic()
        try:
            async with asyncio.timeout(left_s):
                return await node.sessions.obtain(by_timer=by_timer)
        except TimeoutError:
            pass
        # The login goes on: it has its own time, and the next attempt may find it done.
        raise AttemptFailed(attempt.too_late("login", left_s), hung=True)
