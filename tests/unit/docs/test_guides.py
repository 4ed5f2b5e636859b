"""The guides: every block is checked or says why not, and what they name exists.

Blocks marked ``run`` are run here, in the place that a guide describes, on an emulator;
blocks marked ``e2e`` by tests/e2e/test_guides.py, on a real cluster, and those marked
``ship`` by tests/ship/test_image_of_guides.py, where the image is built.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import yaml
from tests.unit.docs.site_of_guides import GuideSite
from tests.unit.docs.site_of_readme import BIN, numbered, read_until
from tests.unit.docs.support import ROOT, Page

from k8s_sdkms_plugin.config.model import PluginConfig
from k8s_sdkms_plugin.metrics import STATE
from kms_core.errors import error_classes
from kms_core.standing import Phase


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.docs.support import Block

GUIDES = ROOT / "docs" / "guides"
DEPLOY = ROOT / "deploy"
PAGES = {path.stem: Page.read(path) for path in sorted(GUIDES.glob("*.md"))}

# What can't be run by a test, why, and the commands that say so.
NOT_RUN = {
    "a host of its own": (
        "installs under /opt and /etc; the bundle has tests with roots of their own",
        {"k8s-sdkms-plugin-*/install"},
    ),
    "containerd": ("there is no container runtime here", {"crictl"}),
    "docker": ("there is no Docker engine here", {"docker"}),
    "k3s": ("there is no k3s and no RKE2 here", {"rke2-server", "sqlite3"}),
    "kubeadm": ("kubeadm made no cluster here", {"kubeadm", "/etc/kubernetes/pki"}),
    "no kube-controller-manager": (
        "the API server stands alone; the migrator is the controller manager's",
        {"StorageVersionMigration"},
    ),
    "rke": ("there is no RKE1 here, and no machines for it", {"rke"}),
    "systemd": ("systemd is not the first process here", {"systemctl", "journalctl"}),
}
RUN = {"run", "run with the daemon"}
PRINTS_A_FILE = re.compile(r"run, prints ([\w.-]+)")
OUTPUT = {"output", "output, the end", "output, without the end of the line"}
E2E = {
    "e2e",
    "e2e, elsewhere",
    "e2e, kube-apiserver restarted before",
    "e2e, kube-apiserver started elsewhere",
    "e2e, the daemon is started",
    "e2e, the daemon is stopped",
    "e2e, until it succeeds",
    "e2e, when all is rewritten",
}
OTHER = {"expression", "flags", "sample", "ship"}

# Words with underscores that are no settings of ours: DSM's, RKE's, kube-apiserver's.
OTHERS_WORDS = {
    "custom_config",
    "deactivate_rotated_key",
    "extra_binds",
    "mark_key_disable_when_deactivated",
    "protect_crypto_operations",
}
COMMAND = re.compile(
    r"k8s-sdkms-plugin ((?:render )?[a-z][a-z0-9-]*)((?:[^\n|&;`]|\\\n)*)"
)
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]+")
WITH_DAEMON = {
    name
    for name, page in PAGES.items()
    if any(block.mark == "run with the daemon" for block in page.blocks)
}


def blocks() -> list[tuple[str, Block]]:
    return [(name, block) for name, page in PAGES.items() for block in page.blocks]


def at(value: object) -> str:
    """Return how a test's parameter is called."""
    return f"line {value.line}" if hasattr(value, "line") else str(value)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_block_says_what_is_done_with_it(page: Page) -> None:
    known = RUN | OUTPUT | E2E | OTHER | {f"not run, {reason}" for reason in NOT_RUN}
    unknown = {block.mark for block in page.blocks if block.mark not in known}
    assert {mark for mark in unknown if not PRINTS_A_FILE.fullmatch(mark)} == set()
    # An indented fence would be no block to us, and one to a reader.
    assert not re.search(r"(?m)^\s*(```|~~~)", page.prose)
    # Neither would commands that are indented only.
    assert not re.search(r"(?m)^    \S", page.prose)
    for block in page.blocks:
        if block.mark in OUTPUT:
            before = page.blocks[page.blocks.index(block) - 1]
            # What is run again until it succeeds is not compared, and here only the
            # whole is.
            assert before.mark in (RUN | E2E) - {"e2e, until it succeeds"}
            assert block.mark == "output" or before.mark in E2E


