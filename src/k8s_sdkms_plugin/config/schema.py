"""The JSON Schema of the config file, from the same classes that read it."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

import attrs

from adapters_dsm.settings import MAX_NAME_CHARS, Secret
from k8s_sdkms_plugin.config.kinds import KidMap, Mode, Seconds
from k8s_sdkms_plugin.config.model import PluginConfig


_UUID = f"^{'-'.join(f'[0-9a-fA-F]{{{n}}}' for n in (8, 4, 4, 4, 12))}$"


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema (2020-12). Names are given in lower case."""
    hints = typing.get_type_hints(PluginConfig)
    properties = {
        attribute.name: {
            "description": attribute.metadata["what"],
            **_type_schema(hints[attribute.name]),
            **_NARROWER.get(attribute.name, {}),
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
        "if": {
            "required": ["allow_http_on_loopback"],
            "properties": {"allow_http_on_loopback": {"const": True}},
        },
        "else": {"properties": {"sdkms_endpoint": {"pattern": _HTTPS}}},
    }


def _type_schema(hint: Any) -> dict[str, Any]:
    if isinstance(hint, types.UnionType):
        (hint,) = (a for a in typing.get_args(hint) if a is not types.NoneType)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    return dict(_SCHEMAS[hint])


_SCHEMAS: dict[Any, dict[str, Any]] = {
    str: {"type": "string", "pattern": "\\S"},
    Secret: {"type": "string", "pattern": "^[!-~]{1,4096}$", "writeOnly": True},
    bool: {"type": "boolean"},
    Seconds: {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 999999999},
            {
                "type": "string",
                "pattern": "^(?=.*[1-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
            },
        ]
    },
    Mode: {"type": "string", "pattern": "^0?[0-7]{3}$"},
    KidMap: {
        "type": "object",
        "propertyNames": {"pattern": _UUID},
        "additionalProperties": {"type": "string", "pattern": _UUID},
    },
    tuple[str, ...]: {"type": "array", "items": {"type": "string"}},
}

# What rules.py says of single settings, as far as a pattern can say it.
_HTTPS = "^[Hh][Tt][Tt][Pp][Ss]://"
_LISTEN = r"^(127\.[0-9.]+|\[[0-9A-Fa-f:]+\]):0*[1-9][0-9]{0,4}$"
_NARROWER: dict[str, dict[str, Any]] = {
    "sdkms_endpoint": {"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$"},
    "key_name": {"maxLength": MAX_NAME_CHARS},
    "key_id": {"pattern": _UUID},
    "socket_file": {"pattern": "^(unix://)?/(?!@)"},
    "accept_key_ids": {"items": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
    "ca_file": {"pattern": "^/"},
    "state_dir": {"pattern": "^/(.*\\S)?$"},
    "listen": {"pattern": _LISTEN},
    "socket_mode": {"pattern": "^0?[67][0-7]{2}$"},
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
        case KidMap():
            return dict(value.pairs)
        case tuple():
            return list(value)
        case _:
            return value
