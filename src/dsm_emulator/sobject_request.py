"""The body of generate, import, PATCH and rekey: one schema, all fields optional."""

import re
from collections.abc import Callable
from typing import Any, Self, TypeVar

from attrs import frozen

from dsm_emulator.aes import KEY_BITS
from dsm_emulator.aes_options import AesOptions
from dsm_emulator.clock import parse_basic_iso
from dsm_emulator.errors import bad_request
from dsm_emulator.rotation import RotationPolicy
from dsm_emulator.sobject import KeyOp
from dsm_emulator.wire import (
    optional_bool,
    optional_bytes,
    optional_int,
    optional_str,
)


_T = TypeVar("_T")
_MAX_NAME_CHARS = 4096
_NAME = re.compile(r"[^\n]*[^\s][^\n]*")


@frozen
class SobjectRequest:
    """What a client asks a key to be; None is: not mentioned."""

    name: str | None = None
    obj_type: str | None = None
    key_size: int | None = None
    key_ops: tuple[KeyOp, ...] | None = None
    group_id: str | None = None
    enabled: bool | None = None
    description: str | None = None
    custom_metadata: dict[str, str] | None = None
    activation_date: float | None = None
    deactivation_date: float | None = None
    value: bytes | None = None
    rotation_policy: RotationPolicy | None = None
    aes: AesOptions | None = None

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        """Read a request body; fields that aren't known are ignored.

        Raises:
            DsmError: 400, a field of a wrong type, or a value that no key can have.
        """
        request = cls(
            name=optional_str(body, "name"),
            obj_type=optional_str(body, "obj_type"),
            key_size=optional_int(body, "key_size"),
            key_ops=_key_ops(body.get("key_ops")),
            group_id=optional_str(body, "group_id"),
            enabled=optional_bool(body, "enabled"),
            description=optional_str(body, "description"),
            custom_metadata=_custom_metadata(body.get("custom_metadata")),
            activation_date=_date(body, "activation_date"),
            deactivation_date=_date(body, "deactivation_date"),
            value=optional_bytes(body, "value"),
            rotation_policy=_optional(
                body, "rotation_policy", RotationPolicy.from_json
            ),
            aes=_optional(body, "aes", AesOptions.from_json),
        )
        if request.name is not None and not is_key_name(request.name):
            raise bad_request("invalid name")
        if request.obj_type not in {None, "AES"}:
            raise bad_request("the emulator knows AES keys alone")
        if request.key_size is not None and request.key_size not in KEY_BITS:
            raise bad_request("invalid key_size")
        if request.value is not None and len(request.value) * 8 not in KEY_BITS:
            raise bad_request("invalid length of value")
        return request


def is_key_name(name: str) -> bool:
    """Return whether *name* has DSM's form: not blank, no newline, 4096 at most."""
    return len(name) <= _MAX_NAME_CHARS and _NAME.fullmatch(name) is not None


def _key_ops(value: object) -> tuple[KeyOp, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise bad_request("invalid type for field `key_ops`: expected a list")
    try:
        return tuple(KeyOp(name) for name in value)
    except ValueError:
        raise bad_request("unknown operation in field `key_ops`") from None


def _custom_metadata(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return value
    raise bad_request("invalid type for field `custom_metadata`: expected strings")


def _optional(
    body: dict[str, Any], field: str, read: Callable[[object], _T]
) -> _T | None:
    value = body.get(field)
    return None if value is None else read(value)


def _date(body: dict[str, Any], field: str) -> float | None:
    text = optional_str(body, field)
    if text is None:
        return None
    try:
        return parse_basic_iso(text)
    except ValueError:
        raise bad_request(f"invalid date in field `{field}`") from None
