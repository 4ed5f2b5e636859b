"""The guides, followed: their commands, in their order, on a real cluster."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tests.e2e.harness.place import (
    KEY_NAME,
    PAGES,
    THEIRS,
    Place,
    create_widgets,
    kubectl,
    kubectl_of,
    make_node,
    run_kubectl,
)
from tests.e2e.harness.plugin import Emulator
from tests.e2e.harness.stored import PREFIX, EncryptedObject


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Workshop
    from tests.e2e.harness.guide import Node
    from tests.unit.docs.support import Block

METRIC = re.compile(r"\bapiserver_\w+")


@pytest.fixture
def place(
    workshop: Workshop, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Place]:
    name = request.function.__name__.removeprefix("test_")[:12].rstrip("_")
    emulator = Emulator(workshop.folder, f"guide-{name}-dsm")
    emulator.start()
    emulator.create_key(KEY_NAME)
    folder = workshop.folder / f"guide-{name}"
    folder.mkdir()
    shared = attrs.evolve(workshop, folder=folder, emulator=emulator)
    node = make_node(shared, emulator, "node", folder)
    made = Place(shared, emulator, node, folder)
    made.daemon.start()
    made.daemon.await_state("ready", within_s=30)
    yield made
    made.close()


def test_encrypting_rewriting_and_verifying(place: Place) -> None:
    kube = place.kube
    kube.configure()
    kube.start()
    create_widgets(place)
    kubectl(place, "create", "secret", "generic", "before", "--from-literal=word=plain")
    kubectl(place, "create", "configmap", "before", "--from-literal=word=plain")
    keys = [
        "/registry/secrets/default/before",
        "/registry/configmaps/default/before",
        "/registry/example.com/widgets/default/before",
    ]

    def restarted(block: Block) -> None:
        kube.restart()
        place.node.follow(block, PAGES["encryption"])
        kubectl(place, "get", "secret", "before")

    later: list[Block] = []
    place.follow(
        "encryption",
        {
            "kube-apiserver restarted before": restarted,
            "when all is rewritten": later.append,
        },
    )
    assert not any(kube.etcd.get(key).startswith(PREFIX) for key in keys)

    place.follow("rewriting")
    assert all(kube.etcd.get(key).startswith(PREFIX) for key in keys)
    versions = [version_of(place, kind) for kind in ("secret", "configmap", "widget")]
    place.follow("rewriting")
    again = [version_of(place, kind) for kind in ("secret", "configmap", "widget")]
    assert versions == again, "a second run writes nothing"

    place.follow("verifying")

    (block,) = later
    place.node.follow(block, PAGES["encryption"])
    assert "identity" not in kube.encryption.read_text()
    kube.restart()
    for kind in ("secrets", "configmaps", "widgets.example.com"):
        assert "before" in kubectl(place, "get", kind, "--all-namespaces")


def test_node_with_the_file_of_step_1_reads_what_another_writes(place: Place) -> None:
    writes = place.kube
    writes.start()
    reads = place.workshop.kube("reads", etcd=writes.etcd)
    reads.start()
    writes.create_secret("default", "written", "by the other")
    # It has only identity: that is what step 1 warns of.
    (said,) = re.findall(r"`(no matching [^`]+)`", prose("encryption"))
    with pytest.raises(AssertionError, match=f"500: .*{said}"):
        reads.secret("default", "written")

    identity: dict[str, Any] = {"identity": {}}
    configured = json.loads(writes.encryption.read_text())
    providers = configured["resources"][0]["providers"]
    configured["resources"][0]["providers"] = [identity, providers[0]]
    reads.encryption.write_text(json.dumps(configured))
    reads.restart()

    assert reads.secret("default", "written") == "by the other"
    reads.create_secret("default", "as-before", "in the clear")
    assert not reads.stored("default", "as-before").startswith(PREFIX)
    assert writes.secret("default", "as-before") == "in the clear"
    reads.kill()


def test_conflict_is_refused_and_gone_at_the_next_run(place: Place) -> None:
    place.kube.start()
    kubectl(place, "create", "secret", "generic", "busy", "--from-literal=word=one")
    old = kubectl(place, "get", "secret", "busy", "--output=json")
    kubectl(place, "annotate", "secret", "busy", "written=meanwhile")

    refused = run_kubectl(place, "replace", "--filename=-", text=old)

    assert refused.returncode == 1
    (shown,) = re.findall(r"\| `(Operation cannot be [^`]+)`", prose("rewriting"))
    before, after = shown.split("...")
    assert before in refused.stderr
    assert after in refused.stderr
    new = kubectl(place, "get", "secret", "busy", "--output=json")
    assert "meanwhile" in new
    assert run_kubectl(place, "replace", "--filename=-", text=new).returncode == 0


def test_rotation(place: Place) -> None:
    kube, emulator = place.kube, place.emulator
    kube.start()
    kubectl(place, "create", "secret", "generic", "before", "--from-literal=word=old")
    old = emulator.kid(KEY_NAME)

    place.follow("rotation")

    new = emulator.kid(KEY_NAME)
    assert new != old
    key_ids = {EncryptedObject.from_etcd(v).key_id for v in kube.all_stored().values()}
    assert key_ids == {f"sdkms.v1:{new}:{old}"}
    # The last step of the guide, and the test of all before it: nobody misses it.
    emulator.control("destroy", "--kid", old)
    place.daemon.restart()
    kube.restart()
    assert "before" in kubectl(place, "get", "secrets")
    assert_metrics_exist(place, "rotation")


def test_load_balancers_and_troubleshooting(place: Place) -> None:
    place.kube.start()

    def stop(block: Block) -> None:
        assert block.text == "systemctl stop k8s-sdkms-plugin\n"
        place.daemon.stop()

    def start(block: Block) -> None:
        assert block.text == "systemctl start k8s-sdkms-plugin\n"
        place.daemon.start()

    place.follow(
        "load-balancers",
        {"the daemon is stopped": stop, "the daemon is started": start},
    )
    place.follow("troubleshooting")

    kubectl(place, "create", "secret", "generic", "any", "--from-literal=word=any")
    assert_metrics_exist(place, "load-balancers", "troubleshooting", "encryption")


def test_backups(place: Place) -> None:
    kube = place.kube
    kube.start()
    kubectl(place, "create", "secret", "generic", "one", "--from-literal=word=one")
    kube.restart()
    kubectl(place, "create", "secret", "generic", "two", "--from-literal=word=two")
    made: list[Node] = []

    def elsewhere(block: Block) -> None:
        # Whatever stood where the backup was made is gone.
        kube.close()
        place.daemon.close()
        made.append(place.another_node("elsewhere"))
        made[0].follow(block, PAGES["backups"])
        made[0].daemon.start()

    def started(block: Block) -> None:
        made[0].kube.start()
        made[0].follow(block, PAGES["backups"])

    place.follow(
        "backups",
        {"elsewhere": elsewhere, "kube-apiserver started elsewhere": started},
    )

    (restored,) = made
    shown = subprocess.run(
        [*kubectl_of(place), "get", "secret", "one", "--output=json"],
        env={**os.environ, "KUBECONFIG": str(restored.kube.kubeconfig())},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    word = json.loads(shown.stdout)["data"]["word"]
    assert base64.b64decode(word) == b"one"
    restored.kube.close()
    restored.daemon.close()


def test_leaving(place: Place) -> None:
    kube = place.kube
    # As the guide to encryption left it.
    place.node.follow(PAGES["encryption"].blocks[0], PAGES["encryption"])
    kube.encryption.with_name("writing.yaml").replace(kube.encryption)
    kube.start()
    create_widgets(place)
    kubectl(place, "create", "secret", "generic", "before", "--from-literal=word=old")
    assert kube.stored("default", "before").startswith(PREFIX)

    place.follow("leaving")

    text = kube.encryption.read_text()
    without = re.sub(r" +- kms:\n(?: {10}.+\n)+", "", text)
    assert without != text
    kube.encryption.write_text(without)
    kube.stop()
    place.daemon.stop()
    kube.start()
    assert "before" in kubectl(place, "get", "secrets", "--all-namespaces")
    assert "before" in kubectl(place, "get", "widgets.example.com")


def test_k3s_rke2(place: Place) -> None:
    kube = place.kube
    secret = base64.b64encode(os.urandom(32)).decode()
    keys = {"keys": [{"name": "aescbckey", "secret": secret}]}
    theirs = json.dumps(
        {
            "kind": "EncryptionConfiguration",
            "apiVersion": "apiserver.config.k8s.io/v1",
            "resources": [
                {
                    "resources": ["secrets"],
                    "providers": [{"aescbc": keys}, {"identity": {}}],
                }
            ],
        }
    )
    (place.folder / THEIRS).write_text(theirs)
    kube.encryption.write_text(theirs)
    kube.start()
    kubectl(place, "create", "secret", "generic", "theirs", "--from-literal=word=old")
    assert kube.stored("default", "theirs").startswith(b"k8s:enc:aescbc:v1:aescbckey:")

    page = PAGES["k3s-rke2"]
    reading, writing = (block for block in page.blocks if block.mark == "e2e")
    place.node.follow(reading, page)
    assert kube.encryption.stat().st_mode & 0o777 == 0o600
    kube.restart()
    kubectl(place, "create", "secret", "generic", "still", "--from-literal=word=old")
    assert kube.stored("default", "still").startswith(b"k8s:enc:aescbc:")
    place.node.follow(writing, page)
    kube.restart()
    kubectl(place, "create", "secret", "generic", "ours", "--from-literal=word=new")

    assert kube.stored("default", "ours").startswith(PREFIX)
    assert kubectl(place, "get", "secrets", "--output=name").split() == [
        f"secret/{name}" for name in ("ours", "still", "theirs")
    ]


def version_of(place: Place, kind: str) -> str:
    shown = kubectl(place, "get", kind, "before", "--output=json")
    return str(json.loads(shown)["metadata"]["resourceVersion"])


def assert_metrics_exist(place: Place, *names: str) -> None:
    """See that kube-apiserver shows each metric that these guides name."""
    shown = kubectl(place, "get", "--raw", "/metrics")
    for name in names:
        text = PAGES[name].path.read_text()
        named = {each for each in METRIC.findall(text) if each != "apiserver_id_hash"}
        # One that counts reloads appears with the first.
        named = {each for each in named if "automatic_reload" not in each}
        assert named
        assert {each for each in named if each not in shown} == set()


def prose(name: str) -> str:
    return PAGES[name].prose
