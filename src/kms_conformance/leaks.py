"""Leaks: finds in a plugin's words what must never stand there."""

from __future__ import annotations

import base64
import re
from typing import Final


PART_BYTES: Final = 8
"""Bytes of a secret in a row that count as a leak: no chance brings them about."""

_TELLTALES: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("a stack trace of Python", re.compile(r'Traceback \(most|File "[^"]+", line \d')),
    ("a stack trace of Go", re.compile(r"goroutine \d+ \[|\.go:\d+ \+0x|panic: ")),
    ("a stack trace of Java", re.compile(r"\bat [\w.$]+\([\w.]+\.(java|kt):\d+\)")),
    ("a stack trace of Rust", re.compile(r"stack backtrace:|panicked at ")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")),
    # Each of the last two tries a run of letters once: a hostile text may be long.
    (
        "a token",
        re.compile(
            r"\bBearer\s+\S"
            r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}"
            r"|\beyJ\w{8,}\.[\w-]{8,}"
        ),
    ),
    ("a token", re.compile(r"\bBasic\s+(?=\S*([\d=]|[a-z][A-Z]))[\w+/-]{8,}")),
    ("a password", re.compile(r"(?i)(password|passwd|token|api_?key)=[^\s&;,]{4,}")),
    ("a password in a URL", re.compile(r"\b\w+://[^\s/:@]*:[^\s/@]+@")),
)


def leaks(text: str, secret: bytes = b"") -> tuple[str, ...]:
    """Return what *text* tells that it must not: names of kinds, never the secret.

    Args:
        text: A plugin's words.
        secret: Bytes of which no part may stand in it, in any usual writing.
    """
    found = [name for name, telltale in _TELLTALES if telltale.search(text)]
    if any(_stands_in(text, part) for part in _parts(secret)):
        found.append("the plaintext")
    return tuple(found)


def _parts(secret: bytes) -> tuple[bytes, ...]:
    count = max(len(secret) - PART_BYTES + 1, 0)
    return tuple(secret[at : at + PART_BYTES] for at in range(count))


def _stands_in(text: str, part: bytes) -> bool:
    lower = text.lower()
    numbers = ", ".join(str(byte) for byte in part)
    writings = (
        part.hex(),
        part.hex(" "),
        part.hex(":"),
        numbers,
        numbers.replace(",", ""),  # as Go prints a slice
        repr(part)[2:-1].lower(),
        part.decode("latin-1").lower(),
    )
    # Base64 turns each three bytes into four characters; one of three neighbouring
    # parts begins where three bytes do.
    inner = base64.b64encode(part[: len(part) // 3 * 3]).decode()
    safe = inner.replace("+", "-").replace("/", "_")
    return any(one in lower for one in writings) or inner in text or safe in text
