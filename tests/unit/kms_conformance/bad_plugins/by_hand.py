"""A correct plugin on an HTTP/2 server by hand, for faults that grpcio can't have."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import grpc
import h2.config
import h2.connection
import h2.events
import h2.exceptions
from attrs import frozen
from google.protobuf.message import DecodeError

from adapters_grpc.messages import (
    DECRYPT_METHOD,
    ENCRYPT_METHOD,
    STATUS_METHOD,
    DecryptRequest,
    EncryptRequest,
    StatusRequest,
)
from kms_conformance.http2 import PREFIX_BYTES, grpc_frame
from kms_conformance.reference import ReferencePlugin, Refusal


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kms_conformance.reference import RemoteKms


@frozen
class Call:
    """One request, once its stream has ended."""

    connection: int
    headers: Mapping[str, str]
    frame: bytes

    @property
    def path(self) -> str:
        return self.headers[":path"]


class ByHand(ReferencePlugin):
    """Each step of a call may be overridden.

    Attributes:
        headers: Sent with each answer, after those of gRPC.
    """

    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._listener: socket.socket | None = None
        self._tasks: dict[asyncio.Task[None], socket.socket] = {}
        self._connections = 0

    async def start(self) -> None:
        self._claim()
        self.path.unlink(missing_ok=True)
        umask = os.umask(0o177)
        try:
            self.listen(str(self.path))
        finally:
            os.umask(umask)

    def listen(self, address: str) -> None:
        self._listener = listener = socket.socket(socket.AF_UNIX)
        listener.setblocking(False)  # noqa: FBT003 - socket's own signature
        listener.bind(address)
        listener.listen()
        # Neither asyncio's server nor its sock_accept can be stopped without losing
        # a connection that was accepted in this very turn of the loop.
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def stop(self, grace_s: float = 0.0) -> None:
        del grace_s
        listener, self._listener = self._listener, None
        if listener is None:
            return
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()
        self.path.unlink(missing_ok=True)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)  # transports close in the loop's next turn

    def _accept(self, listener: socket.socket) -> None:
        connected, _ = listener.accept()
        connected.setblocking(False)  # noqa: FBT003 - as above
        task = asyncio.ensure_future(self._connected(connected))
        self._tasks[task] = connected
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        # A task that was cancelled at once has closed nothing itself.
        connected = self._tasks.pop(task)
        asyncio.get_running_loop().call_soon(connected.close)

    async def _connected(self, connected: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connected)
        try:
            await self.converse(reader, writer)
        finally:
            writer.close()

    async def converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection."""
        self._connections += 1
        talk = Talk(self, self._connections, reader, writer)
        try:
            await talk.go_on()
        finally:
            talk.close()

    async def answer(self, call: Call) -> bytes:
        """Return the frame of the answer, or raise Refusal."""
        return grpc_frame(await self.message(call))

    async def message(self, call: Call) -> bytes:
        """Return the message of the answer, or raise Refusal."""
        raw = self.opened(call)
        try:
            match call.path:
                case path if path == STATUS_METHOD:
                    answer = await self.status(StatusRequest.FromString(raw))
                    return answer.SerializeToString()
                case path if path == ENCRYPT_METHOD:
                    sealed = await self.encrypt(EncryptRequest.FromString(raw))
                    return sealed.SerializeToString()
                case path if path == DECRYPT_METHOD:
                    opened = await self.decrypt(DecryptRequest.FromString(raw))
                    return opened.SerializeToString()
        except (DecodeError, UnicodeDecodeError):
            return await self.on_garbage()
        return self.on_unknown_method()

    def opened(self, call: Call) -> bytes:
        """Return the message in a request's frame."""
        frame = call.frame
        if frame != grpc_frame(frame[PREFIX_BYTES:]):
            raise Refusal(grpc.StatusCode.INTERNAL, "the frame lies")
        return frame[PREFIX_BYTES:]

    async def on_garbage(self) -> bytes:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the request is malformed")

    def on_unknown_method(self) -> bytes:
        raise Refusal(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")

    def on_reset(self) -> None:
        """A client gave a call up."""


class Talk:
    """One connection."""

    def __init__(
        self,
        plugin: ByHand,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._plugin = plugin
        self._number = number
        self._reader = reader
        self._writer = writer
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self._headers: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}

    def close(self) -> None:
        for call in self._calls.values():
            call.cancel()
        self._writer.close()

    async def go_on(self) -> None:
        self._h2.initiate_connection()
        self._flush()
        try:
            while came := await self._reader.read(65_536):
                for event in self._h2.receive_data(came):
                    self._take(event)
                self._flush()
        except (OSError, h2.exceptions.ProtocolError):
            pass

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._headers[event.stream_id] = {
                    str(name): str(value) for name, value in event.headers
                }
                self._bodies[event.stream_id] = bytearray()
            case h2.events.DataReceived():
                self._bodies[event.stream_id] += event.data
                self._h2.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
            case h2.events.StreamEnded():
                stream = event.stream_id
                call = Call(
                    self._number, self._headers[stream], bytes(self._bodies[stream])
                )
                self._calls[stream] = asyncio.ensure_future(self._serve(stream, call))
            case h2.events.StreamReset():
                if event.stream_id in self._calls:
                    self._calls[event.stream_id].cancel()
                self._plugin.on_reset()
            case _:
                pass

    async def _serve(self, stream: int, call: Call) -> None:
        head = [(":status", "200"), ("content-type", "application/grpc")]
        try:
            frame = await self._plugin.answer(call)
        except Refusal as refusal:
            number = str(refusal.code.value[0])
            ends = [("grpc-status", number), ("grpc-message", refusal.text)]
            self._h2.send_headers(stream, head + ends, end_stream=True)
        except ConnectionError:
            self._writer.close()
        except Exception:  # noqa: BLE001 - as grpcio does it
            ends = [("grpc-status", "2"), ("grpc-message", "a defect")]
            self._h2.send_headers(stream, head + ends, end_stream=True)
        else:
            head += self._plugin.headers
            self._h2.send_headers(stream, head)
            self._h2.send_data(stream, frame)
            self._h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        self._flush()

    def _flush(self) -> None:
        if not self._writer.is_closing():
            self._writer.write(self._h2.data_to_send())
