"""The report as JUnit XML, which CI systems show.

A SHOULD that fails is a skipped test with its whole text: CI systems have no third
colour, and it changes no exit code here either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from kms_conformance.catalogue import GROUPS
from kms_conformance.outcome import Verdict, shown
from kms_conformance.text_report import failure


if TYPE_CHECKING:
    from kms_conformance.report import Report, Result


def as_junit(report: Report) -> str:
    """Return *report* as JUnit XML: one suite, one case for each check."""
    titles = dict(GROUPS)
    broken = sum(one.breaks_conformance for one in report.results)
    skipped = sum(one.verdict is Verdict.NOT_RUN for one in report.results)
    optional = report.count(Verdict.FAILED) - broken
    suite = ET.Element(
        "testsuite",
        name="kms_conformance",
        tests=str(len(report.results)),
        failures=str(broken),
        errors="0",
        skipped=str(skipped + optional),
        time=f"{report.duration_s:.3f}",
        timestamp=report.began.isoformat(timespec="seconds"),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("endpoint", shown(report.endpoint)),
        ("scale", report.scale),
        ("seed", str(report.random_seed)),
    ):
        ET.SubElement(properties, "property", name=name, value=value)
    for result in report.results:
        suite.append(_case(result, titles[result.check.group]))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(result: Result, group: str) -> ET.Element:
    check = result.check
    case = ET.Element(
        "testcase",
        classname=f"kms_conformance.{group}",
        name=f"{check.id} {check.words.title}",
        time=f"{result.duration_s:.3f}",
    )
    # `shown` leaves no character that XML does not allow.
    came = shown(result.came)
    if result.verdict is Verdict.NOT_RUN:
        ET.SubElement(case, "skipped", message=f"not run: {came}")
    elif result.breaks_conformance:
        failed = ET.SubElement(case, "failure", message=came, type=check.severity.value)
        failed.text = _lines(result)
    elif result.verdict is Verdict.FAILED:
        skipped = ET.SubElement(case, "skipped", message=f"SHOULD failed: {came}")
        skipped.text = _lines(result)
    notes = [f"warning: {shown(warning)}" for warning in result.warnings]
    notes += [f"{one.name}: {one.value:g} {one.unit}" for one in result.measurements]
    if notes:
        ET.SubElement(case, "system-out").text = "\n".join(notes)
    return case


def _lines(result: Result) -> str:
    return "\n".join(failure(result))
