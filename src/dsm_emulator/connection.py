"""One connection of a client, once TLS stands.

uvicorn speaks HTTP on it; what ASGI doesn't give away, and faults need, is here.
"""

import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


# The key, in the extensions of the ASGI scope, under which a `Connection` stands.
CONNECTION = "dsm_emulator.connection"
# The number of connections at the door of the control API.
CONTROL_NUMBER = 0
# Lingering for no time makes the kernel send RST instead of FIN.
_NO_LINGER = struct.pack("ii", 1, 0)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, which shows the application its connection.

    Attributes:
        number: The serial number, from 1, in the order of acceptance.
        peer_certificate_der: The client's certificate; None without one.
        peer_address: The client's IP address.
    """

    def __init__(self, *arguments: Any, number: int, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.number = number
        self.peer_certificate_der: bytes | None = None
        self.peer_address: str | None = None
        self._extensions: Any = {CONNECTION: self}
        self._closes_at_once = False

    def connection_made(self, transport: Any) -> None:
        """Note who is there."""
        super().connection_made(transport)
        if self.client is not None:
            self.peer_address = self.client[0]
        secure = transport.get_extra_info("ssl_object")
        if secure is not None:
            self.peer_certificate_der = secure.getpeercert(binary_form=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, by whatever end."""
        super().connection_lost(exc)
        # After a reset uvicorn leaves the timer, which keeps all of this for minutes.
        self._unset_keepalive_if_required()

    def on_message_begin(self) -> None:
        """Begin a request; its scope shows this connection."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_response_complete(self) -> None:
        """End an answer, and the connection if that is wanted."""
        super().on_response_complete()
        if self._closes_at_once:
            self.transport.close()

    def reset(self) -> None:
        """Reset the connection: the client gets an RST."""
        reset_on_close(self.transport.get_extra_info("socket"))
        self.transport.abort()

    def close_when_idle_for(self, idle_s: float) -> None:
        """From the next answer on, close once the client has been silent so long.

        With 0 not even a request that follows at once gets an answer.
        """
        self._closes_at_once = idle_s == 0
        # uvicorn takes a float as well; its annotation is narrower than its use.
        self.timeout_keep_alive = idle_s  # type: ignore[assignment]


def reset_on_close(connection: socket.socket) -> None:
    """Let closing *connection* send RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
