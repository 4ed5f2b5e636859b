from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_emulator import wire
from dsm_emulator.errors import DsmError


@given(st.binary())
def test_base64_is_read_back(value: bytes) -> None:
    assert wire.decode_base64(wire.encode_base64(value), "plain") == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("_-8=", id="url-safe"),
        pytest.param("AQ", id="unpadded"),
        pytest.param("AR==", id="loose trailing bits"),
        pytest.param("AQ ==", id="blank"),
        pytest.param("AQ==\n", id="newline"),
        pytest.param("AQ==AQ==", id="data after padding"),
        pytest.param("é", id="not ASCII"),
    ],
)
def test_other_base64_is_refused(text: str) -> None:
    with pytest.raises(DsmError) as refused:
        wire.decode_base64(text, "plain")
    assert refused.value.status == 400
    assert "plain" in refused.value.text


def test_no_body_is_an_empty_object() -> None:
    assert wire.decode_object(b"") == {}


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"null"])
def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(DsmError) as refused:
        wire.decode_object(body)
    assert refused.value.status == 400


@pytest.mark.parametrize("absent", [{}, {"f": None}])
def test_absent_and_null_are_the_same(absent: dict[str, Any]) -> None:
    assert wire.optional_str(absent, "f") is None
    assert wire.optional_int(absent, "f") is None
    assert wire.optional_bool(absent, "f") is None
    assert wire.optional_bytes(absent, "f") is None
    with pytest.raises(DsmError):
        wire.required_str(absent, "f")
    with pytest.raises(DsmError):
        wire.required_bytes(absent, "f")


def test_fields_of_another_type_are_refused() -> None:
    for read, value in (
        (wire.optional_str, 1),
        (wire.optional_int, "1"),
        (wire.optional_int, True),
        (wire.optional_bool, 1),
        (wire.optional_bytes, 1),
    ):
        with pytest.raises(DsmError, match="invalid type"):
            read({"f": value}, "f")
