"""The reports for CI systems and for browsers: JUnit XML and HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve
from tests.unit.kms_conformance.support import a_check
from tests.unit.kms_conformance.test_reports import FAILED, REPORT, nothing

from kms_conformance.html_report import as_html
from kms_conformance.junit_report import as_junit
from kms_conformance.latency_chart import PER_DECADE, bins, chart
from kms_conformance.outcome import SHOULD, Verdict
from kms_conformance.recorder import Latencies
from kms_conformance.report import Result


HOSTILE = '</pre><script src="https://x.test/x.js"></script>&\x1b\x00\ufffe'
OPTIONAL = Result(
    a_check(nothing, "S14", SHOULD), Verdict.FAILED, sent="s", came=HOSTILE, why="w"
)
FULL = evolve(
    REPORT,
    endpoint=f"unix:///run/{HOSTILE}",
    results=(*REPORT.results, OPTIONAL, evolve(FAILED, came=HOSTILE)),
    latencies=(Latencies(f"/{HOSTILE}", (0.001, 0.002, 0.5)),),
)

VOID = {"meta", "rect"}


class Page(HTMLParser):
    """Checks that each element is closed, and remembers what a page has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag


def cases(xml: str) -> dict[str, ET.Element]:
    """Return the cases by id."""
    root = ET.fromstring(xml)  # noqa: S314 - our own
    return {case.get("name", "")[:3]: case for case in root.iter("testcase")}


def test_junit_fails_for_a_must_alone() -> None:
    root = ET.fromstring(as_junit(REPORT))  # noqa: S314 - our own
    suite = root.find("testsuite")
    assert suite is not None
    counted = {name: suite.get(name) for name in ("tests", "failures", "skipped")}
    assert counted == {"tests": "4", "failures": "1", "skipped": "1"}
    found = cases(as_junit(REPORT))
    failure = found["D04"].find("failure")
    assert failure is not None
    assert failure.text is not None
    for word in ("sent", "came", "expected", "why", "source"):
        assert f"  {word} " in failure.text
    assert found["R05"].find("skipped[@message='not run: needs --rotate']") is not None
    assert found["T01"].findtext("system-out") == "size: 3 bytes"
    assert found["T02"].findtext("system-out") == "warning: better\\x0a"
    assert found["T01"].get("classname") == "kms_conformance.Transport"


def test_junit_shows_a_should_that_failed_as_skipped() -> None:
    xml = as_junit(evolve(REPORT, results=(OPTIONAL,)))
    skipped = cases(xml)["S14"].find("skipped")
    assert skipped is not None
    assert skipped.get("message", "").startswith("SHOULD failed: ")
    assert 'failures="0"' in xml


def test_junit_of_hostile_texts_is_xml() -> None:
    assert set(cases(as_junit(FULL))) >= {"S14", "D04"}


def test_page_fetches_and_runs_nothing_whatever_a_plugin_says() -> None:
    page = as_html(FULL)
    found = Page(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not {"src", "href", "onload"} & {name for name, _ in found.attributes}
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in page
    assert "&lt;script" in page


def test_page_says_what_became_of_each_check() -> None:
    page = as_html(REPORT)
    for check_id in ("T01", "T02", "D04", "R05"):
        assert f'id="{check_id}"' in page
    assert "not run: needs --rotate" in page
    assert "warning: better\\x0a" in page
    assert "size: 3 bytes" in page
    assert "The plugin does NOT conform." in page
    assert "--seed 7" in page
    assert "1 passed, 1 warned, 1 failed, 1 not run" in page
    assert "<svg" in page


def test_page_of_a_run_without_calls_has_no_chart() -> None:
    page = as_html(evolve(REPORT, latencies=(), results=REPORT.results[:2]))
    assert "<svg" not in page
    assert "The plugin conforms." in page


@pytest.mark.parametrize(
    ("durations_s", "first", "counts"),
    [
        ((0.001,), -3 * PER_DECADE, (1,)),
        ((0.0,), -5 * PER_DECADE, (1,)),
        ((0.01, 0.0101, 0.1), -2 * PER_DECADE, (2, 0, 0, 0, 0, 0, 0, 0, 1)),
    ],
)
def test_bins_are_eighths_of_a_decade(
    durations_s: tuple[float, ...], first: int, counts: tuple[int, ...]
) -> None:
    found = bins(durations_s)
    assert found[0][0] == first
    assert tuple(count for _, count in found) == counts


def test_chart_shows_one_slow_call_among_thousands() -> None:
    figure = chart(Latencies("Status", (*(0.001 for _ in range(5000)), 2.0)))
    heights = [float(text) for text in re.findall(r'" height="([0-9.]+)" fill', figure)]
    assert heights[0] == 110
    assert heights[-1] == 1
    assert "Status: 5001 calls, p50 1 ms, p90 1 ms, p99 1 ms, max 2e+03 ms" in figure
