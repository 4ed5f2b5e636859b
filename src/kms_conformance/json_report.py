"""The report for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kms_conformance.outcome import Verdict


if TYPE_CHECKING:
    from kms_conformance.recorder import Exchange
    from kms_conformance.report import Report, Result


def as_json(report: Report) -> str:
    """Return *report* as one JSON object; bytes are hexadecimal, times are seconds."""
    content = {
        "endpoint": report.endpoint,
        "began": report.began.isoformat(),
        "duration_s": round(report.duration_s, 3),
        "scale": report.scale,
        "seed": report.random_seed,
        "conforms": report.exit_code == 0,
        "counts": {verdict.value: report.count(verdict) for verdict in Verdict},
        "results": [_result(one) for one in report.results],
        "latencies_s": {
            one.method: [round(value, 6) for value in one.durations_s]
            for one in report.latencies
        },
    }
    return json.dumps(content, indent=2) + "\n"


def _result(result: Result) -> dict[str, Any]:
    check = result.check
    return {
        "id": check.id,
        "severity": check.severity.value,
        "title": check.words.title,
        "verdict": result.verdict.value,
        "duration_s": round(result.duration_s, 3),
        "sent": result.sent,
        "came": result.came,
        "expected": check.words.expects,
        "why": result.why,
        "source": check.words.source,
        "needs": [hook.value for hook in check.needs],
        "warnings": list(result.warnings),
        "measurements": [
            {"name": one.name, "value": one.value, "unit": one.unit}
            for one in result.measurements
        ],
        "calls": [_exchange(one) for one in result.exchanges],
    }


def _exchange(one: Exchange) -> dict[str, Any]:
    return {
        "method": one.method,
        "duration_s": round(one.duration_s, 6),
        "code": one.code,
        "text": one.text,
        "sent": one.sent.hex(),
        "came": one.came.hex(),
    }
