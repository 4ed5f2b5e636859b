"""Credentials and endpoints in the config: what goes together, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from tests.unit.k8s_sdkms_plugin.support import (
    BASE,
    CERTIFICATE,
    KID,
    SECRET,
    error_fields,
    loaded,
)

from adapters_dsm.settings import Secret
from k8s_sdkms_plugin.config.schema import json_schema
from k8s_sdkms_plugin.wiring import dsm_settings


if TYPE_CHECKING:
    from pathlib import Path


VALIDATOR = jsonschema.Draft202012Validator(json_schema())
BARE = {name: value for name, value in BASE.items() if name != "api_key"}
PAIR = dict.fromkeys(CERTIFICATE, "/etc/tls.pem")
GOOD: list[dict[str, Any]] = [
    {"api_key": SECRET},
    {"api_key_file": "/key"},
    {"jwt_file": "/jwt"},
    PAIR,
    PAIR | {"app_id": KID},
    PAIR | {"api_key": SECRET},
    PAIR | {"jwt_file": "/jwt"},
]
WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["api_key"]),
    ({"api_key": SECRET, "api_key_file": "/key"}, ["api_key_file"]),
    ({"api_key_file": "/key", "jwt_file": "/jwt"}, ["jwt_file"]),
    ({"client_cert_file": "/crt"}, ["client_key_file"]),
    ({"api_key": SECRET, "client_key_file": "/key"}, ["client_cert_file"]),
    (PAIR | {"app_id": KID, "api_key": SECRET}, ["app_id"]),
    ({"app_id": KID, "jwt_file": "/jwt"}, ["app_id"]),
]


@pytest.mark.parametrize("given", GOOD, ids="+".join)
def test_sensible_choices_load(tmp_path: Path, given: dict[str, Any]) -> None:
    result = loaded(tmp_path, BARE | given)
    assert result.findings == ()
    assert result.config is not None
    source = dsm_settings(result.config).credential
    for name, value in given.items():
        held = getattr(source, name)
        assert (held.reveal() if isinstance(held, Secret) else str(held)) == value
    assert VALIDATOR.is_valid(BARE | given)


@pytest.mark.parametrize(("given", "about"), WRONG, ids=str)
def test_contradictions_are_errors_with_field_and_remedy(
    tmp_path: Path, given: dict[str, Any], about: list[str]
) -> None:
    result = loaded(tmp_path, BARE | given)
    assert error_fields(result) == about
    assert all(finding.remedy for finding in result.errors)
    assert SECRET not in str(result.errors)
    assert not VALIDATOR.is_valid(BARE | given)


def test_files_may_be_named_by_the_environment_and_the_secret_may_not(
    tmp_path: Path,
) -> None:
    by_environment = {"K8S_SDKMS_PLUGIN_API_KEY_FILE": "/key"}
    result = loaded(tmp_path, BARE, by_environment)
    assert result.config is not None
    assert result.config.api_key_file == "/key"
    secret = {"K8S_SDKMS_PLUGIN_API_KEY": SECRET}
    result = loaded(tmp_path, BARE | {"api_key_file": "/key"}, secret)
    assert error_fields(result) == ["api_key"]
    assert SECRET not in str(result.findings)


def test_endpoints_are_asked_in_their_order(tmp_path: Path) -> None:
    more = ["https://b.example.com/", "https://c.example.com:8443"]
    result = loaded(tmp_path, BASE | {"sdkms_endpoints": more})
    assert result.findings == ()
    assert result.config is not None
    urls = [endpoint.base_url for endpoint in dsm_settings(result.config).endpoints]
    assert urls[0] == BASE["sdkms_endpoint"]
    assert urls[1:] == ["https://b.example.com", "https://c.example.com:8443"]


def test_further_endpoints_change_no_key_id(tmp_path: Path) -> None:
    more = BASE | {"sdkms_endpoints": ["https://b.example.com"]}
    one, two = (loaded(tmp_path, content) for content in (BASE, more))
    assert one.go_plugin_key_id == two.go_plugin_key_id


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["https://b.example.com", "ftp://c"], "entry 2 is not usable"),
        (["https://999.1.1.1"], "entry 1 is not usable"),
        (["http://b.example.com"], "entry 1 is not usable"),
        ([BASE["sdkms_endpoint"] + "/"], "is given already"),
        ([f"https://b.example.com:{n}" for n in range(1, 9)], "more than 7"),
    ],
    ids=str,
)
def test_wrong_endpoints_are_named_by_their_place(
    tmp_path: Path, more: list[str], what: str
) -> None:
    result = loaded(tmp_path, BASE | {"sdkms_endpoints": more})
    assert error_fields(result) == ["sdkms_endpoints"]
    assert what in result.errors[0].what


def test_an_emulator_of_two_nodes_on_loopback_is_warned_of_twice(
    tmp_path: Path,
) -> None:
    changes = {
        "sdkms_endpoint": "http://127.0.0.1:8080",
        "sdkms_endpoints": ["http://127.0.0.1:8081"],
        "allow_http_on_loopback": True,
    }
    result = loaded(tmp_path, BASE | changes)
    assert [f.field for f in result.findings] == ["sdkms_endpoint", "sdkms_endpoints"]
    assert result.errors == ()


def test_a_proxy_is_checked_for_each_endpoint(tmp_path: Path) -> None:
    environment = {"HTTPS_PROXY": "ftp://p", "NO_PROXY": "sdkms.fortanix.com"}
    assert loaded(tmp_path, BASE, environment).errors == ()
    more = BASE | {"sdkms_endpoints": ["https://b.example.com"]}
    assert error_fields(loaded(tmp_path, more, environment)) == ["HTTPS_PROXY"]
