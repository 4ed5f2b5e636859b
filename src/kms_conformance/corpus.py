"""Corpus: the file in which sealed seeds wait for later runs of the kit.

The first line says what the file is; each further line is one sealed seed, as JSON. The
seeds are random test bytes of the kit's own, which protect nothing, so that they may
stand there in clear. Bytes are hexadecimal.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from kms_conformance.connection import Sealed, sorted_pairs


if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


FORMAT: Final = "kms-conformance-corpus/1"

_ABOUT: Final = (
    "Sealed seeds of earlier runs of the conformance kit. The seeds are the kit's own "
    "random test bytes; they protect nothing, and may stand here in clear."
)


class CorpusRefused(ValueError):
    """The file is no corpus, or can't be read or written."""


@frozen
class Entry:
    """A sealed seed of some run.

    Attributes:
        sealed_at: When it was sealed.
        seed: The kit's random bytes.
        sealed: What the plugin made of them.
    """

    sealed_at: datetime
    seed: bytes
    sealed: Sealed


@frozen
class Corpus:
    """The file.

    Attributes:
        path: Where it is, or will be.
    """

    path: Path

    def entries(self) -> tuple[Entry, ...]:
        """Return what earlier runs left, the oldest first; nothing without a file.

        Raises:
            CorpusRefused: The file is no corpus, or can't be read.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusRefused(f"it can't be read: {error}") from None
        if not lines:
            return ()
        if _object(1, lines[0]).get("format") != FORMAT:
            raise CorpusRefused(f"line 1 does not say {FORMAT}")
        return tuple(_entry(number, line) for number, line in enumerate(lines[1:], 2))

    def add(self, entries: Iterable[Entry]) -> None:
        """Write *entries* at the file's end, and make it if it is not there.

        Raises:
            CorpusRefused: It can't be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                if file.tell() == 0:
                    file.write(_line({"format": FORMAT, "about": _ABOUT}))
                for entry in entries:
                    file.write(_line(_fields(entry)))
        except OSError as error:
            raise CorpusRefused(f"it can't be written: {error}") from None


def _fields(entry: Entry) -> dict[str, Any]:
    sealed = entry.sealed
    return {
        "sealed_at": entry.sealed_at.isoformat(),
        "seed": entry.seed.hex(),
        "ciphertext": sealed.ciphertext.hex(),
        "key_id": sealed.key_id,
        "annotations": {key: value.hex() for key, value in sealed.annotations},
    }


def _entry(number: int, line: str) -> Entry:
    fields = _object(number, line)
    try:
        pairs = fields["annotations"].items()
        sealed = Sealed(
            bytes.fromhex(fields["ciphertext"]),
            _sendable(str(fields["key_id"])),
            sorted_pairs(
                (_sendable(key), bytes.fromhex(value)) for key, value in pairs
            ),
        )
        sealed_at = datetime.fromisoformat(fields["sealed_at"])
        return Entry(sealed_at, bytes.fromhex(fields["seed"]), sealed)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CorpusRefused(f"line {number} is no sealed seed") from None


def _sendable(text: str) -> str:
    """Return *text*, or raise ValueError if gRPC can't send it."""
    text.encode()  # JSON has surrogates that stand alone, UTF-8 has not
    return text


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CorpusRefused(f"line {number} is no JSON object")
    return found


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields) + "\n"
