"""Spreads the starts of expensive calls over the event loop's iterations."""

from __future__ import annotations

import asyncio
from collections import deque


class Pacer:
    """A FIFO gate that lets one call start in every few iterations of the event loop.

    A burst of Decrypts would otherwise take its first steps in one long iteration, and
    a Status, which needs about a dozen iterations from accept to answer, would wait
    for all of them, a dozen times. An iteration without other work takes some 20 us,
    so that waiting for a few costs next to nothing.

    Args:
        gap: Iterations from one start to the next; 0 lets every call start at once.
    """

    def __init__(self, gap: int) -> None:
        self._gap = gap
        self._left = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Return when the caller may start; callers get their turn in order."""
        if self._gap == 0:
            return
        loop = asyncio.get_running_loop()
        if self._left == 0:
            self._left = self._gap
            loop.call_soon(self._count_down, loop)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _count_down(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left -= 1
        if self._left == 0:
            self._let_next_in()
        if self._left:
            loop.call_soon(self._count_down, loop)

    def _let_next_in(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # done: its call was cancelled in the queue
                turn.set_result(None)
                self._left = self._gap
                return
