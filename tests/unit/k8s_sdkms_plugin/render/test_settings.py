"""Settings for files: from a config, from what we recommend, and changes to both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.unit.k8s_sdkms_plugin.render.support import SECRET, Render
from tests.unit.k8s_sdkms_plugin.support import GO_PLUGIN, KID


if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def go_plugin(tmp_path: Path) -> Path:
    path = tmp_path / "go.json"
    # In the case that the Go plugin took as well.
    renamed = {
        ("SDKMS_Endpoint" if k.startswith("sdkms") else k): v
        for k, v in GO_PLUGIN.items()
    }
    path.write_text(json.dumps(renamed))
    path.chmod(0o600)
    return path


def test_config_of_the_go_plugin_keeps_every_field_and_gets_new_ones(
    render: Render, go_plugin: Path
) -> None:
    made = render(
        *("config", "--config", go_plugin),
        *("--set", "write_format=native", "--set", "api_version=v2beta1"),
    )

    assert json.loads(made.out) == {
        **json.loads(go_plugin.read_text()),
        "write_format": "native",
        "api_version": "v2beta1",
    }


def test_empty_value_takes_a_setting_away(render: Render) -> None:
    made = render("config", "--set", "listen=", "--set", "state_dir=")
    assert not {"listen", "state_dir"} & set(json.loads(made.out))


def test_key_id_takes_the_place_of_key_name(render: Render) -> None:
    made = json.loads(render("config", "--set", f"key_id={KID}").out)
    assert made["key_id"] == KID
    assert "key_name" not in made


def test_values_get_the_types_of_the_settings(render: Render) -> None:
    made = json.loads(
        render(
            *("config", "--set", "allow_http_on_loopback=true"),
            *("--set", f"accept_key_ids={'a' * 64},{'b' * 64}"),
        ).out
    )
    assert made["allow_http_on_loopback"] is True
    assert made["accept_key_ids"] == ["a" * 64, "b" * 64]


def test_api_key_comes_from_a_file_and_the_output_is_its_owners(
    render: Render, tmp_path: Path
) -> None:
    key, output = tmp_path / "key", tmp_path / "out.json"
    key.write_text(f"{SECRET}\n")

    made = render("config", "--api-key-file", key, "--output", output)

    assert (made.code, made.out) == (0, "")
    assert SECRET not in made.err
    assert json.loads(output.read_text())["api_key"] == SECRET
    assert output.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["api_key_file", "jwt_file"])
def test_credential_that_stays_in_its_file_takes_the_placeholders_place(
    name: str, render: Render
) -> None:
    made = render("config", "--set", f"{name}=/etc/fortanix/credential")
    assert (made.code, made.err) == (0, "")
    written = json.loads(made.out)
    assert written[name] == "/etc/fortanix/credential"
    assert "api_key" not in written


def test_key_in_the_config_gives_way_to_a_file_only_if_it_is_taken_away(
    render: Render, go_plugin: Path
) -> None:
    words = ("config", "--config", go_plugin, "--set", "api_key_file=/etc/key")
    refused = render(*words)
    assert (refused.code, refused.out) == (2, "")
    assert "api_key_file: is given together with api_key" in refused.err

    made = render(*words, "--set", "api_key=")
    assert made.code == 0
    assert json.loads(made.out)["api_key_file"] == "/etc/key"
    assert "api_key" not in json.loads(made.out)


def test_placeholder_is_pointed_out(render: Render) -> None:
    assert "API-KEY-OF-THE-APP" in render("config").err


def test_warnings_of_the_config_are_shown(render: Render, go_plugin: Path) -> None:
    assert "write_format: is absent" in render("config", "--config", go_plugin).err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "api_key=abc"], "--api-key-file"),
        (["--set", "api_key"], "--api-key-file"),
        (["--set", "listen"], "NAME=VALUE"),
        (["--set", "no_such=1"], "name of a setting"),
        (["--set", "socket_file=@abstract"], "socket_file"),
        (["--set", "coast_for=never"], "coast_for"),
        (["--api-key-file", "/nowhere"], "can't be read"),
        (["--config", "/nowhere"], "can't be read"),
        (["--output", "/nowhere/f"], "can't be written"),
    ],
)
def test_what_is_no_config_is_refused(
    words: list[str], says: str, render: Render
) -> None:
    made = render("config", *words)
    assert (made.code, made.out) == (2, "")
    assert says in made.err
    assert "abc" not in made.err


def test_api_key_that_is_none_is_refused_without_a_word_of_it(
    render: Render, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"\xff\xfe secret")
    made = render("config", "--api-key-file", key)
    assert made.code == 2
    assert "secret" not in made.err


def test_setting_that_is_there_twice_is_refused(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    path.write_text('{"key_name": "a", "KEY_NAME": "b"}')
    made = render("config", "--config", path)
    assert made.code == 2
    assert "more than once" in made.err


def test_file_other_than_the_config_must_follow_the_config(
    render: Render, go_plugin: Path
) -> None:
    made = render("systemd", "--config", go_plugin, "--set", "listen=")
    assert made.code == 2
    assert "render config" in made.err


def test_replaced_file_keeps_its_link_and_its_owner(
    render: Render, tmp_path: Path
) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)

    made = render("systemd", "--output", link)

    assert made.code == 0
    assert link.is_symlink()
    assert "[Service]" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o644
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "target"]


def test_failed_write_leaves_what_was_there(render: Render, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    made = render("systemd", "--output", folder)
    assert made.code == 2
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.iterdir()) == []


def test_terminal_is_warned_of_secrets(
    render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "--output FILE" in render("config").err
    assert "--output FILE" not in render("systemd").err
