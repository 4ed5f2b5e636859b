"""Listening: a thread with its loop, which accepts connections and stops abruptly.

uvicorn's protocol does the HTTP. Accepting is done here, because what goes wrong before
HTTP begins has to be real: a listener that is closed, a connection that nobody accepts,
a handshake with a bad certificate.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from attrs import frozen
from uvicorn.server import ServerState

from dsm_emulator.asgi import DsmApp
from dsm_emulator.connection import Connection, reset_on_close
from dsm_emulator.fault_kinds import FaultKind
from dsm_emulator.faults import Faults, Struck
from dsm_emulator.journal import Journal
from dsm_emulator.release import until_released
from dsm_emulator.tls import TlsForm


# Longer than the clients under test keep theirs, so that clients close first.
_KEEP_ALIVE_S = 120
_BACKLOG = 512
# After a failure to accept or to listen: too many open files, a port that was taken.
_RETRY_S = 1.0
# How long to wait for a client's half of the end of TLS; most servers don't wait.
_TLS_SHUTDOWN_S = 1.0
_TLS_FORMS: dict[FaultKind, TlsForm] = {
    FaultKind(form.value): form for form in TlsForm if form is not TlsForm.GOOD
}
_LOG = logging.getLogger(__name__)


@frozen
class Site:
    """What a listener serves, and where.

    Attributes:
        app: The application.
        host: The address.
        port: 0 takes a free one.
        context: How to present itself in TLS; None speaks plain HTTP.
        numbers: The numbers of the connections to come.
    """

    app: DsmApp
    host: str
    port: int
    context: Callable[[TlsForm], ssl.SSLContext] | None
    faults: Faults
    journal: Journal
    numbers: Iterator[int]


class Listening:
    """One stretch of listening.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, site: Site) -> None:
        """Listen; return once clients can connect.

        Raises:
            OSError: The port is taken.
        """
        self._site = site
        self._listener: socket.socket | None = bind(site.host, site.port)
        self.port: int = self._listener.getsockname()[1]
        self._config = _config(site.app)
        self._state = ServerState()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepts = False
        self._next_look: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._quits: asyncio.Event
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dsm-emulator")
        # A test that fails before `stop` must not keep its process alive.
        self._thread.daemon = True
        self._thread.start()
        self._listens.wait()

    def stop(self) -> None:
        """Close the listener and reset every connection; from another thread."""
        self._loop.call_soon_threadsafe(self._quits.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._quits = asyncio.Event()
        with self._site.faults.watched_by(self._look_soon):
            self._look()
            self._listens.set()
            await self._quits.wait()
        if self._next_look is not None:
            self._next_look.cancel()
        self._close_listener()
        await self._end_all()

    # The listener, open or not.

    def _look_soon(self) -> None:
        # The loop may have stopped in the meantime.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        """Do what the faults want of the listener, now and when the first one ends."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        if self._quits.is_set():
            return
        wanted, for_s = self._site.faults.of_listener()
        if for_s is not None:
            self._next_look = self._loop.call_later(for_s, self._look)
        if wanted is FaultKind.REFUSE:
            self._close_listener()
        elif wanted is FaultKind.STALL_ACCEPT:
            self._open_listener()
            self._pause()
        else:
            self._open_listener()
            self._accept_from_now_on()

    def _look_again_later(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        self._next_look = self._loop.call_later(_RETRY_S, self._look)

    def _open_listener(self) -> None:
        if self._listener is not None:
            return
        try:
            self._listener = bind(self._site.host, self.port)
        except OSError as failed:
            _LOG.warning("can't listen on port %d again: %s", self.port, failed)
            self._look_again_later()

    def _close_listener(self) -> None:
        self._pause()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _accept_from_now_on(self) -> None:
        if self._listener is not None and not self._accepts:
            self._loop.add_reader(self._listener, self._accept, self._listener)
            self._accepts = True

    def _pause(self) -> None:
        if self._listener is not None and self._accepts:
            self._loop.remove_reader(self._listener)
        self._accepts = False

    # A connection, until HTTP begins.

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as failed:
            _LOG.warning("can't accept a connection: %s", failed)
            self._pause()
            self._look_again_later()
            return
        connection.settimeout(0)
        number = next(self._site.numbers)
        self._site.journal.connections["accepted"] += 1
        faults = self._site.faults
        tls = self._site.context is not None
        struck = faults.of_connection(number, tls=tls) if faults else None
        if struck is not None and struck.kind is FaultKind.RESET_ON_ACCEPT:
            reset_on_close(connection)
            connection.close()
            return
        task = self._loop.create_task(self._begin(connection, number, struck))
        self._handshakes.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._handshakes.discard(task)
            # Its transport would close it, but a task that is cancelled before its
            # first step has made none.
            if task.cancelled() or task.exception() is not None:
                connection.close()

        task.add_done_callback(ended)

    async def _begin(
        self, connection: socket.socket, number: int, struck: Struck | None
    ) -> None:
        form = TlsForm.GOOD
        if struck is not None and struck.kind is FaultKind.STALL_HANDSHAKE:
            with self._site.faults.hanging():
                await until_released(struck.released)
        elif struck is not None:
            form = _TLS_FORMS[struck.kind]
        more: dict[str, Any] = {}
        if self._site.context is not None:
            context = self._site.context(form)
            more = {"ssl": context, "ssl_shutdown_timeout": _TLS_SHUTDOWN_S}
        try:
            await self._loop.connect_accepted_socket(
                lambda: Connection(self._config, self._state, {}, number=number),
                connection,
                **more,
            )
        except OSError:
            self._site.journal.connections["handshakes_failed"] += 1
            connection.close()

    async def _end_all(self) -> None:
        # What runs is cancelled only when its connection is lost, a few turns of the
        # loop after the abort, so that it finds nobody to answer to. Among the tasks
        # are the TLS handshakes, which may still turn into connections.
        connections = self._state.connections
        others = asyncio.all_tasks() - {asyncio.current_task()}
        while connections or others:
            for connection in list(connections):
                connection.transport.abort()
            if not connections:
                for task in others:
                    task.cancel()
            await asyncio.sleep(0)
            others = asyncio.all_tasks() - {asyncio.current_task()}


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


def _config(app: DsmApp) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        # Our own log has what matters; uvicorn calls every injected fault an error.
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    config.load()
    return config
