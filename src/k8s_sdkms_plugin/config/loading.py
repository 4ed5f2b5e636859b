"""Reads a config file and reports every problem at once."""

from __future__ import annotations

import json
import os
import re
import stat
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import frozen

from k8s_sdkms_plugin.config.findings import Finding, Severity, error, warning
from k8s_sdkms_plugin.config.kinds import JsonObject, converter, from_text
from k8s_sdkms_plugin.config.model import (
    PluginConfig,
    environment_variable,
    is_secret,
)
from k8s_sdkms_plugin.config.rules import (
    across_settings,
    proxy_findings,
    within_a_setting,
)
from kms_core.key_id import go_plugin_key_id


if TYPE_CHECKING:
    from collections.abc import Mapping


MAX_FILE_BYTES: Final = 1_000_000
MAX_LABEL_CHARS: Final = 60
MAX_PATH_CHARS: Final = 4096
_OTHERS: Final = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
_NEAR: Final = 2
"""Edits within which an unknown field is taken for a misspelt one."""

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@frozen
class LoadedConfig:
    """A config file, read and checked.

    Attributes:
        path: Where it was read from.
        findings: Every problem; the config is None if one of them is an error.
        config: The settings.
        go_plugin_key_id: The key_id that the Go plugin gives for this file: from
            the strings as they stand in it. Empty without a config.
    """

    path: Path
    findings: tuple[Finding, ...]
    config: PluginConfig | None
    go_plugin_key_id: str

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Return the findings that keep the daemon from starting."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)


@frozen
class _Given:
    """A value and where it came from."""

    value: Any
    from_environment: bool = False


def load(
    path: Path, environment: Mapping[str, str], *, strict: bool = False
) -> LoadedConfig:
    """Read the config at *path*. Raises nothing: problems are findings.

    Args:
        path: The JSON file.
        environment: Environment variables; each overrides its setting in the file.
        strict: Whether unknown fields are errors.
    """
    raw, findings = read_pairs(path)
    return _load_pairs(path, raw, findings, environment, strict=strict)


def load_content(
    name: str, content: bytes, environment: Mapping[str, str]
) -> LoadedConfig:
    """Do the same for a config that is in no file yet.

    Args:
        name: What to call it in findings.
        content: The JSON.
        environment: As for ``load``.
    """
    findings: list[Finding] = []
    path = Path(name)
    raw = _pairs(path, content, findings)
    return _load_pairs(path, raw, findings, environment, strict=False)


def read_pairs(
    path: Path,
) -> tuple[tuple[tuple[str, Any], ...] | None, list[Finding]]:
    """Return the names and values in the file at *path*, or None, and the findings."""
    findings: list[Finding] = []
    content = _read(path, findings)
    raw = None if content is None else _pairs(path, content, findings)
    return raw, findings


def _load_pairs(
    path: Path,
    raw: tuple[tuple[str, Any], ...] | None,
    findings: list[Finding],
    environment: Mapping[str, str],
    *,
    strict: bool,
) -> LoadedConfig:
    in_file = {} if raw is None else _known_fields(raw, findings, strict=strict)
    given = {name: _Given(value) for name, value in in_file.items()}
    if raw is not None:
        given |= _from_environment(environment, findings)
    values = _structure(given, findings)
    if raw is not None:
        findings += _missing(given)
        findings += across_settings(values, set(given))
        findings += proxy_findings(values, environment)
    if any(f.severity is Severity.ERROR for f in findings):
        return LoadedConfig(path, tuple(findings), None, "")
    return LoadedConfig(
        path,
        tuple(findings),
        PluginConfig(**values),
        _legacy_hash(in_file, values),
    )


def _read(path: Path, findings: list[Finding]) -> bytes | None:
    """Return the file's content, or None after an error."""
    shown = _label(str(path), MAX_PATH_CHARS)
    try:
        with open(path, "rb", opener=_open) as file:
            mode = os.fstat(file.fileno()).st_mode
            regular = stat.S_ISREG(mode)
            content = file.read(MAX_FILE_BYTES + 1) if regular else b""
    except (OSError, ValueError) as failure:
        # ValueError: a path with a NUL byte.
        reason = getattr(failure, "strerror", None) or type(failure).__name__
        findings.append(
            error(
                "file",
                f"{shown} can't be read ({reason})",
                "name a readable file with --config",
            )
        )
        return None
    if not regular:
        remedy = "name a file with --config"
        findings.append(error("file", f"{shown} is not a regular file", remedy))
        return None
    if mode & _OTHERS:
        findings.append(
            warning(
                "file",
                f"{shown} holds an API key, and its mode {stat.S_IMODE(mode):04o} lets "
                "others read or change it",
                f"chmod 0600 {shown}",
            )
        )
    return content


def _open(path: str, flags: int) -> int:
    # Not blocking, so that a pipe without a writer is a finding, not a hang.
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)


