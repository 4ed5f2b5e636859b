from __future__ import annotations

import json
from datetime import UTC, datetime

from tests.unit.kms_conformance.support import a_check

from kms_conformance.context import Context, Measurement
from kms_conformance.json_report import as_json
from kms_conformance.outcome import SHOULD, Verdict
from kms_conformance.recorder import Exchange, Latencies
from kms_conformance.report import Report, Result
from kms_conformance.target import Hook
from kms_conformance.text_report import explanation, listing, text


async def nothing(kit: Context) -> None:
    pass


FAILED = Result(
    a_check(nothing, "D04"),
    Verdict.FAILED,
    sent="a thing",
    came="a \x1b[31mred\nsurprise",
    why="because",
    exchanges=(
        Exchange("Decrypt", 0.0015, "OK", sent=b"\x01", came=b"\x02\x03"),
        Exchange("Decrypt", 0.002, "INTERNAL", "bad\x00words", sent=b"\x01"),
    ),
)
REPORT = Report(
    endpoint="unix:///run/x.sock",
    began=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    duration_s=1.25,
    scale="full",
    random_seed=7,
    results=(
        Result(
            a_check(nothing, "T01"),
            Verdict.PASSED,
            measurements=(Measurement("size", 3, "bytes"),),
        ),
        Result(a_check(nothing, "T02"), Verdict.WARNED, warnings=("better\n",)),
        FAILED,
        Result(a_check(nothing, "R05"), Verdict.NOT_RUN, came="needs --rotate"),
    ),
    latencies=(Latencies("Status", (0.001, 0.002)),),
)


def test_text_says_what_was_sent_what_came_and_why_it_matters() -> None:
    lines = text(REPORT).splitlines()
    assert "  pass  T01 MUST   It holds. [size 3 bytes]" in lines
    assert "        warning: better\\x0a" in lines
    assert "  FAIL  D04 MUST   It holds." in lines
    assert "  -     R05 MUST   It holds. [not run: needs --rotate]" in lines
    at = lines.index("D04 MUST failed: It holds.")
    assert lines[at + 1 : at + 8] == [
        "  sent      a thing",
        "  came      a \\x1b[31mred\\x0asurprise",
        "  expected  another",
        "  why       because",
        "  source    `contract` 1",
        "  call      Decrypt with 1 bytes 01 -> OK, 2 bytes 0203 (1.5 ms)",
        "  call      Decrypt with 1 bytes 01 -> INTERNAL bad\\x00words (2.0 ms)",
    ]
    assert "--seed 7" in lines[1]
    assert lines[-1] == (
        "4 checks: 1 passed, 1 warned, 1 failed, 1 not run. "
        "The plugin does NOT conform."
    )


def test_text_names_each_group_once_and_in_order() -> None:
    lines = text(REPORT).splitlines()
    groups = [line for line in lines if line in ("Transport", "Decrypt", "Status")]
    assert groups == ["Transport", "Decrypt"]


def test_json_has_everything() -> None:
    content = json.loads(as_json(REPORT))
    assert content["conforms"] is False
    assert content["seed"] == 7
    assert content["began"] == "2026-01-02T03:04:05+00:00"
    assert content["counts"] == {"passed": 1, "warned": 1, "failed": 1, "not run": 1}
    assert content["latencies_s"] == {"Status": [0.001, 0.002]}
    failed = content["results"][2]
    assert failed["came"] == FAILED.came
    assert failed["calls"][0]["came"] == "0203"
    assert content["results"][0]["measurements"] == [
        {"name": "size", "value": 3, "unit": "bytes"}
    ]


def test_report_without_failures_conforms() -> None:
    report = Report("e", REPORT.began, 0, "full", 1, REPORT.results[:2])
    assert report.exit_code == 0
    assert "The plugin conforms." in text(report)
    assert "Latency" not in text(report)


def test_explanation_names_the_source_in_full() -> None:
    said = explanation(a_check(nothing, "S12", SHOULD, needs=(Hook.STOP, Hook.START)))
    assert said.startswith("S12 SHOULD: It holds.\n")
    assert "contract: docs/reference/kms-v2-contract.md" in said
    assert "needs    --stop --start" in said
    assert "nothing but the socket" in explanation(a_check(nothing))


def test_listing_has_a_line_for_each_check() -> None:
    chosen = (a_check(nothing), a_check(nothing, "R05", needs=(Hook.ROTATE,)))
    assert listing(chosen) == "T01 MUST   It holds.\nR05 MUST   It holds. --rotate\n"
