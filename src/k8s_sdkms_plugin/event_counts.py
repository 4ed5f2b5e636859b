"""Counts of events: the calls that we answer, the requests that we make to DSM.

They are kept here and not in prometheus-client's own instruments, which the whole
process shares: an environment variable of another program's would turn them into files.
Only the event loop's thread counts and reads, so that nothing needs a lock.

Every label has a closed set of values; what is not in it counts as ``other``. A series
that an alert may look for stands at 0 from the start, since a rate misses the first
step of one that was not there.
"""

from __future__ import annotations

import bisect
import collections
import itertools
from typing import TYPE_CHECKING, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.utils import floatToGoString

from kms_core.errors import RpcCode, error_classes
from kms_core.events import (
    CallFinished,
    KeyFindingReported,
    ProviderCallFinished,
    StandingReported,
    Unexpected,
)
from kms_core.key_rules import finding_codes
from kms_core.ports import Event, Telemetry


if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from prometheus_client.core import Metric

    _Counts = collections.Counter[tuple[str, ...]]


PREFIX: Final = "k8s_sdkms_plugin_"

METHODS: Final = ("Status", "Encrypt", "Decrypt")
OPERATIONS: Final = (
    *("login", "refresh", "logout", "health"),
    *("describe", "encrypt", "decrypt"),
)
RPC_CODES: Final = ("OK", "CANCELLED", *(code.value for code in RpcCode))
OK: Final = "OK"
OTHER: Final = "other"

KMS_BOUNDS_S: Final = tuple(0.0001 * 2**n for n in range(20))
"""Those of kube-apiserver's own histogram (contract 5.1), to lay one on the other."""

DSM_BOUNDS_S: Final = tuple(0.001 * 2**n for n in range(15))


class Histogram:
    """Counts durations by upper bound.

    Args:
        bounds_s: Upper bounds in seconds, ascending; infinity is added.
    """

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count a duration."""
        self._counts[bisect.bisect_left(self._bounds_s, duration_s)] += 1
        self.sum_s += duration_s

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many were at most as long as each bound."""
        names = [*map(floatToGoString, self._bounds_s), "+Inf"]
        return list(zip(names, itertools.accumulate(self._counts), strict=True))


class EventCounts(Telemetry):
    """Counts events.

    Attributes:
        trouble: Code of the error that the latest report of the standing names; empty
            if all is well.
    """

    def __init__(self) -> None:
        self._codes = frozenset(cls.code for cls in error_classes())
        self._calls = _zeros((name, OK) for name in METHODS)
        self._errors = _zeros((code,) for code in (*self._codes, OTHER))
        self._call_s = {name: Histogram(KMS_BOUNDS_S) for name in METHODS}
        self._asked = _zeros((name, OK) for name in OPERATIONS)
        self._retries = _zeros((name,) for name in OPERATIONS)
        self._asked_s = {name: Histogram(DSM_BOUNDS_S) for name in OPERATIONS}
        self._findings = dict.fromkeys(finding_codes(), 0.0)
        self._defects = 0
        self.trouble = ""

    def emit(self, event: Event) -> None:
        """Count *event*."""
        match event:
            case CallFinished():
                self._count_call(event)
            case ProviderCallFinished():
                self._count_asked(event)
            case StandingReported(code=code):
                self.trouble = _one_of(self._codes, code) if code else ""
            case KeyFindingReported(code=code, gone=gone):
                self._findings[_one_of(self._findings, code)] = float(not gone)
            case Unexpected():
                self._defects += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the counts as metrics."""
        yield _counter(
            "kms_calls",
            "KMS v2 calls answered, by gRPC status code.",
            ("method", "grpc_code"),
            self._calls,
        )
        yield _counter(
            "errors",
            "KMS v2 calls that failed, by code of the error (docs/errors.md).",
            ("code",),
            self._errors,
        )
        yield _histogram(
            "kms_call_duration_seconds",
            "Time that KMS v2 calls took in the daemon.",
            "method",
            self._call_s,
        )
        yield _counter(
            "dsm_calls",
            "Requests to DSM, retries included, by code of the error or OK.",
            ("operation", "code"),
            self._asked,
        )
        yield _histogram(
            "dsm_call_duration_seconds",
            "Time that requests to DSM took.",
            "operation",
            self._asked_s,
        )
        yield _counter(
            "dsm_retries",
            "Requests to DSM that repeat one that failed.",
            ("operation",),
            self._retries,
        )
        findings = GaugeMetricFamily(
            PREFIX + "key_finding",
            "1 for what an operator should know of the key (docs/key-findings.md).",
            labels=("code",),
        )
        for code, found in self._findings.items():
            findings.add_metric((code,), found)
        yield findings
        yield CounterMetricFamily(
            PREFIX + "defects",
            "Events that must not happen; the log has the details.",
            value=self._defects,
        )

    def _count_call(self, event: CallFinished) -> None:
        method = _one_of(METHODS, event.method)
        self._calls[method, _one_of(RPC_CODES, event.rpc_code)] += 1
        if method in self._call_s:
            self._call_s[method].observe(event.duration_s)
        # A client that hung up is no error of ours.
        if event.error is not None and event.rpc_code != "CANCELLED":
            code = event.error.partition(":")[0]
            self._errors[_one_of(self._codes, code),] += 1

    def _count_asked(self, event: ProviderCallFinished) -> None:
        operation = _one_of(OPERATIONS, event.operation)
        code = OK if event.error is None else _one_of(self._codes, event.error)
        self._asked[operation, code] += 1
        if operation in self._asked_s:
            self._asked_s[operation].observe(event.duration_s)
        if event.attempt > 1:
            self._retries[operation,] += 1


def _zeros(labels: Iterable[tuple[str, ...]]) -> _Counts:
    return collections.Counter(dict.fromkeys(labels, 0))


def _one_of(allowed: Collection[str], value: str) -> str:
    return value if value in allowed else OTHER


def _counter(name: str, what: str, labels: tuple[str, ...], counts: _Counts) -> Metric:
    made = CounterMetricFamily(PREFIX + name, what, labels=labels)
    for values, count in sorted(counts.items()):
        made.add_metric(values, count)
    return made


def _histogram(
    name: str, what: str, label: str, histograms: dict[str, Histogram]
) -> Metric:
    made = HistogramMetricFamily(PREFIX + name, what, labels=(label,))
    for value, histogram in histograms.items():
        made.add_metric((value,), histogram.buckets(), histogram.sum_s)
    return made
