from __future__ import annotations

import re

import pytest
from attrs.exceptions import FrozenInstanceError

from kms_core.events import Unexpected, describe_exception


def fail(secret: str, depth: int) -> None:
    if depth:
        fail(secret, depth - 1)
    raise ValueError(secret)


def test_an_exception_is_described_by_type_and_places_alone() -> None:
    with pytest.raises(ValueError, match="hunter2") as caught:
        fail("hunter2", 0)
    text = describe_exception(caught.value)
    assert re.fullmatch(r"ValueError at( \S*test_events:\d+){2}", text)


def test_only_the_innermost_places_are_named() -> None:
    with pytest.raises(ValueError, match="hunter2") as caught:
        fail("hunter2", 50)
    assert describe_exception(caught.value).count("test_events:") == 8


def test_an_exception_that_was_never_raised_has_no_places() -> None:
    assert describe_exception(ValueError("hunter2")) == "ValueError at "


def test_events_can_not_be_changed() -> None:
    event = Unexpected(where="here", what="ValueError at x.py:1")
    with pytest.raises(FrozenInstanceError):
        event.where = "there"  # type: ignore[misc]
