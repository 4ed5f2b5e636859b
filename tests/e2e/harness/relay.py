"""A port in front of a server, so that a test decides when it can be reached."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading

from tests.e2e.harness.program import free_port


BUFFER_BYTES = 65_536


class Relay:
    """A loopback port that refuses connections until it is opened.

    What it forwards it neither reads nor changes: TLS goes through it end to end.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target = ("127.0.0.1", target_port)
        self._server: socketserver.ThreadingTCPServer | None = None

    def open(self) -> None:
        """Accept connections from now on."""
        self._server = _Server(("127.0.0.1", self.port), self._target)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Refuse connections again; idempotent."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], target: tuple[str, int]) -> None:
        self.target = target
        self._open: list[socket.socket] = []
        super().__init__(address, _Forward)

    def dial(self, near: socket.socket) -> socket.socket:
        far = socket.create_connection(self.target)
        self._open += [near, far]
        return far

    def server_close(self) -> None:
        # Ends the threads that forward, which are then waited for.
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        super().server_close()


class _Forward(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        near: socket.socket = self.request
        with self.server.dial(near) as far:
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(BUFFER_BYTES):
            target.sendall(chunk)
    # Half-closed, as its peer did it: the other direction may go on.
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
