"""Every row of docs/failure-modes.md is backed by tests that exist."""

from __future__ import annotations

import ast
import re

import pytest
from tests.unit.docs.support import ROOT

from kms_core.errors import Meaning, error_classes


PAGE = (ROOT / "docs" / "failure-modes.md").read_text("utf-8")
NAMED = re.compile(r"`((?:unit|contract|e2e)/[\w/]+\.py)::(\w+)`")


def defined_in(path: str) -> set[str]:
    """Return the names of the tests in a file, without importing it."""
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def rows() -> list[str]:
    """Return the rows of the tables whose last column is that of the tests."""
    found: list[str] = []
    backed = False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            backed = False
        elif line.endswith("| tests |"):
            backed = True
        elif backed and not line.startswith("|---"):
            found.append(line)
    return found


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED.findall(PAGE))))
def test_named_test_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in defined_in(path)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip())
def test_row_is_whole_and_names_a_test(row: str) -> None:
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert all(cells)
    assert NAMED.findall(cells[-1])
    # Nothing but tests in the last column, so that none is misspelt unseen.
    assert NAMED.sub("", cells[-1]).strip(", ") == ""


def test_every_failure_has_its_row() -> None:
    what = [row.split("|")[1].strip() for row in rows()]
    assert len(what) == len(set(what)) == 20


def test_every_cause_of_trouble_has_its_row_or_is_a_mistake_in_setting_up() -> None:
    setting_up = {"DSM-REQUEST-REFUSED", "KEY-NOT-ACTIVE", "KEY-UNSUITABLE"}
    causes = {cls.code for cls in error_classes() if cls.meaning is not Meaning.CALL}
    in_rows = {code for row in rows() for code in re.findall(r"`([A-Z0-9-]+)`", row)}
    assert causes - in_rows == setting_up
