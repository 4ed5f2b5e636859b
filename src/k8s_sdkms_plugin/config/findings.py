"""What is wrong with a config, or worth a word: field, what, remedy."""

from __future__ import annotations

import enum

from attrs import frozen


class Severity(enum.Enum):
    """Whether the daemon may start."""

    ERROR = "error"
    WARNING = "warning"


@frozen
class Finding:
    """One problem.

    Attributes:
        severity: An error keeps the daemon from starting.
        field: The setting's name, or ``file``.
        what: What is wrong; never quotes a value that may be secret.
        remedy: What would be right.
    """

    severity: Severity
    field: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity.value}: {self.field}: {self.what}; {self.remedy}"


def error(field: str, what: str, remedy: str) -> Finding:
    """Return a finding that keeps the daemon from starting."""
    return Finding(Severity.ERROR, field, what, remedy)


def warning(field: str, what: str, remedy: str) -> Finding:
    """Return a finding that does not."""
    return Finding(Severity.WARNING, field, what, remedy)
