"""Getting an answer to the client, in order or with something wrong on the way.

What ASGI can't say (half a head, a status line that isn't one) is written to the
connection as it is; then it is closed, and uvicorn sees a client that has gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from dsm_emulator.defects import Outgoing
from dsm_emulator.fault import CutAt
from dsm_emulator.fault_kinds import FaultKind
from dsm_emulator.faults import Faults, Struck
from dsm_emulator.headers import Header
from dsm_emulator.release import until_released


if TYPE_CHECKING:
    from dsm_emulator.connection import Connection

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_NO_CONTENT = 204
_HEADER_BYTES = 256 * 1024
_SURPLUS = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsurplus"
_MISSING_BYTES = 16


@frozen
class Line:
    """The line to the client that waits for an answer."""

    connection: "Connection"
    receive: Receive
    send: Send

    def close(self) -> None:
        """Close the connection without a word of TLS (TCP FIN)."""
        self.connection.transport.abort()

    async def wait_until_gone(self) -> None:
        """Wait until the client has gone, or the connection is closed."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def hang(self, released: Future[None]) -> bool:
        """Wait; return whether that ended by a release and not by the client."""
        waits = [
            asyncio.ensure_future(until_released(released)),
            asyncio.ensure_future(self.wait_until_gone()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return released.done()


async def send_whole(
    send: Send, status: int, headers: list[Header], body: bytes
) -> None:
    """Send an answer as it should be."""
    if status != _NO_CONTENT:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def deliver(
    outgoing: Outgoing, line: Line, struck: Struck | None, faults: Faults
) -> None:
    """Send *outgoing* with what *struck* does to it on its way."""
    if struck is None:
        await _whole(outgoing, line)
        return
    way = _PAST_UVICORN.get(struck.kind)
    if way is not None:
        way(outgoing, line, struck)
        await line.wait_until_gone()
    elif struck.kind is FaultKind.OVERSIZED_HEADERS:
        size = _HEADER_BYTES if struck.fault.size is None else struck.fault.size
        await _whole(outgoing, line, (b"x-padding", b"x" * size))
    elif struck.kind is FaultKind.LONG_BODY:
        await _whole(outgoing, line)
        line.connection.transport.write(_SURPLUS)
    elif struck.kind is FaultKind.STALL_HEADERS:
        await _stalled(outgoing, line, struck, faults)
    else:
        await _trickle(outgoing, line, struck)


async def _whole(outgoing: Outgoing, line: Line, *more: Header) -> None:
    headers = [*outgoing.headers, *more]
    await send_whole(line.send, outgoing.status, headers, outgoing.body)


async def _start(outgoing: Outgoing, line: Line) -> None:
    headers = [*outgoing.headers]
    if outgoing.status != _NO_CONTENT:
        headers.append((b"content-length", str(len(outgoing.body)).encode()))
    start = {"status": outgoing.status, "headers": headers}
    await line.send({"type": "http.response.start", **start})


async def _stalled(
    outgoing: Outgoing, line: Line, struck: Struck, faults: Faults
) -> None:
    await _start(outgoing, line)
    with faults.hanging():
        goes_on = await line.hang(struck.released)
    if goes_on:
        await line.send({"type": "http.response.body", "body": outgoing.body})


async def _trickle(outgoing: Outgoing, line: Line, struck: Struck) -> None:
    await _start(outgoing, line)
    size = struck.fault.size or 1
    for begin in range(0, len(outgoing.body), size):
        await asyncio.sleep((struck.fault.ms or 0.0) / 1000)
        if line.connection.transport.is_closing():
            return
        piece = outgoing.body[begin : begin + size]
        await line.send(
            {"type": "http.response.body", "body": piece, "more_body": True}
        )
    await line.send({"type": "http.response.body", "body": b""})


# What is written past uvicorn; the connection ends with it.


def _reset(_: Outgoing, line: Line, __: Struck) -> None:
    line.connection.reset()


def _disconnect(outgoing: Outgoing, line: Line, struck: Struck) -> None:
    head = _head(outgoing, len(outgoing.body))
    sent = {
        CutAt.START: b"",
        CutAt.HEADERS: head[: len(head) // 2],
        CutAt.BODY: head + outgoing.body[: len(outgoing.body) // 2],
    }[struck.fault.stage]
    line.connection.transport.write(sent)
    line.close()


def _bad_status_line(outgoing: Outgoing, line: Line, _: Struck) -> None:
    _status, rest = _head(outgoing, len(outgoing.body)).split(b"\r\n", 1)
    line.connection.transport.write(b"HTTP/1.1 fine\r\n" + rest + outgoing.body)
    line.close()


def _bad_chunk(outgoing: Outgoing, line: Line, _: Struck) -> None:
    chunk = b"many\r\n" + outgoing.body + b"\r\n0\r\n\r\n"
    line.connection.transport.write(_head(outgoing, None) + chunk)
    line.close()


def _short_body(outgoing: Outgoing, line: Line, _: Struck) -> None:
    head = _head(outgoing, len(outgoing.body) + _MISSING_BYTES)
    line.connection.transport.write(head + outgoing.body)
    line.close()


def _head(outgoing: Outgoing, length: int | None) -> bytes:
    framing = (
        (b"transfer-encoding", b"chunked")
        if length is None
        else (b"content-length", str(length).encode())
    )
    lines = [name + b": " + value for name, value in (*outgoing.headers, framing)]
    status = f"HTTP/1.1 {outgoing.status} Any".encode()
    return b"\r\n".join([status, *lines, b"", b""])


_PAST_UVICORN: dict[FaultKind, Callable[[Outgoing, Line, Struck], None]] = {
    FaultKind.RESET_AFTER: _reset,
    FaultKind.DISCONNECT: _disconnect,
    FaultKind.BAD_STATUS_LINE: _bad_status_line,
    FaultKind.BAD_CHUNK: _bad_chunk,
    FaultKind.SHORT_BODY: _short_body,
}
