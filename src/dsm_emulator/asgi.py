"""The ASGI application: one request from its bytes to its answer.

The order: read the body, find out whose credential it is, let the faults have their say
if there are any, ask the model under its lock, write the journal, answer. Requests
below `/emulator/v1/` go to the control API, which has a door of its own besides;
latency, faults and journal don't concern them.
"""

import asyncio
import logging
import time
from collections.abc import MutableMapping
from typing import Any, TypeAlias

from dsm_emulator import control, rest
from dsm_emulator.command import Host, Steered
from dsm_emulator.connection import CONNECTION, CONTROL_NUMBER, Connection
from dsm_emulator.delivery import Line, Receive, Send, send_whole
from dsm_emulator.dsm import Dsm
from dsm_emulator.faults import Subject
from dsm_emulator.faulty import Faulty, Outcome
from dsm_emulator.headers import Header, RequestIds, profiling_header
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.journal import Entry
from dsm_emulator.keeper import Keeper


Scope: TypeAlias = MutableMapping[str, Any]

# DSM's limit for batch bodies; the one for a single encrypt isn't stated (section 3.4).
MAX_BODY_BYTES = 512 * 1024

_LOG = logging.getLogger(__name__)


class DsmApp:
    """A model as an ASGI application."""

    def __init__(
        self,
        dsm: Dsm,
        control_token: str | None = None,
        host: Host | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Make the application.

        Args:
            dsm: The model.
            control_token: Opens the control API; without one there is none.
            host: The server, for the control API.
            keeper: Keeps the state, before anybody hears of a change.
        """
        self._dsm = dsm
        self._steered = Steered(dsm, host)
        self._keeper = keeper
        self._control_token = control_token
        self._request_ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await _read_body(receive)
        if body is None:
            return
        method: str = scope["method"]
        path: str = scope["path"]
        # Some clients join an endpoint that ends in a slash (section 6).
        while path.startswith("//"):
            path = path[1:]
        connection: Connection = scope["extensions"][CONNECTION]
        request = Request(
            method,
            path,
            scope["query_string"],
            _header(scope, b"authorization"),
            body,
            connection.peer_certificate_der,
            connection.peer_address,
            connection.number,
        )
        is_control_door = connection.number == CONTROL_NUMBER
        if is_control_door or path.startswith(control.PREFIX):
            await self._control(request, send)
        else:
            await self._serve(request, scope, Line(connection, receive, send))

    async def _control(self, request: Request, send: Send) -> None:
        with self._dsm.lock:
            answer = control.answer(self._steered, request, self._control_token)
            self._keep()
        content_type, body = answer.body()
        await send_whole(send, answer.status, [(b"content-type", content_type)], body)

    async def _serve(self, request: Request, scope: Scope, line: Line) -> None:
        dsm = self._dsm
        app_id = dsm.logins.named_app(request.authorization)
        request_id, headers = self._headers(scope)
        if dsm.faults:
            await Faulty(
                dsm=dsm,
                subject=Subject(request.path, app_id, request.connection),
                headers=headers,
                line=line,
                ask=lambda: self._ask(request, headers),
                record=lambda outcome: self._record(
                    request, app_id, request_id, outcome
                ),
            ).answer()
            return
        if dsm.latency_ms:
            await asyncio.sleep(dsm.latency_ms / 1000)
        answer = self._ask(request, headers)
        content_type, body = answer.body()
        if content_type:
            headers.append((b"content-type", content_type))
        outcome = Outcome(answer.status, answer.kid)
        self._record(request, app_id, request_id, outcome)
        await send_whole(line.send, answer.status, headers, body)

    def _headers(self, scope: Scope) -> tuple[str, list[Header]]:
        rules = self._dsm.headers
        request_id = self._request_ids.next()
        headers: list[Header] = []
        if rules.echoes_request_id:
            request_id = _header(scope, b"x-request-id") or request_id
        if self._dsm.sends_request_id:
            headers.append((b"x-request-id", request_id.encode("latin-1")))
        if rules.date:
            headers.append(rules.date_header(self._dsm.clock.now()))
        return request_id, headers

    def _ask(self, request: Request, headers: list[Header]) -> Answer:
        if len(request.body) > MAX_BODY_BYTES:
            return Answer(413, text="request body is too large")
        began_ns = time.perf_counter_ns()
        try:
            with self._dsm.lock:
                entered_ns = time.perf_counter_ns()
                answer = rest.answer(self._dsm, request)
                self._keep()
        except Exception:  # noqa: BLE001 - a bug of ours, and says so
            _LOG.exception("the emulator failed on %s %s", request.method, request.path)
            return Answer(500, text="Internal error of the emulator")
        if self._dsm.headers.profiling:
            ended_ns = time.perf_counter_ns()
            headers.append(
                profiling_header(entered_ns - began_ns, ended_ns - entered_ns)
            )
        return answer

    def _keep(self) -> None:
        if self._keeper is not None:
            self._keeper.keep_changes()

    def _record(
        self, request: Request, app_id: str | None, request_id: str, outcome: Outcome
    ) -> None:
        entry = Entry(
            self._dsm.clock.now(),
            request.method,
            request.path,
            app_id,
            outcome.kid,
            outcome.status,
            request_id,
            request.connection,
            outcome.faults,
        )
        self._dsm.journal.record(entry)


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            text: str = value.decode("latin-1")
            return text
    return None


async def _read_body(receive: Receive) -> bytes | None:
    """Return the body, a little too much of it, or None when the client has gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body", False) or len(body) > MAX_BODY_BYTES:
            return body
