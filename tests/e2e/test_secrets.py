"""What a user of the Kubernetes API and an owner of the etcd see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness import go_plugin, stored


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Cluster, Workshop

NAMESPACE = "vault"


@pytest.fixture(scope="module")
def cluster(workshop: Workshop) -> Iterator[Cluster]:
    made = workshop.cluster("secrets")
    made.kube.create_namespace(NAMESPACE)
    yield made
    made.close()


def test_secret_stands_encrypted_in_etcd_under_our_key_id(cluster: Cluster) -> None:
    cluster.kube.create_secret(NAMESPACE, "encrypted", "swordfish")

    value = cluster.kube.stored(NAMESPACE, "encrypted")

    assert value.startswith(b"k8s:enc:kms:v2:dsm:")
    assert b"swordfish" not in value
    found = stored.EncryptedObject.from_etcd(value)
    assert found.key_id == cluster.key_id()
    assert found.source_type == stored.SEED
    assert 0 < len(found.sealed_seed) < 1024
    assert found.annotations == {}


def test_secret_reads_back(cluster: Cluster) -> None:
    cluster.kube.create_secret(NAMESPACE, "plain", "open sesame")

    assert cluster.kube.secret(NAMESPACE, "plain") == "open sesame"


def test_secrets_read_and_write_after_a_restart_of_the_daemon(cluster: Cluster) -> None:
    cluster.kube.create_secret(NAMESPACE, "before-daemon", "old")

    cluster.daemon.restart()

    # A seed that kube-apiserver has never seen: it has to ask the new process.
    go_plugin.put_secret(cluster.kube, cluster.daemon, NAMESPACE, "unread", "new to it")
    assert cluster.kube.secret(NAMESPACE, "unread") == "new to it"
    cluster.kube.create_secret(NAMESPACE, "after-daemon", "new")
    assert cluster.kube.secret(NAMESPACE, "before-daemon") == "old"
    assert cluster.kube.secret(NAMESPACE, "after-daemon") == "new"
    code, text = cluster.kube.health("/readyz/kms-providers")
    assert (code, text) == (200, "ok")


def test_secrets_read_and_write_after_a_restart_of_kube_apiserver(
    cluster: Cluster,
) -> None:
    cluster.kube.create_secret(NAMESPACE, "before-kube", "old")

    cluster.kube.restart()

    cluster.kube.create_secret(NAMESPACE, "after-kube", "new")
    assert cluster.kube.secret(NAMESPACE, "before-kube") == "old"
    assert cluster.kube.secret(NAMESPACE, "after-kube") == "new"
    # Its caches were empty: it can only have asked the daemon.
    assert cluster.kube.decrypt_calls() > 0


def test_secrets_read_and_write_after_a_restart_of_both(cluster: Cluster) -> None:
    cluster.kube.create_secret(NAMESPACE, "before-both", "old")

    cluster.kube.stop()
    cluster.daemon.stop()
    cluster.daemon.start()
    cluster.kube.start()

    cluster.kube.create_secret(NAMESPACE, "after-both", "new")
    assert cluster.kube.secret(NAMESPACE, "before-both") == "old"
    assert cluster.kube.secret(NAMESPACE, "after-both") == "new"


def test_secrets_read_and_write_after_a_crash_of_both(cluster: Cluster) -> None:
    cluster.kube.create_secret(NAMESPACE, "before-crash", "old")

    cluster.kube.kill()
    cluster.daemon.kill()
    cluster.daemon.start()
    cluster.kube.start()

    cluster.kube.create_secret(NAMESPACE, "after-crash", "new")
    assert cluster.kube.secret(NAMESPACE, "before-crash") == "old"
    assert cluster.kube.secret(NAMESPACE, "after-crash") == "new"


def test_readyz_says_why_while_the_daemon_is_stopped_and_recovers(
    cluster: Cluster,
) -> None:
    cluster.kube.create_secret(NAMESPACE, "before-outage", "old")

    cluster.daemon.stop()

    # A good answer is remembered for 20 s, and then the probe waits for its timeout.
    why = cluster.kube.await_health(500, "/readyz/kms-providers", within_s=40)
    assert "KMS Provider dsm" in why
    assert str(cluster.daemon.socket) in why
    _, verbose = cluster.kube.health("/readyz?verbose")
    assert "[-]kms-providers failed" in verbose
    # An API server that has its seed goes on with it for three minutes.
    cluster.kube.create_secret(NAMESPACE, "in-outage", "new")
    assert cluster.kube.secret(NAMESPACE, "before-outage") == "old"

    cluster.daemon.start()

    # It dials again by itself, later and later: 5 s after an outage of 3 s, and so on.
    cluster.kube.await_health(200, "/readyz", within_s=60)
    cluster.kube.create_secret(NAMESPACE, "after-outage", "newer")
    assert cluster.kube.secret(NAMESPACE, "in-outage") == "new"
    assert cluster.kube.secret(NAMESPACE, "after-outage") == "newer"
