"""The kit's checks as pytest items: ``pytest -p kms_conformance.pytest_plugin``.

It is no automatic entry point: who installs the kit does not want its options in every
project. With ``--kms-socket`` the checks are collected without a path, beside whatever
else is; ``-k`` and ``--deselect`` hold for them, too. They run in the kit's own order.

A check whose hook is missing is skipped, with the option that would run it. A SHOULD
that fails is an xfail: a warning would fail a project that takes warnings for errors,
and a SHOULD changes no exit code. What a check warns of stands in the summary.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import pytest

from kms_conformance.cli import NEEDS_EXTRA
from kms_conformance.options import (
    HOOKS,
    REPORTS,
    SELECTION,
    SOCKET,
    random_seed,
    scale,
    target,
)
from kms_conformance.outcome import Verdict, shown
from kms_conformance.target import EndpointRefused, Hook


if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from kms_conformance.check import Check
    from kms_conformance.report import Result
    from kms_conformance.runner import Run


NAME: Final = "kms_conformance"

_HOOK: Final = re.compile("|".join(rf"{one.value}\b" for one in Hook))


class CheckFailed(Exception):
    """A check has failed; the result says how."""

    def __init__(self, result: Result) -> None:
        self.result = result
        super().__init__(result.came)


class Checks(pytest.Collector):
    """Collects the checks of one run."""

    run: Run

    def collect(self) -> Iterator[pytest.Item]:
        """Return an item for each check of the plan, in its order."""
        for check in self.run.plan.checks:
            yield CheckItem.from_parent(self, name=check.id, check=check, run=self.run)


class CheckItem(pytest.Item):
    """One check."""

    def __init__(self, *, check: Check, run: Run, **more: Any) -> None:
        super().__init__(**more)
        self.check = check
        self.run = run
        # For -k: the group's letter, and MUST or SHOULD.
        self.extra_keyword_matches |= {check.group, check.severity.value}

    def runtest(self) -> None:
        """Run the check.

        Raises:
            CheckFailed: It is a MUST and has failed.
        """
        from kms_conformance.text_report import failure  # noqa: PLC0415

        result = asyncio.run(self.run.one(self.check))
        for one in result.measurements:
            self.user_properties.append((one.name, f"{one.value:g} {one.unit}"))
        for warning in result.warnings:
            self.user_properties.append(("warning", shown(warning)))
        if result.verdict is Verdict.NOT_RUN:
            pytest.skip(_in_our_words(shown(result.came)))
        if result.breaks_conformance:
            raise CheckFailed(result)
        if result.verdict is Verdict.FAILED:
            self.add_report_section("call", NAME, "\n".join(failure(result)))
            pytest.xfail(f"SHOULD: {shown(result.came)}")

    def repr_failure(
        self,
        excinfo: pytest.ExceptionInfo[BaseException],
        style: Any = None,
    ) -> Any:
        """Return what was sent, what came, why it matters, and the source."""
        if isinstance(excinfo.value, CheckFailed):
            from kms_conformance.text_report import failure  # noqa: PLC0415

            return "\n".join(failure(excinfo.value.result))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Return where the check is written, and its name."""
        run = self.check.run
        line = inspect.getsourcelines(run)[1] - 1
        return inspect.getfile(run), line, f"{self.check.id} {self.check.words.title}"


_RUN: Final = pytest.StashKey["Run"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the kit's options, each with a prefix of its own."""
    group = parser.getgroup(NAME, "KMS v2 conformance")
    for option in (SOCKET, *SELECTION, *REPORTS, *HOOKS):
        group.addoption(
            option_name(option.flag), dest=_dest(option.flag), **option.keywords
        )


def pytest_configure(config: pytest.Config) -> None:
    """Make the run, if a socket was given.

    Raises:
        pytest.UsageError: An option is wrong, a report can't be written, or the kit's
            extra is not installed.
    """
    if config.getoption(_dest(SOCKET.flag)) is None:
        return
    if find_spec("h2") is None:
        raise pytest.UsageError(NEEDS_EXTRA)
    # xdist takes `--dist load --tx ...` for `-n`, too.
    numprocesses = getattr(config.option, "numprocesses", None)
    if numprocesses or getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError("the checks move one plugin; they can't run with -n")
    from kms_conformance.checks import everything  # noqa: PLC0415 - needs the extra
    from kms_conformance.runner import (  # noqa: PLC0415
        Plan,
        Run,
        SelectionRefused,
        select,
    )
    from kms_conformance.written import claim_reports  # noqa: PLC0415

    given = _given(config)
    try:
        chosen = select(
            everything(),
            only=given("--only"),
            skip=given("--skip"),
            quick=given("--quick"),
        )
        plan = Plan(target(given), chosen, scale(given), random_seed(given))
    except (SelectionRefused, EndpointRefused) as refusal:
        raise pytest.UsageError(f"{NAME}: {refusal}") from None
    if not config.option.collectonly:
        with _said():
            claim_reports(given)
    config.stash[_RUN] = Run(plan)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is checked, and what repeats it."""
    run = config.stash.get(_RUN, None)
    if run is None:
        return []
    plan = run.plan
    seed = f"{option_name('--seed')} {plan.random_seed}"
    return [
        f"{NAME}: {shown(str(plan.target.endpoint))}, {plan.scale.name} run, {seed}"
    ]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Add the checks before others select, and put them in order when they have."""
    run = config.stash.get(_RUN, None)
    if run is not None:
        checks: Checks = Checks.from_parent(session, name=NAME, nodeid=NAME)
        checks.run = run
        items.extend(checks.collect())
    yield
    ours = [one for one in items if isinstance(one, CheckItem)]
    # Whoever shuffles tests does not know that some checks stop the plugin.
    ours.sort(key=lambda one: one.check.order)
    items[:] = [*(one for one in items if not isinstance(one, CheckItem)), *ours]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show what could be better."""
    run = config.stash.get(_RUN, None)
    if run is None:
        return
    warned = [one for one in run.report().results if one.warnings]
    if warned:
        terminalreporter.section("KMS v2 conformance: what could be better")
    for result in warned:
        for warning in result.warnings:
            terminalreporter.line(f"{result.check.id} {shown(warning)}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Write the reports, if there was a run; without the terminal plugin, too.

    Raises:
        pytest.UsageError: A report can't be written.
    """
    run = config.stash.get(_RUN, None)
    if run is None or config.option.collectonly:
        return
    from kms_conformance.written import write_reports  # noqa: PLC0415

    with _said():
        write_reports(run.report(), _given(config))


@contextlib.contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except OSError as failed:
        raise pytest.UsageError(f"{NAME}: {failed}") from None


def option_name(flag: str) -> str:
    """Return how pytest spells the kit's option *flag*."""
    return flag if flag.startswith("--kms-") else f"--kms-{flag.removeprefix('--')}"


def _dest(flag: str) -> str:
    return option_name(flag).removeprefix("--").replace("-", "_")


def _given(config: pytest.Config) -> Callable[[str], Any]:
    return lambda flag: config.getoption(_dest(flag))


def _in_our_words(reason: str) -> str:
    return _HOOK.sub(lambda found: option_name(found[0]), reason)
