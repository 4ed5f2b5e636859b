"""Tells what was found: a line for each object, a summary, or JSON."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from attrs import Factory, define, frozen

from k8s_sdkms_plugin.verify.findings import describe
from kms_core.errors import one_line


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from k8s_sdkms_plugin.verify.stored import StoredObject


PROGRESS_S: Final = 5.0
"""Seconds between two signs of life on stderr."""

_MAX_SHOWN: Final = 300


@frozen
class Looked:
    """An object that was looked at.

    Attributes:
        stored: What it is.
        findings: What is wrong with it.
        opens: Whether the plugin opens it; None if that was not tried.
    """

    stored: StoredObject
    findings: tuple[str, ...]
    opens: bool | None


@define
class _Line:
    """A line of the summary: all objects of one provider and key_id."""

    objects: int = 0
    opened: int = 0
    findings: int = 0
    seeds: set[bytes] = Factory(set)
    local_keks: set[bytes] = Factory(set)


class Report:
    """Collects what is looked at, and tells it.

    Args:
        now: Seconds of a clock that goes on steadily.
        as_json: Tell one JSON object at the end.
        quiet: Tell of the objects only those with findings.
    """

    def __init__(self, now: Callable[[], float], *, as_json: bool, quiet: bool) -> None:
        self._now = now
        self._as_json = as_json
        self._quiet = quiet
        self._objects: list[dict[str, Any]] = []
        self._lines: dict[tuple[str, ...], _Line] = {}
        self._said_at = now()
        self.looked_at = 0
        self.with_findings = 0

    def add(self, looked: Looked) -> None:
        """Take an object in; tell it, if it is told by itself."""
        self.looked_at += 1
        self.with_findings += bool(looked.findings)
        self._count(looked)
        if looked.findings or not self._quiet:
            if self._as_json:
                self._objects.append(_as_json(looked))
            else:
                print(_as_line(looked))
        if self._now() - self._said_at >= PROGRESS_S:
            self._said_at = self._now()
            print(f"looked at {self.looked_at} objects ...", file=sys.stderr)

    def end(self, code: int, problem: str = "") -> None:
        """Tell the summary.

        Args:
            code: The exit code.
            problem: Why the look ended early; empty if it did not.
        """
        if self._as_json:
            print(json.dumps(self._all(code, problem), indent=2))
            return
        if self.looked_at:
            print("\nsummary")
        for names, line in sorted(self._lines.items()):
            print(f"  {_summary_line(names, line)}")
        wrong = f"{self.with_findings} with findings" if self.with_findings else "well"
        if self.looked_at and not problem:
            print(f"  {_count(self.looked_at, 'object')}, {wrong}")

    def _count(self, looked: Looked) -> None:
        stored, sealed = looked.stored, looked.stored.sealed
        names = (describe(stored), "", "", "")
        if sealed is not None:
            names = (describe(stored), sealed.key_id, _format(stored), sealed.kid)
        line = self._lines.setdefault(names, _Line())
        line.objects += 1
        line.opened += looked.opens is True
        line.findings += bool(looked.findings)
        if sealed is not None:
            # Digests, so that what is kept is small.
            line.seeds.add(_digest(sealed.sealed_seed))
            line.local_keks |= {_digest(sealed.wrapped)} if sealed.wrapped else set()

    def _all(self, code: int, problem: str) -> dict[str, Any]:
        summary = [
            {
                "provider": provider,
                "key_id": key_id,
                "format": shown,
                "dsm_key": kid,
                "objects": line.objects,
                "opened": line.opened,
                "with_findings": line.findings,
                "seeds": len(line.seeds),
                "local_keks": len(line.local_keks),
            }
            for (provider, key_id, shown, kid), line in sorted(self._lines.items())
        ]
        return {
            "exit": code,
            "problem": problem,
            "looked_at": self.looked_at,
            "with_findings": self.with_findings,
            "summary": summary,
            "objects": self._objects,
        }


def shown_key(key: bytes) -> str:
    """Return a key of etcd, fit for a terminal."""
    text = key.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_SHOWN])


def _as_line(looked: Looked) -> str:
    level = "finding" if looked.findings else "ok"
    said = [describe(looked.stored), *_about(looked), *looked.findings]
    return f"{level:<8}{shown_key(looked.stored.key)}: {'; '.join(said)}"


def _about(looked: Looked) -> list[str]:
    sealed = looked.stored.sealed
    if sealed is None:
        return []
    said = [f"key_id {_shown(sealed.key_id)}"]
    if sealed.kid:
        said.append(f"format {_format(looked.stored)}, DSM key {sealed.kid}")
    if looked.opens:
        said.append("opens")
    return said


def _as_json(looked: Looked) -> dict[str, Any]:
    stored, sealed = looked.stored, looked.stored.sealed
    return {
        "key": shown_key(stored.key),
        "provider": stored.provider,
        "provider_version": stored.provider_version,
        "provider_name": stored.provider_name,
        "key_id": "" if sealed is None else sealed.key_id,
        "format": _format(stored),
        "dsm_key": "" if sealed is None else sealed.kid,
        "opens": looked.opens,
        "findings": list(looked.findings),
    }


def _summary_line(names: Iterable[str], line: _Line) -> str:
    provider, key_id, shown, kid = names
    said = [_count(line.objects, "object"), provider]
    if key_id:
        said.append(f"key_id {_shown(key_id)}")
    if kid:
        said.append(f"format {shown}, DSM key {kid}")
    if line.seeds:
        said.append(_count(len(line.seeds), "seed"))
    if line.local_keks:
        said.append(_count(len(line.local_keks), "local KEK"))
    if line.opened:
        said.append(f"{line.opened} opened")
    if line.findings:
        said.append(f"{line.findings} with findings")
    return "; ".join(said)


def _format(stored: StoredObject) -> str:
    """Return the version of our format as text; empty if it has none."""
    sealed = stored.sealed
    return "" if sealed is None or sealed.version is None else str(int(sealed.version))


def _shown(text: str) -> str:
    return one_line(text, _MAX_SHOWN)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
