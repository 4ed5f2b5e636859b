"""What holds for every check: its docstring, its hooks, its place in the catalogue."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kms_conformance.catalogue import CATALOGUE, GROUPS
from kms_conformance.check import Check, DocstringRefused, Register, Words, check
from kms_conformance.checks import everything
from kms_conformance.outcome import MUST, SHOULD
from kms_conformance.sources import SOURCES, tags
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from tests.unit.kms_conformance.support import Site

    from kms_conformance.context import Context


ROOT = Path(__file__).parents[3]
CONTRACT = ROOT / "docs" / "reference" / "kms-v2-contract.md"
LINE = re.compile(
    r"^\| ([TSEDRLAV]\d\d) \|.*\| (MUST|SHOULD)[^|]* \|[^|]*\|$", re.MULTILINE
)
ENTRIES = {entry.id: entry for entry in CATALOGUE}
CHECKS = everything()


def test_catalogue_is_section_12_of_the_contract() -> None:
    text = CONTRACT.read_text()
    section = text[text.index("## 12. ") : text.index("## 13. ")]
    listed = [(found[1], found[2]) for found in LINE.finditer(section)]
    assert listed == [(entry.id, entry.severity.value) for entry in CATALOGUE]
    assert len(listed) == 105
    assert sum(entry.plain for entry in CATALOGUE) == 72
    assert {entry.id[0] for entry in CATALOGUE} == {letter for letter, _ in GROUPS}


def test_every_check_of_the_catalogue_exists() -> None:
    assert {one.id for one in CHECKS} == set(ENTRIES)


@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.id)
def test_check_is_what_the_catalogue_says(one: Check) -> None:
    entry = ENTRIES[one.id]
    assert one.severity is entry.severity
    assert entry.plain == (not one.needs)


@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.id)
def test_check_names_sources_that_are_explained(one: Check) -> None:
    named = tags(one.words.source)
    assert named
    assert set(named) <= {tag for tag, _ in SOURCES}


@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.id)
def test_check_that_disturbs_needs_what_restores(one: Check) -> None:
    needs = set(one.needs)
    assert Hook.START in needs or not needs & {Hook.STOP, Hook.KILL}
    assert Hook.HEAL in needs or Hook.BREAK not in needs


def test_gentle_checks_run_before_those_that_disturb() -> None:
    disruption = [one.disruption for one in CHECKS if not one.last]
    assert disruption == sorted(disruption)


GOOD = """It holds.

    Sends: a thing,
        on two lines.
    Expects: another.
    Why: so.
    Source: `docs`
    """


def test_docstring_is_taken_apart() -> None:
    words = Words.parse(GOOD)
    assert words.title == "It holds."
    assert words.sends == "a thing, on two lines."
    assert (words.expects, words.why, words.source) == ("another.", "so.", "`docs`")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "It holds.",
        GOOD.replace("holds.", "holds"),
        GOOD.replace("Why: so.\n", ""),
        GOOD.replace("Expects", "Wants"),
        GOOD.replace("It holds.\n\n", "It\nholds.\n\n"),
    ],
)
def test_docstring_of_another_form_is_refused(wrong: str) -> None:
    async def run(kit: Context) -> None:
        pass

    run.__doc__ = wrong
    with pytest.raises(DocstringRefused, match="T01"):
        check("T01", MUST, register=Register())(run)


@pytest.mark.parametrize(("check_id", "match"), [("X1", "no id"), ("T01", "twice")])
def test_register_refuses_malformed_and_doubled_ids(check_id: str, match: str) -> None:
    async def run(kit: Context) -> None:
        pass

    run.__doc__ = GOOD
    register = Register()
    check("T01", MUST, register=register)(run)
    with pytest.raises(ValueError, match=match):
        check(check_id, SHOULD, register=register)(run)
    assert [one.id for one in register.checks()] == ["T01"]


async def test_checks_leave_nothing_open(site: Site) -> None:
    kit = site.context()
    plugin = kit.dial()
    await plugin.status()
    await kit.raw_http2()
    await kit.aclose()
    assert plugin.state() == "SHUTDOWN"
