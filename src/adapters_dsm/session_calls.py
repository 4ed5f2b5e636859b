"""What is asked about a session itself: login, refresh, logout (dsm-api.md, 1.2)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from adapters_dsm.answers import Answer, Login, read_login
from adapters_dsm.exchange import Attempt, Exchanges, Request
from adapters_dsm.failures import AttemptFailed
from adapters_dsm.statuses import NO_CONTENT, OK, login_refusal, refusal


if TYPE_CHECKING:
    from adapters_dsm.credentials import Credential
    from kms_core.ports import Clock


LOGIN_TRIES_S: Final = (1.5, 8.5)
"""How long each try of a login may take, in seconds. The first leaves time for another
connection within kube-apiserver's 3 s; the second is for a DSM that is slow and no
more.
"""

LOGOUT_S: Final = 2.0
"""How long a logout may take; DSM forgets the session anyway when it is idle."""

REFRESH_S: Final = 5.0
"""How long a refresh may take; nobody waits for it."""

_LOGIN: Final = Request("login", "", "/sys/v1/session/auth")
_REFRESH: Final = Request("refresh", "", "/sys/v1/session/refresh")
_LOGOUT: Final = Request("logout", "", "/sys/v1/session/terminate")


async def log_in(way: Exchanges, credential: Credential, clock: Clock) -> Login:
    """Return what DSM gives for *credential*.

    Raises:
        AttemptFailed: With CredentialRefused, or why there was no answer.
    """
    authorization = credential.authorization
    shown = None if authorization is None else authorization.reveal()
    first, second = LOGIN_TRIES_S
    try:
        return await way.ask(_LOGIN, shown, _read_login, _attempt(clock, 1, first))
    except AttemptFailed as failure:
        if not failure.hung:
            raise
    try:
        return await way.ask(_LOGIN, shown, _read_login, _attempt(clock, 2, second))
    except AttemptFailed as failure:
        failure.sent = 2
        raise


async def refresh(way: Exchanges, bearer: str, clock: Clock) -> None:
    """Use the session of *bearer*, so that its idle time begins anew.

    Raises:
        AttemptFailed: It did not work; CredentialRefused if the session is dead.
    """
    await way.ask(_REFRESH, bearer, _read_refresh, _attempt(clock, 1, REFRESH_S))


async def log_out(way: Exchanges, bearer: str, clock: Clock) -> None:
    """End the session of *bearer* if it can be done soon; raises nothing."""
    with contextlib.suppress(AttemptFailed):
        await way.ask(_LOGOUT, bearer, _read_logout, _attempt(clock, 1, LOGOUT_S))


def _attempt(clock: Clock, number: int, timeout_s: float) -> Attempt:
    ends_at = clock.monotonic() + timeout_s
    return Attempt(number, ends_at, last=False, fresh=number > 1)


def _read_login(answer: Answer, where: str) -> Login:
    if answer.status != OK:
        raise login_refusal(where, answer)
    return read_login(answer, where)


def _read_refresh(answer: Answer, where: str) -> None:
    if answer.status not in (OK, NO_CONTENT):
        raise refusal("refresh", where, answer)


def _read_logout(answer: Answer, where: str) -> None:
    if answer.status not in (OK, NO_CONTENT):
        raise refusal("logout", where, answer)
