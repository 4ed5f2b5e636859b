"""How values look on DSM's wire: strict base64, and fields of the right JSON type."""

import binascii
import json
from typing import Any

from dsm_emulator.errors import bad_request


_FROM_URL_SAFE = str.maketrans("-_", "+/")


def encode_base64(value: bytes) -> str:
    """Return *value* in the standard alphabet, padded."""
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def decode_base64(text: str, field: str) -> bytes:
    """Return the bytes that *text* stands for.

    Args:
        text: Standard alphabet, padded; anything else is refused (section 3.4).
        field: The name of the field, for the refusal.

    Raises:
        DsmError: 400, *text* is not what this function's counterpart writes.
    """
    try:
        value = binascii.a2b_base64(text)
    except ValueError:
        raise bad_request(f"invalid base64 in field `{field}`") from None
    # The C decoder skips foreign characters; only the round trip shows them.
    if encode_base64(value) != text:
        raise bad_request(f"invalid base64 in field `{field}`")
    return value


class LooseBody(dict[str, Any]):
    """A body whose base64 may be url-safe or unpadded, as a switch has it."""


def decode_object(body: bytes, *, loose_base64: bool = False) -> dict[str, Any]:
    """Return the JSON object in *body*; no body at all is an empty object.

    Args:
        body: The body of a request.
        loose_base64: Whether `optional_bytes` and `required_bytes` of the object take
            url-safe and unpadded base64.

    Raises:
        DsmError: 400, not JSON or not an object.
    """
    if not body:
        return {}
    try:
        value = json.loads(body)
    except ValueError:
        raise bad_request("request body is not JSON") from None
    if not isinstance(value, dict):
        raise bad_request("request body is not a JSON object")
    return LooseBody(value) if loose_base64 else value


def decode_list(body: bytes) -> list[Any]:
    """Return the JSON array in *body*.

    Raises:
        DsmError: 400, not JSON or not an array.
    """
    try:
        value = json.loads(body)
    except ValueError:
        raise bad_request("request body is not JSON") from None
    if not isinstance(value, list):
        raise bad_request("request body is not a JSON array")
    return value


def optional_str(body: dict[str, Any], field: str) -> str | None:
    """Return the string in *field*; absent and null are the same.

    Raises:
        DsmError: 400, another type.
    """
    value = body.get(field)
    if value is None or isinstance(value, str):
        return value
    raise _wrong_type(field, "a string")


def required_str(body: dict[str, Any], field: str) -> str:
    """Return the string in *field*.

    Raises:
        DsmError: 400, absent or another type.
    """
    value = optional_str(body, field)
    if value is None:
        raise bad_request(f"missing field `{field}`")
    return value


def optional_int(body: dict[str, Any], field: str) -> int | None:
    """Return the integer in *field*.

    Raises:
        DsmError: 400, another type; a boolean is not an integer.
    """
    value = body.get(field)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise _wrong_type(field, "an integer")


def optional_bool(body: dict[str, Any], field: str) -> bool | None:
    """Return the boolean in *field*.

    Raises:
        DsmError: 400, another type.
    """
    value = body.get(field)
    if value is None or isinstance(value, bool):
        return value
    raise _wrong_type(field, "a boolean")


def optional_bytes(body: dict[str, Any], field: str) -> bytes | None:
    """Return the bytes in *field*.

    Raises:
        DsmError: 400, not a string of strict base64.
    """
    text = optional_str(body, field)
    return None if text is None else _decoded(body, text, field)


def required_bytes(body: dict[str, Any], field: str) -> bytes:
    """Return the bytes in *field*.

    Raises:
        DsmError: 400, absent or not a string of strict base64.
    """
    return _decoded(body, required_str(body, field), field)


def _decoded(body: dict[str, Any], text: str, field: str) -> bytes:
    if isinstance(body, LooseBody):
        text = text.translate(_FROM_URL_SAFE).rstrip("=")
        text += "=" * (-len(text) % 4)
    return decode_base64(text, field)


def _wrong_type(field: str, wanted: str) -> Exception:
    return bad_request(f"invalid type for field `{field}`: expected {wanted}")
