from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from tests.unit.k8s_sdkms_plugin.support import (
    ACCEPTED,
    BASE,
    GO_PLUGIN,
    KID,
    OTHER_KID,
    REFUSED,
    SECRET,
    changed,
)

from k8s_sdkms_plugin.cli import main
from k8s_sdkms_plugin.config.model import PluginConfig
from k8s_sdkms_plugin.config.schema import json_schema


VALIDATOR = jsonschema.Draft202012Validator(json_schema())

BEYOND_A_SCHEMA = [
    ("sdkms_endpoint", "https://dsm.example.com\n"),  # Python's $ takes a last newline
    ("coast_for", "1h\n"),
    ("coast_for", "9" * 50 + "s"),
    ("listen", "127.0.0.1:9472\n"),
    ("listen", "127.0.0.1:65536"),
    ("kid_map", {KID: KID}),
    ("kid_map", {KID: OTHER_KID, OTHER_KID: KID}),
    ("listen", "[::]:9472"),
    ("listen", "127.0.0.256:9472"),
]


def test_command_prints_a_valid_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(PluginConfig.__annotations__)
    assert all(p["description"] for p in schema["properties"].values())


def test_go_plugin_file_is_valid() -> None:
    assert VALIDATOR.is_valid(GO_PLUGIN)


def test_secret_is_marked_as_write_only() -> None:
    assert json_schema()["properties"]["api_key"]["writeOnly"] is True


@pytest.mark.parametrize(("name", "value"), ACCEPTED, ids=str)
def test_schema_takes_what_the_loader_takes(name: str, value: Any) -> None:
    assert VALIDATOR.is_valid(changed(name, value))


@pytest.mark.parametrize(
    ("name", "value"), [e for e in REFUSED if e not in BEYOND_A_SCHEMA], ids=str
)
def test_schema_refuses_what_the_loader_refuses(name: str, value: Any) -> None:
    assert not VALIDATOR.is_valid(changed(name, value))


@pytest.mark.parametrize("name", ["sdkms_endpoint", "api_key", "socket_file"])
def test_schema_misses_required_settings(name: str) -> None:
    assert not VALIDATOR.is_valid({k: v for k, v in BASE.items() if k != name})


def test_schema_wants_exactly_one_of_name_and_id() -> None:
    assert not VALIDATOR.is_valid(BASE | {"key_id": KID})
    assert not VALIDATOR.is_valid({k: v for k, v in BASE.items() if k != "key_name"})


def test_schema_takes_http_with_the_setting_alone() -> None:
    content = changed("sdkms_endpoint", "http://127.0.0.1:8080")
    assert not VALIDATOR.is_valid(content | {"allow_http_on_loopback": False})
    assert VALIDATOR.is_valid(content | {"allow_http_on_loopback": True})


def test_defaults_of_the_schema_are_valid_themselves() -> None:
    for name, described in json_schema()["properties"].items():
        if "default" in described:
            assert VALIDATOR.is_valid(changed(name, described["default"]))


def test_examples_of_the_documentation_are_valid() -> None:
    for attribute in PluginConfig.__attrs_attrs__:
        example = attribute.metadata["example"]
        value = json.loads(example) if example else SECRET
        assert VALIDATOR.is_valid(changed(attribute.name, value)), attribute.name
