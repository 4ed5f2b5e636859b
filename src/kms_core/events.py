"""Events of the core: what log lines and metrics are made of."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from attrs import frozen

from kms_core.ports import Event


if TYPE_CHECKING:
    import datetime as dt


_MAX_PLACES: Final = 8
"""How many frames of an unexpected exception reach the log, the innermost ones."""


@frozen(kw_only=True)
class CallFinished(Event):
    """A KMS v2 call has been answered.

    Attributes:
        method: ``Status``, ``Encrypt`` or ``Decrypt``.
        uid: The request's uid, fit for a log; empty for Status.
        key_id: The key_id asked for or answered, fit for a log; may be empty.
        rpc_code: Name of the gRPC status code.
        error: ``KmsError.text()``, or None on success.
        duration_s: Seconds in our hands.
    """

    method: str
    uid: str
    key_id: str
    rpc_code: str
    error: str | None
    duration_s: float


@frozen(kw_only=True)
class ProviderCallFinished(Event):
    """One request to the key service has ended; retries are requests of their own.

    Attributes:
        operation: ``describe``, ``encrypt``, ``decrypt``; or one that serves them, such
            as ``login``.
        uid: The uid of the KMS call that it serves; empty for the watcher's own.
        kid: The key, when the request names one by kid.
        attempt: 1 for the first try.
        http_status: The answer's status, or None when there was no answer.
        request_id: The service's own id of the request (DSM: ``X-Request-Id``).
        error: Code of the error that it ended in, or None.
        duration_s: Seconds.
    """

    operation: str
    uid: str
    kid: str
    attempt: int
    http_status: int | None
    request_id: str
    error: str | None
    duration_s: float


@frozen(kw_only=True)
class Unexpected(Event):
    """Something happened that must not; details without secrets.

    Attributes:
        where: The place, one word or two.
        what: Type of the exception and the code lines it passed, no values.
    """

    where: str
    what: str


@frozen(kw_only=True)
class StandingReported(Event):
    """Where the daemon stands: at each change, and every 5 minutes in trouble.

    Attributes:
        state: The phase.
        key_id: The announced key_id; empty before the first proof.
        kid: The announced key; a Go plugin's key_id does not tell it.
        code: Code of the error behind it; empty if all is well.
        cause: What happened.
        remedy: What the operator should do.
        meaning: How the error counts: outage, refused or denied.
        next_look_s: Seconds until the next look; None when it is not known yet.
        status_fails_at: When Status will fail if nothing changes (coasting).
    """

    state: str
    key_id: str
    code: str
    cause: str
    remedy: str
    meaning: str
    next_look_s: float | None
    status_fails_at: dt.datetime | None
    kid: str = ""


@frozen(kw_only=True)
class KeyFindingReported(Event):
    """Something about the key that an operator should know has appeared, or gone.

    Attributes:
        kid: The key.
        code: Stable name of the finding (``key_findings``).
        severity: ``warning`` or ``notice``.
        cause: What was found.
        remedy: What the operator should do.
        gone: Whether it was found before and is found no more.
    """

    kid: str
    code: str
    severity: str
    cause: str
    remedy: str
    gone: bool = False


@frozen(kw_only=True)
class SecretsDropped(Event):
    """Local KEKs were forgotten, since their key must not be used any more.

    Attributes:
        kid: The key.
        count: How many there were.
    """

    kid: str
    count: int


def describe_exception(error: BaseException) -> str:
    """Return type and code lines of *error*, without its text or any values."""
    # Not traceback.extract_tb, which reads the source files.
    frames = list(traceback.walk_tb(error.__traceback__))[-_MAX_PLACES:]
    places = [f"{f.f_globals.get('__name__', '?')}:{line}" for f, line in frames]
    return f"{type(error).__name__} at {' '.join(places)}"
