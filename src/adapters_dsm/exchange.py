"""One request and its answer: sent, timed, judged, and told to telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import httpx
from attrs import frozen

from adapters_dsm.failures import AttemptFailed, classify
from adapters_dsm.statuses import retry_after_s
from kms_core.errors import (
    KmsError,
    ProviderAnswerRefused,
    ProviderTimeout,
    ProviderUnreachable,
)
from kms_core.events import ProviderCallFinished, Unexpected, describe_exception
from kms_core.ports import call_uid


if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters_dsm.answers import Answer
    from adapters_dsm.settings import Endpoint
    from adapters_dsm.transport import Connections
    from kms_core.ports import Clock, Telemetry


T = TypeVar("T")

CANCELLED = "CANCELLED"
"""What stands for an error's code if the caller hung up."""


@frozen
class Request:
    """What to ask.

    Attributes:
        operation: Its name for logs: ``login``, ``describe``, ``encrypt``...
        kid: The key that it names by kid, or an empty text.
        path: Path and query below the endpoint's base URL; one of a few fixed ones.
        body: JSON, or empty.
        method: The HTTP method.
    """

    operation: str
    kid: str
    path: str
    body: bytes = b""
    method: str = "POST"


@frozen
class Attempt:
    """One of the tries of a call.

    Attributes:
        number: 1 for the first.
        ends_at: When to give it up, on the clock.
        last: Whether that is the end of the whole call.
        fresh: Whether to use a connection that nothing has gone over.
    """

    number: int
    ends_at: float
    last: bool
    fresh: bool

    def too_late(self, where: str, waited_s: float) -> KmsError:
        """Return the error for an attempt whose time is over."""
        if self.last:
            return ProviderTimeout(f"{where}: no answer before the deadline")
        # A hung connection, perhaps: another one may still serve the call in time.
        return ProviderUnreachable(f"{where}: no answer within {waited_s:.1f} s")


class Exchanges:
    """Asks one endpoint one thing at a time, as often as wanted at the same time.

    Args:
        connections: The way to DSM.
        endpoint: Where DSM is.
        user_agent: What we call ourselves.
        clock: Time.
        telemetry: Gets a ProviderCallFinished for each request.
    """

    def __init__(
        self,
        connections: Connections,
        endpoint: Endpoint,
        user_agent: str,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._connections = connections
        self._base_url = endpoint.base_url
        self._authority = endpoint.authority
        self._user_agent = user_agent
        self._clock = clock
        self._telemetry = telemetry
        # Made once for each path, since parsing them takes long.
        self._urls: dict[str, httpx.URL] = {}

    async def renew(self) -> None:
        """Let later requests use new connections; those in flight go on."""
        await self._connections.renew()

    async def aclose(self) -> None:
        """Close every connection once nothing is in flight on it."""
        await self._connections.aclose()

    async def ask(
        self,
        request: Request,
        authorization: str | None,
        read: Callable[[Answer, str], T],
        attempt: Attempt,
    ) -> T:
        """Send *request* and return what *read* makes of the answer.

        Args:
            request: What to ask.
            authorization: Value of the header of that name, a secret; None for none.
            read: Takes the answer and the words for where it came from; raises an
                error of the family if it is not a good one.
            attempt: Which try it is, and its time.

        Raises:
            AttemptFailed: Whatever went wrong. Cancellation passes.
        """
        where = f"{request.operation} at {self._authority}"
        started = self._clock.monotonic()
        timeout_s = attempt.ends_at - started
        answer: Answer | None = None
        error: KmsError | None = None
        code: str | None = CANCELLED
        hung = False
        try:
            answer = await self._connections.send(
                self._http(request, authorization),
                where=where,
                timeout_s=timeout_s,
                fresh=attempt.fresh,
            )
            result = read(answer, where)
            code = None
        except KmsError as judged:
            error = judged
            code = error.code
        except TimeoutError:
            hung = True
            error = attempt.too_late(where, timeout_s)
            code = error.code
        except Exception as caught:  # noqa: BLE001 - the one guard for what comes up
            error = classify(caught, where) or self._defect(caught, where)
            code = error.code
        finally:
            self._telemetry.emit(
                ProviderCallFinished(
                    operation=request.operation,
                    uid=call_uid.get(),
                    kid=request.kid,
                    attempt=attempt.number,
                    http_status=None if answer is None else answer.status,
                    request_id="" if answer is None else answer.request_id,
                    error=code,
                    duration_s=self._clock.monotonic() - started,
                )
            )
        if error is None:
            return result
        # Raised out here, so that what was caught does not become its context.
        wait_s = None if answer is None else retry_after_s(answer, self._clock.now())
        raise AttemptFailed(error, answer=answer, retry_after_s=wait_s, hung=hung)

    def _defect(self, error: Exception, where: str) -> KmsError:
        what = describe_exception(error)
        self._telemetry.emit(Unexpected(where="dsm", what=what))
        return ProviderAnswerRefused(
            f"{where} failed in the adapter ({type(error).__name__})"
        )

    def _http(self, request: Request, authorization: str | None) -> httpx.Request:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": self._user_agent,
        }
        if authorization is not None:
            headers["Authorization"] = authorization
        if request.body:
            headers["Content-Type"] = "application/json"
        url = self._urls.get(request.path)
        if url is None:
            url = httpx.URL(self._base_url + request.path)
            self._urls[request.path] = url
        return httpx.Request(request.method, url, headers=headers, content=request.body)
