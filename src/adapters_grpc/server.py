"""KmsServer: KMS v2 on a unix socket, from bind to drain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import grpc.aio

from adapters_grpc.handlers import KmsHandlers
from adapters_grpc.unix_socket import SocketRefused, UnixSocket, claim


if TYPE_CHECKING:
    from pathlib import Path

    from kms_core.ports import Telemetry
    from kms_core.service import KmsService


MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Longest message in either direction; real ones stay below 36 kB (contract T08)."""

MAX_CONCURRENT_STREAMS: Final = 1024
"""Calls at once on one connection; kube-apiserver may send 100 (contract T11)."""

GRACE_S: Final = 5.0
"""How long calls in flight may take to end once the server stops."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
    # kube-apiserver sends no pings; other clients may, as often as they like.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
    # Identity alone: nothing we send is compressed (contract T07), and 64 kB
    # received can't unfold into gigabytes.
    ("grpc.compression_enabled_algorithms_bitset", 1),
)


class KmsServer:
    """Serves KMS v2 on a unix socket.

    Args:
        service: The use cases.
        telemetry: Where events go.
        path: Where clients will find the socket.
        mode: Its permission bits.
        gid: The group that will own it, or None for the process' own.
    """

    def __init__(
        self,
        service: KmsService,
        telemetry: Telemetry,
        path: Path,
        *,
        mode: int = 0o600,
        gid: int | None = None,
    ) -> None:
        self._handlers = KmsHandlers(service, telemetry)
        self._path = path
        self._mode = mode
        self._gid = gid
        self._socket: UnixSocket | None = None
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Serve; calls are answered from the moment the path exists.

        Raises:
            SocketRefused: The path can't be had; nothing was changed there.
        """
        self._socket = await asyncio.to_thread(claim, self._path)
        try:
            self._server = await self._bound(self._socket.bind_path)
            await asyncio.to_thread(self._socket.publish, self._mode, self._gid)
        except BaseException:
            await self.stop(0.0)
            raise

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Refuse new calls, let those in flight end, then leave no trace but the lock.

        Args:
            grace_s: Seconds after which calls in flight are cancelled.
        """
        server, self._server = self._server, None
        claimed, self._socket = self._socket, None
        try:
            if server is not None:
                await server.stop(grace_s)
        finally:
            if claimed is not None:
                await asyncio.to_thread(claimed.withdraw)

    async def _bound(self, bind_path: Path) -> grpc.aio.Server:
        server = grpc.aio.server(options=_OPTIONS)
        self._handlers.serve_on(server)
        try:
            # grpcio reads the address as a URI.
            server.add_insecure_port(f"unix:{quote(str(bind_path))}")
        except RuntimeError as error:
            raise SocketRefused(
                f"grpcio can't bind a socket for {self._path}; see its line on stderr"
            ) from error
        await server.start()
        return server
