"""The emulator as a process: seed or take up, listen, say so, wait for a signal."""

import json
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme
from attrs import frozen

from dsm_emulator.account import App
from dsm_emulator.dsm import Dsm
from dsm_emulator.folder import (
    ADMIN_API_KEY,
    API_KEY,
    CONTROL_TOKEN,
    DESCRIPTION,
    make_private_folder,
    write_private,
)
from dsm_emulator.keeper import STATE, Keeper, Seeded, StateDamaged, take_up
from dsm_emulator.server import CA_FILE_NAME, EmulatorServer
from dsm_emulator.tls import ClientCertificates, new_authority


CA_KEY = "ca-key.pem"
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@frozen
class ServeOptions:
    """What the command line says.

    Attributes:
        folder: Where the files go.
        port: 0 takes a free one.
        more_hosts: Addresses to listen on, besides 127.0.0.1.
        tls: Whether to speak HTTPS.
        client_certificates: Whether the handshake asks for one.
        key_name: The name of the seeded key.
        latency_ms: How much later every answer comes; None leaves it as it was.
        persists: Whether the state is kept in the folder, and taken up from there.
        loses_sessions: Whether the sessions of a state that is taken up end.
        plugin_config: Where to write a configuration for the Go plugin, if at all.
        socket: The `socket_file` in it.
    """

    folder: Path
    port: int
    more_hosts: tuple[str, ...]
    tls: bool
    client_certificates: ClientCertificates
    key_name: str
    latency_ms: float | None
    persists: bool
    loses_sessions: bool
    plugin_config: Path | None
    socket: str | None


def serve(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The exit status, 0.

    Raises:
        OSError: The folder or the port can't be had.
        StateDamaged: The folder has a state that can't be taken up.
    """
    make_private_folder(options.folder)
    dsm, seeded, keeper = _model(options)
    if options.latency_ms is not None:
        dsm.latency_ms = options.latency_ms
    token = secrets.token_urlsafe(32)
    server = EmulatorServer(
        dsm,
        port=options.port,
        tls=options.tls,
        folder=options.folder,
        control_token=token,
        client_certificates=options.client_certificates,
        authority=_authority(options),
        more_hosts=options.more_hosts,
        keeper=keeper,
    )
    with _stop_signals_waiting(), server:
        if keeper is not None:
            keeper.save()
        app = dsm.logins.apps[seeded.app_id]
        admin = dsm.logins.apps[seeded.admin_app_id]
        write_private(options.folder / API_KEY, app.api_key)
        write_private(options.folder / ADMIN_API_KEY, admin.api_key)
        write_private(options.folder / CONTROL_TOKEN, token)
        if options.plugin_config is not None:
            config = _plugin_config(server.url, app, seeded, options)
            write_private(options.plugin_config, config)
        description = json.dumps(_description(server, seeded, options))
        write_private(options.folder / DESCRIPTION, description)
        sys.stdout.write(description + "\n")
        sys.stdout.flush()
        signal.sigwait(_STOP_SIGNALS)
    if keeper is not None:
        keeper.save()
    (options.folder / DESCRIPTION).unlink(missing_ok=True)
    return 0


def _model(options: ServeOptions) -> tuple[Dsm, Seeded, Keeper | None]:
    path = options.folder / STATE
    if options.persists:
        dsm = Dsm()
        seeded = take_up(path, dsm, sessions=not options.loses_sessions)
        if seeded is not None:
            return dsm, seeded, Keeper(dsm, path, seeded)
    demo = Dsm.with_demo_key(options.key_name)
    seeded = Seeded(
        demo.app.app_id, demo.admin.app_id, demo.group.group_id, demo.key.name
    )
    keeper = Keeper(demo.dsm, path, seeded) if options.persists else None
    return demo.dsm, seeded, keeper


def _authority(options: ServeOptions) -> trustme.CA | None:
    """Return the CA of the folder, so that clients go on trusting the server."""
    if not (options.tls and options.persists):
        return None
    certificate, key = options.folder / CA_FILE_NAME, options.folder / CA_KEY
    if key.exists():
        try:
            return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
        except (OSError, ValueError):
            raise StateDamaged(f"{key} and {certificate} are no CA") from None
    authority = new_authority()
    write_private(key, authority.private_key_pem.bytes().decode(), durable=True)
    return authority


@contextmanager
def _stop_signals_waiting() -> Iterator[None]:
    """Hold the signals back for `sigwait`, before there are threads to get them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _description(
    server: EmulatorServer, seeded: Seeded, options: ServeOptions
) -> dict[str, str | int | None]:
    keys = [key for key in server.dsm.keys if key.name == seeded.key_name]
    return {
        "url": server.url,
        "control_url": server.control_url,
        "ca_file": str(server.ca_file.absolute()) if options.tls else None,
        "key_name": seeded.key_name,
        "kid": keys[0].kid if keys else None,
        "app_id": seeded.app_id,
        "admin_app_id": seeded.admin_app_id,
        "group_id": seeded.group_id,
        "pid": os.getpid(),
    }


def _plugin_config(url: str, app: App, seeded: Seeded, options: ServeOptions) -> str:
    """Return a configuration in the form of the Go plugin (section 8.1)."""
    return json.dumps(
        {
            "sdkms_endpoint": url,
            "api_key": app.api_key,
            "key_name": seeded.key_name,
            "socket_file": options.socket,
        },
        indent=2,
    )
