"""Clock and Randomness of the running process."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import secrets

from kms_core.ports import Clock, Randomness


class LoopClock(Clock):
    """Time of the running event loop, and the system's date."""

    def monotonic(self) -> float:
        """Return the running loop's time."""
        return asyncio.get_running_loop().time()

    def now(self) -> dt.datetime:
        """Return the system's date and time in UTC."""
        return dt.datetime.now(dt.UTC)

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running loop."""
        await asyncio.sleep(seconds)


class SystemRandomness(Randomness):
    """The operating system's source for tokens, a plain generator for jitter."""

    def token(self, size: int) -> bytes:
        """Return *size* bytes from the operating system."""
        return secrets.token_bytes(size)

    def uniform(self, low: float, high: float) -> float:
        """Return a number for jitter."""
        return random.uniform(low, high)  # noqa: S311 - jitter, not a secret
