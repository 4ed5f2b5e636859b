"""Which settings of the credential go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.adapters_dsm.support import KID

from adapters_dsm.credential_source import CredentialSource, contradictions
from adapters_dsm.settings import Secret


CERTIFICATE = ("client_cert_file", "client_key_file")
VALUES: dict[str, Any] = {
    "api_key": Secret("hunter2"),
    "api_key_file": Path("/key"),
    "jwt_file": Path("/jwt"),
    "client_cert_file": Path("/crt"),
    "client_key_file": Path("/tls"),
    "app_id": KID,
}


@pytest.mark.parametrize(
    "given",
    [
        ("api_key",),
        ("api_key_file",),
        ("jwt_file",),
        CERTIFICATE,
        (*CERTIFICATE, "app_id"),
        (*CERTIFICATE, "api_key"),
        (*CERTIFICATE, "api_key_file"),
        (*CERTIFICATE, "jwt_file"),
    ],
    ids="+".join,
)
def test_sensible_choices_are_taken(given: tuple[str, ...]) -> None:
    assert contradictions(given) == []
    source = CredentialSource(**{name: VALUES[name] for name in given})
    assert set(source.files) == {name for name in given if name.endswith("_file")}
    assert source.main_setting in given


@pytest.mark.parametrize(
    ("given", "about"),
    [
        ((), ["api_key"]),
        (("key_name",), ["api_key"]),
        (("api_key", "api_key_file"), ["api_key_file"]),
        (("api_key", "jwt_file"), ["jwt_file"]),
        (("api_key", "api_key_file", "jwt_file"), ["api_key_file", "jwt_file"]),
        (("client_cert_file",), ["client_key_file"]),
        (("client_key_file",), ["client_cert_file"]),
        (("api_key", "client_key_file"), ["client_cert_file"]),
        (("app_id",), ["api_key", "app_id"]),
        (("app_id", "api_key"), ["app_id"]),
        (("app_id", "jwt_file", *CERTIFICATE), ["app_id"]),
    ],
    ids=str,
)
def test_others_are_named_with_what_would_be_right(
    given: tuple[str, ...], about: list[str]
) -> None:
    found = contradictions(given)
    assert [problem.setting for problem in found] == about
    assert all(problem.what and problem.remedy for problem in found)
    with pytest.raises(ValueError, match=about[0]) as caught:
        CredentialSource(**{n: v for n, v in VALUES.items() if n in given})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a b", "hunter2\n", "h\u00e4", "a" * 4097, "\x00"])
def test_an_api_key_must_fit_a_header(key: str) -> None:
    with pytest.raises(ValueError, match="api_key must be") as caught:
        CredentialSource(api_key=Secret(key))
    assert "hunter2" not in str(caught.value)


def test_an_app_id_is_a_uuid() -> None:
    files = {name: VALUES[name] for name in CERTIFICATE}
    with pytest.raises(ValueError, match="app_id must be a UUID"):
        CredentialSource(app_id="my app", **files)


def test_a_secret_shows_nowhere() -> None:
    source = CredentialSource(api_key=Secret("hunter2"))
    assert "hunter2" not in f"{source!r} {source}"
