"""The command line of the kit.

Exit codes: 0 every MUST that ran holds; 1 one does not, none could be run, or the run
did not come to its end; 2 the command line is wrong, and nothing was run; 3 something
that must be installed is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from kms_conformance.options import (
    HOOKS,
    REPORTS,
    SELECTION,
    SOCKET,
    random_seed,
    scale,
    target,
)
from kms_conformance.target import EndpointRefused, Target


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kms_conformance.check import Check
    from kms_conformance.report import Result


EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_MISSING: Final = 3

NEEDS_EXTRA: Final = (
    "the kit needs an extra: pip install 'k8s-sdkms-plugin[conformance]'"
)


def main(words: Sequence[str], *, site: Target | None = None) -> int:
    """Run the kit and return its exit code.

    Args:
        words: The command line.
        site: The plugin and all its hooks, from a caller that has them itself; None
            takes them from the command line.

    Raises:
        SystemExit: By argparse: 0 after --help, 2 for a wrong usage.
    """
    if not has_extra():
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
        plugin = target(_given(arguments)) if site is None else site
    except (SelectionRefused, EndpointRefused) as refusal:
        _complain(str(refusal))
        return EXIT_USAGE
    return _run(arguments, plugin, chosen)


def has_extra() -> bool:
    """Return whether the kit's extra is installed; if it is not, say so."""
    if find_spec("h2") is not None:
        return True
    _complain(NEEDS_EXTRA)
    return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="k8s-sdkms-plugin conformance",
        description="Checks any KMS v2 plugin against what kube-apiserver demands.",
        epilog=(
            "A CMD is run with sh -c. Exit codes: 0 every MUST that ran holds, 1 one "
            "does not or the run was stopped, 2 wrong command line, 3 something must "
            "be installed."
        ),
        allow_abbrev=False,
    )
    parser.add_argument(
        "--list", action="store_true", help="print the checks and run none"
    )
    parser.add_argument(
        "--explain", metavar="ID", help="print what a check does, and why"
    )
    for option in (SOCKET, *SELECTION, *REPORTS):
        parser.add_argument(option.flag, **option.keywords)
    hooks = parser.add_argument_group("hooks, without which some checks are not run")
    for option in HOOKS:
        hooks.add_argument(option.flag, **option.keywords)
    return parser


def _given(arguments: argparse.Namespace) -> Callable[[str], Any]:
    values = vars(arguments)
    return lambda flag: values[flag.removeprefix("--").replace("-", "_")]


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
    arguments: argparse.Namespace, plugin: Target, checks: tuple[Check, ...]
) -> int:
    from kms_conformance.runner import Plan, run  # noqa: PLC0415
    from kms_conformance.text_report import text  # noqa: PLC0415
    from kms_conformance.written import claim_reports, write_reports  # noqa: PLC0415

    given = _given(arguments)
    plan = Plan(plugin, checks, scale(given), random_seed(given))
    try:
        claim_reports(given)
    except OSError as refused:
        _complain(str(refused))
        return EXIT_USAGE
    try:
        with _terminated_as_interrupted():
            report = asyncio.run(run(plan, _Lines()))
    except KeyboardInterrupt:
        _complain("stopped")
        return EXIT_FAILED
    code = report.exit_code
    try:
        write_reports(report, given)
    except OSError as failed:
        _complain(str(failed))
        code = EXIT_FAILED
    sys.stdout.write(text(report))
    return code


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Make SIGTERM end a run as SIGINT does: by a cancellation, which restores."""

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    # A shell without job control starts what stands before an & with SIGINT ignored.
    former_int = signal.signal(signal.SIGINT, signal.default_int_handler)
    former_term = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former_term)
        signal.signal(signal.SIGINT, former_int)


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
