"""The server: a model over HTTPS from a thread of this process.

uvicorn does the HTTP; this module takes its place at three points: the listening socket
is made by the caller's thread (so that a taken port raises there), nothing is polled,
and stopping is abrupt, as an outage is.
"""

import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dsm_emulator.asgi import TRANSPORT, DsmApp
from dsm_emulator.dsm import Dsm


CA_FILE_NAME = "ca.pem"
# Longer than the clients under test keep theirs, so that clients close first.
_KEEP_ALIVE_S = 120
_BACKLOG = 512
_HOSTS = ("localhost", "127.0.0.1", "::1")


class EmulatorServer:
    """A `Dsm` that listens; a context manager.

    `stop` closes the listener and resets every connection; `start` again listens on the
    same port, with the model, the CA and thus `url` and `ca_file` as they were.

    Attributes:
        dsm: The model; see `dsm_emulator.dsm` for using it from another thread.
    """

    def __init__(  # noqa: PLR0913 - what a listener is made of
        self,
        dsm: Dsm,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: bool = True,
        folder: Path | None = None,
        control_token: str | None = None,
    ) -> None:
        """Prepare a server; `start`, or entering it, makes it listen.

        Args:
            dsm: The model to serve.
            host: The address to listen on.
            port: 0 takes a free one, and keeps it.
            tls: Whether to speak HTTPS, under an own CA.
            folder: Where to put `ca.pem`; a temporary folder, removed by `close`, when
                absent.
            control_token: Opens the control API; without one there is none.
        """
        self.dsm = dsm
        self._app = DsmApp(dsm, control_token)
        self._host = host
        self._port = port
        self._folder = folder
        self._context: ssl.SSLContext | None = None
        self._authority = trustme.CA(organization_name="DSM emulator") if tls else None
        self._listening: _Listening | None = None
        self._cleanups = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL without a slash at its end; known from the first `start` on."""
        scheme = "http" if self._authority is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}"

    @property
    def port(self) -> int:
        """The port; known from the first `start` on."""
        return self._port

    @property
    def ca_file(self) -> Path:
        """The CA's certificate as PEM; there from the first `start` until `close`.

        Raises:
            ValueError: This server speaks plain HTTP, or has not been started.
        """
        if self._context is None or self._folder is None:
            raise ValueError("there is a CA file with TLS only, once started")
        return self._folder / CA_FILE_NAME

    def start(self) -> None:
        """Listen, in a thread of its own; return once clients can connect.

        Raises:
            OSError: The port is taken.
        """
        if self._listening is not None:
            return
        if self._authority is not None and self._context is None:
            self._context = self._set_up_tls(self._authority)
        listener = _bind(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._listening = _Listening(self._app, listener, self._context)

    def stop(self) -> None:
        """Close the listener and reset all connections; the model stays as it is."""
        if self._listening is not None:
            self._listening.stop()
            self._listening = None

    def close(self) -> None:
        """Stop, and remove the temporary folder if there is one."""
        self.stop()
        self._cleanups.close()

    def _set_up_tls(self, authority: trustme.CA) -> ssl.SSLContext:
        if self._folder is None:
            made = tempfile.TemporaryDirectory(prefix="dsm-emulator-")
            self._folder = Path(self._cleanups.enter_context(made))
            self._cleanups.callback(self._forget_folder)
        authority.cert_pem.write_to_path(self._folder / CA_FILE_NAME)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        # The private key doesn't come to lie in a folder of ours.
        authority.issue_cert(*dict.fromkeys((*_HOSTS, self._host))).configure_cert(
            context
        )
        return context

    def _forget_folder(self) -> None:
        self._folder = None
        self._context = None


class _Listening:
    """One stretch of listening: a thread with its loop."""

    def __init__(
        self, app: DsmApp, listener: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            # Our own log has what matters; uvicorn calls every injected fault an error.
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            backlog=_BACKLOG,
        )
        config.load()
        config.ssl = context
        self._server = _Server(config)
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="dsm-emulator")
        # A test that fails before `stop` must not keep its process alive.
        self._thread.daemon = True
        self._thread.start()
        self._server.listens.wait()

    def stop(self) -> None:
        self._server.quit()
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._listener]))


class _Server(uvicorn.Server):
    """uvicorn's server with neither ticks nor grace."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()
        self._quits = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop

    def quit(self) -> None:
        """End `serve`, once it `listens`; from any thread."""
        self._loop.call_soon_threadsafe(self._quits.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.listens.set()

    async def main_loop(self) -> None:
        await self._quits.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        # What runs is cancelled only when its connection is lost, a few turns of the
        # loop after the abort, so that it finds nobody to answer to. Among the tasks
        # are the TLS handshakes, which may still turn into connections.
        connections = self.server_state.connections
        others = asyncio.all_tasks() - {asyncio.current_task()}
        while connections or others:
            for connection in list(connections):
                connection.transport.abort()
            if not connections:
                for task in others:
                    task.cancel()
            await asyncio.sleep(0)
            others = asyncio.all_tasks() - {asyncio.current_task()}


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which shows the application its transport."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer
    # waits 40 ms for a delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A stopped server's connections linger in TIME_WAIT; `start` wants the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
