"""The latency distribution of one call as an inline SVG."""

from __future__ import annotations

import math
from collections import Counter
from html import escape
from typing import TYPE_CHECKING, Final

from kms_conformance.outcome import shown
from kms_conformance.recorder import percentile


if TYPE_CHECKING:
    from collections.abc import Iterable

    from kms_conformance.recorder import Latencies


PER_DECADE: Final = 8
"""Bins in each factor of ten: a latency spans decades, so its scale is logarithmic."""

_FASTEST_S: Final = 1e-5
_BAR_PX: Final = 16
_GAP_PX: Final = 2
_HEIGHT_PX: Final = 110
_FOOT_PX: Final = 24
_LEFT_PX: Final = 8
_RIGHT_PX: Final = 60


def bins(durations_s: Iterable[float]) -> tuple[tuple[int, int], ...]:
    """Return how many durations lie in each bin, from the first to the last that has.

    Bin n is from 10**(n/8) up to 10**((n+1)/8) seconds.
    """
    counts = Counter(
        math.floor(math.log10(max(value, _FASTEST_S)) * PER_DECADE)
        for value in durations_s
    )
    return tuple((n, counts[n]) for n in range(min(counts), max(counts) + 1))


def chart(latencies: Latencies) -> str:
    """Return a figure: a bar for each bin, and the percentiles below it."""
    values = latencies.durations_s
    figures = ", ".join(
        f"{name} {_milliseconds(percentile(values, percent))}"
        for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100))
    )
    caption = f"{shown(latencies.method)}: {len(values)} calls, {figures}"
    counted = bins(values)
    most = max(count for _, count in counted)
    width = _LEFT_PX + len(counted) * (_BAR_PX + _GAP_PX) + _RIGHT_PX
    bars = "".join(
        _bar(place, n, count, most) for place, (n, count) in enumerate(counted)
    )
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f'<svg role="img" aria-label="{escape(caption)}" width="{width}" '
        f'height="{_HEIGHT_PX + _FOOT_PX}" '
        f'viewBox="0 0 {width} {_HEIGHT_PX + _FOOT_PX}">{bars}</svg></figure>'
    )


def _bar(place: int, n: int, count: int, most: int) -> str:
    left = _LEFT_PX + place * (_BAR_PX + _GAP_PX)
    # One call among thousands must be seen, too: it may be the one that matters.
    height = max(1.0, _HEIGHT_PX * count / most) if count else 0.0
    begin, end = (_milliseconds(10 ** (m / PER_DECADE)) for m in (n, n + 1))
    bar = (
        f'<rect x="{left}" y="{_HEIGHT_PX - height:.1f}" width="{_BAR_PX}" '
        f'height="{height:.1f}" fill="#0969da">'
        f"<title>{begin} to {end}: {count}</title></rect>"
    )
    if place and n % (PER_DECADE // 2):
        return bar
    return f'{bar}<text x="{left}" y="{_HEIGHT_PX + 16}">{begin}</text>'


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
