"""The key in DSM is rotated while the cluster runs."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness import stored
from tests.e2e.harness.program import eventually


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Cluster, Workshop

NAMESPACE = "rotated"


@pytest.fixture
def cluster(workshop: Workshop) -> Iterator[Cluster]:
    made = workshop.cluster("rotation")
    made.kube.create_namespace(NAMESPACE)
    yield made
    made.close()


def test_rotated_key_shows_as_a_new_key_id_and_old_secrets_still_read(
    cluster: Cluster,
) -> None:
    kube, key_name = cluster.kube, cluster.daemon.key_name
    kube.create_secret(NAMESPACE, "old", "under the old key")
    old_kid = cluster.emulator.kid(key_name)

    cluster.emulator.control("rekey", "--name", key_name)
    cluster.daemon.signal(signal.SIGHUP)

    new_kid = cluster.emulator.kid(key_name)
    assert new_kid != old_kid
    new_key_id = f"sdkms.v1:{new_kid}:{old_kid}"
    written: list[str] = []

    def newest_key_id() -> bool:
        # Asking for its health makes kube-apiserver look at Status, every 20 s at most.
        kube.health("/readyz/kms-providers")
        written.append(f"new-{len(written)}")
        kube.create_secret(NAMESPACE, written[-1], "under whichever key")
        return key_id_of(written[-1]) == new_key_id

    def key_id_of(name: str) -> str:
        return stored.EncryptedObject.from_etcd(kube.stored(NAMESPACE, name)).key_id

    eventually(newest_key_id, within_s=90, what="writes use the new key", every_s=1)

    assert key_id_of("old") == f"sdkms.v1:{old_kid}"
    assert kube.secret(NAMESPACE, "old") == "under the old key"
    # A storage migration brings it under the new key.
    kube.rewrite_secret(NAMESPACE, "old")
    assert key_id_of("old") == new_key_id
    # Cold caches everywhere: both keys' seeds are asked for.
    kube.stop()
    cluster.daemon.restart()
    kube.start()
    assert kube.secret(NAMESPACE, "old") == "under the old key"
    assert kube.secret(NAMESPACE, written[0]) == "under whichever key"
    assert kube.secret(NAMESPACE, written[-1]) == "under whichever key"
