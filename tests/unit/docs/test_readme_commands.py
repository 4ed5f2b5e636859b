"""Runs the README's commands, in its order, and compares what they print."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.unit.docs.site_of_readme import Site, numbered, read_until
from tests.unit.docs.support import README, ROOT, Block, Page, vectors

from k8s_sdkms_plugin.config.loading import load
from kms_core import go_plugin_key_id


if TYPE_CHECKING:
    from collections.abc import Iterator


PAGE = Page.read(README)
RUN = [block for block in PAGE.blocks if block.mark == "run"]
MARKS = {
    "alerts",
    "config",
    "daemon",
    "daemon of the unchanged file",
    "dry run",
    "encryption configuration",
    "output",
    "output begins",
    "python",
    "run",
    "run with a stored object",
    "run with the demonstration",
    "warning of the unchanged file",
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # Not pytest's folder, whose path is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="readme-"))
    try:
        with Site(folder) as site:
            emulator = site.start_emulator()
            settings = json.loads(PAGE.block("config").text) | {
                "sdkms_endpoint": emulator["url"],
                "api_key": (folder / "dsm" / "api-key").read_text(),
                "ca_file": emulator["ca_file"],
                "socket_file": str(site.socket),
                "state_dir": str(site.state),
                "listen": site.listener,
            }
            write_private(site.config, json.dumps(settings))
            site.socket.parent.mkdir(mode=0o700)
            site.state.mkdir(mode=0o700)
            daemon = site.start(PAGE.block("daemon").text)
            read_until(daemon.stderr, '"ready"', '"listening"')
            yield site
    finally:
        shutil.rmtree(folder)


def write_private(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md"])
def test_every_block_says_what_is_done_with_it(page: Path) -> None:
    unknown = [
        block
        for block in Page.read(page).blocks
        if block.mark not in MARKS and not block.mark.startswith("not run, ")
    ]
    assert not unknown


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"line {block.line}")
def test_command_prints_what_the_readme_says(site: Site, block: Block) -> None:
    printed = numbered(site.run(block))

    expected = PAGE.after(block)
    if expected is not None and expected.mark == "output":
        assert printed == numbered(expected.text)
    if expected is not None and expected.mark == "output begins":
        assert printed.startswith(numbered(expected.text))


def test_make_test_runs_linters_and_tests(site: Site) -> None:
    command = PAGE.block("dry run").text.replace("make test", "make -n test E2E=later")
    printed = site.run(Block("", "sh", command, 0))
    for tool in ("ruff check", "mypy", "lint-imports", "pytest"):
        assert tool in printed


def test_configuration_of_the_readme_has_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_private(path, PAGE.block("config").text)
    loaded = load(path, {})
    assert loaded.findings == ()
    assert loaded.config is not None


def test_encryption_configuration_is_that_of_the_demonstration(site: Site) -> None:
    printed = site.run(RUN[0])
    (shown,) = re.findall(r"(?m)^  kind: .*\n(?:  .+\n)+", printed)
    (socket,) = re.findall(r"(?m)^  socket +(.+)$", printed)
    expected = textwrap.dedent(shown).replace(socket, "/var/run/kms-plugin/socket.sock")
    assert PAGE.block("encryption configuration").text == expected


def test_key_id_is_found_in_what_etcd_holds(site: Site) -> None:
    block = PAGE.block("run with a stored object")
    (vector,) = vectors("stored object")
    commands = site.folder / "bin"
    commands.mkdir()
    stored = commands / "stored-object"
    stored.write_bytes(bytes.fromhex(vector["value"]) + b"\n")
    for name, script in {"etcdctl": f"cat {stored}", "kubectl": ":"}.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o700)
    # Before those that this machine may have.
    path = f'export PATH="{commands}:$PATH"\n'

    printed = site.run(Block("", "sh", path + block.text, block.line), in_folder=True)

    expected = PAGE.after(block)
    assert expected is not None
    assert printed == expected.text


def test_hash_of_the_readme_is_that_of_its_key_id() -> None:
    (block,) = (b for b in PAGE.blocks if "key_id hash" in b.text)
    (key_id,) = re.findall(r"(?m)^key_id  +(.+)$", block.text)
    hashed = hashlib.sha256(key_id.encode()).hexdigest()
    assert f"key_id hash    sha256:{hashed}\n" in block.text


def test_alerts_name_what_the_listener_shows(site: Site) -> None:
    expressions = PAGE.block("alerts").text.splitlines()
    answer = httpx.get(f"http://{site.listener}/metrics", trust_env=False)
    shown = set(re.findall(r"(?m)^# TYPE (\w+)", answer.text))
    states = set(re.findall(r'(?m)^\w+_state\{state="(\w+)"\}', answer.text))

    named = [re.findall(r"k8s_sdkms_plugin_\w+", line) for line in expressions]
    named_states = re.findall(r'\{state=~?"([\w|]+)"', PAGE.block("alerts").text)

    assert all(named)
    assert {name for names in named for name in names} <= shown
    assert {state for names in named_states for state in names.split("|")} <= states
    assert set(re.findall(r"`(k8s_sdkms_plugin_\w+)`", PAGE.prose)) <= shown


def test_unchanged_file_of_the_go_plugin_serves_as_it_did(site: Site) -> None:
    config = site.folder / "go-plugin.json"
    settings = json.loads(config.read_text())
    trust = {"SSL_CERT_FILE": str(site.folder / "dsm" / "ca.pem")}
    assert set(settings) == {"sdkms_endpoint", "api_key", "key_name", "socket_file"}
    command = PAGE.block("daemon of the unchanged file").text.replace(
        "/etc/fortanix/k8s-sdkms-plugin.json", str(config)
    )

    daemon = site.start(command, **trust)

    ready = json.loads(read_until(daemon.stderr, '"ready"'))
    expected = go_plugin_key_id(
        settings["sdkms_endpoint"], key_name=settings["key_name"]
    )
    assert ready["key_id"] == expected
    call = f"k8s-sdkms-plugin call status --socket {settings['socket_file']}"
    status = json.loads(site.run(Block("", "sh", call, 0)))
    assert status == {"version": "v2beta1", "healthz": "ok", "key_id": expected}


def test_check_warns_of_the_unchanged_file(site: Site) -> None:
    ca_file = site.folder / "dsm" / "ca.pem"
    config = site.folder / "go-plugin.json"
    command = f"SSL_CERT_FILE={ca_file} k8s-sdkms-plugin check --config {config}"
    printed = site.run(Block("", "sh", command, 0))
    assert printed.startswith(PAGE.block("warning of the unchanged file").text)


def test_rotation_shows_within_a_minute(site: Site) -> None:
    demonstration = site.start('make run ARGS="--dir /tmp/kms-demo"')
    hang_up = read_until(demonstration.stdout, "kill -HUP")
    (pid,) = re.findall(r"kill -HUP (\d+)", hang_up)
    old = json.loads((site.demo / "emulator.json").read_text())["kid"]
    block = PAGE.block("run with the demonstration")
    rekey, status = block.text.splitlines()

    new = json.loads(site.run(Block("", "sh", rekey, block.line)))["kid"]
    # Or else it takes up to 30 s, says the demonstration.
    site.run(Block("", "sh", f"kill -HUP {pid}", 0))

    expected = f"sdkms.v1:{new}:{old}"
    log = site.start(f"tail -n +1 -f {site.demo}/daemon.log")
    read_until(log.stdout, expected)
    answer = json.loads(site.run(Block("", "sh", status, block.line)))
    assert answer["key_id"] == expected
