"""The emulator as a process: seed, listen, say so, wait for a signal."""

import json
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from dsm_emulator.dsm import DemoKey, Dsm
from dsm_emulator.folder import (
    ADMIN_API_KEY,
    API_KEY,
    CONTROL_TOKEN,
    DESCRIPTION,
    make_private_folder,
    write_private,
)
from dsm_emulator.server import EmulatorServer


_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@frozen
class ServeOptions:
    """What the command line says.

    Attributes:
        folder: Where the files go.
        port: 0 takes a free one.
        tls: Whether to speak HTTPS.
        key_name: The name of the seeded key.
        latency_ms: How much later every answer comes.
        plugin_config: Where to write a configuration for the Go plugin, if at all.
        socket: The `socket_file` in it.
    """

    folder: Path
    port: int
    tls: bool
    key_name: str
    latency_ms: float
    plugin_config: Path | None
    socket: str | None


def serve(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The exit status, 0.

    Raises:
        OSError: The folder or the port can't be had.
    """
    make_private_folder(options.folder)
    demo = Dsm.with_demo_key(options.key_name)
    demo.dsm.latency_ms = options.latency_ms
    token = secrets.token_urlsafe(32)
    server = EmulatorServer(
        demo.dsm,
        port=options.port,
        tls=options.tls,
        folder=options.folder,
        control_token=token,
    )
    with _stop_signals_waiting(), server:
        write_private(options.folder / API_KEY, demo.api_key)
        write_private(options.folder / ADMIN_API_KEY, demo.admin_api_key)
        write_private(options.folder / CONTROL_TOKEN, token)
        if options.plugin_config is not None:
            write_private(
                options.plugin_config, _plugin_config(server.url, demo, options)
            )
        description = json.dumps(_description(server, demo, tls=options.tls))
        write_private(options.folder / DESCRIPTION, description)
        sys.stdout.write(description + "\n")
        sys.stdout.flush()
        signal.sigwait(_STOP_SIGNALS)
    (options.folder / DESCRIPTION).unlink(missing_ok=True)
    return 0


@contextmanager
def _stop_signals_waiting() -> Iterator[None]:
    """Hold the signals back for `sigwait`, before there are threads to get them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _description(
    server: EmulatorServer, demo: DemoKey, *, tls: bool
) -> dict[str, str | int | None]:
    return {
        "url": server.url,
        "ca_file": str(server.ca_file.absolute()) if tls else None,
        "key_name": demo.key.name,
        "kid": demo.key.kid,
        "app_id": demo.app.app_id,
        "admin_app_id": demo.admin.app_id,
        "group_id": demo.group.group_id,
        "pid": os.getpid(),
    }


def _plugin_config(url: str, demo: DemoKey, options: ServeOptions) -> str:
    """Return a configuration in the form of the Go plugin (section 8.1)."""
    return json.dumps(
        {
            "sdkms_endpoint": url,
            "api_key": demo.api_key,
            "key_name": demo.key.name,
            "socket_file": options.socket,
        },
        indent=2,
    )
