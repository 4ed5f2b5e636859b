"""Reads an EncryptionConfiguration, strictly: what is not known is refused.

kube-apiserver refuses unknown and repeated fields since 1.31, and so does this: what
we don't know we can't keep. No error quotes a value, which may be a key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from k8s_sdkms_plugin.render.encryption import (
    API_VERSION,
    KEYED_KINDS,
    KIND,
    EncryptionConfiguration,
    Identity,
    Key,
    Keyed,
    Kms,
    Provider,
    Rule,
)
from k8s_sdkms_plugin.render.refusal import RenderRefused


if TYPE_CHECKING:
    from pathlib import Path


MAX_FILE_BYTES: Final = 1_000_000

# A field name that is shown can't be a key that slipped into its place.
_SHOWN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}")


def read_configuration(path: Path) -> EncryptionConfiguration:
    """Return the EncryptionConfiguration in a file, YAML or JSON.

    Raises:
        RenderRefused: It is none that kube-apiserver takes, or it has something that
            is not known here.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as failure:
        why = failure.strerror or type(failure).__name__
        raise RenderRefused(f"error: {path} can't be read ({why})") from None
    if len(content) > MAX_FILE_BYTES:
        raise RenderRefused(f"error: {path} is too large for an encryption config")
    return parse(content)


def parse(content: bytes) -> EncryptionConfiguration:
    """Do the same for the content of a file.

    Raises:
        RenderRefused: As above.
    """
    top = _fields("the file", _load(content), {"kind", "apiVersion", "resources"})
    if top.get("kind") != KIND or top.get("apiVersion") != API_VERSION:
        raise RenderRefused(f"error: the file is no {KIND} of {API_VERSION}")
    rules = _list("resources", top.get("resources"))
    configuration = EncryptionConfiguration(
        tuple(_rule(f"resources[{i}]", rule) for i, rule in enumerate(rules))
    )
    _refuse_repeated_names(configuration)
    return configuration


def _load(content: bytes) -> Any:
    try:
        # A SafeLoader of ours, which builds nothing but plain values.
        return yaml.load(content, Loader=_StrictLoader)  # noqa: S506 - see above
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        place = "" if mark is None else f" (line {mark.line + 1})"
        # Our own words alone: PyYAML's may quote the file.
        what = problem.problem if isinstance(problem, _Refused) else "is not valid YAML"
        raise RenderRefused(f"error: the encryption config {what}{place}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise RenderRefused("error: the encryption config is not valid YAML") from None


class _Refused(yaml.MarkedYAMLError):
    """YAML that is valid, but that we don't take; its problem is in our words."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses repeated names, which PyYAML overwrites, and aliases.

    Aliases because a few lines of them expand to gigabytes.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call]
            problem = "has an alias, which is not taken; write the value out"
            raise _Refused(problem=problem, problem_mark=alias.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - PyYAML's signature
    ) -> dict[Any, Any]:
        seen = set()
        for name, _ in node.value:
            if name.tag != "tag:yaml.org,2002:str" or name.value in seen:
                problem = "has a field that is repeated, or whose name is no text"
                raise _Refused(problem=problem, problem_mark=name.start_mark)
            seen.add(name.value)
        return super().construct_mapping(node, deep=deep)


def _rule(where: str, raw: Any) -> Rule:
    fields = _fields(where, raw, {"resources", "providers"})
    resources = _list(f"{where}.resources", fields.get("resources"))
    providers = _list(f"{where}.providers", fields.get("providers"))
    return Rule(
        tuple(_text(f"{where}.resources[{i}]", r) for i, r in enumerate(resources)),
        tuple(_provider(f"{where}.providers[{i}]", p) for i, p in enumerate(providers)),
    )


def _provider(where: str, raw: Any) -> Provider:
    fields = _fields(where, raw, {"kms", "identity", *KEYED_KINDS})
    if len(fields) != 1:
        raise RenderRefused(f"error: {where}: has not exactly one provider")
    ((kind, body),) = fields.items()
    where = f"{where}.{kind}"
    if kind == "identity":
        _fields(where, body, set())
        return Identity()
    if kind == "kms":
        return _kms(where, body)
    keys = _list(f"{where}.keys", _fields(where, body, {"keys"}).get("keys"))
    return Keyed(
        kind, tuple(_key(f"{where}.keys[{i}]", key) for i, key in enumerate(keys))
    )


def _key(where: str, raw: Any) -> Key:
    fields = _fields(where, raw, {"name", "secret"})
    name, secret = (
        _text(f"{where}.{part}", fields.get(part)) for part in ("name", "secret")
    )
    return Key(name, secret)


def _kms(where: str, raw: Any) -> Kms:
    names = {"apiVersion", "name", "endpoint", "timeout", "cachesize"}
    fields = _fields(where, raw, names)
    version, timeout = (
        _text(f"{where}.{part}", fields[part]) if part in fields else None
        for part in ("apiVersion", "timeout")
    )
    cachesize = fields.get("cachesize")
    if version not in (None, "v1", "v2"):
        raise RenderRefused(f"error: {where}.apiVersion: is neither v1 nor v2")
    if cachesize is not None and (type(cachesize) is not int or version == "v2"):
        raise RenderRefused(
            f"error: {where}.cachesize: is a number, and of KMS v1 alone; remove it"
        )
    return Kms(
        _text(f"{where}.name", fields.get("name")),
        _text(f"{where}.endpoint", fields.get("endpoint")),
        version,
        timeout,
        cachesize,
    )


def _refuse_repeated_names(configuration: EncryptionConfiguration) -> None:
    names = [
        p.name
        for rule in configuration.rules
        for p in rule.providers
        if isinstance(p, Kms) and p.is_v2
    ]
    if len(names) != len(set(names)):
        raise RenderRefused(
            "error: two kms providers of v2 have one name, which kube-apiserver "
            "refuses; list all their resources in one rule"
        )


def _fields(where: str, raw: Any, known: set[str]) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise RenderRefused(f"error: {where}: must be a map of fields, {{}} if empty")
    for name in raw:
        if name not in known:
            shown = name if _SHOWN.fullmatch(name) else "a field"
            raise RenderRefused(
                f"error: {where}: {shown} is not known, so it could not be kept; "
                "correct it, or merge by hand"
            )
    return raw


def _list(where: str, raw: Any) -> list[Any]:
    if not isinstance(raw, list) or not raw:
        raise RenderRefused(f"error: {where}: must be a list with something in it")
    return raw


def _text(where: str, raw: Any) -> str:
    if not isinstance(raw, str) or not raw:
        raise RenderRefused(
            f"error: {where}: must be text; put quotes around what is not taken for it"
        )
    return raw
