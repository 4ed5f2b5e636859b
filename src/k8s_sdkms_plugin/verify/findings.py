"""What is expected of stored objects, and what is found instead."""

from __future__ import annotations

import enum

from attrs import frozen

from k8s_sdkms_plugin.verify.stored import StoredObject, names_kid
from kms_core.errors import one_line


class Format(enum.Enum):
    """Who can open a sealed seed: this plugin alone, or the Go plugin too."""

    NATIVE = "native"
    GO_PLUGIN = "go-plugin"


@frozen
class Expectation:
    """What every object should be.

    Attributes:
        provider: Kind of its provider; ``kms`` is KMS v2.
        provider_name: Name of the provider or of its key; empty is any.
        key_ids: The key_ids that are right; empty is any.
        format: The format of the sealed seed; None is any of ours.
    """

    provider: str = "kms"
    provider_name: str = ""
    key_ids: frozenset[str] = frozenset()
    format: Format | None = None


def findings_of(
    stored: StoredObject, expected: Expectation, unopened: str
) -> tuple[str, ...]:
    """Return what is wrong with an object, each one line.

    Args:
        stored: The object.
        expected: What it should be.
        unopened: Why it does not open; empty if it does, or was not tried.
    """
    found = [stored.damage] if stored.damage else []
    if stored.provider != expected.provider:
        found.append(f"{expected.provider} was expected")
    elif expected.provider_name not in ("", stored.provider_name):
        found.append(f"{expected.provider} {expected.provider_name} was expected")
    elif stored.provider == "kms" and stored.provider_version != "v2":
        found.append("encrypted by KMS v1, which is not served")
    else:
        found += _of_kms(stored, expected)
    if unopened:
        found.append(unopened)
    return tuple(found)


def describe(stored: StoredObject) -> str:
    """Return by what an object is encrypted, in words."""
    if stored.provider == "identity":
        return "not encrypted"
    words = (stored.provider, stored.provider_version, stored.provider_name)
    return one_line(f"encrypted by {' '.join(filter(None, words))}")


def _of_kms(stored: StoredObject, expected: Expectation) -> list[str]:
    sealed = stored.sealed
    if sealed is None:
        return []
    found = []
    if sealed.version is None and not names_kid(sealed.key_id):
        found.append("sealed by another plugin than this or the Go plugin 0.3.0")
    elif sealed.version is None:
        found.append("its key_id is ours, and its sealed seed is none")
    elif expected.format is Format.NATIVE and not sealed.native:
        found.append("in the Go plugin's format")
    elif expected.format is Format.GO_PLUGIN and sealed.native:
        found.append("in the native format, which the Go plugin can't open")
    if expected.key_ids and sealed.key_id not in expected.key_ids:
        found.append("under another key_id")
    return found
