"""Where a guide is followed: a DSM, a node with a cluster, and paths of files."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import attrs
from tests.e2e.harness.guide import GUIDES, Node, follow_all
from tests.e2e.harness.kube import Kms
from tests.e2e.harness.plugin import Daemon, Emulator
from tests.e2e.harness.program import eventually, free_port
from tests.unit.docs.support import Page


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.e2e.conftest import Workshop
    from tests.e2e.harness.kube import KubeApiServer
    from tests.unit.docs.support import Block

KEY_NAME = "kubernetes"
THEIRS = "rke2-encryption.json"
PAGES = {path.stem: Page.read(path) for path in GUIDES.glob("*.md")}
WIDGETS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


@attrs.frozen
class Place:
    """Where a guide is followed: a DSM, a node, and paths of files to come."""

    workshop: Workshop
    emulator: Emulator
    node: Node
    folder: Path

    @property
    def kube(self) -> KubeApiServer:
        """The API server of the node."""
        return self.node.kube

    @property
    def daemon(self) -> Daemon:
        """The daemon of the node."""
        return self.node.daemon

    def another_node(self, name: str) -> Node:
        """Make a node with the same DSM and an etcd of its own, none of it started."""
        return make_node(self.workshop, self.emulator, name, self.folder)

    def follow(
        self, page: str, meanwhile: Mapping[str, Callable[[Block], None]] | None = None
    ) -> None:
        """Follow a guide, with what the test does at blocks with such marks."""
        follow_all(self.node, PAGES[page], meanwhile or {})

    def close(self) -> None:
        """Stop the node and DSM."""
        self.kube.close()
        self.daemon.close()
        self.emulator.close()


def make_node(workshop: Workshop, emulator: Emulator, name: str, folder: Path) -> Node:
    state = folder / f"{name}-state"
    state.mkdir(mode=0o700)
    listener = f"127.0.0.1:{free_port()}"
    daemon = Daemon(
        folder,
        f"{name}-daemon",
        emulator,
        KEY_NAME,
        ca_file=str(emulator.ca_file),
        write_format="native",
        state_dir=str(state),
        listen=listener,
    )
    daemon.configure()
    kube = workshop.kube(name, Kms("dsm", daemon.socket))
    header = folder / "dsm-admin-header"
    if not header.exists():
        header.touch(mode=0o600)
        admin = (emulator.dir / "admin-api-key").read_text().strip()
        header.write_text(f"Authorization: Basic {admin}\n")
    paths: dict[str, Any] = {
        "/run/dsm-admin-header": header,
        "/var/lib/k8s-sdkms-plugin": state,
        "127.0.0.1:9472": listener,
        "/var/backups/etcd.snapshot": folder / "etcd.snapshot",
        "/var/lib/etcd-restored": folder / "elsewhere-etcd" / "data",
        "/etc/rancher/rke2/encryption.yaml": kube.encryption,
        "/etc/rancher/rke2": kube.folder,
        "/var/lib/rancher/rke2/server/cred/encryption-config.json": folder / THEIRS,
    }
    return Node(workshop.binaries, daemon, kube, paths)


def create_widgets(place: Place) -> None:
    """Create a type of one's own, and an object of it."""
    widget = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "before", "namespace": "default"},
        "spec": {"word": "plain"},
    }
    create = ("create", "--filename=-")
    assert run_kubectl(place, *create, text=json.dumps(WIDGETS)).returncode == 0
    eventually(
        lambda: run_kubectl(place, *create, text=json.dumps(widget)).returncode == 0,
        within_s=30,
        what="the API server serves the new type",
    )


def kubectl(place: Place, *words: str) -> str:
    done = run_kubectl(place, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_kubectl(
    place: Place, *words: str, text: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*kubectl_of(place), *words],
        env={**os.environ, "KUBECONFIG": str(place.kube.kubeconfig())},
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def kubectl_of(place: Place) -> list[str]:
    return [str(place.workshop.binaries.kubectl)]
