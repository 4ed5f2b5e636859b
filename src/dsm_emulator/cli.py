"""The command line: `emulator serve` and `emulator ctl`.

What each command needs is imported when it runs, so that `--help` and `ctl` do without
the server's packages.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dsm_emulator.cli_ctl import add_ctl, run


_SERVE = """\
Serve a local DSM on the loopback until SIGTERM or SIGINT.

Makes an app with an API key, an admin app, a group and an AES-256 key, and writes
ca.pem, api-key, admin-api-key, control-token and emulator.json into DIR. Prints one
line of JSON once it listens. Without --persist the state lives in memory alone: the
next start makes everything anew."""


def main(argv: Sequence[str]) -> int:
    """Run a command.

    Args:
        argv: The arguments after the command's name.

    Returns:
        The exit status: 0, or 1 with a line on standard error.

    Raises:
        SystemExit: By argparse: 0 after --help, 2 for a wrong usage.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command == "ctl":
        return _ctl(options)
    if (options.plugin_config is None) != (options.socket is None):
        parser.error("--plugin-config and --socket go together")
    if options.lose_sessions and not options.persist:
        parser.error("--lose-sessions needs --persist")
    return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    # See the module for why these are here.
    from dsm_emulator.keeper import StateDamaged  # noqa: PLC0415
    from dsm_emulator.serve import ServeOptions, serve  # noqa: PLC0415
    from dsm_emulator.tls import ClientCertificates  # noqa: PLC0415

    try:
        return serve(
            ServeOptions(
                folder=options.dir,
                port=options.port,
                more_hosts=tuple(options.also),
                tls=not options.no_tls,
                client_certificates=ClientCertificates(options.client_certificates),
                key_name=options.key_name,
                latency_ms=options.latency_ms,
                persists=options.persist,
                loses_sessions=options.lose_sessions,
                plugin_config=options.plugin_config,
                socket=options.socket,
            )
        )
    except (OSError, StateDamaged) as failed:
        return _fail(str(failed))


def _ctl(options: argparse.Namespace) -> int:
    # See the module for why this is here.
    from dsm_emulator.ctl import ControlError, EmulatorProcess  # noqa: PLC0415

    try:
        answer = run(options, EmulatorProcess(options.dir))
    except ControlError as failed:
        return _fail(str(failed))
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"emulator: {message}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="k8s-sdkms-plugin emulator",
        description="A local DSM: real REST, real TLS, real AES-GCM, faults on demand.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_serve(
        commands.add_parser(
            "serve",
            help="serve a DSM on the loopback",
            description=_SERVE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    add_ctl(commands.add_parser("ctl", help="control a running emulator"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, help="a private folder")
    parser.add_argument("--port", type=int, default=0, help="0, a free one, if absent")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="listen there, too, on the same port, e.g. 127.0.0.2; can be repeated",
    )
    parser.add_argument("--no-tls", action="store_true", help="speak plain HTTP")
    parser.add_argument(
        "--client-certificates",
        choices=("none", "optional", "required"),
        default="optional",
        help="whether TLS asks clients for a certificate; optional if absent",
    )
    parser.add_argument(
        "--key-name",
        default="Kubernetes Secret Encryption Key",
        help="the name of the key that is made",
    )
    parser.add_argument(
        "--latency-ms", type=float, help="how much later every answer comes"
    )
    parser.add_argument(
        "--persist",
        action="store_true",
        help="keep the state in DIR, and take it up from there",
    )
    parser.add_argument(
        "--lose-sessions",
        action="store_true",
        help="take up the state without its sessions",
    )
    parser.add_argument(
        "--plugin-config",
        type=Path,
        metavar="FILE",
        help="write a configuration for the Go plugin there",
    )
    parser.add_argument("--socket", help="the socket_file in that configuration")
