"""The files in deploy/ are what the commands beside them print."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.unit.k8s_sdkms_plugin.render.support import ROOT


if TYPE_CHECKING:
    from tests.unit.k8s_sdkms_plugin.render.support import Render

README = (ROOT / "deploy" / "README.md").read_text()
MADE = dict(re.findall(r"\]\(([^)]+)\) \| `k8s-sdkms-plugin render ([^`]+)`", README))


@pytest.mark.parametrize("name", MADE)
def test_file_is_what_its_command_prints(name: str, render: Render) -> None:
    made = render(*MADE[name].split())

    assert made.code == 0, made.err
    assert (ROOT / "deploy" / name).read_text() == made.out, (
        f"run: k8s-sdkms-plugin render {MADE[name]} > deploy/{name}"
    )


def test_every_file_is_listed() -> None:
    there = {
        str(path.relative_to(ROOT / "deploy"))
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and path.suffix in {".json", ".service", ".yaml", ".yml"}
    }
    made_elsewhere = {name for name in there if name.split("/")[0] not in _OURS}
    assert there - made_elsewhere == set(MADE)


_OURS = {"k8s-sdkms-plugin.json", "systemd", "static-pod", "kube-apiserver"}


@pytest.mark.parametrize("name", MADE)
def test_file_says_the_same_socket_as_the_others(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    if name.endswith(("k3s.yaml",)):
        return  # its kube-apiserver is no container, and sees every folder
    sockets = set(re.findall(r"/?(?:var/run/)?(kms-plugin)\b", text))
    assert sockets == {"kms-plugin"}


@pytest.mark.parametrize("name", [n for n in MADE if n.endswith(("yaml", "yml"))])
def test_yaml_is_yaml(name: str) -> None:
    assert yaml.safe_load((ROOT / "deploy" / name).read_text())


def test_there_is_no_daemon_set() -> None:
    for name in MADE:
        assert "kind: DaemonSet" not in (ROOT / "deploy" / name).read_text()


def test_config_is_the_one_of_the_readme() -> None:
    (shown,) = re.findall(
        r"<!-- test: config -->\n```json\n(.+?)```",
        (ROOT / "README.md").read_text(),
        re.DOTALL,
    )
    ours = json.loads((ROOT / "deploy" / "k8s-sdkms-plugin.json").read_text())
    assert ours == json.loads(shown)
