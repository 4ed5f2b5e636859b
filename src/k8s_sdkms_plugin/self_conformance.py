"""``conformance --self``: the kit on our own daemon, with every hook, by itself."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from k8s_sdkms_plugin.config.model import Protection
from k8s_sdkms_plugin.conformance_site import BreakBy, Site
from k8s_sdkms_plugin.own_processes import NotStarted
from kms_conformance import cli as kit
from kms_conformance.options import HOOKS, SOCKET


if TYPE_CHECKING:
    from collections.abc import Sequence

    from kms_conformance.check import Check
    from kms_conformance.report import Result
    from kms_conformance.target import Target


FLAG: Final = "--self"

EXIT_FAILED: Final = 1

_WHAT_MAKES_A_CORPUS: Final = "D19"


def self_conformance(words: Sequence[str]) -> int:
    """Run the kit on our daemon and return the kit's exit code.

    Args:
        words: The words after ``conformance``; but for those of this
            profile they are the kit's.

    Raises:
        SystemExit: By argparse: 0 after --help, 2 for a wrong usage.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(words)
    given = {word.partition("=")[0] for word in rest}
    for option in (SOCKET, *HOOKS):
        if option.flag in given:
            parser.error(f"{FLAG} brings its own plugin and hooks: no {option.flag}")
    if {"--list", "--explain"} & given:
        return kit.main(rest)
    # Whoever ends this run ends what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="kms-self-") as folder,
            Site(
                Path(folder),
                Protection(arguments.protection),
                BreakBy(arguments.break_by),
            ) as site,
        ):
            asyncio.run(make_corpus(site.target))
            return kit.main(rest, site=site.target)
    except NotStarted as failure:
        print(f"conformance: {failure}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("conformance: stopped", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="k8s-sdkms-plugin conformance",
        description="Checks our own daemon on a DSM emulator, with every hook.",
        epilog="All options of the kit but --socket and the hooks can be added.",
        allow_abbrev=False,
    )
    parser.add_argument(FLAG, action="store_true", help="check our own daemon")
    parser.add_argument(
        "--protection",
        choices=[one.value for one in Protection],
        default=Protection.LOCAL_KEK.value,
        help="how the daemon protects seeds (local-kek)",
    )
    parser.add_argument(
        "--break-by",
        choices=[one.value for one in BreakBy],
        default=BreakBy.REFUSING.value,
        help="what the emulator does for --break; refusing shows soonest (refusing)",
    )
    return parser


async def make_corpus(target: Target) -> None:
    """Leave seeds of an earlier run: the emulator's keys end with it, so it is ours."""
    from kms_conformance.checks import everything  # noqa: PLC0415 - needs the extra
    from kms_conformance.runner import Plan, run, select  # noqa: PLC0415
    from kms_conformance.scale import QUICK  # noqa: PLC0415

    chosen = select(everything(), only=(_WHAT_MAKES_A_CORPUS,))
    await run(Plan(target, chosen, QUICK, 0), Silence())


class Silence:
    """Progress that nobody sees."""

    def started(self, check: Check, number: int, total: int) -> None:
        """Say nothing."""

    def finished(self, result: Result) -> None:
        """Say nothing."""
