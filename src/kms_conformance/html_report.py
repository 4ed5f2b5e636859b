"""The report as one HTML page that needs nothing else: no script, no other file."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from kms_conformance.catalogue import GROUPS
from kms_conformance.latency_chart import chart
from kms_conformance.outcome import Verdict, shown
from kms_conformance.text_report import MARKS, failure


if TYPE_CHECKING:
    from collections.abc import Iterator

    from kms_conformance.report import Report, Result


_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 62em;
  padding: 0 1em; color: #1b1f24; background: #fff; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3em .6em;
  border-bottom: 1px solid #d8dee4; }
td.verdict { font-weight: bold; white-space: nowrap; }
.passed .verdict { color: #1a7f37; } .warned .verdict { color: #8a5a00; }
.failed .verdict { color: #b3261e; } .not-run { color: #6a737d; }
td.time { text-align: right; white-space: nowrap; }
pre { white-space: pre-wrap; background: #f6f8fa; padding: .7em; margin: .4em 0; }
.note { display: block; font-size: .9em; color: #57606a; }
.verdict-line { font-size: 1.1em; font-weight: bold; }
svg { max-width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; }
"""

# Should a text ever slip through unescaped, nothing of it may run or be fetched.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def as_html(report: Report) -> str:
    """Return *report* as a page of its own."""
    return "\n".join(_page(report)) + "\n"


def _page(report: Report) -> Iterator[str]:
    counts = ", ".join(f"{report.count(one)} {one.value}" for one in Verdict)
    title = f"KMS v2 conformance of {shown(report.endpoint)}"
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"
    yield (
        f"<p>{report.began:%Y-%m-%d %H:%M:%S} UTC, {escape(report.scale)} run of "
        f"{report.duration_s:.1f} s, <code>--seed {report.random_seed}</code></p>"
    )
    yield f'<p class="verdict-line">{report.conclusion}</p>'
    yield f"<p>{len(report.results)} checks: {counts}.</p>"
    for letter, name in GROUPS:
        of_group = [one for one in report.results if one.check.group == letter]
        if of_group:
            yield f"<h2>{escape(name)}</h2><table>"
            for result in sorted(of_group, key=lambda one: one.check.id):
                yield _row(result)
            yield "</table>"
    if report.latencies:
        yield "<h2>Latency of calls that were answered</h2>"
        yield from (chart(one) for one in report.latencies)
    yield "</body></html>"


def _row(result: Result) -> str:
    check, kind = result.check, result.verdict.value.replace(" ", "-")
    cells = [escape(check.words.title)]
    if result.verdict is Verdict.NOT_RUN:
        cells.append(_note(f"not run: {shown(result.came)}"))
    cells += [_note(f"warning: {shown(warning)}") for warning in result.warnings]
    cells += [
        _note(f"{one.name}: {one.value:g} {one.unit}") for one in result.measurements
    ]
    if result.verdict is Verdict.FAILED:
        cells.append(f"<pre>{escape(chr(10).join(failure(result)))}</pre>")
    return (
        f'<tr class="{kind}" id="{check.id}"><td class="verdict">'
        f"{escape(MARKS[result.verdict])}</td><td>{check.id}</td>"
        f"<td>{check.severity.value}</td><td>{''.join(cells)}</td>"
        f'<td class="time">{result.duration_s:.2f} s</td></tr>'
    )


def _note(text: str) -> str:
    return f'<span class="note">{escape(text)}</span>'
