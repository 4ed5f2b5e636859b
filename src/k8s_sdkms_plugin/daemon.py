"""The daemon's life: bind first, reach DSM second, drain, leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
from typing import TYPE_CHECKING, Final

from adapters_grpc.unix_socket import SocketRefused
from k8s_sdkms_plugin.config.model import LogLevel
from k8s_sdkms_plugin.logs import LogTelemetry, LogWriter
from k8s_sdkms_plugin.sd_notify import Notifier
from k8s_sdkms_plugin.version import NAME, version
from k8s_sdkms_plugin.wiring import Parts, assemble, listener_for
from kms_core.events import StandingReported
from kms_core.ports import Event, Telemetry


if TYPE_CHECKING:
    from collections.abc import Iterator

    from k8s_sdkms_plugin.config.loading import LoadedConfig
    from k8s_sdkms_plugin.config.model import PluginConfig
    from k8s_sdkms_plugin.listener import Listener


EXIT_OK: Final = 0
EXIT_SOCKET: Final = 1

DRAIN_S: Final = 3.0
"""For calls in flight at the end: kube-apiserver gives up after as many seconds."""

LEAVE_S: Final = 4.0
"""For the drain and the logout together; a DSM that hangs must not delay the end."""


EXIT_S: Final = 0.7
"""For the interpreter to end by itself after all else has; 5 s in all."""


def run(loaded: LoadedConfig, config: PluginConfig) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    writer = LogWriter(config.log_format, config.log_level)
    try:
        for finding in loaded.findings:
            writer.log(
                LogLevel.WARNING,
                "config",
                field=finding.field,
                what=finding.what,
                remedy=finding.remedy,
            )
        return asyncio.run(_serve(loaded, config, writer))
    finally:
        writer.close()


async def _serve(loaded: LoadedConfig, config: PluginConfig, writer: LogWriter) -> int:
    notifier = Notifier(os.environ)
    telemetry = DaemonTelemetry(LogTelemetry(writer), notifier)
    stop = asyncio.Event()
    try:
        parts = assemble(loaded, config, telemetry, os.environ)
        listener: Listener | None = None
        if config.listen_address is not None:
            listener = listener_for(config.listen_address, parts, telemetry, writer)
            telemetry.also(listener.counts)
        # Before anybody can see the socket, and send a signal to whoever made it.
        with _signals(stop, parts):
            await parts.server.start()
            _announce(config, writer, notifier)
            await _work(parts, listener, notifier, stop, writer)
    except SocketRefused as refusal:
        writer.log(LogLevel.ERROR, "not started", cause=refusal.text)
        return EXIT_SOCKET
    writer.log(LogLevel.INFO, "stopped")
    _end_for_sure(writer)
    return EXIT_OK


def _end_for_sure(writer: LogWriter) -> None:
    """End the process soon, whatever a thread of it still waits for.

    The interpreter waits for every thread of asyncio's executor, and a look-up of a
    host name can hang there for minutes. Nothing is left to do by now.
    """

    def end() -> None:
        writer.close()
        os._exit(EXIT_OK)

    guard = threading.Timer(EXIT_S, end)
    guard.daemon = True
    guard.start()


def _announce(config: PluginConfig, writer: LogWriter, notifier: Notifier) -> None:
    writer.log(
        LogLevel.INFO,
        "serving",
        version=f"{NAME} {version()}",
        socket=config.socket_file,
        endpoint=config.sdkms_endpoint,
        write_format=config.write_format.value,
        api_version=config.effective_api_version.value,
        pid=os.getpid(),
    )
    notifier.ready()


async def _work(
    parts: Parts,
    listener: Listener | None,
    notifier: Notifier,
    stop: asyncio.Event,
    writer: LogWriter,
) -> None:
    # What was made until here stays: the collector need not look at it again.
    gc.freeze()
    tasks = [asyncio.create_task(parts.watcher.run(), name="watcher")]
    if notifier.watchdog_s is not None:
        beat = _beat(notifier, notifier.watchdog_s)
        tasks.append(asyncio.create_task(beat, name="watchdog"))
    if listener is not None:
        tasks.append(asyncio.create_task(listener.run(), name="listener"))
    leaves_at: float | None = None
    try:
        await stop.wait()
        leaves_at = asyncio.get_running_loop().time() + LEAVE_S
        writer.log(LogLevel.INFO, "stopping")
        notifier.stopping()
        await parts.server.stop(DRAIN_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(leaves_at):
                await parts.envelope.aclose()
        await parts.provider.aclose()


class DaemonTelemetry(Telemetry):
    """Sends events to the log, and the standing to systemd as well."""

    def __init__(self, log: Telemetry, notifier: Notifier) -> None:
        self._receivers = [log]
        self._notifier = notifier

    def also(self, receiver: Telemetry) -> None:
        """Send events to *receiver* too, from now on."""
        self._receivers.append(receiver)

    def emit(self, event: Event) -> None:
        """Pass *event* on."""
        for receiver in self._receivers:
            receiver.emit(event)
        if isinstance(event, StandingReported):
            about = event.code or event.key_id
            self._notifier.status(f"{event.state} {about}".rstrip())


@contextlib.contextmanager
def _signals(stop: asyncio.Event, parts: Parts) -> Iterator[None]:
    """Stop on SIGTERM and SIGINT; look at once on SIGHUP."""
    loop = asyncio.get_running_loop()

    def look() -> None:
        parts.provider.retry_credential_now()
        parts.watcher.look_soon()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGHUP, look)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _beat(notifier: Notifier, watchdog_s: float) -> None:
    """Give systemd signs of life from the event loop: one that hangs gives none."""
    while True:
        notifier.alive()
        await asyncio.sleep(watchdog_s / 3)
