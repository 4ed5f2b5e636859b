import pytest

import dsm_emulator


def test_every_public_name_is_there() -> None:
    for name in dsm_emulator.__all__:
        assert getattr(dsm_emulator, name).__name__ == name


def test_no_other_name_is() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = dsm_emulator.nothing
