"""The command line. Each command's modules are imported when it runs.

Exit codes: 0 done; 1 it failed; 2 the configuration or the command line is wrong, and
nothing was started; 3 something that must be installed is missing.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from k8s_sdkms_plugin.config import DEFAULT_PATH
from k8s_sdkms_plugin.version import NAME


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


EXIT_USAGE: Final = 2
EXIT_MISSING: Final = 3

MAX_TIMEOUT_S: Final = 3600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Paths and names are printed that the terminal's encoding may not have.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = _go_plugin_words(list(sys.argv[1:] if argv is None else argv))
    if words[:1] == ["emulator"]:
        return _emulator(words[1:])
    if words[:1] == ["conformance"]:
        return _conformance(words[1:])
    if words[:1] == ["render"]:
        return _render(words[1:])
    if words[:1] == ["verify"]:
        return _verify(words[1:])
    arguments = _parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _go_plugin_words(words: list[str]) -> list[str]:
    """Return *words* with the Go plugin's spellings made ours.

    It had no subcommands: ``k8s-sdkms-plugin -config F`` serves, and so does
    ``k8s-sdkms-plugin`` alone. Go's flags take one hyphen or two.
    """
    spelt = [
        f"-{word}" if word == "-config" or word.startswith("-config=") else word
        for word in words
    ]
    if not spelt or spelt[0].startswith("--config"):
        return ["serve", *spelt]
    return spelt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=NAME,
        description="A Kubernetes KMS v2 plugin for Fortanix DSM.",
        epilog=(
            "Without a command it serves, as the Go plugin does: -config F is enough. "
            "Exit codes: 0 done, 1 failed, 2 wrong configuration or command line, "
            "3 something must be installed."
        ),
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the daemon", allow_abbrev=False)
    _add_config(serve)
    serve.set_defaults(command=_serve)

    check = commands.add_parser(
        "check",
        help="validate the configuration, reach DSM, seal and open a seed",
        allow_abbrev=False,
    )
    _add_config(check)
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_argument(
        "--legacy-config",
        type=Path,
        metavar="F",
        help="a former config of the Go plugin: does what was stored under it open?",
    )
    check.set_defaults(command=_check)

    call = commands.add_parser(
        "call", help="ask a KMS v2 socket, ours or another", allow_abbrev=False
    )
    call.add_argument("method", choices=("status", "encrypt", "decrypt"))
    call.add_argument("--socket", required=True, help="path of the socket")
    call.add_argument(
        "--timeout-s", type=_timeout_s, default=3.0, help="deadline in seconds (3)"
    )
    call.add_argument(
        "--random",
        action="store_true",
        help="encrypt: seal 32 random bytes instead of standard input",
    )
    call.add_argument(
        "--reveal",
        action="store_true",
        help="decrypt: print the plaintext in base64, not only its digest",
    )
    call.set_defaults(command=_call)

    status = commands.add_parser(
        "status", help="say how a running daemon stands", allow_abbrev=False
    )
    whom = status.add_mutually_exclusive_group()
    _add_config_file(whom)
    whom.add_argument("--socket", help="path of its socket, instead of a config")
    status.add_argument("--listen", help="its HTTP listener, such as 127.0.0.1:9472")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.add_argument(
        "--alive",
        action="store_true",
        help="ask only whether it answers at all, whatever it says of DSM: for probes",
    )
    status.add_argument(
        "--timeout-s", type=_timeout_s, default=3.0, help="deadline in seconds (3)"
    )
    status.set_defaults(command=_status)

    demo = commands.add_parser(
        "demo",
        help="the daemon in front of an embedded DSM emulator",
        allow_abbrev=False,
    )
    demo.add_argument(
        "--once", action="store_true", help="stop after the show instead of serving"
    )
    demo.add_argument(
        "--dir", type=Path, help="folder for its files (a new temporary one)"
    )
    demo.set_defaults(command=_demo)

    schema = commands.add_parser("schema", help="print the JSON Schema of the config")
    schema.set_defaults(command=_schema)

    shown = commands.add_parser("version", help="print the version")
    shown.set_defaults(command=_version)

    # Handed over before parsing; they stand here for --help.
    commands.add_parser("render", help="print the files that a node needs")
    commands.add_parser("verify", help="say what etcd holds, and under which key")
    commands.add_parser("emulator", help="a local DSM (needs the emulator extra)")
    commands.add_parser(
        "conformance",
        help="check any KMS v2 plugin (needs the conformance extra)",
    )
    return parser


def _timeout_s(text: str) -> float:
    timeout_s = float(text)
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise ValueError("a deadline lies in the future")
    return timeout_s


def _add_config(parser: argparse.ArgumentParser) -> None:
    _add_config_file(parser)
    parser.add_argument(
        "--strict", action="store_true", help="take unknown fields for errors"
    )


def _add_config_file(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_PATH,
        help=f"the JSON file ({DEFAULT_PATH})",
    )


def _serve(arguments: argparse.Namespace) -> int:
    from k8s_sdkms_plugin.config.loading import load
    from k8s_sdkms_plugin.hardening import harden_process

    # Before the API key is read.
    harden_process()
    loaded = load(arguments.config, os.environ, strict=arguments.strict)
    if loaded.config is None:
        for finding in loaded.findings:
            print(finding, file=sys.stderr)
        print(f"{NAME}: not started", file=sys.stderr)
        return EXIT_USAGE
    from k8s_sdkms_plugin.daemon import run

    return run(loaded, loaded.config)


def _check(arguments: argparse.Namespace) -> int:
    from k8s_sdkms_plugin.check import check
    from k8s_sdkms_plugin.config.loading import load
    from k8s_sdkms_plugin.hardening import harden_process

    harden_process()
    loaded = load(arguments.config, os.environ, strict=arguments.strict)
    return check(loaded, as_json=arguments.json, legacy_file=arguments.legacy_config)


def _call(arguments: argparse.Namespace) -> int:
    from k8s_sdkms_plugin.call import call

    return call(
        arguments.method,
        arguments.socket,
        timeout_s=arguments.timeout_s,
        at_random=arguments.random,
        reveal=arguments.reveal,
    )


def _status(arguments: argparse.Namespace) -> int:
    from k8s_sdkms_plugin.hardening import harden_process
    from k8s_sdkms_plugin.status import status

    # The config holds the API key.
    harden_process()
    return status(
        arguments.config,
        arguments.socket,
        arguments.listen,
        timeout_s=arguments.timeout_s,
        as_json=arguments.json,
        only_alive=arguments.alive,
    )


def _demo(arguments: argparse.Namespace) -> int:
    if not _has_emulator():
        return EXIT_MISSING
    from k8s_sdkms_plugin.demo import demo

    return demo(arguments.dir, once=arguments.once)


def _schema(_arguments: argparse.Namespace) -> int:
    import json

    from k8s_sdkms_plugin.config.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0


def _version(_arguments: argparse.Namespace) -> int:
    from k8s_sdkms_plugin.version import version

    print(f"{NAME} {version()}")
    return 0


def _render(words: list[str]) -> int:
    from k8s_sdkms_plugin.render.command import main as render_main

    return render_main(words)


def _verify(words: list[str]) -> int:
    # gRPC would tell of each failed handshake in lines of its own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from k8s_sdkms_plugin.verify.command import main as verify_main

    return verify_main(words)


def _emulator(words: list[str]) -> int:
    if not _has_emulator():
        return EXIT_MISSING
    from dsm_emulator.cli import main as emulator_main

    return emulator_main(words)


def _conformance(words: list[str]) -> int:
    from kms_conformance.cli import has_extra

    if not has_extra():
        return EXIT_MISSING
    if "--self" in words:
        if not _has_emulator():
            return EXIT_MISSING
        from k8s_sdkms_plugin.self_conformance import self_conformance

        return self_conformance(words)
    from kms_conformance.cli import main as conformance_main

    return conformance_main(words)


def _has_emulator() -> bool:
    from importlib.util import find_spec

    needed = ("httptools", "trustme", "uvicorn")
    if all(find_spec(name) for name in needed):
        return True
    print(
        f"{NAME}: the emulator needs an extra: pip install '{NAME}[emulator]'",
        file=sys.stderr,
    )
    return False
