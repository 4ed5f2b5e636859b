"""A config file of the Go plugin: its key_id, and what of it we refuse.

Read as the Go plugin read it (Go's ``encoding/json``): names in any case, the last of
repeated ones, unknown ones ignored, null for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import frozen

from k8s_sdkms_plugin.config.loading import load, read_pairs
from kms_core.key_id import go_plugin_key_id


if TYPE_CHECKING:
    from pathlib import Path

    from k8s_sdkms_plugin.config.findings import Finding


@frozen
class LegacyConfig:
    """What the Go plugin made of a file.

    Attributes:
        endpoint: ``sdkms_endpoint`` as it stands there.
        key_id: The key's UUID; empty if it names the key.
        key_name: The key's name; empty if it has the UUID.
        refused: What this plugin would not take of it.
    """

    endpoint: str
    key_id: str
    key_name: str
    refused: tuple[Finding, ...]

    @property
    def go_plugin_key_id(self) -> str:
        """Return the hash that stands beside what was stored under this file."""
        return go_plugin_key_id(
            self.endpoint, key_id=self.key_id, key_name=self.key_name
        )

    @property
    def host(self) -> str:
        """Return the endpoint's host, in lower case; empty if it has none."""
        try:
            return urlsplit(self.endpoint).hostname or ""
        except ValueError:
            return ""


class NotLegacy(Exception):
    """The Go plugin would not have taken the file; the text is one line."""


def read_legacy(path: Path) -> LegacyConfig:
    """Return what the Go plugin made of the file at *path*.

    Raises:
        NotLegacy: Nothing.
    """
    pairs, findings = read_pairs(path)
    if pairs is None:
        raise NotLegacy("; ".join(finding.what for finding in findings))
    given = {name.lower(): value for name, value in pairs if value is not None}
    names = ("sdkms_endpoint", "key_id", "key_name")
    texts = {name: given.get(name, "") for name in names}
    if not all(isinstance(text, str) for text in texts.values()):
        raise NotLegacy("one of its settings is no string, which ended the Go plugin")
    if not texts["sdkms_endpoint"] or bool(texts["key_id"]) == bool(texts["key_name"]):
        raise NotLegacy(
            "it has no sdkms_endpoint, or not exactly one of key_id and key_name"
        )
    return LegacyConfig(
        endpoint=texts["sdkms_endpoint"],
        key_id=texts["key_id"],
        key_name=texts["key_name"],
        refused=load(path, {}).errors,
    )
