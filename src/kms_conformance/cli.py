"""The command line of the kit.

Exit codes: 0 every MUST that ran holds; 1 one does not; 2 the command line is wrong,
and nothing was run; 3 something that must be installed is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kms_conformance.commands import pid_source, shell
from kms_conformance.scale import FULL, QUICK, SOAK_S
from kms_conformance.target import Endpoint, EndpointRefused, Hook, Target


if TYPE_CHECKING:
    from collections.abc import Sequence

    from kms_conformance.check import Check
    from kms_conformance.report import Report, Result


EXIT_USAGE: Final = 2
EXIT_MISSING: Final = 3

_COMMANDS: Final = (
    (Hook.ROTATE, "rotates the remote key"),
    (Hook.BACK, "makes the previous remote key the current one again"),
    (Hook.STOP, "stops the plugin with SIGTERM and waits until it has ended"),
    (Hook.START, "starts the plugin; exits with another code than 0 if it refuses"),
    (Hook.KILL, "kills the plugin with SIGKILL"),
    (Hook.BREAK, "makes the remote key service unreachable, or the key unusable"),
    (Hook.HEAL, "mends what --break broke"),
    (Hook.KMS_CALLS, "prints how many calls the remote key service has had"),
)


def main(words: Sequence[str]) -> int:
    """Run the kit and return its exit code.

    Raises:
        SystemExit: By argparse: 0 after --help, 2 for a wrong usage.
    """
    if find_spec("h2") is None:
        _complain("the kit needs an extra: pip install 'k8s-sdkms-plugin[conformance]'")
        return EXIT_MISSING
    arguments = _parser().parse_args(words)
    from kms_conformance.checks import everything  # noqa: PLC0415 - needs the extra

    checks = everything()
    if arguments.explain:
        return _explain(checks, arguments.explain)
    from kms_conformance.runner import SelectionRefused, select  # noqa: PLC0415

    try:
        chosen = select(
            checks, only=arguments.only, skip=arguments.skip, quick=arguments.quick
        )
        if arguments.list:
            return _list(chosen)
        target = _target(arguments)
    except (SelectionRefused, EndpointRefused) as refusal:
        _complain(str(refusal))
        return EXIT_USAGE
    return _run(arguments, target, chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="k8s-sdkms-plugin conformance",
        description="Checks any KMS v2 plugin against what kube-apiserver demands.",
        epilog=(
            "A CMD is run with sh -c. Exit codes: 0 every MUST that ran holds, 1 one "
            "does not, 2 wrong command line, 3 something must be installed."
        ),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--socket", help="the plugin's: unix:///run/x.sock, unix:///@name or a path")
    add("--list", action="store_true", help="print the selected checks, run none")
    add("--explain", metavar="ID", help="print what a check does, and why")
    add("--quick", action="store_true", help="undisruptive checks, under 30 s in all")
    add("--only", metavar="IDS", type=_ids, default=(), help="such as T,S01,D04")
    add("--skip", metavar="IDS", type=_ids, default=(), help="likewise")
    add("--seed", metavar="N", type=int, help="repeat the randomness of a run")
    add("--timeout-s", type=float, default=FULL.timeout_s, help="of a call (3)")
    add("--soak-s", type=float, help="length of the soak, L09 (120)")
    add("--json", metavar="FILE", type=Path, help="write the report as JSON")
    hooks = parser.add_argument_group("hooks, without which some checks are not run")
    for hook, what in _COMMANDS:
        hooks.add_argument(hook.value, metavar="CMD", help=what)
    hooks.add_argument(
        Hook.PEER.value, metavar="SOCKET", help="another instance, same remote key"
    )
    hooks.add_argument(
        Hook.PID.value, metavar="PID|FILE", help="the plugin's, or a file that has it"
    )
    hooks.add_argument(
        Hook.CORPUS.value,
        metavar="FILE",
        type=Path,
        help="sealed seeds of earlier runs; made if it is not there",
    )
    hooks.add_argument(
        "--rotation-s",
        type=float,
        default=120.0,
        help="how soon Status must show a rotation (120)",
    )
    return parser


def _ids(text: str) -> tuple[str, ...]:
    return tuple(word.strip().upper() for word in text.split(",") if word.strip())


def _target(arguments: argparse.Namespace) -> Target:
    if arguments.socket is None:
        raise EndpointRefused("--socket says which plugin to check")
    given = vars(arguments)
    commands = {
        hook: given[hook.value.removeprefix("--").replace("-", "_")]
        for hook, _ in _COMMANDS
    }
    return Target(
        endpoint=Endpoint.parse(arguments.socket),
        peer=Endpoint.parse(arguments.peer) if arguments.peer else None,
        pulls={hook: shell(text) for hook, text in commands.items() if text},
        pid=pid_source(arguments.pid) if arguments.pid else None,
        corpus=arguments.corpus,
        rotation_s=arguments.rotation_s,
    )


def _list(checks: tuple[Check, ...]) -> int:
    from kms_conformance.text_report import listing  # noqa: PLC0415

    sys.stdout.write(listing(checks))
    return 0


def _explain(checks: tuple[Check, ...], check_id: str) -> int:
    from kms_conformance.text_report import explanation  # noqa: PLC0415

    for check in checks:
        if check.id == check_id.upper():
            sys.stdout.write(explanation(check))
            return 0
    _complain(f"there is no check {check_id!r}")
    return EXIT_USAGE


def _run(
    arguments: argparse.Namespace, target: Target, checks: tuple[Check, ...]
) -> int:
    from attrs import evolve  # noqa: PLC0415

    from kms_conformance.runner import Plan, run  # noqa: PLC0415

    random_seed = arguments.seed
    if random_seed is None:
        random_seed = secrets.randbelow(1_000_000)
    scale = evolve(QUICK if arguments.quick else FULL, timeout_s=arguments.timeout_s)
    if arguments.soak_s is not None:
        scale = evolve(scale, soak=arguments.soak_s / SOAK_S)
    plan = Plan(target, checks, scale, random_seed)
    report = asyncio.run(run(plan, _Lines()))
    try:
        _write(arguments, report)
    except OSError as failed:
        _complain(str(failed))
        return EXIT_USAGE
    return report.exit_code


def _write(arguments: argparse.Namespace, report: Report) -> None:
    from kms_conformance.json_report import as_json  # noqa: PLC0415
    from kms_conformance.text_report import text  # noqa: PLC0415

    sys.stdout.write(text(report))
    if arguments.json:
        arguments.json.write_text(as_json(report))


class _Lines:
    """Progress on standard error: the present check on a terminal, then its line."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()

    def started(self, check: Check, number: int, total: int) -> None:
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{number}/{total} {check.id} ...")
            sys.stderr.flush()

    def finished(self, result: Result) -> None:
        from kms_conformance.text_report import line  # noqa: PLC0415

        erase = "\r\x1b[K" if self._terminal else ""
        sys.stderr.write(f"{erase}{line(result)} ({result.duration_s:.1f} s)\n")
        sys.stderr.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"conformance: {text}\n")
