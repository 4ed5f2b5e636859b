"""Report: what a run found, as values."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from attrs import frozen

from kms_conformance.outcome import Severity, Verdict


if TYPE_CHECKING:
    from datetime import datetime

    from kms_conformance.check import Check
    from kms_conformance.context import Measurement
    from kms_conformance.recorder import Exchange, Latencies


EXIT_CONFORMS: Final = 0
EXIT_FAILED: Final = 1


@frozen
class Result:
    """What became of one check.

    Attributes:
        check: The check.
        verdict: What became of it.
        duration_s: Seconds that it took.
        sent: What it sent, if it failed.
        came: What came instead, if it failed; if it was not run, why.
        why: Why kube-apiserver cares, if it failed.
        warnings: What could be better.
        measurements: What it measured.
        exchanges: Its last calls, if it failed.
        is_gone: Whether nobody listened, or answered, after it.
    """

    check: Check
    verdict: Verdict
    duration_s: float = 0.0
    sent: str = ""
    came: str = ""
    why: str = ""
    warnings: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    is_gone: bool = False

    @property
    def breaks_conformance(self) -> bool:
        """Whether it alone makes the run fail.

        A plugin that is gone does, whatever the check: no MUST can be run any more.
        """
        is_must = self.check.severity is Severity.MUST
        return self.verdict is Verdict.FAILED and (is_must or self.is_gone)


@frozen
class Report:
    """What a run found.

    Attributes:
        endpoint: The plugin's socket.
        began: When it began, with its time zone.
        duration_s: Seconds that it took.
        scale: The name of its scale.
        random_seed: What repeats its randomness.
        results: One for each selected check, in the order in which they ran.
        latencies: How long the calls took, by method.
    """

    endpoint: str
    began: datetime
    duration_s: float
    scale: str
    random_seed: int
    results: tuple[Result, ...]
    latencies: tuple[Latencies, ...] = ()

    def count(self, verdict: Verdict) -> int:
        """Return how many checks ended with *verdict*."""
        return Counter(one.verdict for one in self.results)[verdict]

    def of(self, verdict: Verdict) -> tuple[Result, ...]:
        """Return the results that ended with *verdict*."""
        return tuple(one for one in self.results if one.verdict is verdict)

    @property
    def exit_code(self) -> int:
        """0 if something ran, each MUST that ran holds and nobody is gone, else 1."""
        broken = any(one.breaks_conformance for one in self.results)
        return EXIT_CONFORMS if self.has_run and not broken else EXIT_FAILED

    @property
    def has_run(self) -> bool:
        """Whether any check ran: of nothing, nothing can be said."""
        return self.count(Verdict.NOT_RUN) < len(self.results)

    @property
    def conclusion(self) -> str:
        """What the run says of the plugin, in a sentence."""
        if not self.has_run:
            return "Nothing was run."
        conforms = "conforms" if self.exit_code == EXIT_CONFORMS else "does NOT conform"
        return f"The plugin {conforms}."
