"""The report for people: a line for each check, and what failed in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kms_conformance.catalogue import GROUPS
from kms_conformance.outcome import Verdict, shown, shown_bytes
from kms_conformance.recorder import percentile
from kms_conformance.sources import explained


if TYPE_CHECKING:
    from collections.abc import Iterator

    from kms_conformance.check import Check
    from kms_conformance.recorder import Exchange, Latencies
    from kms_conformance.report import Report, Result


MARKS: Final = {
    Verdict.PASSED: "pass",
    Verdict.WARNED: "warn",
    Verdict.FAILED: "FAIL",
    Verdict.NOT_RUN: "-",
}
"""How each verdict is written."""


def text(report: Report) -> str:
    """Return the whole report."""
    return "\n".join(_lines(report)) + "\n"


def line(result: Result) -> str:
    """Return the line of one check."""
    check = result.check
    parts = [check.words.title]
    if result.verdict is Verdict.NOT_RUN:
        parts.append(f"[not run: {shown(result.came)}]")
    parts += [f"[{one.name} {one.value:g} {one.unit}]" for one in result.measurements]
    return (
        f"{MARKS[result.verdict]:<5} {check.id} {check.severity.value:<6} "
        f"{' '.join(parts)}"
    )


def failure(result: Result) -> Iterator[str]:
    """Return the lines that say what failed: sent, came, expected, why, source."""
    check = result.check
    yield f"{check.id} {check.severity.value} failed: {check.words.title}"
    yield f"  sent      {shown(result.sent)}"
    yield f"  came      {shown(result.came)}"
    yield f"  expected  {check.words.expects}"
    yield f"  why       {shown(result.why)}"
    yield f"  source    {check.words.source}"
    for exchange in result.exchanges:
        yield f"  call      {_exchange(exchange)}"


def explanation(check: Check) -> str:
    """Return what ``--explain`` prints of a check."""
    words = check.words
    needs = " ".join(hook.value for hook in check.needs) or "nothing but the socket"
    lines = [
        f"{check.id} {check.severity.value}: {words.title}",
        f"  sends    {words.sends}",
        f"  expects  {words.expects}",
        f"  why      {words.why}",
        f"  source   {words.source}",
        *(f"           {tag}: {name}" for tag, name in explained(words.source)),
        f"  needs    {needs}",
    ]
    return "\n".join(lines) + "\n"


def listing(checks: tuple[Check, ...]) -> str:
    """Return what ``--list`` prints: a line for each check."""
    return "".join(
        f"{one.id} {one.severity.value:<6} {one.words.title}"
        + "".join(f" {hook.value}" for hook in one.needs)
        + "\n"
        for one in checks
    )


def _lines(report: Report) -> Iterator[str]:
    yield f"KMS v2 conformance of {shown(report.endpoint)}"
    yield (
        f"{report.began:%Y-%m-%d %H:%M:%S} UTC, {report.scale} run of "
        f"{report.duration_s:.1f} s, --seed {report.random_seed}"
    )
    for letter, title in GROUPS:
        of_group = [one for one in report.results if one.check.group == letter]
        if of_group:
            yield f"\n{title}"
            for result in sorted(of_group, key=lambda one: one.check.id):
                yield f"  {line(result)}"
                yield from (f"        warning: {shown(w)}" for w in result.warnings)
    for result in report.of(Verdict.FAILED):
        yield ""
        yield from failure(result)
    if report.latencies:
        yield "\nLatency of calls that were answered, in ms"
        yield from (f"  {_latency(one)}" for one in report.latencies)
    counts = ", ".join(
        f"{report.count(verdict)} {verdict.value}" for verdict in Verdict
    )
    yield f"\n{len(report.results)} checks: {counts}. {report.conclusion}"


def _exchange(one: Exchange) -> str:
    came = f"{one.code} {shown(one.text)}" if one.text else one.code
    if one.came:
        came += f", {shown_bytes(one.came)}"
    return (
        f"{one.method} with {shown_bytes(one.sent)} -> {came} "
        f"({1000 * one.duration_s:.1f} ms)"
    )


def _latency(one: Latencies) -> str:
    figures = "  ".join(
        f"{name} {1000 * percentile(one.durations_s, percent):8.2f}"
        for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100))
    )
    return f"{shown(one.method):<8} {len(one.durations_s):>6} calls  {figures}"
