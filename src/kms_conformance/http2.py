"""RawHttp2: HTTP/2 by hand, for what a well-behaved gRPC client can't send or see."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from attrs import define, field, frozen


if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from kms_conformance.target import Endpoint


PREFIX_BYTES: Final = 5
"""gRPC's prefix of a message: a flag for compression, and four bytes of length."""

_READ_BYTES: Final = 65_536
_FRAME_HEAD_BYTES: Final = 9
_GOAWAY: Final = 0x07
_NO_ERROR: Final = bytes(4)


class ConnectionLost(Exception):
    """The plugin closed the connection, or sent what is no HTTP/2."""


@frozen
class RawAnswer:
    """What came back on a stream.

    Attributes:
        headers: Name and value of the response's headers, then of its trailers.
        body: All DATA, gRPC's prefixes included.
        reset: The error code of RST_STREAM, if the stream ended so.
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes
    reset: int | None

    def header(self, name: str) -> str | None:
        """Return the last value of header or trailer *name*, or None."""
        values = [value for key, value in self.headers if key == name]
        return values[-1] if values else None


@define
class _Stream:
    headers: list[tuple[str, str]] = field(factory=list)
    body: bytearray = field(factory=bytearray)
    reset: int | None = None
    ended: bool = False


def grpc_frame(message: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """Return *message* behind gRPC's prefix, which may lie.

    Args:
        message: The message.
        flag: 1 says that it is compressed.
        length: Its length, if it is to be wrong.
    """
    told = len(message) if length is None else length
    return struct.pack(">BI", flag, told) + message


class RawHttp2:
    """One cleartext HTTP/2 connection. An async context manager.

    Args:
        endpoint: Where to connect.
        timeout_s: Seconds for connecting with SETTINGS, and for each answer.

    Attributes:
        leaving: The plugin has sent GOAWAY without an error: it takes no new calls.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self._streams: dict[int, _Stream] = {}
        # Not asyncio's streams, which forget what has come as soon as a write fails.
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)  # noqa: FBT003 - socket's own signature
        self._settings_came = False
        self._unread = b""
        self.leaving = False

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._timeout_s):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(self._socket, self._endpoint.address)
                self._h2.initiate_connection()
                await self._flush()
                while not self._settings_came:
                    await self._receive()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    @property
    def max_streams(self) -> int:
        """How many streams the plugin allows at once."""
        return self._h2.remote_settings.max_concurrent_streams

    async def call(
        self, path: str, body: bytes, *, extra: Sequence[tuple[str, str]] = ()
    ) -> RawAnswer:
        """Send one request and return what came; see ``send`` and ``answer``."""
        return await self.answer(await self.send(path, body, extra=extra))

    async def send(
        self,
        path: str,
        body: bytes,
        *,
        extra: Sequence[tuple[str, str]] = (),
        end: bool = True,
    ) -> int:
        """Open a stream and send a request on it.

        Args:
            path: Such as ``/v2.KeyManagementService/Status``.
            body: DATA; a proper one is made by ``grpc_frame``. 16 kB at most.
            extra: Headers after those of every gRPC call.
            end: Say that nothing follows.

        Returns:
            The stream's number.

        Raises:
            ConnectionLost: The connection is closed.
        """
        if self.leaving:
            raise ConnectionLost("the plugin sent GOAWAY")
        stream = self._h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *extra,
        ]
        self._streams[stream] = _Stream()
        try:
            self._h2.send_headers(stream, headers)
            self._h2.send_data(stream, body, end_stream=end)
        except h2.exceptions.ProtocolError as refusal:
            raise ConnectionLost(str(refusal)) from None
        await self._flush()
        return stream

    async def finish(self, stream: int, body: bytes) -> None:
        """Send the rest of a request that was sent without an end.

        Raises:
            ConnectionLost: The connection or the stream is closed.
        """
        try:
            self._h2.send_data(stream, body, end_stream=True)
        except h2.exceptions.ProtocolError as refusal:
            raise ConnectionLost(str(refusal)) from None
        await self._flush()

    async def cancel(self, stream: int) -> None:
        """Reset a stream, as a client does whose deadline has passed."""
        self._h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        await self._flush()

    async def answer(self, stream: int) -> RawAnswer:
        """Return what came on *stream* once it has ended.

        Raises:
            TimeoutError: It has not ended in time.
            ConnectionLost: The connection ended first.
        """
        one = self._streams[stream]
        async with asyncio.timeout(self._timeout_s):
            while not one.ended:
                await self._receive()
        return RawAnswer(tuple(one.headers), bytes(one.body), one.reset)

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            came = await loop.sock_recv(self._socket, _READ_BYTES)
            if not came:
                raise ConnectionLost("the plugin closed the connection")
            for event in self._h2.receive_data(self._without_farewells(came)):
                self._take(event)
        except h2.exceptions.ProtocolError as error:
            raise ConnectionLost(f"no HTTP/2: {type(error).__name__}") from None
        except OSError as error:
            raise ConnectionLost(error.strerror or "connection lost") from None
        with contextlib.suppress(ConnectionLost):
            await self._flush()  # a plugin that left may have sent more before

    def _without_farewells(self, came: bytes) -> bytes:
        """Return the whole frames there are, but for a GOAWAY that is no error.

        After one, streams that are open go on (RFC 9113, 6.8); h2 closes them all.
        """
        self._unread += came
        frames = b""
        while len(self._unread) >= _FRAME_HEAD_BYTES:
            length = _FRAME_HEAD_BYTES + int.from_bytes(self._unread[:3])
            if len(self._unread) < length:
                break
            frame, self._unread = self._unread[:length], self._unread[length:]
            if frame[3] == _GOAWAY and frame[13:17] == _NO_ERROR:
                self.leaving = True
            else:
                frames += frame
        return frames

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RemoteSettingsChanged():
                self._settings_came = True
            case h2.events.ConnectionTerminated():
                raise ConnectionLost("the plugin sent GOAWAY")
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                headers = [(str(name), str(value)) for name, value in event.headers]
                self._streams[event.stream_id].headers += headers
            case h2.events.DataReceived():
                self._streams[event.stream_id].body += event.data
                self._h2.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
            case h2.events.StreamEnded():
                self._streams[event.stream_id].ended = True
            case h2.events.StreamReset():
                one = self._streams[event.stream_id]
                one.reset, one.ended = int(event.error_code), True
            case _:
                pass

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._socket, self._h2.data_to_send())
        except OSError as error:
            raise ConnectionLost(error.strerror or "connection lost") from None
