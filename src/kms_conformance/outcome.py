"""How a check ends, and how a call does."""

from __future__ import annotations

import enum
from typing import Final


MAX_SHOWN_CHARS: Final = 300
"""Longest text of a plugin that is shown; the rest is cut."""

_SHOWN_BYTES: Final = 16


class Severity(enum.Enum):
    """Who demands it: MUST, kube-apiserver or its documentation; SHOULD, good sense."""

    MUST = "MUST"
    SHOULD = "SHOULD"


MUST: Final = Severity.MUST
SHOULD: Final = Severity.SHOULD


class Verdict(enum.Enum):
    """What became of a check. ``WARNED`` passed, with something to improve."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    NOT_RUN = "not run"


class Failed(Exception):
    """The plugin did not do what the check expects.

    Args:
        came: What came instead, in a few words.
        sent: What was sent; empty: as the check's docstring says.
        why: Why kube-apiserver cares; empty: as the check's docstring says.
    """

    def __init__(self, came: str, *, sent: str = "", why: str = "") -> None:
        self.came = came
        self.sent = sent
        self.why = why
        super().__init__(came)


class NotRun(Exception):
    """The check does not apply, or needs something that was not given.

    Args:
        reason: What is missing: the flag that would run it, or the circumstance.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class CallFailed(Exception):
    """A call did not end with an answer. Uncaught, it fails the check.

    Attributes:
        method: ``Status``, ``Encrypt`` or ``Decrypt``, or a full path.
        code: Name of the status code, such as ``UNAVAILABLE``; ``OK`` when bytes came
            that are no message of the expected kind.
        text: What the plugin, or gRPC itself, said; unchecked.
    """

    def __init__(self, method: str, code: str, text: str) -> None:
        self.method = method
        self.code = code
        self.text = text
        super().__init__(method, code)

    def __str__(self) -> str:
        return f"{self.method}: {self.code}: {shown(self.text)}"

    @property
    def no_answer(self) -> bool:
        """Whether the deadline passed: a hang, not a refusal."""
        return self.code == "DEADLINE_EXCEEDED"


def shown(text: str) -> str:
    """Return a plugin's *text* on one line, harmless to a terminal, and cut."""
    cut = text[:MAX_SHOWN_CHARS]
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)
    return line if len(text) == len(cut) else f"{line}... ({len(text)} characters)"


def shown_bytes(raw: bytes) -> str:
    """Return the length of *raw* and its first bytes in hexadecimal."""
    more = "..." if len(raw) > _SHOWN_BYTES else ""
    return f"{len(raw)} bytes {raw[:_SHOWN_BYTES].hex()}{more}"
