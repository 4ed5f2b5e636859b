"""The settings behind the files: a config file, or what we recommend and ``--set``."""

from __future__ import annotations

import json
import typing
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import field, frozen

from k8s_sdkms_plugin.config.kinds import from_text
from k8s_sdkms_plugin.config.loading import load_content, read_pairs, without_none
from k8s_sdkms_plugin.config.model import PluginConfig, is_secret
from k8s_sdkms_plugin.render.refusal import RenderRefused


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from k8s_sdkms_plugin.config.findings import Finding


API_KEY_TO_COME: Final = "API-KEY-OF-THE-APP"

RECOMMENDED: Final[dict[str, Any]] = {
    "sdkms_endpoint": "https://eu.smartkey.io",
    "api_key": API_KEY_TO_COME,
    "key_name": "kubernetes",
    "socket_file": "/var/run/kms-plugin/socket.sock",
    "write_format": "native",
    "state_dir": "/var/lib/k8s-sdkms-plugin",
    "listen": "127.0.0.1:9472",
}
"""What stands in the config of a new cluster."""

_INSTEAD_OF_API_KEY: Final = frozenset({"api_key_file", "jwt_file"})
_MAX_API_KEY_BYTES: Final = 8192


@frozen
class Settings:
    """The settings of a node's plugin, checked.

    Attributes:
        pairs: Name and value as they stand in the file, in its order; holds the API
            key.
        config: The same, structured.
        warnings: What is worth a word.
    """

    pairs: tuple[tuple[str, Any], ...] = field(repr=False)
    config: PluginConfig
    warnings: tuple[Finding, ...]


def settings_of(
    current: Path | None, changes: Sequence[str], api_key_file: Path | None = None
) -> Settings:
    """Return the settings that files are to be made for.

    Environment variables count for nothing: they are those of this shell, not of the
    daemon.

    Args:
        current: A config file, the Go plugin's too; None is what we recommend.
        changes: ``NAME=VALUE``, as in ``--set``; an empty value takes a setting away.
        api_key_file: A file with the API key and nothing else, whose content becomes
            the setting ``api_key``. The setting ``api_key_file`` is one of *changes*.

    Raises:
        RenderRefused: They are no config that the daemon would take.
    """
    raw = dict(RECOMMENDED) if current is None else _read(current)
    for change in changes:
        _apply(raw, change)
    if api_key_file is not None:
        _put(raw, "api_key", _api_key(api_key_file))
    loaded = load_content("the rendered config", as_json(raw).encode(), {})
    if loaded.config is None:
        raise RenderRefused(*map(str, loaded.errors))
    return Settings(tuple(raw.items()), loaded.config, loaded.findings)


def as_json(raw: Mapping[str, Any]) -> str:
    """Return settings as they stand in a file."""
    return json.dumps(
        raw, indent=2, ensure_ascii=False, default=lambda it: dict(it.pairs)
    )


def _read(path: Path) -> dict[str, Any]:
    pairs, findings = read_pairs(path)
    if pairs is None:
        raise RenderRefused(*map(str, findings))
    raw = dict(pairs)
    if len({name.lower() for name in raw}) != len(pairs):
        raise RenderRefused("error: file: a setting is given more than once; keep one")
    return raw


def _apply(raw: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    known = {attribute.name: attribute for attribute in attrs.fields(PluginConfig)}
    attribute = known.get(name)
    if attribute is not None and is_secret(attribute) and (text or not equals):
        raise RenderRefused(
            f"error: --set {name}: a secret must not stand in the arguments; name a "
            "file whose content is written with --api-key-file"
        )
    if not equals or attribute is None:
        raise RenderRefused(
            "error: --set: write NAME=VALUE, with the name of a setting"
        )
    if not text:
        _take_away(raw, name)
        return
    kind = without_none(typing.get_type_hints(PluginConfig)[name])
    _put(raw, name, from_text(text, kind))
    # Exactly one of the two names the key.
    other = {"key_name": "key_id", "key_id": "key_name"}.get(name)
    if other is not None:
        _take_away(raw, other)
    if name in _INSTEAD_OF_API_KEY and raw.get("api_key") == API_KEY_TO_COME:
        _take_away(raw, "api_key")


def _put(raw: dict[str, Any], name: str, value: Any) -> None:
    # Under the name as the file spells it: the Go plugin takes any case.
    spelt = next((key for key in raw if key.lower() == name), name)
    raw[spelt] = value


def _take_away(raw: dict[str, Any], name: str) -> None:
    for spelt in [key for key in raw if key.lower() == name]:
        del raw[spelt]


def _api_key(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_API_KEY_BYTES + 1)
        return content.decode("ascii").strip()
    except OSError as failure:
        why = failure.strerror or type(failure).__name__
        raise RenderRefused(f"error: --api-key-file can't be read ({why})") from None
    except ValueError:
        raise RenderRefused("error: --api-key-file holds no API key") from None
