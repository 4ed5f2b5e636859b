"""Unwrapped local KEKs: an LRU whose misses are answered by one task each.

Rules:

- Callers that want the same local KEK share one unwrap, a task of its own under its own
  deadline. A caller that gives up fails nobody else; the task is cancelled when the
  last one has left, and awaited at the end.
- Failures are not kept, and each caller gets a copy of its own.
- ``drop`` begins a new epoch for a kid: what was begun before is handed to those who
  wait for it, but not kept.
"""

from __future__ import annotations

import asyncio
import collections
from typing import TYPE_CHECKING

from attrs import field, frozen, mutable

from kms_core.errors import KmsError, ProviderTimeout, ShuttingDown


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kms_core.provider import Ciphertext


@frozen
class WrappedKek:
    """A local KEK as the key service wrapped it. Nothing in it is secret.

    Attributes:
        kid: The KEK that wrapped it.
        key_id: The key_id that it was wrapped for, and is bound to.
        ciphertext: What the key service returned.
    """

    kid: str
    key_id: str
    ciphertext: Ciphertext


@frozen
class LocalKek:
    """A local KEK in use.

    Attributes:
        wrapped: What stands in every seed that it seals.
        secret: The 32 bytes; masked in every repr.
    """

    wrapped: WrappedKek
    secret: bytes = field(repr=False)


@mutable(eq=False)
class _Unwrap:
    """An unwrap under way, and how many wait for it."""

    task: asyncio.Task[LocalKek]
    waiters: int = 0


class KekCache:
    """Keeps the *size* local KEKs that were used last.

    Args:
        size: How many to keep, at least 1.
        unwrap: Asks the key service to unwrap one.
    """

    def __init__(
        self, size: int, unwrap: Callable[[WrappedKek], Awaitable[LocalKek]]
    ) -> None:
        self._size = size
        self._unwrap = unwrap
        self._kept: collections.OrderedDict[WrappedKek, LocalKek] = (
            collections.OrderedDict()
        )
        self._under_way: dict[WrappedKek, _Unwrap] = {}
        # Those that were cancelled or dropped as well, until they have ended.
        self._tasks: set[asyncio.Task[LocalKek]] = set()
        self._closed = False
        self._epochs: collections.Counter[str] = collections.Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def peek(self, wrapped: WrappedKek) -> LocalKek | None:
        """Return a kept local KEK, or None; never asks."""
        kek = self._kept.get(wrapped)
        if kek is not None:
            self._kept.move_to_end(wrapped)
        return kek

    def keep(self, kek: LocalKek) -> None:
        """Keep *kek*, and let the one go that was not used for longest."""
        self._kept[kek.wrapped] = kek
        self._kept.move_to_end(kek.wrapped)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)

    async def get(self, wrapped: WrappedKek) -> LocalKek:
        """Return the local KEK in *wrapped*, unwrapping it if need be.

        Raises:
            SealedSeedNotAuthentic: *wrapped* was changed.
            ProviderError: The key service failed or refused.
            ShuttingDown: The cache was closed.
        """
        kept = self.peek(wrapped)
        if kept is not None:
            return kept
        if self._closed:
            raise ShuttingDown("local KEKs are no longer unwrapped")
        shared = self._under_way.get(wrapped) or self._begin(wrapped)
        shared.waiters += 1
        try:
            # Cancelling a wait, unlike an await, leaves the task alone.
            await asyncio.wait((shared.task,))
        finally:
            shared.waiters -= 1
            if shared.waiters == 0 and not shared.task.done():
                shared.task.cancel()
                # A caller that comes now must not join a task that is being cancelled.
                self._forget(wrapped, shared.task)
        return self._result(shared.task)

    def drop(self, kid: str) -> int:
        """Forget every local KEK that *kid* wrapped; return how many."""
        self._epochs[kid] += 1
        dropped = [wrapped for wrapped in self._kept if wrapped.kid == kid]
        for wrapped in dropped:
            del self._kept[wrapped]
        for wrapped in [w for w in self._under_way if w.kid == kid]:
            # Later callers ask anew.
            del self._under_way[wrapped]
        return len(dropped)

    async def aclose(self) -> None:
        """Cancel what is under way, wait for it, and forget everything."""
        self._closed = True
        # First, since whoever waits for us may lose patience.
        self._kept.clear()
        for task in self._tasks:
            # A second time would cut its goodbye off.
            if not task.cancelling():
                task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def _begin(self, wrapped: WrappedKek) -> _Unwrap:
        task = asyncio.create_task(self._ask(wrapped), name="unwrap")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        shared = self._under_way[wrapped] = _Unwrap(task)
        return shared

    def _ended(self, task: asyncio.Task[LocalKek]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Seen, though everybody who waited for it may have left.
            task.exception()

    def _result(self, task: asyncio.Task[LocalKek]) -> LocalKek:
        if task.cancelled():
            if self._closed:
                raise ShuttingDown("the local KEK was not unwrapped in time")
            raise ProviderTimeout("the unwrap of a local KEK was cut off")
        error = task.exception()
        if isinstance(error, KmsError):
            # One error raised by all who waited would collect all their frames.
            raise error.without_traceback()
        return task.result()

    async def _ask(self, wrapped: WrappedKek) -> LocalKek:
        epoch = self._epochs[wrapped.kid]
        this = asyncio.current_task()
        try:
            kek = await self._unwrap(wrapped)
        finally:
            self._forget(wrapped, this)
        if epoch == self._epochs[wrapped.kid] and not self._closed:
            self.keep(kek)
        return kek

    def _forget(
        self,
        wrapped: WrappedKek,
        task: asyncio.Task[LocalKek] | asyncio.Task[object] | None,
    ) -> None:
        shared = self._under_way.get(wrapped)
        if shared is not None and shared.task is task:
            del self._under_way[wrapped]
