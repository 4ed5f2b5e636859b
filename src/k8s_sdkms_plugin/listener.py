"""The HTTP listener on loopback: ``/livez``, ``/readyz`` and ``/metrics``.

Optional, and not needed to serve: what befalls it ends nothing else. Unlike the socket
it has no permissions, so that every process of the host can open it; hence

- it shows nothing that is secret, and takes no orders;
- it keeps few connections: a newcomer costs the oldest its place, so that nobody can
  use up the daemon's descriptors, nor keep a prober out.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final

from aiohttp import web

from k8s_sdkms_plugin.config.model import LogLevel
from k8s_sdkms_plugin.metrics import CONTENT_TYPE
from k8s_sdkms_plugin.version import NAME
from kms_core.errors import KmsError
from kms_core.events import Unexpected, describe_exception


if TYPE_CHECKING:
    from k8s_sdkms_plugin.config.model import ListenAddress
    from k8s_sdkms_plugin.event_counts import EventCounts
    from k8s_sdkms_plugin.logs import LogWriter
    from k8s_sdkms_plugin.metrics import Metrics
    from kms_core.ports import Clock, Telemetry
    from kms_core.service import KmsService


RETRY_S: Final = 30.0
"""Between tries to listen on a port that is taken, in seconds."""

MAX_CONNECTIONS: Final = 16
BACKLOG: Final = 16
KEEPALIVE_S: Final = 75.0
"""For how long an idle connection is kept: longer than a usual scrape interval."""

CLOSE_S: Final = 0.5
"""How long the end may wait for an answer under way, in seconds."""

_TEXT: Final = "text/plain; charset=utf-8"
_OK: Final = 200
_NOT_FOUND: Final = 404
_METHOD_NOT_ALLOWED: Final = 405
_DEFECT: Final = 500
_UNAVAILABLE: Final = 503


class Listener:
    """Answers probes and scrapes.

    Args:
        address: Where to listen.
        service: Answers Status, which is what ``/readyz`` says.
        counts: The events behind the metrics.
        metrics: What ``/metrics`` shows.
        clock: Times the tries.
        writer: Gets a line when it listens, and one when it can't.
        telemetry: Gets an Unexpected for each defect.

    Attributes:
        counts: The events behind the metrics, to be told of every event.
        listening: Set once it listens.
        port: The port it listens on; differs from the address' if that was 0.
    """

    def __init__(  # noqa: PLR0913 - its ports, by name
        self,
        address: ListenAddress,
        *,
        service: KmsService,
        counts: EventCounts,
        metrics: Metrics,
        clock: Clock,
        writer: LogWriter,
        telemetry: Telemetry,
    ) -> None:
        self._address = address
        self._service = service
        self._metrics = metrics
        self._clock = clock
        self._writer = writer
        self._telemetry = telemetry
        self.counts = counts
        self.listening = asyncio.Event()
        self.port = address.port

    async def run(self) -> None:
        """Listen until cancelled; a port that is taken is tried again."""
        try:
            await self._serve()
        except Exception as error:  # noqa: BLE001 - it must not end in silence
            self._note(error)

    async def _serve(self) -> None:
        http = web.Server(
            self._answer,
            access_log=None,
            logger=_silent_logger(),
            keepalive_timeout=KEEPALIVE_S,
        )
        listening = await self._listen(http)
        try:
            self.port = listening.sockets[0].getsockname()[1]
            self._writer.log(LogLevel.INFO, "listening", address=str(self._address))
            self.listening.set()
            await asyncio.get_running_loop().create_future()
        finally:
            # Not serve_forever: its end waits for clients that stay connected.
            listening.close()
            http.pre_shutdown()
            await http.shutdown(CLOSE_S)

    async def _listen(self, http: web.Server) -> asyncio.Server:
        said = ""
        while True:
            try:
                return await asyncio.get_running_loop().create_server(
                    lambda: _admitted(http),
                    self._address.host,
                    self._address.port,
                    backlog=BACKLOG,
                )
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else type(error).__name__
            if why != said:
                said = why
                self._writer.log(
                    LogLevel.WARNING,
                    "not listening",
                    address=str(self._address),
                    cause=why,
                    remedy="free the port, or name another in listen; the socket "
                    "is served all the same",
                    next_try_s=RETRY_S,
                )
            await self._clock.sleep(RETRY_S)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return self._page(request)
        except Exception as error:  # noqa: BLE001 - aiohttp would answer in its words
            self._note(error)
            return _response(_DEFECT, "the listener failed; see the daemon's log")

    def _note(self, error: Exception) -> None:
        what = describe_exception(error)
        self._telemetry.emit(Unexpected(where="listener", what=what))

    def _page(self, request: web.BaseRequest) -> web.Response:
        pages = {
            "/livez": _alive,
            "/readyz": self._ready,
            "/metrics": self._measured,
        }
        page = pages.get(request.path)
        if page is None:
            return _response(_NOT_FOUND, f"there are {', '.join(pages)}")
        if request.method not in ("GET", "HEAD"):
            refusal = _response(_METHOD_NOT_ALLOWED, "GET or HEAD")
            refusal.headers["Allow"] = "GET, HEAD"
            return refusal
        return page()

    def _ready(self) -> web.Response:
        try:
            self._service.status()
        except KmsError as error:
            return _response(_UNAVAILABLE, error.text())
        return _response(_OK, "ok")

    def _measured(self) -> web.Response:
        body = self._metrics.render()
        return web.Response(body=body, headers=_headers(CONTENT_TYPE))


def _admitted(http: web.Server) -> web.RequestHandler:
    """Return the protocol of a new connection, the oldest giving way if need be."""
    kept = [c for c in http.connections if c.transport is not None]
    if len(kept) >= MAX_CONNECTIONS:
        kept[0].force_close()
    return http()


def _silent_logger() -> logging.Logger:
    """Return a logger outside of the tree: our stderr has log lines of one form."""
    logger = logging.Logger("listener")  # noqa: LOG001 - the tree's root would print
    logger.addHandler(logging.NullHandler())
    return logger


def _alive() -> web.Response:
    # Never because of DSM: a restart heals no outage, and loses what is in memory.
    return _response(_OK, "ok")


def _response(status: int, text: str) -> web.Response:
    return web.Response(body=text.encode(), status=status, headers=_headers(_TEXT))


def _headers(content_type: str) -> dict[str, str]:
    return {
        "Content-Type": content_type,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Server": NAME,
    }
