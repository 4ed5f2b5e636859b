"""Puts our provider into an EncryptionConfiguration that is there, or out of the way.

Rules:

- Nothing that is there is lost: each provider, key and resource stays, in its order.
- Ours comes first in each rule that decides on a resource to be encrypted, so that it
  writes; the way back puts another first and keeps ours for reading.
- A kms provider keeps its name, which is a part of what is stored
  (``k8s:enc:kms:v2:NAME:``). The one at our socket is ours, whatever its name: so a
  cluster that comes from the Go plugin goes on.
- A name stands once in a file, so that each further rule gets one of its own.
"""

from __future__ import annotations

from k8s_sdkms_plugin.render.encryption import (
    DEFAULT_NAME,
    EncryptionConfiguration,
    Identity,
    Kms,
    Provider,
    Rule,
    includes,
    kind_of,
    kms_of,
    new_rule,
)
from k8s_sdkms_plugin.render.refusal import RenderRefused
from k8s_sdkms_plugin.render.site import on_the_host, socket_of


def merged(
    current: EncryptionConfiguration,
    endpoint: str,
    name: str | None,
    resources: tuple[str, ...],
) -> EncryptionConfiguration:
    """Return *current* with our provider first for *resources*.

    Args:
        current: What kube-apiserver has now.
        endpoint: Our socket, as ``unix:///path``.
        name: What our provider is to be called; None takes it from *current*.
        resources: What is to be encrypted.

    Raises:
        RenderRefused: It would rename a provider, or take another for ours.
    """
    _refuse_v1(current, endpoint)
    names = _Names(current, endpoint, name)
    deciding = {resource: _deciding(current, resource) for resource in resources}
    rules = [
        _with_kms_first(rule, endpoint, names) if i in deciding.values() else rule
        for i, rule in enumerate(current.rules)
    ]
    missing = tuple(resource for resource, i in deciding.items() if i is None)
    if missing:
        kms = kms_of(names.next(), endpoint)
        rules.append(new_rule(kms, missing))
    return EncryptionConfiguration(tuple(rules))


def way_back(
    current: EncryptionConfiguration, endpoint: str, kind: str
) -> EncryptionConfiguration:
    """Return *current* with another provider first wherever ours is.

    Args:
        current: What kube-apiserver has now.
        endpoint: Our socket, as ``unix:///path``.
        kind: ``identity``, ``aescbc``, ``aesgcm``, ``secretbox``, or the name of
            another kms provider as ``kms:NAME``.

    Raises:
        RenderRefused: Our provider is in no rule, or a rule lacks the other one.
    """
    if not any(_ours(rule, endpoint) for rule in current.rules):
        raise RenderRefused(
            f"error: no kms provider of v2 with the endpoint {endpoint} is in the "
            "file; name the right --config"
        )
    rules = []
    for i, rule in enumerate(current.rules):
        other = _named(rule, kind, endpoint)
        if _ours(rule, endpoint) is None:
            rules.append(rule)
        elif other is None:
            raise RenderRefused(
                f"error: resources[{i}] has no {kind} to go back to; add it with its "
                "keys behind the others first, on every node"
            )
        else:
            rules.append(rule.first(other))
    return EncryptionConfiguration(tuple(rules))


def covers(rule: Rule, resource: str) -> bool:
    """Return whether *rule* lists *resource*, or a wildcard that includes it."""
    return any(includes(it, resource) for it in rule.resources)


def left_to_earlier_rules(
    made: EncryptionConfiguration, endpoint: str, resources: tuple[str, ...]
) -> tuple[str, ...]:
    """Return what a wildcard in *resources* includes, but ours does not write.

    kube-apiserver has an order: what a narrower rule lists before a wildcard is left to
    that rule, often on purpose, such as events to ``identity`` (kubernetes.io,
    apiserver-encryption.v1). The reverse order it refuses as masked.

    Args:
        made: The configuration to be written.
        endpoint: Our socket, as ``unix:///path``.
        resources: What is to be encrypted.
    """
    left = [
        listed
        for asked in resources
        for rule in made.rules[: _deciding(made, asked)]
        if rule.providers[0] != _ours(rule, endpoint)
        for listed in rule.resources
        if includes(asked, listed)
    ]
    return tuple(dict.fromkeys(left))


def _deciding(current: EncryptionConfiguration, resource: str) -> int | None:
    """Return the index of the rule that kube-apiserver takes: the first that covers."""
    covering = (i for i, rule in enumerate(current.rules) if covers(rule, resource))
    return next(covering, None)


class _Names:
    """The names for our providers: the first as asked, each further one numbered."""

    def __init__(
        self, current: EncryptionConfiguration, endpoint: str, name: str | None
    ) -> None:
        everywhere = [
            p for r in current.rules for p in r.providers if isinstance(p, Kms)
        ]
        ours = [p.name for p in everywhere if _is_ours(p, endpoint)]
        if name is not None and ours and name not in ours:
            raise RenderRefused(
                f"error: --name {name}: the provider at this socket is called "
                f"{ours[0]}, and what is stored says k8s:enc:kms:v2:{ours[0]}: - under "
                "another name it could not be read; leave --name out"
            )
        self._base = name or (ours[0] if ours else DEFAULT_NAME)
        self._taken = {p.name for p in everywhere}
        if self._base in self._taken - set(ours):
            raise RenderRefused(
                f"error: a kms provider {self._base} is there, at another socket or of "
                "KMS v1; if it is this plugin's, name that socket in socket_file; if "
                "not, choose another --name"
            )

    def next(self) -> str:
        """Return a name that is not in the file yet."""
        numbered = (f"{self._base}-{i}" for i in range(2, len(self._taken) + 3))
        name = next(n for n in (self._base, *numbered) if n not in self._taken)
        self._taken.add(name)
        return name


def _with_kms_first(rule: Rule, endpoint: str, names: _Names) -> Rule:
    kms = _ours(rule, endpoint)
    return rule.first(kms_of(names.next(), endpoint) if kms is None else kms)


def _ours(rule: Rule, endpoint: str) -> Kms | None:
    found = (p for p in rule.providers if isinstance(p, Kms) and _is_ours(p, endpoint))
    return next(found, None)


def _is_ours(kms: Kms, endpoint: str) -> bool:
    return kms.is_v2 and _same_socket(kms, endpoint)


def _same_socket(kms: Kms, endpoint: str) -> bool:
    return on_the_host(socket_of(kms.endpoint)) == on_the_host(socket_of(endpoint))


def _refuse_v1(current: EncryptionConfiguration, endpoint: str) -> None:
    every = (p for rule in current.rules for p in rule.providers)
    for p in every:
        if isinstance(p, Kms) and not p.is_v2 and _same_socket(p, endpoint):
            raise RenderRefused(
                f"error: the kms provider {p.name} at this socket is of KMS v1, which "
                "is not served; give its plugin a socket of its own (see "
                "docs/coming-from-the-go-plugin.md)"
            )


def _named(rule: Rule, kind: str, endpoint: str) -> Provider | None:
    for provider in rule.providers:
        if isinstance(provider, Kms):
            if kind == f"kms:{provider.name}" and not _is_ours(provider, endpoint):
                return provider
        elif kind_of(provider) == kind:
            return provider
    return Identity() if kind == "identity" else None
