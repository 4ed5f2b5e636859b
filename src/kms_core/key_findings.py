"""What an operator should know about a key: findings, and when they are said.

- An error is why the key can't serve: ``KeyDescription.unfitness``, under the codes of
  the errors.
- A warning is what will go wrong, or could.
- A notice is what will happen and needs nobody.

A key under a quorum policy shows in no description: the proof at start, before an
announcement and each hour finds it (``APPROVAL-NEEDED``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from kms_core.errors import one_line
from kms_core.events import KeyFindingReported
from kms_core.key_rules import RULES, Severity, Sight


if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from kms_core.ports import Event
    from kms_core.provider import KeyDescription


@frozen
class KeyFinding:
    """One thing that was found.

    Attributes:
        severity: How grave it is.
        code: Stable name, for people and for alerts.
        cause: What was found, one line, without anything that was not checked.
        remedy: What the operator should do, one line.
    """

    severity: Severity
    code: str
    cause: str
    remedy: str


def key_findings(
    key: KeyDescription, now: dt.datetime, *, hides_rotation: bool = False
) -> tuple[KeyFinding, ...]:
    """Return what is to be said of *key*, errors first.

    Args:
        key: What the key service says of it.
        now: The date, in UTC.
        hides_rotation: Whether the key_id in use can't show a rotation (Go plugin's).
    """
    errors = [
        KeyFinding(Severity.ERROR, error.code, error.cause, error.hint)
        for error in key.unfitness()
    ]
    sight = Sight(key, now, hides_rotation)
    others = [
        KeyFinding(rule.severity, rule.code, one_line(cause), rule.remedy)
        for rule in RULES
        if (cause := rule.find(sight)) is not None
    ]
    return (*errors, *others)


class ReportedFindings:
    """Remembers what was said of the announced key, so that nothing is said twice.

    Errors are left to the reports of the standing.

    Args:
        emit: Takes a KeyFindingReported.
    """

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._kid = ""
        self._said: dict[str, KeyFinding] = {}

    def update(
        self, key: KeyDescription, now: dt.datetime, *, hides_rotation: bool
    ) -> None:
        """Say what is new since the last time, and what has gone."""
        found = {
            finding.code: finding
            for finding in key_findings(key, now, hides_rotation=hides_rotation)
            if finding.severity is not Severity.ERROR
        }
        before = self._said
        if self._kid != key.kid:
            self._tell(before, gone=True)
            before = {}
        gone = {code: said for code, said in before.items() if code not in found}
        self._tell(gone, gone=True)
        self._kid, self._said = key.kid, found
        self._tell({c: f for c, f in found.items() if before.get(c) != f}, gone=False)

    def _tell(self, findings: dict[str, KeyFinding], *, gone: bool) -> None:
        for finding in findings.values():
            self._emit(
                KeyFindingReported(
                    kid=self._kid,
                    code=finding.code,
                    severity=finding.severity.value,
                    cause=finding.cause,
                    remedy=finding.remedy,
                    gone=gone,
                )
            )
