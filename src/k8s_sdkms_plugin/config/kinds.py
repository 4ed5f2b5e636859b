"""The types of settings, and how each is read from JSON.

A reader takes what ``json`` gave and returns the setting's value. It raises ValueError
with what would be right, for people; it never quotes the value, which may be a secret.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from typing import Any, Final, TypeVar

from attrs import frozen
from cattrs import Converter

from adapters_dsm.settings import Secret, as_kid, check_api_key


E = TypeVar("E", bound=enum.Enum)

_DURATION: Final = re.compile(
    r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?"
)
_UNIT_S: Final = (86400, 3600, 60, 1)
_MODE: Final = re.compile(r"0?[0-7]{3}")


class Seconds(float):
    """A duration in seconds, written as ``90s``, ``15m``, ``1h30m`` or ``2d``."""

    def __str__(self) -> str:
        rest = round(self)
        parts = []
        for unit_s, letter in zip(_UNIT_S, "dhms", strict=True):
            count, rest = divmod(rest, unit_s)
            if count:
                parts.append(f"{count}{letter}")
        return "".join(parts) or "0s"


class Mode(int):
    """A file mode, written as four octal digits in a string: ``"0600"``."""

    def __str__(self) -> str:
        return f"{int(self):04o}"


@frozen
class JsonObject:
    """A JSON object whose repeated names are still there, in their order."""

    pairs: tuple[tuple[str, Any], ...]

    @classmethod
    def made(cls, pairs: list[tuple[str, Any]]) -> JsonObject:
        """Return what ``json`` found, as its ``object_pairs_hook``."""
        return cls(tuple(pairs))


@frozen
class KidMap:
    """Keys that moved: old and new kid of each, as UUIDs in lower case."""

    pairs: tuple[tuple[str, str], ...] = ()


def converter() -> Converter:
    """Return the converter that reads every setting, strictly: nothing is coerced."""
    made = Converter(detailed_validation=False)
    made.register_structure_hook(str, _text)
    made.register_structure_hook(bool, _yes_or_no)
    made.register_structure_hook(Secret, _secret)
    made.register_structure_hook(Seconds, _seconds)
    made.register_structure_hook(Mode, _mode)
    made.register_structure_hook(KidMap, _kid_map)
    made.register_structure_hook_func(lambda type_: type_ == tuple[str, ...], _texts)
    # For the base class: older versions of cattrs prefer their own hook for enums to
    # one that is found by a predicate, and it quotes the value.
    made.register_structure_hook(enum.Enum, _choice)
    return made


def from_text(text: str, type_: Any) -> Any:
    """Return what *text*, from the environment, would be in JSON for a *type_*."""
    if type_ is bool:
        return {"true": True, "false": False}.get(text, text)
    if type_ is KidMap:
        parts = (part.partition("=") for part in text.split(","))
        return JsonObject(tuple((old, new) for old, _, new in parts))
    if type_ is Seconds and text.isascii() and text.isdigit() and len(text) <= 9:  # noqa: PLR2004 - as many digits as the largest has
        return int(text)
    return text.split(",") if type_ == tuple[str, ...] else text


def _text(value: Any, _type: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004 - one kind of complaint
    if not value.strip():
        raise ValueError("must not be empty")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
        raise ValueError("must have no line breaks or control characters")
    return value


def _secret(value: Any, type_: object) -> Secret:
    secret = Secret(_text(value, type_))
    check_api_key(secret)
    return secret


def _yes_or_no(value: Any, _type: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - as above
    return value


def _texts(value: Any, _type: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of strings")  # noqa: TRY004 - as above
    return tuple(_text(item, str) for item in value)


def _seconds(value: Any, _type: object) -> Seconds:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9:
        return Seconds(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is not None and len(value) < 40:  # noqa: PLR2004 - far above any need
        counts = (int(group or 0) for group in match.groups())
        total = sum(c * u for c, u in zip(counts, _UNIT_S, strict=True))
        if 0 < total < 10**9:
            return Seconds(total)
    raise ValueError('must be a duration such as "30s", "15m", "24h" or "1h30m"')


def _kid_map(value: Any, _type: object) -> KidMap:
    pairs = value.pairs if isinstance(value, JsonObject) else [("", "")]
    kids = [(as_kid(old), as_kid(new)) for old, new in pairs if isinstance(new, str)]
    known = [(old, new) for old, new in kids if old is not None and new is not None]
    if len(known) != len(pairs):
        raise ValueError('must be an object of UUIDs, {"OLD": "NEW"}')
    if len(dict(known)) != len(known):
        raise ValueError("must name each old UUID once")
    if {old for old, _ in known} & {new for _, new in known}:
        raise ValueError("must lead from each old UUID to today's one, in one step")
    return KidMap(tuple(known))


def _mode(value: Any, _type: object) -> Mode:
    if not isinstance(value, str) or not _MODE.fullmatch(value):
        raise ValueError('must be a file mode in octal, such as "0600"')
    return Mode(int(value, 8))


def _choice(value: Any, type_: type[E]) -> E:
    for member in type_:
        if member.value == value:
            return member
    names = " or ".join(f'"{member.value}"' for member in type_)
    raise ValueError(f"must be {names}")
