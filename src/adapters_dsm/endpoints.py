"""The endpoints of one DSM: which to ask first, and which to ask instead.

- The first one in the configured order whose breaker is closed, then the other closed
  ones, then the open ones, the one that failed longest ago first.
- A connection that fails, an answer that does not come and a certificate that is not
  trusted open a breaker at once; three bad answers in a row do (5xx, no proper HTTP).
- An open breaker is closed by a look of our own at ``/sys/v1/health`` that no caller
  waits for, or by a call that had no better choice and was answered well.
- Each endpoint has its own sessions, since a node of a cluster may not know those of
  another. The credential and the count of its refusals belong to all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from attrs import define

from adapters_dsm.breaker import AFTER_FAILURE, AFTER_REFUSED_LOGIN, Breaker
from adapters_dsm.events import EndpointBack, EndpointLeft
from adapters_dsm.exchange import Attempt, Request
from adapters_dsm.failures import AttemptFailed
from adapters_dsm.statuses import NO_CONTENT, OK, refusal
from kms_core.errors import (
    CredentialRefused,
    OutageError,
    ProviderAnswerRefused,
    ProviderThrottling,
)
from kms_core.ports import serving_no_call


if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine

    from adapters_dsm.answers import Answer
    from adapters_dsm.credential_files import Credentials
    from adapters_dsm.session import Sessions
    from adapters_dsm.ways import Ways
    from kms_core.ports import Clock, Telemetry


HEALTH_S: Final = 2.0
"""How long an endpoint may take to say that it is well."""

_HEALTH: Final = Request("health", "", "/sys/v1/health", method="GET")


@define(eq=False)
class Node:
    """One endpoint with all that belongs to it alone.

    Attributes:
        authority: Its ``host[:port]``.
        ways: Connections to it.
        sessions: Sessions there.
        breaker: Whether it failed lately.
        looked_at: The look at it that is under way, if there is one.
    """

    authority: str
    ways: Ways
    sessions: Sessions
    breaker: Breaker
    looked_at: asyncio.Task[None] | None = None


class Endpoints:
    """Knows the nodes and their order.

    Args:
        nodes: In the configured order, at least one.
        credentials: What all of them are shown.
        clock: Time.
        telemetry: Is told when the order changes.

    Attributes:
        nodes: All of them, in the configured order.
        best: The one to ask first.
        several: Whether there is more than one.
    """

    def __init__(
        self,
        nodes: tuple[Node, ...],
        credentials: Credentials,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._telemetry = telemetry
        self._aside: set[asyncio.Task[None]] = set()
        self._keeping_up: asyncio.Task[None] | None = None
        self._closed = False
        self.nodes = nodes
        self.best = nodes[0]
        self.several = len(nodes) > 1

    def first(self) -> Node:
        """Return the node to ask first."""
        if self.best is not self.nodes[0]:
            self._look_at_open_ones()
        return self.best

    def next(self, tried: Collection[Node]) -> Node:
        """Return the best node that is none of *tried*, which are not all."""
        return next(node for node in self._order() if node not in tried)

    def worked(self, node: Node, began: float) -> None:
        """Note that *node* served a call well that was begun at *began*."""
        breaker = node.breaker
        was_open = breaker.opened_at is not None
        breaker.worked(began)
        if was_open and breaker.opened_at is None:
            self._back(node)

    def failed(self, node: Node, failure: AttemptFailed, *, waited: bool) -> bool:
        """Note that a call to *node* failed, and return whether another may do better.

        Args:
            node: The node.
            failure: What it ended in.
            waited: Whether it had the time that an answer may take; a call in a hurry
                that got none says little of the node.
        """
        error = failure.error
        breaker = node.breaker
        was_open = breaker.opened_at is not None
        match error:
            case CredentialRefused() if not failure.sent:
                # The node was not asked.
                return True
            case CredentialRefused():
                breaker.open(AFTER_REFUSED_LOGIN)
            case ProviderThrottling():
                # It is about the account, the same everywhere.
                return False
            case OutageError():
                if failure.answer or isinstance(error, ProviderAnswerRefused):
                    breaker.answered_badly()
                elif waited or not failure.hung:
                    breaker.open(AFTER_FAILURE)
            case _:
                # About the key or the call: the same everywhere, too.
                return False
        self.best = self._order()[0]
        if not was_open and breaker.opened_at is not None:
            self._telemetry.emit(
                EndpointLeft(
                    endpoint=node.authority, code=error.code, cause=error.cause
                )
            )
        return True

    def look_around(self) -> None:
        """Look at open nodes and after sessions, beside the calls; at each look."""
        self._look_at_open_ones()
        if self._keeping_up is None and not self._closed:
            self._keeping_up = self._later(self._keep_up())

    async def renew(self) -> None:
        """Make later calls use new sessions and new connections."""
        for node in self.nodes:
            node.sessions.renew()
            await node.ways.renew()

    async def aclose(self) -> None:
        """End every session, within 2 s, and all connections; raises nothing."""
        self._closed = True
        for task in list(self._aside):
            task.cancel()
        await asyncio.gather(*self._aside, return_exceptions=True)
        await asyncio.gather(*[node.sessions.aclose() for node in self.nodes])
        await self._credentials.aclose()
        for node in self.nodes:
            await node.ways.aclose()

    def _order(self) -> list[Node]:
        def rank(node: Node) -> float:
            opened_at = node.breaker.opened_at
            return float("-inf") if opened_at is None else opened_at

        return sorted(self.nodes, key=rank)

    def _back(self, node: Node) -> None:
        self.best = self._order()[0]
        self._telemetry.emit(EndpointBack(endpoint=node.authority))

    def _look_at_open_ones(self) -> None:
        if self._closed:
            return
        for node in self.nodes:
            if node.breaker.is_due and node.looked_at is None:
                node.looked_at = self._later(self._look_at(node))

    async def _look_at(self, node: Node) -> None:
        ends_at = self._clock.monotonic() + HEALTH_S
        attempt = Attempt(1, ends_at, last=False, fresh=True)
        try:
            await node.ways.of(None).ask(_HEALTH, None, _read_health, attempt)
        except AttemptFailed:
            node.breaker.open(AFTER_FAILURE)
            return
        finally:
            node.looked_at = None
        if node.breaker.opened_at is not None:
            node.breaker.close()
            self._back(node)

    async def _keep_up(self) -> None:
        try:
            with contextlib.suppress(CredentialRefused, AttemptFailed):
                known = self._credentials.latest
                if await self._credentials.current() != known:
                    # The files changed: nobody waits for what was refused before.
                    await self.best.sessions.obtain(by_timer=True)
            for node in self.nodes:
                await node.sessions.keep_up()
        finally:
            self._keeping_up = None

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, context=serving_no_call())
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)
        return task


def _read_health(answer: Answer, where: str) -> None:
    if answer.status not in (OK, NO_CONTENT):
        raise refusal("health", where, answer)
