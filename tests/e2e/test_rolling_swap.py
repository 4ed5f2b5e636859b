"""Three nodes on one etcd go from the Go plugin to ours, to native, to v2, and back.

At every step each node reads what every other has written, and the others' /readyz
stays ok. The Go plugin is a stand-in (harness/go_plugin_server.py); all else is real.
The tests are the steps: each goes on where the one before it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
from tests.e2e.harness.go_plugin import GoPlugin, key_id
from tests.e2e.harness.kube import Kms
from tests.e2e.harness.plugin import Told, told
from tests.e2e.harness.program import eventually
from tests.e2e.harness.stored import EncryptedObject


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Workshop
    from tests.e2e.harness.kube import KubeApiServer
    from tests.e2e.harness.plugin import Daemon, Emulator

NAMESPACE = "swapped"
KEY_NAME = "swapped"
NAMES = ("node-1", "node-2", "node-3")
# kube-apiserver asks for Status every 20 s, as its health is asked for.
ADOPTED_S = 90


@attrs.frozen
class Node:
    """A control-plane node: a kube-apiserver, and one of two plugins at one socket."""

    name: str
    kube: KubeApiServer
    ours: Daemon
    theirs: GoPlugin

    def use_ours(self) -> None:
        """Put our daemon in the Go plugin's place, kube-apiserver going on."""
        self.theirs.stop()
        self.ours.start()

    def use_theirs(self) -> None:
        """Put the Go plugin back into our place."""
        self.ours.stop()
        self.theirs.start()

    def key_id_written(self, name: str) -> str:
        """Write a Secret, and return the key_id that it was stored under."""
        self.kube.create_secret(NAMESPACE, name, name)
        return EncryptedObject.from_etcd(self.kube.stored(NAMESPACE, name)).key_id


class ControlPlane:
    """The nodes, and all that was written so far."""

    def __init__(self, nodes: list[Node], emulator: Emulator) -> None:
        self.nodes = nodes
        self.emulator = emulator
        self.legacy = key_id(emulator.endpoint, KEY_NAME)
        self.native = f"sdkms.v1:{emulator.kid(KEY_NAME)}"
        self._written: list[str] = []

    def write(self) -> list[str]:
        """Have each node write a Secret; return the key_ids, node by node."""
        turn = len(self._written) // len(self.nodes)
        names = [f"{node.name}-{turn:03}" for node in self.nodes]
        pairs = zip(self.nodes, names, strict=True)
        key_ids = [node.key_id_written(name) for node, name in pairs]
        self._written += names
        return key_ids

    def expect_everything_readable(self) -> None:
        """See that each node reads what every node wrote, and is ready."""
        for node in self.nodes:
            found = node.kube.secrets(NAMESPACE)
            assert found == {name: name for name in self._written}, node.name
        self.expect_ready(self.nodes)

    def expect_ready(self, nodes: list[Node]) -> None:
        """See that the nodes are ready; one whose daemon was just started may lag."""
        for node in nodes:
            node.kube.await_health(200, "/readyz", within_s=60)

    def others(self, node: Node) -> list[Node]:
        """Return all nodes but this one."""
        return [other for other in self.nodes if other is not node]

    def expect_others_unmoved(self, node: Node) -> None:
        """See that nobody else has noticed."""
        for other in self.others(node):
            code, text = other.kube.health("/readyz")
            assert code == 200, f"{other.name}: {text}"

    def await_written_under(self, node: Node, wanted: str) -> None:
        """Wait until a node writes under this key_id."""

        def writes_so() -> bool:
            self.expect_others_unmoved(node)
            # Asking for its health makes it look at Status.
            node.kube.health("/readyz/kms-providers")
            name = f"{node.name}-probe"
            node.kube.create_secret(NAMESPACE, name, name)
            value = node.kube.stored(NAMESPACE, name)
            node.kube.delete_secret(NAMESPACE, name)
            return EncryptedObject.from_etcd(value).key_id == wanted

        what = f"{node.name} writes under {wanted[:12]}"
        eventually(writes_so, within_s=ADOPTED_S, what=what, every_s=1)

    def verify(self, *words: str) -> Told:
        """Run ``verify`` on all that the cluster stores."""
        etcd = self.nodes[0].kube.etcd
        return told("verify", "--quiet", "--endpoints", etcd.url, *words)


