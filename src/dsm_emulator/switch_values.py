"""What a switch takes: one value for each kind, from JSON to the model and back."""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from attrs import frozen


_STATUSES = range(100, 600)


@frozen
class Kind:
    """A kind of value.

    Attributes:
        name: What people read.
        parse: From a JSON value to the model's; ValueError when it is none.
        show: From the model's value to JSON.
    """

    name: str
    parse: Callable[[Any], Any]
    show: Callable[[Any], Any] = lambda value: value


def _of_type(
    wanted: type, name: str, minimum: float | None = None
) -> Callable[..., Any]:
    def parse(value: Any) -> Any:
        is_wanted = isinstance(value, wanted) and (
            wanted is bool or not isinstance(value, bool)
        )
        if not is_wanted or (minimum is not None and value < minimum):
            raise ValueError(f"expected {name}")
        return value

    return parse


def _seconds(value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise ValueError("expected seconds, 0 or more")
    return float(value)


def _status(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in _STATUSES:
        raise ValueError("expected an HTTP status")
    return value


def _texts(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError("expected a list of texts")
    return frozenset(value)


def _numbers(value: Any) -> frozenset[int]:
    if not isinstance(value, list) or not all(type(v) is int for v in value):
        raise ValueError("expected a list of whole numbers")
    return frozenset(value)


def choice(options: type[StrEnum]) -> Kind:
    """Return the kind whose values are the members of *options*."""
    names = " | ".join(option.value for option in options)

    def parse(value: Any) -> StrEnum:
        try:
            return options(value)
        except ValueError:
            raise ValueError(f"expected {names}") from None

    return Kind(names, parse, lambda value: value.value)


def optional(kind: Kind) -> Kind:
    """Return *kind* with null as one more value."""
    return Kind(
        f"{kind.name} or null",
        lambda value: None if value is None else kind.parse(value),
        lambda value: None if value is None else kind.show(value),
    )


BOOL = Kind("bool", _of_type(bool, "true or false"))
COUNT = Kind("count", _of_type(int, "a whole number, 0 or more", 0))
LENGTH = Kind("count of bytes", _of_type(int, "a whole number, 1 or more", 1))
TEXT = Kind("text", _of_type(str, "a text"))
SECONDS = Kind("seconds", _seconds)
INSTANT = Kind("seconds since the epoch", _seconds)
STATUS = Kind("HTTP status", _status)
TEXTS = Kind("list of texts", _texts, sorted)
NUMBERS = Kind("list of numbers", _numbers, sorted)
