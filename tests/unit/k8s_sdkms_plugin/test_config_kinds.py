from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s_sdkms_plugin.config.kinds import Mode, Seconds, converter


CONVERTER = converter()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("15m", 900),
        ("24h", 86400),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1d2h3m4s", 93784),
        ("90m", 5400),
        (90, 90),
    ],
)
def test_duration_is_read(text: str | int, seconds: int) -> None:
    assert float(CONVERTER.structure(text, Seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3661, "1h1m1s"), (172800, "2d")],
)
def test_duration_is_shown_in_its_shortest_form(seconds: int, text: str) -> None:
    assert str(Seconds(seconds)) == text


@given(st.integers(1, 10**9 - 1))
def test_duration_reads_what_it_shows(seconds: int) -> None:
    assert int(CONVERTER.structure(str(Seconds(seconds)), Seconds)) == seconds


@pytest.mark.parametrize("text", ["600", "0600"])
def test_mode_is_read_as_octal(text: str) -> None:
    assert CONVERTER.structure(text, Mode) == 0o600


@given(st.integers(0, 0o777))
def test_mode_reads_what_it_shows(mode: int) -> None:
    shown = str(Mode(mode))
    assert len(shown) == 4
    assert CONVERTER.structure(shown, Mode) == mode


@pytest.mark.parametrize("kind", [str, bool, Seconds, Mode, tuple[str, ...]])
def test_refusal_never_quotes_the_value(kind: type) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        CONVERTER.structure({"hunter2": "hunter2"}, kind)
    assert "hunter2" not in str(caught.value)
