"""The command line: `emulator serve` and `emulator ctl`.

What each command needs is imported when it runs, so that `--help` and `ctl` do without
the server's packages.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from dsm_emulator.ctl import EmulatorProcess

_SERVE = """\
Serve a local DSM on the loopback until SIGTERM or SIGINT.

Makes an app with an API key, an admin app, a group and an AES-256 key, and writes
ca.pem, api-key, admin-api-key, control-token and emulator.json into DIR. Prints one
line of JSON once it listens. The state lives in memory alone: the next start makes
everything anew."""

_KEY_ACTIONS = {
    "activate": "make a PreActive key Active",
    "compromise": "mark the key as compromised",
    "deactivate": "deactivate the key",
    "delete": "delete the key",
    "destroy": "destroy the key's material",
    "disable": "disable the key",
    "enable": "enable the key",
    "rekey": "rotate the key",
}
_VIEWS = {
    "counters": "show the counters",
    "faults": "show the armed faults",
    "journal": "show the latest requests",
    "keys": "show all keys",
}


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
    return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    from dsm_emulator.serve import ServeOptions, serve  # noqa: PLC0415 - see the module

    try:
        return serve(
            ServeOptions(
                folder=options.dir,
                port=options.port,
                tls=not options.no_tls,
                key_name=options.key_name,
                latency_ms=options.latency_ms,
                plugin_config=options.plugin_config,
                socket=options.socket,
            )
        )
    except OSError as failed:
        return _fail(str(failed))


def _ctl(options: argparse.Namespace) -> int:
    from dsm_emulator.ctl import (  # noqa: PLC0415 - see the module
        ControlError,
        EmulatorProcess,
    )

    try:
        answer = _command(options, EmulatorProcess(options.dir))
    except ControlError as failed:
        return _fail(str(failed))
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0


def _command(options: argparse.Namespace, emulator: "EmulatorProcess") -> Any:
    from dsm_emulator.ctl import Call  # noqa: PLC0415 - see the module

    command = options.ctl_command
    if command == "reset-secret":
        return emulator.reset_secret(
            admin=options.admin, migration_s=options.migration_seconds
        )
    if command in _KEY_ACTIONS:
        call = Call("POST", "key", _key_action(options, emulator.key_name))
    elif command == "latency":
        call = Call("POST", "latency", {"ms": options.ms})
    elif command == "kill-sessions":
        call = Call("POST", "kill-sessions")
    elif command == "clear-faults":
        call = Call("DELETE", "faults")
    elif command == "fault":
        call = Call("POST", "faults", _fault(options))
    else:
        call = Call("GET", command)
    return emulator.ask(call)


def _key_action(options: argparse.Namespace, key_name: str) -> dict[str, Any]:
    body: dict[str, Any] = {"action": options.ctl_command}
    if options.kid is None:
        body["name"] = options.name or key_name
    else:
        body["kid"] = options.kid
    if options.ctl_command == "rekey":
        body["deactivate_rotated_key"] = options.deactivate
    return body


def _fault(options: argparse.Namespace) -> dict[str, Any]:
    fields = {name: getattr(options, name) for name in ("kind", *_FAULT_OPTIONS)}
    return {name: value for name, value in fields.items() if value is not None}


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
    _add_ctl(commands.add_parser("ctl", help="control a running emulator"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, help="a private folder")
    parser.add_argument("--port", type=int, default=0, help="0, a free one, if absent")
    parser.add_argument("--no-tls", action="store_true", help="speak plain HTTP")
    parser.add_argument("--key-name", default="Kubernetes Secret Encryption Key")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument(
        "--plugin-config",
        type=Path,
        metavar="FILE",
        help="write a configuration for the Go plugin there",
    )
    parser.add_argument("--socket", help="the socket_file in that configuration")


def _add_ctl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, help="serve's folder")
    commands = parser.add_subparsers(
        dest="ctl_command", required=True, metavar="COMMAND"
    )
    for name, help_text in _VIEWS.items():
        commands.add_parser(name, help=help_text)
    for name, help_text in _KEY_ACTIONS.items():
        action = commands.add_parser(name, help=help_text)
        which = action.add_mutually_exclusive_group()
        which.add_argument("--kid", help="the key's id")
        which.add_argument("--name", help="the key's name; serve's key if absent")
        if name == "rekey":
            action.add_argument("--deactivate", action="store_true")
    commands.add_parser("kill-sessions", help="end all sessions")
    commands.add_parser("clear-faults", help="disarm all faults")
    latency = commands.add_parser("latency", help="let every answer come later")
    latency.add_argument("ms", type=float)
    reset = commands.add_parser(
        "reset-secret", help="make a new API key and put it into its file"
    )
    reset.add_argument("--admin", action="store_true", help="that of the admin app")
    reset.add_argument(
        "--migration-seconds",
        type=float,
        help="how long the old key stays good; not at all if absent",
    )
    fault = commands.add_parser(
        "fault", help="arm a fault; see dsm_emulator.faults for the kinds"
    )
    fault.add_argument("kind")
    for name, read in _FAULT_OPTIONS.items():
        fault.add_argument(f"--{name.replace('_', '-')}", type=read)


_FAULT_OPTIONS: dict[str, Any] = {
    "path": str,
    "app": str,
    "count": int,
    "ms": float,
    "status": int,
    "retry_after": str,
    "body": str,
    "text": str,
    "location": str,
    "field": str,
    "value": json.loads,
    "size": int,
}
