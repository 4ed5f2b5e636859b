"""The `filter` of the list of keys: JSON with operators, as in section 2.1.

`{"state": "Active"}`, `{"key_size": {"$gte": 192}}`, `{"$or": [...]}` and so on. The
names of the operators are known; that they mean what they mean in MongoDB, and that a
field that is absent agrees with `$ne` and `$nin` alone, is assumed.
"""

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dsm_emulator.errors import bad_request


Filter: TypeAlias = Callable[[Mapping[str, Any]], bool]
_MAX_DEPTH = 16


def parse_filter(text: str) -> Filter:
    """Return the test that *text* describes, over a key's JSON.

    Raises:
        DsmError: 400, not of this form.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise _malformed() from None
    return _of_object(value, _MAX_DEPTH)


def _of_object(value: object, depth: int) -> Filter:
    if not isinstance(value, dict) or depth == 0:
        raise _malformed()
    tests = [_of_entry(name, wanted, depth) for name, wanted in value.items()]
    return lambda shown: all(test(shown) for test in tests)


def _of_entry(name: str, wanted: object, depth: int) -> Filter:
    if name in {"$and", "$or", "$nor"}:
        if not isinstance(wanted, list):
            raise _malformed()
        tests = [_of_object(item, depth - 1) for item in wanted]
        if name == "$and":
            return lambda shown: all(test(shown) for test in tests)
        is_wanted = name == "$or"
        return lambda shown: any(test(shown) for test in tests) is is_wanted
    if name == "$text":
        return _search(wanted)
    if name.startswith("$"):
        raise _malformed()
    test = _of_field(wanted)
    return lambda shown: test(_at(shown, name))


def _of_field(wanted: object) -> Callable[[Any], bool]:
    if not isinstance(wanted, dict):
        return lambda value: value == wanted
    tests = [_of_operator(name, operand) for name, operand in wanted.items()]
    return lambda value: all(test(value) for test in tests)


def _of_operator(name: str, operand: Any) -> Callable[[Any], bool]:
    compare = _OPERATORS.get(name)
    if compare is None or (name in _OF_LISTS and not isinstance(operand, list)):
        raise _malformed()
    return lambda value: compare(value, operand)


def _search(wanted: object) -> Filter:
    sought = wanted.get("$search") if isinstance(wanted, dict) else None
    if not isinstance(sought, str):
        raise _malformed()
    folded = sought.casefold()
    return lambda shown: any(
        folded in str(shown.get(field, "")).casefold()
        for field in ("name", "description", "kid")
    )


def _at(shown: Mapping[str, Any], path: str) -> Any:
    value: Any = shown
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(value: Any, operand: Any) -> bool:
        both = (value, operand)
        is_comparable = all(isinstance(v, str) for v in both) or all(
            isinstance(v, (int, float)) for v in both
        )
        return is_comparable and compare(value, operand)

    return test


def _all(value: Any, operand: list[Any]) -> bool:
    return isinstance(value, list) and all(item in value for item in operand)


def _any(value: Any, operand: list[Any]) -> bool:
    return isinstance(value, list) and any(item in value for item in operand)


def _malformed() -> Exception:
    return bad_request("invalid filter")


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$in": lambda value, operand: value in operand,
    "$nin": lambda value, operand: value not in operand,
    "$all": _all,
    "$any": _any,
}
_OF_LISTS = frozenset({"$in", "$nin", "$all", "$any"})
