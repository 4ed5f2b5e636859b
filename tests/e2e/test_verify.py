"""``verify`` on a live etcd and on a snapshot of it, with real objects in both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.harness.go_plugin import key_id, put_secret
from tests.e2e.harness.kube import secret
from tests.e2e.harness.plugin import Told, told


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Cluster, Workshop

NAMESPACE = "verified"
WORD = "never-to-be-printed"


@pytest.fixture(scope="module")
def cluster(workshop: Workshop) -> Iterator[Cluster]:
    made = workshop.cluster("verified")
    made.kube.create_namespace(NAMESPACE)
    for i in range(3):
        made.kube.create_secret(NAMESPACE, f"native-{i}", WORD)
    # More than a page of etcd's, and a tree of pages in the snapshot.
    for i in range(250):
        made.kube.create_secret(NAMESPACE, f"many-{i:03}", WORD)
    yield made
    made.close()


@pytest.fixture(params=["live", "snapshot"])
def verify(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Verify:
    return Verify(cluster, None if request.param == "live" else tmp_path)


class Verify:
    """The command, against the cluster's etcd or a snapshot of it."""

    def __init__(self, cluster: Cluster, folder: Path | None) -> None:
        self._cluster = cluster
        self._folder = folder

    def __call__(self, *words: str) -> Told:
        etcd, socket = self._cluster.kube.etcd, self._cluster.daemon.socket
        where: tuple[str | Path, ...] = ("--endpoints", etcd.url)
        if self._folder is not None:
            where = ("--snapshot", etcd.snapshot(self._folder / "snapshot.db"))
        done = told("verify", *where, "--open", "--socket", socket, *words)
        assert WORD not in done.out + done.err
        return done


def test_every_object_is_of_kms_and_opens(cluster: Cluster, verify: Verify) -> None:
    done = verify("--json", "--expect-key-id", cluster.key_id())
    assert done.code == 0, done.err
    (line,) = done.json["summary"]
    assert line["key_id"] == cluster.key_id()
    assert line["dsm_key"] == cluster.emulator.kid(cluster.daemon.key_name)
    assert line["objects"] == line["opened"] == done.json["looked_at"] >= 253
    assert (line["seeds"], line["local_keks"]) == (1, 1)
    keys = {each["key"] for each in done.json["objects"]}
    assert cluster.kube.etcd_key(NAMESPACE, "many-249") in keys


def test_one_secret_is_named_as_people_name_it(verify: Verify) -> None:
    done = verify(f"{NAMESPACE}/native-1")
    assert done.code == 0
    assert done.out.splitlines()[0].endswith("; opens")
    assert verify(f"{NAMESPACE}/native").code == 1


def test_plain_aescbc_and_go_plugin_objects_are_found(
    cluster: Cluster, verify: Verify
) -> None:
    kube, daemon = cluster.kube, cluster.daemon
    mixed = "/registry/secrets/mixed/"
    plain = json.dumps(secret("mixed", "plain", WORD)).encode()
    kube.etcd.put(f"{mixed}plain", plain)
    kube.etcd.put(f"{mixed}aescbc", b"k8s:enc:aescbc:v1:key1:" + bytes(64))
    put_secret(kube, daemon, "mixed", "go", WORD)
    moved = kube.stored(NAMESPACE, "native-0")
    kube.etcd.put(f"{mixed}moved", moved)

    done = verify(mixed, "--json")

    assert done.code == 1
    found: dict[str, Any] = {
        each["key"].removeprefix(mixed): each for each in done.json["objects"]
    }
    assert found["plain"]["findings"] == ["kms was expected"]
    assert found["plain"]["provider"] == "identity"
    assert found["aescbc"]["provider"] == "aescbc"
    assert (found["go"]["format"], found["go"]["opens"]) == ("1", True)
    emulator = cluster.emulator
    assert found["go"]["key_id"] == key_id(emulator.endpoint, daemon.key_name)
    assert found["moved"]["opens"] is False
    assert verify(f"{mixed}go", "--expect-format", "go-plugin").code == 0
    assert verify(f"{mixed}go", "--expect-format", "native").code == 1
