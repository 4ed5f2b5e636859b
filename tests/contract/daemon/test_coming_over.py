"""What was stored under a former config, or in a former DSM, opens, or is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.daemon.support import KEY_NAME, Lab
from tests.contract.daemon.test_formats import hash_of, refused

from k8s_sdkms_plugin import hardening
from k8s_sdkms_plugin.cli import main


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def new_dsm(tmp_path: Path, lab: Lab) -> Iterator[Lab]:
    """Another DSM: the key's material was moved there, and has a new UUID."""
    folder = tmp_path / "new"
    folder.mkdir()
    with Lab(folder) as made:
        made.demo.key.material = lab.demo.key.material
        assert made.demo.key.kid != lab.demo.key.kid
        yield made


@pytest.mark.parametrize("protection", ["local-kek", "direct", "go-plugin"])
async def test_seeds_open_after_their_key_moved_to_another_dsm(
    protection: str, lab: Lab, new_dsm: Lab
) -> None:
    settings: dict[str, Any] = {"protection": protection}
    if protection == "go-plugin":
        settings = {"write_format": "go-plugin"}
    old = lab.start(**settings)
    await old.await_ok()
    seed = lab.seed()
    async with old.client() as client:
        stored = await client.encrypt(seed)
    assert old.stop() == 0

    former: dict[str, Any] = {"accept_key_ids": [hash_of(lab)]}
    without = new_dsm.start(**settings, **former)
    await without.await_ok()
    assert (await refused(without, stored.ciphertext, stored.key_id)).startswith(
        "KEY-NOT-FOUND"
    )
    assert without.stop() == 0

    kid_map = {lab.demo.key.kid.upper(): new_dsm.demo.key.kid}
    moved = new_dsm.start(**settings, **former, kid_map=kid_map)
    await moved.await_ok()
    async with moved.client() as client:
        assert await client.decrypt(stored.ciphertext, stored.key_id) == seed
        again = await client.encrypt(seed)
        assert again.key_id != stored.key_id
        assert await client.decrypt(again.ciphertext, again.key_id) == seed


class Checked:
    """What `check --legacy-config` said."""

    def __init__(
        self,
        capsys: pytest.CaptureFixture[str],
        config: Path,
        legacy: dict[str, Any] | str,
    ) -> None:
        path = config.with_name("legacy.json")
        path.write_text(legacy if isinstance(legacy, str) else json.dumps(legacy))
        words = ["check", "--json", "--config", config, "--legacy-config", path]
        self.code = main([str(word) for word in words])
        self.items: list[dict[str, str]] = json.loads(capsys.readouterr().out)["items"]

    def of(self, about: str) -> list[tuple[str, str, str]]:
        return [
            (item["level"], item["found"], item["remedy"])
            for item in self.items
            if item["about"].startswith(about)
        ]


@pytest.fixture(autouse=True)
def _this_process_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening, "harden_process", lambda: None)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def legacy(lab: Lab, **changes: Any) -> dict[str, Any]:
    content = {
        "sdkms_endpoint": lab.server.url,
        "api_key": "b2xk",
        "key_name": KEY_NAME,
        "socket_file": "/var/run/kmsplugin/socket.sock",
    } | changes
    return {name: value for name, value in content.items() if value is not None}


def test_unchanged_names_need_nothing(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Checked(capsys, lab.config(), legacy(lab))
    assert found.code == 0
    ((level, text, _),) = found.of("legacy config")
    assert (level, hash_of(lab) in text) == ("ok", True)
    ((level, text, _),) = found.of("legacy key")
    assert (level, lab.demo.key.kid in text) == ("ok", True)


def test_added_slash_needs_the_hash(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    former = legacy(lab, sdkms_endpoint=f"{lab.server.url}/")
    expected = hash_of(lab, f"{lab.server.url}/")

    found = Checked(capsys, lab.config(), former)
    assert found.code == 1
    ((level, text, remedy),) = found.of("legacy config")
    assert (level, remedy) == ("error", "add it to accept_key_ids")
    assert expected in text

    mended = Checked(capsys, lab.config(accept_key_ids=[expected]), former)
    assert mended.code == 0
    assert mended.of("legacy config")[0][0] == "ok"


def test_uuid_in_place_of_the_name_needs_the_hash_alone(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    former = legacy(lab, key_name=None, key_id=lab.demo.key.kid.upper())
    found = Checked(capsys, lab.config(), former)
    assert found.of("legacy config")[0][0] == "error"
    assert found.of("legacy key")[0][0] == "ok"


def test_renamed_key_is_no_loss(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    found = Checked(capsys, lab.config(), legacy(lab, key_name="its old name"))
    ((level, text, remedy),) = found.of("legacy key")
    assert level == "warning"
    assert "no key has that name now" in text
    assert "verify --open" in remedy


def test_key_of_another_dsm_needs_a_map(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = "9c1f7e02-5d3b-4a86-b0c4-7f2ad91e6b35"
    former = legacy(
        lab, sdkms_endpoint="https://old.example.com", key_name=None, key_id=gone
    )
    found = Checked(capsys, lab.config(), former)
    (host, missing) = found.of("legacy key")
    assert (host[0], missing[0]) == ("warning", "error")
    assert "kid_map" in host[2]
    assert "kid_map" in missing[2]

    mended = Checked(capsys, lab.config(kid_map={gone: lab.demo.key.kid}), former)
    assert [level for level, _, _ in mended.of("legacy key")] == ["warning", "ok"]


def test_key_that_may_not_decrypt_is_an_error(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.dsm.disable(lab.demo.key)
    found = Checked(capsys, lab.config(), legacy(lab))
    ((level, text, _),) = found.of("legacy key")
    assert (level, "can't decrypt" in text) == ("error", True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sdkms_endpoint": "http://dsm.example.com"}, "sdkms_endpoint"),
        ({"socket_file": ""}, "socket_file"),
        ({"key_id": ""}, "key_id"),
        ({"socket_file": "relative.sock"}, "socket_file"),
    ],
)
def test_what_the_go_plugin_took_and_we_refuse_is_said_with_its_remedy(
    changes: dict[str, Any], field: str, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Checked(capsys, lab.config(), legacy(lab, **changes))
    ((level, _, remedy),) = found.of(f"legacy config, {field}")
    assert level == "warning"
    assert remedy


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"sdkms_endpoint": 5, "key_name": "k"}',
        '{"sdkms_endpoint": "https://a"}',
        '{"sdkms_endpoint": "https://a", "key_name": "k", "key_id": "i"}',
        '{"sdkms_endpoint": null, "key_name": "k"}',
    ],
)
def test_file_that_the_go_plugin_refused_is_an_error(
    content: str, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Checked(capsys, lab.config(), content)
    assert found.code == 1
    assert found.of("legacy config")[0][0] == "error"
    assert found.of("legacy key") == []


def test_names_count_in_any_case_and_the_last_of_them(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    url = lab.server.url
    content = f'{{"SDKMS_endpoint": "x", "sdkms_ENDPOINT": "{url}", "Key_Name": "a"}}'
    found = Checked(capsys, lab.config(), content.replace('"a"', f'"{KEY_NAME}"'))
    assert found.of("legacy config")[-1][0] == "ok"


def test_outage_is_told_as_one(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    config = lab.config(sdkms_endpoint="https://127.0.0.1:9")
    found = Checked(capsys, config, legacy(lab))
    assert found.of("legacy key")[-1][1].startswith("DSM-UNREACHABLE")
