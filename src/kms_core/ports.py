"""The small ports: time, chance and telemetry. They are passed in, never imported.

``KeyProvider`` is in ``provider``, ``Envelope`` in ``envelope``.
"""

from __future__ import annotations

import abc
import contextvars
from typing import TYPE_CHECKING

from attrs import frozen


if TYPE_CHECKING:
    import datetime as dt


call_uid: contextvars.ContextVar[str] = contextvars.ContextVar("call_uid", default="")
"""The uid of the KMS call that the current task serves, already fit for a log."""


def serving_no_call() -> contextvars.Context:
    """Return a context for a task that a call begins, but that is not part of it."""
    context = contextvars.copy_context()
    context.run(call_uid.set, "")
    return context


class Clock(abc.ABC):
    """Time, in two forms that must not be mixed."""

    @abc.abstractmethod
    def monotonic(self) -> float:
        """Return seconds on the event loop's clock; deadlines are in this time."""

    @abc.abstractmethod
    def now(self) -> dt.datetime:
        """Return the date and time in UTC, for people and for what is kept."""

    @abc.abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Return after *seconds*."""


class Randomness(abc.ABC):
    """Chance: a secure source for keys, and jitter for timers."""

    @abc.abstractmethod
    def token(self, size: int) -> bytes:
        """Return *size* bytes from a cryptographically secure source."""

    @abc.abstractmethod
    def uniform(self, low: float, high: float) -> float:
        """Return a number between *low* and *high*; not for secrets."""


@frozen(kw_only=True)
class Event:
    """Something that a log line or a metric is made of. Holds no secret."""


class Telemetry(abc.ABC):
    """Where events go. Must not block and must not raise."""

    @abc.abstractmethod
    def emit(self, event: Event) -> None:
        """Take *event*; drop it rather than wait."""
