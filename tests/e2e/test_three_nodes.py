"""Three control-plane nodes on one etcd go through a rotation."""

from __future__ import annotations

import signal
import threading
import time
from itertools import groupby
from typing import TYPE_CHECKING

import attrs
import pytest
from tests.e2e.harness.kube import Kms
from tests.e2e.harness.program import eventually
from tests.e2e.harness.stored import EncryptedObject


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Workshop
    from tests.e2e.harness.kube import KubeApiServer
    from tests.e2e.harness.plugin import Daemon, Emulator

NAMESPACE = "three-nodes"
KEY_NAME = "three-nodes"
PAUSE_S = 0.2


class Node:
    """A daemon and a kube-apiserver, and a user of the latter.

    The user writes a Secret, reads the newest of every node, and asks for the health,
    again and again, in a thread.
    """

    def __init__(self, name: str, daemon: Daemon, kube: KubeApiServer) -> None:
        self.name = name
        self.daemon = daemon
        self.kube = kube
        self.written: list[str] = []
        self.key_ids: list[str] = []
        self.read_of: dict[str, set[str]] = {}
        self.failures: list[str] = []
        self._stopped = threading.Event()

    def use(self, nodes: list[Node]) -> None:
        """Go on until told to stop."""
        while not self._stopped.wait(PAUSE_S):
            try:
                self._turn(nodes)
            except Exception as error:  # noqa: BLE001 # each is a finding
                self.failures.append(f"{self.name}: {error!r}")

    def stop(self) -> None:
        """Let ``use`` end."""
        self._stopped.set()

    def _turn(self, nodes: list[Node]) -> None:
        name = f"{self.name}-{len(self.written):04}"
        self.kube.create_secret(NAMESPACE, name, name)
        value = self.kube.stored(NAMESPACE, name)
        self.key_ids.append(EncryptedObject.from_etcd(value).key_id)
        self.written.append(name)
        for other in nodes:
            if other.written:
                newest = other.written[-1]
                assert self.kube.secret(NAMESPACE, newest) == newest
                self.read_of.setdefault(other.name, set()).add(newest)
        assert self.kube.health("/readyz/kms-providers") == (200, "ok")


@attrs.frozen
class ControlPlane:
    """Three nodes on one etcd."""

    nodes: list[Node]
    emulator: Emulator


@pytest.fixture
def control_plane(workshop: Workshop) -> Iterator[ControlPlane]:
    workshop.emulator.create_key(KEY_NAME)
    etcd = workshop.etcd(KEY_NAME)
    etcd.start()
    nodes = []
    for name in ("node-a", "node-b", "node-c"):
        daemon = workshop.daemon(name, KEY_NAME, write_format="native")
        kube = workshop.kube(name, Kms("dsm", daemon.socket), etcd=etcd)
        nodes.append(Node(name, daemon, kube))
        daemon.start()
        kube.start()
    nodes[0].kube.create_namespace(NAMESPACE)
    users = [threading.Thread(target=node.use, args=(nodes,)) for node in nodes]
    for user in users:
        user.start()
    yield ControlPlane(nodes, workshop.emulator)
    for node in nodes:
        node.stop()
    for user in users:
        user.join()
    # All of them before the etcd, which closing any of them ends.
    for node in nodes:
        node.kube.kill()
        node.daemon.close()
    for node in nodes:
        node.kube.close()


def test_every_node_reads_what_every_other_wrote_all_through_a_rotation(
    control_plane: ControlPlane,
) -> None:
    nodes, emulator = control_plane.nodes, control_plane.emulator
    old_kid = emulator.kid(KEY_NAME)
    old_key_id = f"sdkms.v1:{old_kid}"
    await_reads(nodes, of={node.name: 3 for node in nodes})
    assert {node.daemon.key_id() for node in nodes} == {old_key_id}

    emulator.control("rekey", "--name", KEY_NAME)
    nodes[0].daemon.signal(signal.SIGHUP)
    began = time.monotonic()

    new_key_id = f"sdkms.v1:{emulator.kid(KEY_NAME)}:{old_kid}"
    # The others see it by themselves: they look every 30 s, and again a second later.
    eventually(
        lambda: {node.daemon.key_id() for node in nodes} == {new_key_id},
        within_s=60,
        what="all three show the new key_id",
        every_s=0.5,
    )
    shown_s = time.monotonic() - began
    # Each API server asks its daemon for Status every 20 s, as its health is asked for.
    eventually(
        lambda: all(node.key_ids[-1] == new_key_id for node in nodes),
        within_s=60,
        what="all three write under the new key_id",
    )
    await_reads(nodes, of={node.name: len(node.written) + 3 for node in nodes})
    for node in nodes:
        node.stop()

    assert [failure for node in nodes for failure in node.failures] == []
    assert shown_s < 60
    for node in nodes:
        # Once from the old one to the new one, and never back.
        assert [key_id for key_id, _ in groupby(node.key_ids)] == [
            old_key_id,
            new_key_id,
        ]
    expected = {name: name for node in nodes for name in node.written}
    for node in nodes:
        assert node.kube.secrets(NAMESPACE).items() >= expected.items()


def await_reads(nodes: list[Node], of: dict[str, int]) -> None:
    """Wait until every node has read so new a Secret of every node."""

    def all_read() -> bool:
        assert [failure for node in nodes for failure in node.failures] == []
        return all(
            max(node.read_of.get(name, {""})) >= f"{name}-{number:04}"
            for node in nodes
            for name, number in of.items()
        )

    eventually(all_read, within_s=30, what="every node has read of every other")
