"""A control-plane node as the guides describe it, and their commands run on it.

Commands are run word for word by bash. What differs is where things are: the paths of
the guides stand for paths of the test, DSM is an emulator, and whatever UUID a guide
shows stands for the one that was printed in its place.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.e2e.harness.plugin import command
from tests.e2e.harness.program import ROOT, eventually
from tests.unit.docs.site_of_readme import numbered


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.e2e.conftest import Binaries
    from tests.e2e.harness.kube import KubeApiServer
    from tests.e2e.harness.plugin import Daemon
    from tests.unit.docs.support import Block, Page

GUIDES: Final = ROOT / "docs" / "guides"
TIMEOUT_S: Final = 60.0
UNTIL_S: Final = 150.0

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Node:
    """A daemon, a kube-apiserver and its etcd, where a guide's commands are run.

    Args:
        binaries: kubectl and etcdctl, which the commands find first.
        daemon: The daemon; its config must have been written.
        kube: The API server that kubectl asks.
        paths: More paths of the guides, and what they are here.
    """

    def __init__(
        self,
        binaries: Binaries,
        daemon: Daemon,
        kube: KubeApiServer,
        paths: Mapping[str, Path],
    ) -> None:
        self.daemon = daemon
        self.kube = kube
        self._binaries = binaries
        self._paths: dict[str, str] = {
            "/etc/fortanix/k8s-sdkms-plugin.json": str(daemon.config),
            "/var/run/kms-plugin/socket.sock": str(daemon.socket),
            "/etc/kubernetes/encryption/config.yaml": str(kube.encryption),
            "/etc/kubernetes/encryption": str(kube.folder),
            **{theirs: str(ours) for theirs, ours in paths.items()},
        }
        self._uuids: dict[str, str] = {}

    def follow(self, block: Block, page: Page) -> None:
        """Run a block, once or until it succeeds, and compare what it prints."""
        if block.mark.endswith(", until it succeeds"):
            eventually(
                lambda: self._bash(block).returncode == 0,
                within_s=UNTIL_S,
                what=block.text,
                every_s=1,
            )
            return
        done = self._bash(block)
        said = f"{page.path.name}:{block.line}: {done.stdout}{done.stderr}"
        assert done.returncode == 0, said
        expected = page.after(block)
        if expected is not None and expected.mark.startswith("output"):
            self._compare(done.stdout, expected)

    def _compare(self, printed: str, expected: Block) -> None:
        shown = self._as_in_guide(printed)
        if expected.mark == "output, without the end of the line":
            shown += "\n"
        if expected.mark == "output, the end":
            lines = len(expected.text.splitlines())
            shown = "".join(shown.splitlines(keepends=True)[-lines:])
        difference = (
            f"line {expected.line} says {expected.text}, and printed is {shown}"
        )
        assert numbered(shown) == numbered(expected.text), difference
        theirs, ours = _UUID.findall(expected.text), _UUID.findall(shown)
        self._uuids |= dict(zip(theirs, ours, strict=True))

    def _bash(self, block: Block) -> subprocess.CompletedProcess[str]:
        text = _replaced(block.text, [*self._paths.items(), *self._uuids.items()])
        prelude = f"set -euo pipefail\netcd=(--endpoints {self.kube.etcd.url})\n"
        return subprocess.run(
            ["bash", "-c", prelude + text],
            cwd=self.kube.folder,
            env=self._environ(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def _environ(self) -> dict[str, str]:
        emulator = self.daemon.emulator
        here = [Path(sys.executable), command(), *self._tools()]
        folders = ":".join(str(path.parent) for path in here)
        return self.daemon.environ | {
            "PATH": f"{folders}:{os.environ['PATH']}",
            "KUBECONFIG": str(self.kube.kubeconfig()),
            "ETCDCTL_API": "3",
            "ETCDCTL_ENDPOINTS": self.kube.etcd.url,
            "DSM": emulator.endpoint,
            "CURL_CA_BUNDLE": str(emulator.ca_file),
        }

    def _tools(self) -> list[Path]:
        return [self._binaries.kubectl, self._binaries.etcdctl]

    def _as_in_guide(self, printed: str) -> str:
        back = [(ours, theirs) for theirs, ours in self._paths.items()]
        return _replaced(printed, back)


def _replaced(text: str, pairs: Iterable[tuple[str, str]]) -> str:
    # The longest first: one path may begin with another.
    for old, new in sorted(pairs, key=lambda pair: -len(pair[0])):
        text = text.replace(old, new)
    return text


def follow_all(
    node: Node, page: Page, meanwhile: Mapping[str, Callable[[Block], None]]
) -> None:
    """Follow a guide from its first block to its last.

    Args:
        node: Where its commands are run.
        page: The guide.
        meanwhile: What the test does at a block with a mark ``e2e, KEY``: in place of
            running it, or before it runs it itself.
    """
    left = set(meanwhile)
    for block in page.blocks:
        kind, _, what = block.mark.partition(", ")
        if kind != "e2e":
            continue
        if what in meanwhile:
            meanwhile[what](block)
            left.discard(what)
        else:
            assert what in ("", "until it succeeds"), block.mark
            node.follow(block, page)
    assert not left, left