@pytest.fixture(scope="module")
def plane(workshop: Workshop) -> Iterator[ControlPlane]:
    workshop.emulator.create_key(KEY_NAME)
    etcd = workshop.etcd("swapped")
    etcd.start()
    nodes = []
    for name in NAMES:
        daemon = workshop.go_plugin_daemon(name, KEY_NAME)
        # The Go plugin's four fields, and no other.
        assert len(daemon.configure()) == 4
        kube = workshop.kube(f"swapped-{name}", Kms("dsm", daemon.socket), etcd=etcd)
        nodes.append(Node(name, kube, daemon, GoPlugin(daemon)))
        nodes[-1].theirs.start()
        kube.start()
    nodes[0].kube.create_namespace(NAMESPACE)
    yield ControlPlane(nodes, workshop.emulator)
    for node in nodes:
        node.kube.kill()
        node.ours.close()
        node.theirs.close()
    for node in nodes:
        node.kube.close()


def test_step_0_all_nodes_have_the_go_plugin(plane: ControlPlane) -> None:
    assert plane.write() == [plane.legacy] * 3
    plane.expect_everything_readable()


def test_step_1_one_node_after_another_goes_over_with_its_file_unchanged(
    plane: ControlPlane,
) -> None:
    for node in plane.nodes:
        before = node.ours.config.read_bytes()
        node.use_ours()
        assert node.ours.config.read_bytes() == before
        plane.expect_others_unmoved(node)
        assert plane.write() == [plane.legacy] * 3
        plane.expect_everything_readable()


def test_step_1_back_and_over_again_takes_nothing_but_the_swap(
    plane: ControlPlane,
) -> None:
    assert plane.verify("--expect-format", "go-plugin").code == 0
    node = plane.nodes[0]
    for swap in (node.use_theirs, node.use_ours):
        swap()
        # Its caches are new: what the others wrote, it must have opened.
        node.kube.restart()
        plane.expect_others_unmoved(node)
        assert plane.write() == [plane.legacy] * 3
        plane.expect_everything_readable()


def test_step_2_each_node_writes_natively_its_kube_apiserver_going_on(
    plane: ControlPlane,
) -> None:
    for count, node in enumerate(plane.nodes, 1):
        node.ours.configure(write_format="native", api_version="v2beta1")
        node.ours.restart()
        plane.await_written_under(node, plane.native)
        key_ids = plane.write()
        assert key_ids == [plane.native] * count + [plane.legacy] * (3 - count)
        plane.expect_everything_readable()
    mixed = plane.verify("--json")
    assert mixed.code == 0
    assert {line["key_id"] for line in mixed.json["summary"]} == {
        plane.legacy,
        plane.native,
    }


def test_step_3_each_node_answers_v2_from_a_start_of_its_kube_apiserver(
    plane: ControlPlane,
) -> None:
    for node in plane.nodes:
        node.kube.stop()
        node.ours.configure(api_version="v2")
        node.ours.restart()
        plane.expect_others_unmoved(node)
        node.kube.start()
        plane.expect_others_unmoved(node)
        assert plane.write() == [plane.native] * 3
        plane.expect_everything_readable()
    status = told("status", "--socket", plane.nodes[0].ours.socket, "--json").json
    assert (status["ok"], status["version"]) == (True, "v2")


def test_step_4_everything_is_rewritten_and_the_hash_is_gone(
    plane: ControlPlane,
) -> None:
    assert plane.verify("--expect-format", "native").code == 1
    plane.nodes[0].kube.rewrite_everything()
    assert plane.verify("--expect-format", "native").code == 0
    assert plane.verify("--expect-key-id", plane.native).code == 0
    plane.expect_everything_readable()


def test_way_back_1_each_node_writes_the_go_plugins_format_again(
    plane: ControlPlane,
) -> None:
    for node in plane.nodes:
        # The version changes as well, so that kube-apiserver has to be stopped.
        node.kube.stop()
        node.ours.configure(write_format="go-plugin", api_version="v2beta1")
        node.ours.restart()
        plane.expect_others_unmoved(node)
        node.kube.start()
        plane.expect_others_unmoved(node)
        plane.write()
        plane.expect_everything_readable()
    assert plane.write() == [plane.legacy] * 3


def test_way_back_2_verify_says_when_nothing_native_is_left(
    plane: ControlPlane,
) -> None:
    before = plane.verify("--expect-format", "go-plugin")
    assert before.code == 1
    assert "in the native format, which the Go plugin can't open" in before.out
    plane.nodes[1].kube.rewrite_everything()
    after = plane.verify(
        "--expect-format", "go-plugin", "--expect-key-id", plane.legacy
    )
    assert after.code == 0, after.out
    plane.expect_everything_readable()


def test_way_back_3_the_go_plugin_reads_and_writes_it_all(plane: ControlPlane) -> None:
    for node in plane.nodes:
        node.use_theirs()
        plane.expect_others_unmoved(node)
        node.kube.restart()
        plane.expect_others_unmoved(node)
        assert plane.write() == [plane.legacy] * 3
        plane.expect_everything_readable()
