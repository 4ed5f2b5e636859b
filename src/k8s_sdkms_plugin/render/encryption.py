"""EncryptionConfiguration: its values, and how it is written as YAML.

Rules are kube-apiserver's (kms-v2-contract.md section 7). The text is ours, line by
line, so that the same values always give the same file.
"""

from __future__ import annotations

import json
import re
from typing import Final

from attrs import evolve, field, frozen

from k8s_sdkms_plugin.render.refusal import RenderRefused


API_VERSION: Final = "apiserver.config.k8s.io/v1"
KIND: Final = "EncryptionConfiguration"

KEYED_KINDS: Final = ("aescbc", "aesgcm", "secretbox")
DEFAULT_NAME: Final = "dsm"
DEFAULT_TIMEOUT: Final = "3s"
DEFAULT_RESOURCES: Final = ("secrets",)

_PLAIN: Final = re.compile(
    r"(?:unix://)?[A-Za-z/][A-Za-z0-9/+._-]*={0,2}|[0-9]+(?:ms|s|m|h)"
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAX_BMP: Final = 0xFFFF
# What YAML 1.1 takes for something else than text.
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


@frozen
class Key:
    """A key of a provider that has its keys in the file."""

    name: str
    secret: str = field(repr=False)


@frozen
class Keyed:
    """``aescbc``, ``aesgcm`` or ``secretbox``, with its keys in their order."""

    kind: str
    keys: tuple[Key, ...]


@frozen
class Kms:
    """A kms provider.

    Attributes:
        name: A part of what is stored: it can't be changed.
        endpoint: ``unix://`` and the path of its socket.
        api_version: ``v1`` or ``v2``; None if the file does not say, which is v1.
        timeout: As the file has it; None if it has none.
        cachesize: Of v1 alone.
    """

    name: str
    endpoint: str
    api_version: str | None = "v2"
    timeout: str | None = DEFAULT_TIMEOUT
    cachesize: int | None = None

    @property
    def is_v2(self) -> bool:
        """Return whether it is one of KMS v2."""
        return self.api_version == "v2"


@frozen
class Identity:
    """No encryption."""


Provider = Keyed | Kms | Identity


@frozen
class Rule:
    """Which resources, and which providers: the first writes, all read."""

    resources: tuple[str, ...]
    providers: tuple[Provider, ...]

    def first(self, provider: Provider) -> Rule:
        """Return this rule with *provider* first, the others in their order."""
        others = tuple(p for p in self.providers if p != provider)
        return evolve(self, providers=(provider, *others))


@frozen
class EncryptionConfiguration:
    """A whole file."""

    rules: tuple[Rule, ...]


def kms_of(name: str, endpoint: str) -> Kms:
    """Return our provider.

    Raises:
        RenderRefused: kube-apiserver would not take the name, or not without quotes.
    """
    if not _NAME.fullmatch(name):
        raise RenderRefused(
            "error: --name: use letters, digits, _ . - alone, 63 at most: the name "
            "becomes a part of all that is stored"
        )
    return Kms(name, endpoint)


def fresh(kms: Kms, resources: tuple[str, ...]) -> EncryptionConfiguration:
    """Return the configuration of a cluster that encrypts nothing yet."""
    return EncryptionConfiguration((new_rule(kms, resources),))


def new_rule(kms: Kms, resources: tuple[str, ...]) -> Rule:
    """Return a rule that encrypts what nothing encrypts yet.

    A resource that another one of them includes is left out: kube-apiserver refuses a
    rule that names both.
    """
    named = tuple(dict.fromkeys(resources))
    widest = (
        one
        for one in named
        if not any(includes(other, one) for other in named if other != one)
    )
    return Rule(tuple(widest), (kms, Identity()))


def includes(listed: str, resource: str) -> bool:
    """Return whether *listed* is *resource*, or a wildcard that includes it.

    ``*.`` is every resource of the core group, ``*.apps`` every one of apps, ``*.*``
    all of them.
    """
    _, _, group = resource.partition(".")
    return listed in (resource, f"*.{group}", "*.*")


def kind_of(provider: Provider) -> str:
    """Return a provider's field name in the file."""
    match provider:
        case Keyed():
            return provider.kind
        case Kms():
            return "kms"
        case Identity():
            return "identity"


def has_secrets(configuration: EncryptionConfiguration) -> bool:
    """Return whether the file holds keys."""
    return any(isinstance(p, Keyed) for r in configuration.rules for p in r.providers)


def to_yaml(configuration: EncryptionConfiguration, indent: str = "") -> str:
    """Return the file, each line indented by *indent*."""
    lines = [f"kind: {KIND}", f"apiVersion: {API_VERSION}", "resources:"]
    for rule in configuration.rules:
        lines.append("  - resources:")
        lines += [f"      - {_scalar(resource)}" for resource in rule.resources]
        lines.append("    providers:")
        for provider in rule.providers:
            lines += [f"      {line}" for line in _provider_lines(provider)]
    return "".join(f"{indent}{line}\n" for line in lines)


def _provider_lines(provider: Provider) -> list[str]:
    match provider:
        case Identity():
            return ["- identity: {}"]
        case Keyed():
            lines = [f"- {provider.kind}:", "    keys:"]
            for key in provider.keys:
                lines.append(f"      - name: {_scalar(key.name)}")
                lines.append(f"        secret: {_scalar(key.secret)}")
            return lines
        case Kms():
            given = {
                "apiVersion": provider.api_version,
                "name": provider.name,
                "endpoint": provider.endpoint,
                "timeout": provider.timeout,
            }
            lines = [f"    {k}: {_scalar(v)}" for k, v in given.items() if v]
            if provider.cachesize is not None:
                lines.append(f"    cachesize: {provider.cachesize}")
            return ["- kms:", *lines]


def _scalar(text: str) -> str:
    """Return *text* plain where no reader of YAML takes it for anything else."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # JSON's strings are YAML's, but for JSON's pairs of surrogates, in which YAML sees
    # no character. ASCII alone: no reader disagrees about that.
    quoted = (
        f"\\U{ord(c):08x}" if ord(c) > _MAX_BMP else json.dumps(c)[1:-1] for c in text
    )
    return f'"{"".join(quoted)}"'
