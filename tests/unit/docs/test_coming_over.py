"""The guide for users of the Go plugin: its table and its commands hold."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.docs.support import ROOT, Page

from k8s_sdkms_plugin import cli
from k8s_sdkms_plugin.config.loading import load
from k8s_sdkms_plugin.render import command as render
from k8s_sdkms_plugin.verify import command as verify


if TYPE_CHECKING:
    from pathlib import Path

GUIDE = ROOT / "docs" / "coming-from-the-go-plugin.md"
PAGE = Page.read(GUIDE)
REFUSED = re.findall(r"(?m)^\| `(\".+?)`(?: beside a `\w+`)? \| (.+?) \|$", PAGE.prose)
COMMANDS = [
    shlex.split(line)
    for block in PAGE.blocks
    if block.mark == "parsed"
    for line in block.text.splitlines()
    if line.startswith("k8s-sdkms-plugin ")
]
GOOD = {
    "sdkms_endpoint": "https://sdkms.fortanix.com",
    "api_key": "QUJD",
    "key_name": "kubernetes",
    "socket_file": "/var/run/kms-plugin/socket.sock",
}


def written(folder: Path, fragment: str) -> Path:
    """Write a good file in which *fragment* stands in its setting's place, or too."""
    (name,) = json.loads(f"{{{fragment}}}")
    kept = [f'"{k}": {json.dumps(v)}' for k, v in GOOD.items() if k != name]
    path = folder / "config.json"
    path.write_text(f"{{{', '.join([*kept, fragment])}}}")
    return path


def test_table_has_rows() -> None:
    assert len(REFUSED) >= 10


@pytest.mark.parametrize(("refused", "remedy"), REFUSED)
def test_what_is_refused_is_taken_with_its_remedy(
    refused: str, remedy: str, tmp_path: Path
) -> None:
    (name,) = json.loads(f"{{{refused}}}")
    errors: Any = load(written(tmp_path, refused), {}).errors
    assert name.lower() in {finding.field.lower() for finding in errors}
    if remedy == "nothing":
        mended = tmp_path / "mended.json"
        mended.write_text(json.dumps(GOOD))
    else:
        mended = written(tmp_path, remedy.strip("`"))
    assert load(mended, {}).errors == ()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_is_one(words: list[str]) -> None:
    _, name, *rest = words
    parsers = {"render": render._parser, "verify": verify._parser}
    if name in parsers:
        parsers[name]().parse_args(rest)
    else:
        cli._parser().parse_args([name, *rest])


def test_every_step_has_its_commands() -> None:
    assert {words[1] for words in COMMANDS} == {"check", "verify", "status", "render"}
