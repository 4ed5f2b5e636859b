"""Listening: a thread with its loop, which accepts connections and stops abruptly.

uvicorn's protocol does the HTTP. Accepting is done here, because what goes wrong before
HTTP begins has to be real: a listener that is closed, a connection that nobody accepts,
a handshake with a bad certificate.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from attrs import frozen
from uvicorn.server import ServerState

from dsm_emulator.asgi import DsmApp
from dsm_emulator.connection import CONTROL_NUMBER, Connection, reset_on_close
from dsm_emulator.door import Door, DoorState
from dsm_emulator.fault_kinds import FaultKind
from dsm_emulator.faults import Faults, Struck
from dsm_emulator.journal import Journal
from dsm_emulator.release import until_released
from dsm_emulator.tls import TlsForm


# Longer than the clients under test keep theirs, so that clients close first.
_KEEP_ALIVE_S = 120
# How long to wait for a client's half of the end of TLS; most servers don't wait.
_TLS_SHUTDOWN_S = 1.0
_TLS_FORMS: dict[FaultKind, TlsForm] = {
    FaultKind(form.value): form for form in TlsForm if form is not TlsForm.GOOD
}
_CONTROL_HOST = "127.0.0.1"
_STATES: dict[FaultKind | None, DoorState] = {
    FaultKind.REFUSE: DoorState.SHUT,
    FaultKind.STALL_ACCEPT: DoorState.UNATTENDED,
}


@frozen
class Site:
    """What a listener serves, and where.

    Attributes:
        app: The application.
        hosts: The addresses.
        port: 0 takes a free one, the same for all.
        control_port: For the control API alone, on the loopback: what goes wrong at
            the others doesn't concern it, or else nobody could end it. 0 takes a free
            one; None is: no such door.
        context: How to present itself in TLS; None speaks plain HTTP.
        numbers: The numbers of the connections to come.
    """

    app: DsmApp
    hosts: tuple[str, ...]
    port: int
    control_port: int | None
    context: Callable[[TlsForm], ssl.SSLContext] | None
    faults: Faults
    journal: Journal
    numbers: Iterator[int]


class Listening:
    """One stretch of listening.

    Attributes:
        port: Where it listens.
        control_port: Where the control API is reached whatever goes wrong, if anywhere.
    """

    def __init__(self, site: Site) -> None:
        """Listen; return once clients can connect.

        Raises:
            OSError: The port is taken.
        """
        self._site = site
        self._doors = _doors(site, self._accept)
        self.port = next(iter(self._doors.values())).port
        self._control_door = self._open_control_door()
        control_door = self._control_door
        self.control_port = None if control_door is None else control_door.port
        self._config = _config(site.app)
        self._state = ServerState()
        self._handshakes: set[asyncio.Task[None]] = set()
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

    def set_dead(self, host: str, *, is_dead: bool) -> None:
        """Shut the door at *host*, or give it back; connections that stand stay.

        Raises:
            KeyError: There is no such door.
        """
        self._doors[host].is_dead = is_dead
        self._look_soon()

    def accepts(self, host: str) -> bool:
        """Return whether somebody attends the door at *host* at this moment."""
        return self._doors[host].accepts

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._quits = asyncio.Event()
        with self._site.faults.watched_by(self._look_soon):
            self._look()
            if self._control_door is not None:
                self._control_door.become(DoorState.OPEN)
            self._listens.set()
            await self._quits.wait()
        if self._next_look is not None:
            self._next_look.cancel()
        for door in self._doors.values():
            door.shut()
        if self._control_door is not None:
            self._control_door.shut()
        await self._end_all()

    # The doors, open or not.

    def _open_control_door(self) -> Door | None:
        port = self._site.control_port
        if port is None:
            return None
        try:
            return Door(_CONTROL_HOST, port, self._accept_control)
        except OSError:
            for door in self._doors.values():
                door.close_unattended()
            raise

    def _look_soon(self) -> None:
        # The loop may have stopped in the meantime.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        """Do what the faults want of the doors, now and when the first one ends."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        if self._quits.is_set():
            return
        wanted, for_s = self._site.faults.of_listener()
        if for_s is not None:
            self._next_look = self._loop.call_later(for_s, self._look)
        state = _STATES.get(wanted, DoorState.OPEN)
        for door in self._doors.values():
            door.become(state)

    # A connection, until HTTP begins.

    def _accept(self, connection: socket.socket) -> None:
        number = next(self._site.numbers)
        self._site.journal.connections["accepted"] += 1
        faults = self._site.faults
        tls = self._site.context is not None
        struck = faults.of_connection(number, tls=tls) if faults else None
        if struck is not None and struck.kind is FaultKind.RESET_ON_ACCEPT:
            reset_on_close(connection)
            connection.close()
            return
        self._begin_soon(connection, number, struck)

    def _accept_control(self, connection: socket.socket) -> None:
        self._begin_soon(connection, CONTROL_NUMBER, None)

    def _begin_soon(
        self, connection: socket.socket, number: int, struck: Struck | None
    ) -> None:
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


def _doors(site: Site, accept: Callable[[socket.socket], None]) -> dict[str, Door]:
    doors: dict[str, Door] = {}
    port = site.port
    try:
        for host in site.hosts:
            doors[host] = Door(host, port, accept)
            port = doors[host].port
    except OSError:
        for door in doors.values():
            door.close_unattended()
        raise
    return doors


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