def _pairs(
    path: Path, content: bytes, findings: list[Finding]
) -> tuple[tuple[str, Any], ...] | None:
    """Return the top-level pairs in their order, or None after an error."""
    shown = _label(str(path), MAX_PATH_CHARS)
    remedy = 'write one JSON object, such as {"sdkms_endpoint": "https://..."}'
    if len(content) > MAX_FILE_BYTES:
        findings.append(error("file", f"{shown} is too large for a config", remedy))
        return None
    try:
        loaded = json.loads(content, object_pairs_hook=JsonObject.made)
    except (ValueError, RecursionError) as failure:
        # JSONDecodeError's text quotes nothing of the file; its position helps.
        place = (
            f" (line {failure.lineno}, column {failure.colno})"
            if isinstance(failure, json.JSONDecodeError)
            else ""
        )
        findings.append(error("file", f"{shown} is not valid JSON{place}", remedy))
        return None
    if not isinstance(loaded, JsonObject):
        findings.append(error("file", f"{shown} holds no JSON object", remedy))
        return None
    return loaded.pairs


def _known_fields(
    raw: tuple[tuple[str, Any], ...], findings: list[Finding], *, strict: bool
) -> dict[str, Any]:
    known = {attribute.name for attribute in attrs.fields(PluginConfig)}
    found: dict[str, Any] = {}
    for written, value in raw:
        # Go's encoding/json matches names in any case, and so did the Go plugin.
        name = written.lower()
        label = _label(written)
        if name not in known:
            findings.append(_unknown(label, name, known, strict=strict))
        elif name in found:
            findings.append(error(label, "is given more than once", "keep one of them"))
        else:
            found[name] = value
    return found


def _label(written: str, max_chars: int = MAX_LABEL_CHARS) -> str:
    """Return a name that others chose, fit for a message."""
    shown = "".join(c if c.isprintable() else "?" for c in written[:max_chars])
    return shown or '""'


def _unknown(label: str, name: str, known: set[str], *, strict: bool) -> Finding:
    near = [k for k in sorted(known) if edit_distance(name, k, _NEAR) <= _NEAR]
    if near:
        return error(label, "is not a setting", f"did you mean {' or '.join(near)}?")
    make = error if strict else warning
    return make(label, "is not a setting, so it does nothing", "remove it")


def edit_distance(a: str, b: str, limit: int) -> int:
    """Return how many letters to add, drop or change from *a* to *b*, up to limit + 1.

    The Levenshtein distance, given up early when it exceeds *limit*.
    """
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    row = list(range(len(b) + 1))
    for i, from_a in enumerate(a, 1):
        above = row
        row = [i]
        for j, from_b in enumerate(b, 1):
            change = above[j - 1] + (from_a != from_b)
            row.append(min(change, above[j] + 1, row[j - 1] + 1))
    return min(row[-1], limit + 1)


def _from_environment(
    environment: Mapping[str, str], findings: list[Finding]
) -> dict[str, _Given]:
    found: dict[str, _Given] = {}
    for attribute in attrs.fields(PluginConfig):
        variable = environment_variable(attribute.name)
        if variable not in environment:
            continue
        if is_secret(attribute):
            findings.append(
                error(
                    attribute.name,
                    f"stands in the environment variable {variable}",
                    "unset it and put the secret into the file: an environment leaks",
                )
            )
        else:
            found[attribute.name] = _Given(environment[variable], from_environment=True)
    return found


def _structure(given: dict[str, _Given], findings: list[Finding]) -> dict[str, Any]:
    convert = converter()
    hints = typing.get_type_hints(PluginConfig)
    values: dict[str, Any] = {}
    for name, item in given.items():
        what = environment_variable(name) if item.from_environment else "its value"
        try:
            kind = without_none(hints[name])
            raw = from_text(item.value, kind) if item.from_environment else item.value
            value = convert.structure(raw, kind)
        except ValueError as problem:
            findings.append(error(name, f"{what} is not usable", f"it {problem}"))
            continue
        problems = within_a_setting(name, value)
        findings += problems
        if not any(p.severity is Severity.ERROR for p in problems):
            values[name] = value
    return values


def without_none(hint: Any) -> Any:
    """Return the type of a setting that may be absent."""
    if isinstance(hint, types.UnionType):
        (kind,) = (arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        return kind
    return hint


def _missing(given: dict[str, _Given]) -> list[Finding]:
    return [
        error(attribute.name, "is missing", f"add it, for example {example}")
        for attribute in attrs.fields(PluginConfig)
        if attribute.default is attrs.NOTHING and attribute.name not in given
        for example in (attribute.metadata["example"] or "the app's API key",)
    ]


def _legacy_hash(in_file: dict[str, Any], values: dict[str, Any]) -> str:
    """Return the Go plugin's hash: the file's strings, never overridden ones."""

    def text(name: str) -> str:
        value = in_file.get(name, values.get(name))
        # As Go's encoding/json reads half of a surrogate pair.
        return _LONE_SURROGATE.sub("\ufffd", value) if isinstance(value, str) else ""

    return go_plugin_key_id(
        text("sdkms_endpoint"), key_id=text("key_id"), key_name=text("key_name")
    )
