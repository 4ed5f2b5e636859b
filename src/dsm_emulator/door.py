"""A door: one address that listens, or is shut, or stands open with nobody there."""

import asyncio
import logging
import socket
from collections.abc import Callable
from enum import Enum


_BACKLOG = 512
# After a failure to accept or to listen: too many open files, a port that was taken.
RETRY_S = 1.0
_LOG = logging.getLogger(__name__)


class DoorState(Enum):
    """What a client meets."""

    OPEN = "connections are accepted"
    UNATTENDED = "connections stand, and nobody accepts them"
    SHUT = "connections are refused"


class Door:
    """One address.

    Attributes:
        host: The address.
        port: Where it listens.
        is_dead: Shut whatever else is wanted.
        accepts: Whether somebody attends it.
    """

    def __init__(
        self, host: str, port: int, accept: Callable[[socket.socket], None]
    ) -> None:
        """Listen; accept nothing yet.

        Args:
            host: The address.
            port: 0 takes a free one.
            accept: Gets each connection.

        Raises:
            OSError: The port is taken.
        """
        self.host = host
        self._listener: socket.socket | None = bind(host, port)
        self.port: int = self._listener.getsockname()[1]
        self.is_dead = False
        self.accepts = False
        self._take = accept
        self._retry: asyncio.TimerHandle | None = None

    def become(self, state: DoorState) -> None:
        """Open, shut, or leave it unattended; called in the loop."""
        self._forget_retry()
        if self.is_dead or state is DoorState.SHUT:
            self.shut()
            return
        if not self._listen():
            self._try_again(state)
        elif state is DoorState.OPEN:
            self._attend()
        else:
            self._leave()

    def shut(self) -> None:
        """Close the listener; the kernel refuses whoever comes."""
        self._forget_retry()
        self._leave()
        self.close_unattended()

    def close_unattended(self) -> None:
        """Close the listener where there is no loop yet."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _listen(self) -> bool:
        if self._listener is None:
            try:
                self._listener = bind(self.host, self.port)
            except OSError as failed:
                _LOG.warning("can't listen on port %d again: %s", self.port, failed)
        return self._listener is not None

    def _attend(self) -> None:
        if self._listener is not None and not self.accepts:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)
            self.accepts = True

    def _leave(self) -> None:
        if self._listener is not None and self.accepts:
            asyncio.get_running_loop().remove_reader(self._listener)
        self.accepts = False

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as failed:
            _LOG.warning("can't accept a connection: %s", failed)
            self._leave()
            self._try_again(DoorState.OPEN)
            return
        connection.settimeout(0)
        self._take(connection)

    def _try_again(self, state: DoorState) -> None:
        loop = asyncio.get_running_loop()
        self._retry = loop.call_later(RETRY_S, self.become, state)

    def _forget_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: The port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer
    # waits 40 ms for a delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A stopped server's connections linger in TIME_WAIT; `start` wants the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.settimeout(0)
    except OSError:
        listener.close()
        raise
    return listener