@pytest.mark.parametrize("reason", NOT_RUN)
def test_what_is_not_run_needs_what_is_not_here(reason: str) -> None:
    found = [block for _, block in blocks() if block.mark == f"not run, {reason}"]
    assert found
    _, words = NOT_RUN[reason]
    for block in found:
        assert any(word in block.text for word in words), block.text


@pytest.fixture(scope="module")
def site() -> Iterator[GuideSite]:
    # Not pytest's folder, whose path is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="guides-"))
    try:
        with GuideSite(folder) as site:
            site.start_dsm()
            yield site
    finally:
        shutil.rmtree(folder)


def test_set_up_in_dsm_and_everything_that_follows_it(site: GuideSite) -> None:
    """One test: each guide begins where that to DSM ended."""
    follow(site, PAGES["dsm"])
    assert site.config.stat().st_mode & 0o777 == 0o600
    described = site.dsm_key()
    assert described["key_ops"] == ["ENCRYPT", "DECRYPT"]
    for name in PAGES.keys() - WITH_DAEMON - {"dsm"}:
        follow(site, PAGES[name])
    daemon = site.start(
        f"k8s-sdkms-plugin serve --config {site.config}", **site.trust()
    )
    read_until(daemon.stderr, '"ready"', '"listening"')
    for made in (site.folder / "kubernetes").rglob("*.yaml"):
        (path,) = DEPLOY.rglob(made.name)
        assert made.read_text() == path.read_text()
    for name in WITH_DAEMON:
        follow(site, PAGES[name])
    shown_metrics_and_states(site)


def follow(site: GuideSite, page: Page) -> None:
    for block in page.blocks:
        file = PRINTS_A_FILE.fullmatch(block.mark)
        if block.mark not in RUN and file is None:
            continue
        printed = site.run_in_guide(block, page)
        expected = page.after(block)
        if file is not None:
            (path,) = DEPLOY.rglob(file[1])
            assert printed == path.read_text()
        elif expected is not None and expected.mark == "output":
            assert numbered(printed) == numbered(expected.text)


def shown_metrics_and_states(site: GuideSite) -> None:
    answer = httpx.get(f"http://{site.listener}/metrics", trust_env=False)
    shown = set(re.findall(r"(?m)^# TYPE (\w+)", answer.text))
    states = {phase.value for phase in Phase}
    for page in PAGES.values():
        text = page.path.read_text()
        assert set(re.findall(r"k8s_sdkms_plugin_\w+", text)) <= shown
        for named in re.findall(STATE + r'\{state=~?"([\w|]+)"', text):
            assert set(named.split("|")) <= states


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_options_exist(name: str) -> None:
    page = PAGES[name]
    inline = re.findall(r"`([^`]+)`", page.prose)
    text = "\n".join([*inline, *(b.text for b in page.blocks if b.language == "sh")])
    for command, rest in set(COMMAND.findall(text)):
        words = command.split()
        if words == ["render"]:
            continue
        known = help_of(*words)
        for option in OPTION.findall(rest):
            assert re.search(rf"(?<!\S){option}\b", known), f"{command} {option}"


def help_of(*words: str) -> str:
    done = subprocess.run(
        [BIN / "k8s-sdkms-plugin", *words, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return re.sub(r"[\[\]|]", " ", done.stdout)


@pytest.mark.parametrize("name", PAGES)
def test_settings_exist(name: str) -> None:
    known = {attribute.name for attribute in attrs.fields(PluginConfig)}
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGES[name].prose))
    metrics = {word for word in named if word.startswith("apiserver_")}
    assert named - metrics - OTHERS_WORDS <= known


