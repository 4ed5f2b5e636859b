"""The JSON Schema of the config file, from the same classes that read it."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

import attrs

from adapters_dsm.settings import Secret
from k8s_sdkms_plugin.config.kinds import Mode, Seconds
from k8s_sdkms_plugin.config.model import PluginConfig


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema (2020-12). Names are given in lower case."""
    hints = typing.get_type_hints(PluginConfig)
    properties = {
        attribute.name: {
            "description": attribute.metadata["what"],
            **_type_schema(hints[attribute.name]),
            **_default(attribute),
        }
        for attribute in attrs.fields(PluginConfig)
    }
    required = [
        a.name for a in attrs.fields(PluginConfig) if a.default is attrs.NOTHING
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "k8s-sdkms-plugin configuration",
        "type": "object",
        "properties": properties,
        "required": required,
        "oneOf": [{"required": ["key_name"]}, {"required": ["key_id"]}],
    }


def _type_schema(hint: Any) -> dict[str, Any]:
    if isinstance(hint, types.UnionType):
        (hint,) = (a for a in typing.get_args(hint) if a is not types.NoneType)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    return dict(_SCHEMAS[hint])


_SCHEMAS: dict[Any, dict[str, Any]] = {
    str: {"type": "string", "minLength": 1},
    Secret: {"type": "string", "minLength": 1, "writeOnly": True},
    bool: {"type": "boolean"},
    Seconds: {
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": "^(\\d+d)?(\\d+h)?(\\d+m)?(\\d+s)?$"},
        ]
    },
    Mode: {"type": "string", "pattern": "^0?[0-7]{3}$"},
    tuple[str, ...]: {"type": "array", "items": {"type": "string"}},
}


def _default(attribute: attrs.Attribute[Any]) -> dict[str, Any]:
    default = attribute.default
    if default is attrs.NOTHING or default is None:
        return {}
    return {"default": shown(default)}


def shown(value: Any) -> Any:
    """Return a setting's value as it would stand in the file."""
    match value:
        case enum.Enum():
            return value.value
        case Seconds() | Mode():
            return str(value)
        case tuple():
            return list(value)
        case _:
            return value
