"""Runs the commands of docs/emulator.md, in its order, and checks its names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.docs.site_of_readme import Site, read_until
from tests.unit.docs.support import ROOT, Block, Page

from dsm_emulator.all_switches import ALL_SWITCHES
from dsm_emulator.command_table import COMMANDS
from dsm_emulator.fault_names import catalog


if TYPE_CHECKING:
    from collections.abc import Iterator


PAGE = Page.read(ROOT / "docs" / "emulator.md")
RUN = [block for block in PAGE.blocks if block.mark == "run"]
OPTIONS = {"--persist", "--lose-sessions", "--no-tls", "--client-certificates"}
OTHER_WORDS = {"--body", "--migration-seconds", "rotation_policy", "code"}
SWITCHES = {name for name in ALL_SWITCHES if "." not in name}


class EmulatorSite(Site):
    """The place that the page describes."""

    def _paths(self) -> dict[str, Path | str]:
        return {"/tmp/dsm": self.folder / "dsm"}  # noqa: S108 - as the page calls it


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # Not pytest's folder, whose path is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="emulator-"))
    try:
        with EmulatorSite(folder) as site:
            emulator = site.start(PAGE.block("emulator").text)
            read_until(emulator.stdout, "{")
            trust = {"SSL_CERT_FILE": str(folder / "dsm" / "ca.pem")}
            variable, command = PAGE.block("daemon").text.split(maxsplit=1)
            assert variable == "SSL_CERT_FILE=/tmp/dsm/ca.pem"
            daemon = site.start(command, **trust)
            read_until(daemon.stderr, '"ready"')
            yield site
    finally:
        shutil.rmtree(folder)


def test_every_block_is_run() -> None:
    marks = {block.mark for block in PAGE.blocks}
    assert marks == {"emulator", "daemon", "run", "pytest"}


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"line {block.line}")
def test_command_of_the_page_runs(site: Site, block: Block) -> None:
    assert site.run(block)


def test_what_the_page_started_was_steered(site: Site) -> None:
    for block in RUN:
        site.run(block)
    ctl = "k8s-sdkms-plugin emulator ctl --dir /tmp/dsm"
    faults = site.run(Block("", "sh", f"{ctl} faults", 0))
    names = [key["name"] for key in json.loads(keys(site))]
    assert json.loads(faults) == []
    assert "rotating" in names
    assert any(name.startswith("rotating (rotated at") for name in names)


def keys(site: Site) -> str:
    # Another text than that of the page, whose output is remembered.
    ctl = "k8s-sdkms-plugin emulator  ctl --dir /tmp/dsm"
    return site.run(Block("", "sh", f"{ctl} keys", 0))


def test_tests_of_the_page_pass(tmp_path: Path) -> None:
    path = tmp_path / "test_of_the_page.py"
    path.write_text(PAGE.block("pytest").text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", tmp_path, path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def words_of(heading: str) -> set[str]:
    """Return the words in code of a section's tables."""
    section = PAGE.prose.partition(f"{heading}\n")[2]
    section = re.split(r"(?m)^#{2,3} ", section)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return set(re.findall(r"`([^`]+)`", "\n".join(rows)))


def test_page_has_every_command() -> None:
    assert words_of("## Steer it") == set(COMMANDS)


def test_page_has_every_fault() -> None:
    assert words_of("### Faults") == set(catalog())


def test_page_has_every_switch_and_no_word_that_is_none() -> None:
    words = words_of("## Point by point")
    assert words - SWITCHES - set(COMMANDS) - set(catalog()) - OPTIONS <= OTHER_WORDS
    assert words >= SWITCHES
    assert words >= OPTIONS


def test_page_has_every_point() -> None:
    section = PAGE.prose.partition("## Point by point\n")[2]
    points = re.findall(r"(?m)^\| (\d+) \|", section)
    assert points == [str(number) for number in range(1, 33)]