def test_guides_that_need_a_cluster_are_those_that_are_followed_on_one() -> None:
    test = (ROOT / "tests" / "e2e" / "test_guides.py").read_text()
    followed = re.findall(r'(?:follow\(\s*|page = PAGES\[)"([a-z0-9-]+)"', test)
    needing = {name for name, block in blocks() if block.mark in E2E}
    assert set(followed) == needing


def test_troubleshooting_knows_every_code() -> None:
    named = set(re.findall(r"`([A-Z]+(?:-[A-Z]+)*)`", PAGES["troubleshooting"].prose))
    assert {cls.code for cls in error_classes()} <= named


def test_states_of_troubleshooting_are_all_but_ready() -> None:
    rows = re.findall(r"(?m)^\| `([a-z]+)` \|", PAGES["troubleshooting"].prose)
    assert set(rows) == {phase.value for phase in Phase} - {Phase.READY.value}


def test_flags_of_kube_apiserver_are_those_of_the_patch() -> None:
    patch = (DEPLOY / "kube-apiserver" / "kube-apiserver+json.yaml").read_text()
    for flag in PAGES["encryption"].block("flags").text.splitlines():
        assert f"value: {flag}\n" in patch


def test_sample_of_rke_s_own_encryption_is_yaml() -> None:
    sample = yaml.safe_load(PAGES["rke1"].block("sample").text)
    ours = yaml.safe_load((DEPLOY / "kube-apiserver" / "rke1-cluster.yml").read_text())
    theirs = sample["services"]["kube-api"]["secrets_encryption_config"]
    config = ours["services"]["kube-api"]["secrets_encryption_config"]
    assert theirs == {"enabled": True}
    assert config.keys() - theirs.keys() == {"custom_config"}


def test_docker_binds_what_the_recommended_settings_name() -> None:
    (run,) = (b for b in PAGES["docker"].blocks if "docker run" in b.text)
    binds = re.findall(r"--volume (\S+?):(\S+?)(?::ro)?(?: |$)", run.text, re.MULTILINE)
    config = json.loads((DEPLOY / "k8s-sdkms-plugin.json").read_text())
    expected = {
        str(Path(config["socket_file"]).parent),
        config["state_dir"],
        "/etc/fortanix/k8s-sdkms-plugin.json",
    }
    assert {here for here, _ in binds} == {inside for _, inside in binds} == expected
    pod = (DEPLOY / "static-pod" / "k8s-sdkms-plugin.yaml").read_text()
    (image,) = re.findall(r"image: (\S+)", pod)
    assert image in run.text


def test_files_of_k3s_and_rke2_go_where_their_own_heads_say() -> None:
    text = PAGES["k3s-rke2"].path.read_text()
    for command in ("k3s", "rke2"):
        head = (DEPLOY / "kube-apiserver" / f"{command}.yaml").read_text()
        assert "90-k8s-sdkms-plugin.yaml" in head
        folder = f"/etc/rancher/{command}/config.yaml.d"
        assert folder in head
        assert f"`{folder}/90-k8s-sdkms-plugin.yaml`" in text
        own = f"/var/lib/rancher/{command}/server/cred/encryption-config.json"
        assert own in head
        assert f"`{own}`" in text


def test_expressions_are_well_formed() -> None:
    for _, block in blocks():
        if block.mark == "expression":
            for line in block.text.splitlines():
                assert line.count("(") == line.count(")")
                assert line.count("{") == line.count("}")
                assert line.count('"') % 2 == 0
                assert re.search(r"(k8s_sdkms_plugin|apiserver)_\w+", line)


def test_every_guide_is_in_the_index() -> None:
    named = {target.partition("#")[0] for target in PAGES["README"].links()}
    assert {path.name for path in GUIDES.glob("*.md")} - {"README.md"} <= named
