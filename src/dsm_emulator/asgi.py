"""The ASGI application: one request from its bytes to its answer, faults included.

The order: read the body, find out whose credential it is, let the faults have their
say, ask the model under its lock, write the journal, answer. Requests below
`/emulator/v1/` go to the control API; latency, faults and journal don't concern them.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import socket
import struct
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from typing import Any, TypeAlias

from dsm_emulator import control, rest
from dsm_emulator.dsm import Dsm
from dsm_emulator.faults import BodyForm, Fault, FaultKind, spoil
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.journal import Entry


Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

# The server puts the transport there: a reset needs it, and ASGI doesn't give it away.
TRANSPORT = "dsm_emulator.transport"
# DSM's limit for batch bodies; the one for a single encrypt isn't stated (section 3.4).
MAX_BODY_BYTES = 512 * 1024

_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"
_HTML = b"text/html"
_NO_CONTENT = 204
_TEMPORARY_REDIRECT = 307
_MULTIPLE_CHOICES = 300
_LOG = logging.getLogger(__name__)


class DsmApp:
    """A model as an ASGI application."""

    def __init__(self, dsm: Dsm, control_token: str | None = None) -> None:
        """Make the application.

        Args:
            dsm: The model.
            control_token: Opens the control API; without one there is none.
        """
        self._dsm = dsm
        self._control_token = control_token
        # Looks like a UUID, is unique, and costs less than one.
        self._id_prefix = str(uuid.uuid4())[:24]
        self._serial = itertools.count(1)

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
        request = Request(
            method, path, scope["query_string"], _authorization(scope["headers"]), body
        )
        if path.startswith(control.PREFIX):
            await self._control(request, send)
        else:
            await self._serve(request, scope, receive, send)

    async def _control(self, request: Request, send: Send) -> None:
        with self._dsm.lock:
            answer = control.answer(self._dsm, request, self._control_token)
        content_type, body = answer.body()
        await _send(send, answer.status, [(b"content-type", content_type)], body)

    async def _serve(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        dsm = self._dsm
        faults = dsm.faults
        app_id = dsm.logins.named_app(request.authorization)
        request_id = f"{self._id_prefix}{next(self._serial):012x}"
        headers: list[Header] = []
        if dsm.sends_request_id:
            headers.append((b"x-request-id", request_id.encode()))
        delay_s = dsm.latency_ms / 1000
        stand_in: Fault | None = None
        if faults:
            before = faults.before(request.path, app_id)
            delay_s += before.delay_s
            stand_in = before.stand_in
            if before.loses_sessions:
                dsm.kill_sessions()
            for released in before.hangs:
                faults.count_hanging(1)
                try:
                    goes_on = await _hang(released, receive)
                finally:
                    faults.count_hanging(-1)
                if not goes_on:
                    self._record(request, app_id, None, None, request_id)
                    return
        if delay_s:
            await asyncio.sleep(delay_s)
        if stand_in is not None:
            status = None if stand_in.kind is FaultKind.RESET else stand_in.status
            self._record(request, app_id, None, status, request_id)
            await _stand_in(stand_in, headers, scope, receive, send)
            return
        answer = self._ask(request)
        content_type, body = answer.body()
        if faults and answer.status < _MULTIPLE_CHOICES:
            body = _spoilt(dsm, request.path, app_id, answer, body)
        if content_type:
            headers.append((b"content-type", content_type))
        self._record(request, app_id, answer.kid, answer.status, request_id)
        await _send(send, answer.status, headers, body)

    def _ask(self, request: Request) -> Answer:
        if len(request.body) > MAX_BODY_BYTES:
            return Answer(413, text="request body is too large")
        try:
            with self._dsm.lock:
                return rest.answer(self._dsm, request)
        except Exception:  # noqa: BLE001 - a bug of ours, and says so
            _LOG.exception("the emulator failed on %s %s", request.method, request.path)
            return Answer(500, text="Internal error of the emulator")

    def _record(
        self,
        request: Request,
        app_id: str | None,
        kid: str | None,
        status: int | None,
        request_id: str,
    ) -> None:
        entry = Entry(
            self._dsm.clock.now(),
            request.method,
            request.path,
            app_id,
            kid,
            status,
            request_id,
        )
        self._dsm.journal.record(entry)


def _authorization(headers: list[Header]) -> str | None:
    for name, value in headers:
        if name == b"authorization":
            return value.decode("latin-1")
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


async def _hang(released: Future[None], receive: Receive) -> bool:
    """Wait; return whether that ended by a release and not by the client."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Event()

    def let_go(_: Future[None]) -> None:
        # The server, and its loop, may have stopped in the meantime.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(gate.set)

    released.add_done_callback(let_go)
    waits = [
        loop.create_task(gate.wait()),
        loop.create_task(_wait_until_gone(receive)),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return gate.is_set()


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _spoilt(
    dsm: Dsm, path: str, app_id: str | None, answer: Answer, body: bytes
) -> bytes:
    if not isinstance(answer.json, dict):
        return body
    defects = dsm.faults.defects(path, app_id)
    return spoil(answer.json, defects) if defects else body


async def _stand_in(
    fault: Fault, headers: list[Header], scope: Scope, receive: Receive, send: Send
) -> None:
    if fault.kind is FaultKind.RESET:
        transport: asyncio.Transport = scope["extensions"][TRANSPORT]
        connection = transport.get_extra_info("socket")
        # Lingering for no time makes the kernel send RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        await _wait_until_gone(receive)
        return
    if fault.kind is FaultKind.REDIRECT:
        headers.append((b"location", (fault.location or "").encode()))
        await _send(send, fault.status or _TEMPORARY_REDIRECT, headers, b"")
        return
    if fault.retry_after is not None:
        headers.append((b"retry-after", fault.retry_after.encode()))
    content_type, body = _status_body(fault)
    if content_type:
        headers.append((b"content-type", content_type))
    await _send(send, fault.status or 500, headers, body)


def _status_body(fault: Fault) -> tuple[bytes, bytes]:
    text = fault.text
    if fault.body is BodyForm.EMPTY or fault.status == _NO_CONTENT:
        return b"", b""
    if fault.body is BodyForm.JSON:
        return _JSON, json.dumps({"message": text}).encode()
    if fault.body is BodyForm.JSON_STRING:
        return _JSON, json.dumps(text).encode()
    if fault.body is BodyForm.HTML:
        return _HTML, f"<html><body><h1>{text}</h1></body></html>\n".encode()
    if fault.body is BodyForm.HUGE:
        return _TEXT, text.encode().ljust(fault.size, b".")
    return _TEXT, text.encode()


async def _send(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    if status != _NO_CONTENT:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
