"""What an HTTP status of DSM means.

DSM's API describes no error bodies (dsm-api.md, section 5), so the status decides. Two
texts are known well enough to be looked for, and nothing of a body is ever repeated.

| status | meaning |
|---|---|
| 401, or the text "Session does not exist" under any status | the session is dead |
| 403 "This operation requires approval" | ApprovalNeeded |
| 403 | PermissionRefused; perhaps a dead session, see ``session`` |
| 404 | KeyNotFound |
| 400 to a decrypt | SealedSeedNotAuthentic: our requests are well-formed |
| 408 | ProviderUnreachable: what balancers say as they close an idle connection |
| 429 | ProviderThrottling |
| other 4xx | RequestRefused |
| 5xx | ProviderFaulty |
| 1xx, 3xx, 2xx but 200 | ProviderAnswerRefused; redirects are not followed |
| 4xx but 401 with an HTML page | ProviderAnswerRefused: a proxy spoke, not DSM |
"""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from typing import TYPE_CHECKING, Final

from kms_core.errors import (
    ApprovalNeeded,
    CredentialRefused,
    KeyNotFound,
    KmsError,
    PermissionRefused,
    ProviderAnswerRefused,
    ProviderFaulty,
    ProviderThrottling,
    ProviderUnreachable,
    RequestRefused,
    SealedSeedNotAuthentic,
)


if TYPE_CHECKING:
    from adapters_dsm.answers import Answer


OK: Final = 200
NO_CONTENT: Final = 204

_BAD_REQUEST = 400
_UNAUTHORIZED = 401
_FORBIDDEN = 403
_NOT_FOUND = 404
_CLIENT_ERRORS = range(400, 500)
_SERVER_ERRORS = range(500, 600)

_APPROVAL = b"This operation requires approval"
_NO_SESSION = b"Session does not exist"
_HTML_TYPES = ("text/html", "application/xhtml+xml")
_BY_STATUS: Final[dict[int, type[KmsError]]] = {
    _FORBIDDEN: PermissionRefused,
    _NOT_FOUND: KeyNotFound,
    408: ProviderUnreachable,
    429: ProviderThrottling,
}
_SECONDS = re.compile(r"[0-9]{1,9}")


def doubts_session(answer: Answer) -> bool:
    """Return whether *answer* may only mean that the session is dead."""
    if says_session_is_dead(answer):
        return True
    return (
        answer.status == _FORBIDDEN
        and _APPROVAL not in answer.body
        and not _is_page(answer)
    )


def says_session_is_dead(answer: Answer) -> bool:
    """Return whether *answer* says so outright."""
    return answer.status == _UNAUTHORIZED or (
        answer.status != OK and _NO_SESSION in answer.body
    )


def refusal(operation: str, where: str, answer: Answer) -> KmsError:
    """Return the error for an answer that is not 200.

    Args:
        operation: ``describe``, ``encrypt`` or ``decrypt``.
        where: The operation and the host, for error texts.
        answer: What DSM answered.
    """
    cause = _cause(where, answer)
    if says_session_is_dead(answer):
        return CredentialRefused(f"{cause}: it did not take its own new session")
    if answer.status in _CLIENT_ERRORS:
        if _is_page(answer):
            return ProviderAnswerRefused(f"{cause}: a page, which DSM does not send")
        return _client_error(operation, cause, answer)
    if answer.status in _SERVER_ERRORS:
        return ProviderFaulty(cause)
    return ProviderAnswerRefused(cause)


def _client_error(operation: str, cause: str, answer: Answer) -> KmsError:
    if answer.status == _FORBIDDEN and _APPROVAL in answer.body:
        return ApprovalNeeded(f"{cause}: a quorum policy wants an approval")
    if answer.status == _BAD_REQUEST and operation == "decrypt":
        return SealedSeedNotAuthentic(f"{cause}: it does not take the ciphertext")
    return _BY_STATUS.get(answer.status, RequestRefused)(cause)


def login_refusal(where: str, answer: Answer) -> KmsError:
    """Return the error for a login that was not answered with 200.

    Whatever may have been counted as a failed authentication is a refused credential,
    even if a proxy said it: an API key must not be offered again and again (DSM's FIPS
    clusters replace it after 100 failures in 24 h).
    """
    if answer.status in (_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN):
        return CredentialRefused(_cause(where, answer))
    if answer.status == _NOT_FOUND:
        cause = f"{_cause(where, answer)}: nothing there takes a login"
        return ProviderAnswerRefused(cause)
    return refusal("login", where, answer)


def retry_after_s(answer: Answer, now: dt.datetime) -> float | None:
    """Return how many seconds DSM asks us to wait, or None.

    Args:
        answer: An answer that may have ``Retry-After``, in seconds or as a date.
        now: The time now, in UTC; a date in the past asks for no wait.
    """
    if answer.retry_after is None:
        return None
    text = answer.retry_after.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
        aware = date if date.tzinfo else date.replace(tzinfo=dt.UTC)
        return max(0.0, (aware - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def _cause(where: str, answer: Answer) -> str:
    seen = f"HTTP {answer.status}"
    if answer.request_id:
        seen += f", request {answer.request_id}"
    return f"{where} was answered with {seen}"


def _is_page(answer: Answer) -> bool:
    return answer.content_type in _HTML_TYPES or answer.body.lstrip()[:1] == b"<"
