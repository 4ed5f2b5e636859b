"""What went wrong with one request: anything at all, turned into the core's family.

A text here names the operation, DSM's host and the HTTP status. It never quotes an
exception (aiohttp's name proxies with their headers) nor a body.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import http_exceptions

from kms_core.errors import (
    CredentialRefused,
    KmsError,
    ProviderAnswerRefused,
    ProviderUnreachable,
    ProviderUntrusted,
)


if TYPE_CHECKING:
    from adapters_dsm.answers import Answer


class AttemptFailed(Exception):
    """One attempt failed; stays within the adapter.

    Attributes:
        error: What to raise to the core if this was the last attempt.
        answer: What DSM answered, or None if there was no whole answer.
        retry_after_s: How long DSM asks us to wait, in seconds, if it does.
        hung: Whether it is the time for the attempt that ran out.
        elsewhere: Whether another endpoint is worth a try at once.
        sent: How often the request went out: more than once if tries before hung, not
            at all if there was nothing to present.
    """

    def __init__(
        self,
        error: KmsError,
        *,
        answer: Answer | None = None,
        retry_after_s: float | None = None,
        hung: bool = False,
        sent: int = 1,
    ) -> None:
        super().__init__(error.code)
        self.error = error
        self.answer = answer
        self.retry_after_s = retry_after_s
        self.hung = hung
        self.elsewhere = False
        self.sent = sent


def classify(error: Exception, where: str) -> KmsError | None:
    """Return the error of the family that says what *error* means.

    httpx-aiohttp turns aiohttp's errors into httpx' own by a table in which a refused
    connection is a connect timeout, and lets others through, so that only the chain of
    causes tells what happened.

    Args:
        error: Whatever the transport raised.
        where: The operation and the host, such as ``decrypt at dsm.example.com``.

    Returns:
        The error, or None for what no transport raises: a defect of ours.
    """
    chain = _chain(error)
    for kinds, conclude in _RULES:
        for link in chain:
            if isinstance(link, kinds):
                return conclude(link, where)
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return *error* and what led to it, the innermost first."""
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.insert(0, error)
        error = error.__cause__ or error.__context__
    return links


def _distrusted(error: BaseException, where: str) -> KmsError:
    # OpenSSL's own words, from its table of codes; for a host name they repeat ours.
    words = getattr(error, "verify_message", "") or "no reason given"
    return ProviderUntrusted(f"{where}: the certificate is not accepted ({words})")


def _tls_failed(error: BaseException, where: str) -> KmsError:
    # OpenSSL's name of the failure, such as WRONG_VERSION_NUMBER.
    name = getattr(error, "reason", None) or "no reason given"
    if _ABOUT_OUR_CERTIFICATE.search(name):
        return CredentialRefused(
            f"{where}: the other end does not take our client certificate ({name})"
        )
    return ProviderUntrusted(f"{where}: TLS failed ({name})")


def _tunnel_refused(error: BaseException, where: str) -> KmsError:
    status = getattr(error, "status", 0)
    return ProviderUnreachable(f"{where}: the proxy answered CONNECT with {status}")


def _unreachable(words: str) -> Callable[[BaseException, str], KmsError]:
    return lambda _, where: ProviderUnreachable(f"{where}: {words}")


def _not_http(_: BaseException, where: str) -> KmsError:
    return ProviderAnswerRefused(f"{where}: the answer is not proper HTTP")


_ABOUT_OUR_CERTIFICATE: Final = re.compile(
    "ALERT_(?:NO_|BAD_|UNSUPPORTED_)?CERTIFICATE|ALERT_UNKNOWN_CA|ALERT_ACCESS_DENIED"
)
"""Alerts of TLS (RFC 8446, 6.2) that only an end which reads a certificate sends."""

_Rule = tuple[
    type[BaseException] | tuple[type[BaseException], ...],
    Callable[[BaseException, str], KmsError],
]

_RULES: Final[tuple[_Rule, ...]] = (
    # The most telling first, wherever in the chain it stands.
    (ssl.SSLCertVerificationError, _distrusted),
    (
        (ssl.SSLEOFError, ssl.SSLZeroReturnError),
        _unreachable("the connection was closed"),
    ),
    (ssl.SSLError, _tls_failed),
    (aiohttp.ClientHttpProxyError, _tunnel_refused),
    (aiohttp.ClientProxyConnectionError, _unreachable("the proxy can't be reached")),
    (socket.gaierror, _unreachable("the host name does not resolve")),
    (ConnectionRefusedError, _unreachable("the connection was refused")),
    (
        (http_exceptions.ContentLengthError, http_exceptions.TransferEncodingError),
        _unreachable("the answer was cut short"),
    ),
    ((http_exceptions.HttpProcessingError, aiohttp.ClientResponseError), _not_http),
    # httpx-aiohttp before 0.2 on a header that is not ASCII.
    (UnicodeError, _not_http),
    (
        (ConnectionError, aiohttp.ServerDisconnectedError),
        _unreachable("the connection was closed"),
    ),
    (aiohttp.ClientPayloadError, _unreachable("the answer was cut short")),
    ((aiohttp.ClientConnectionError, OSError), _unreachable("there is no connection")),
)
