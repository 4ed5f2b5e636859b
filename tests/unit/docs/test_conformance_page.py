"""docs/conformance.md and the kit agree: options, groups, exit codes, the example."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest
from tests.unit.docs.support import ROOT

from k8s_sdkms_plugin import self_conformance
from kms_conformance import cli
from kms_conformance.catalogue import CATALOGUE, GROUPS
from kms_conformance.check import Register, Words, check
from kms_conformance.checks import everything
from kms_conformance.options import HOOKS, REPORTS, SELECTION, SOCKET
from kms_conformance.outcome import MUST
from kms_conformance.pytest_plugin import option_name


if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable


TEXT = (ROOT / "docs" / "conformance.md").read_text()

FOREIGN = {"--listen", "--signal", "--property", "--value", "--deselect"}
"""Options of other programs in the examples."""


def flags(parsers: Iterable[argparse.ArgumentParser]) -> set[str]:
    return {
        flag
        for parser in parsers
        for action in parser._actions
        for flag in action.option_strings
    } - {"-h", "--help"}


def known() -> set[str]:
    return flags([cli._parser(), self_conformance._parser()])


def in_tables() -> set[str]:
    """Return the options that some table explains."""
    rows = [
        line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `--")
    ]
    return {flag for row in rows for flag in re.findall(r"--[a-z-]+[a-z]", row)}


def test_every_option_is_explained_in_a_table() -> None:
    assert in_tables() == known() - {"--socket"}
    assert "--socket unix:///" in TEXT


def test_no_option_is_named_that_does_not_exist() -> None:
    options = (SOCKET, *SELECTION, *REPORTS, *HOOKS)
    of_pytest = {option_name(option.flag) for option in options}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", TEXT))
    assert named <= known() | of_pytest | FOREIGN


def test_groups_are_those_of_the_catalogue() -> None:
    rows = re.findall(r"^\| ([A-Z]) \|", TEXT, re.MULTILINE)
    assert rows == [letter for letter, _ in GROUPS]


def test_numbers_of_checks_are_those_of_the_kit() -> None:
    assert f"points {len(CATALOGUE)} checks" in TEXT
    plain = sum(not one.needs for one in everything())
    assert f"The socket alone is enough for {plain} checks" in TEXT


@pytest.mark.parametrize("code", [0, 1, cli.EXIT_USAGE, cli.EXIT_MISSING])
def test_exit_codes_are_explained(code: int) -> None:
    assert re.search(rf"^\| {code} \| ", TEXT, re.MULTILINE)


def test_example_of_a_check_is_one() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (function,) = ast.parse(block).body
    assert isinstance(function, ast.AsyncFunctionDef)
    docstring = ast.get_docstring(function)
    assert docstring is not None
    assert Words.parse(docstring).source

    async def run(kit: object) -> None:
        del kit

    run.__doc__ = docstring
    register = Register()
    check("D04", MUST, register=register)(run)
    assert [one.id for one in register.checks()] == ["D04"]


def test_example_report_has_the_titles_of_today() -> None:
    (block,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    shown = re.findall(
        r"^  (?:pass|FAIL|-) +([A-Z]\d\d) (\w+) +([^\[\n]+)", block, re.MULTILINE
    )
    assert len(shown) == 5
    titles = {one.id: (one.severity.value, one.words.title) for one in everything()}
    for check_id, severity, title in shown:
        assert (severity, title.strip()) == titles[check_id]
