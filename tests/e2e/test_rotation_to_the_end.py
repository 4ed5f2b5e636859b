"""A rotation to its end: the old key is destroyed, and nobody misses it."""

from __future__ import annotations

import hashlib
import signal
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.program import eventually
from tests.e2e.harness.stored import EncryptedObject


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Cluster, Workshop
    from tests.e2e.harness.kube import KubeApiServer

NAMESPACE = "to-the-end"
OTHER_NAMESPACE = "to-the-end-2"


@pytest.fixture
def cluster(workshop: Workshop) -> Iterator[Cluster]:
    made = workshop.cluster("to-the-end")
    made.kube.create_namespace(NAMESPACE)
    made.kube.create_namespace(OTHER_NAMESPACE)
    yield made
    made.close()


def test_old_key_is_destroyed_after_everything_was_rewritten(cluster: Cluster) -> None:
    kube, daemon, emulator = cluster.kube, cluster.daemon, cluster.emulator
    expected = {f"old-{i:02}": f"under the old key {i}" for i in range(30)}
    for name, text in expected.items():
        kube.create_secret(NAMESPACE, name, text)
    kube.create_secret(OTHER_NAMESPACE, "elsewhere", "under the old key too")
    old_kid, old_key_id = emulator.kid(daemon.key_name), cluster.key_id()
    assert stored_key_ids(kube) == {old_key_id}
    # A local KEK protects them, as the native format does by default.
    assert stored_versions(kube) == {3}
    assert kube.key_id_hashes("to_storage") == {hash_of(old_key_id)}

    emulator.control("rekey", "--name", daemon.key_name)
    daemon.signal(signal.SIGHUP)

    new_key_id = f"sdkms.v1:{emulator.kid(daemon.key_name)}:{old_kid}"

    def shows_the_new_hash() -> bool:
        # Asking for its health makes kube-apiserver look at Status, every 20 s at most.
        assert kube.health("/readyz/kms-providers") == (200, "ok")
        name, text = f"late-{len(expected):02}", "under whichever key"
        kube.create_secret(NAMESPACE, name, text)
        expected[name] = text
        return hash_of(new_key_id) in kube.key_id_hashes("to_storage")

    eventually(shows_the_new_hash, within_s=90, what="the new key_id's hash", every_s=1)
    assert kube.key_id_hashes("to_storage") == {
        hash_of(old_key_id),
        hash_of(new_key_id),
    }
    assert kube.secrets(NAMESPACE) == expected
    assert kube.secret(OTHER_NAMESPACE, "elsewhere") == "under the old key too"

    kube.rewrite_everything()

    assert stored_key_ids(kube) == {new_key_id}
    assert not any(old_key_id.encode() in value for value in kube.all_stored().values())

    emulator.control("deactivate", "--kid", old_kid)
    assert_all_goes_on(cluster, expected, new_key_id, "deactivated")
    emulator.control("destroy", "--kid", old_kid)
    assert_all_goes_on(cluster, expected, new_key_id, "destroyed")

    # With cold caches everywhere, too.
    kube.kill()
    daemon.restart()
    kube.start()
    assert_all_goes_on(cluster, expected, new_key_id, "restarted")
    assert kube.key_id_hashes("from_storage") == {hash_of(new_key_id)}


def assert_all_goes_on(
    cluster: Cluster, expected: dict[str, str], key_id: str, name: str
) -> None:
    """See that everything reads, and that a new Secret is under that key_id."""
    kube, daemon = cluster.kube, cluster.daemon
    # It looks at once; what it found would change what Status answers.
    daemon.signal(signal.SIGHUP)
    kube.create_secret(NAMESPACE, name, "written afterwards")
    expected[name] = "written afterwards"
    assert kube.secrets(NAMESPACE) == expected
    assert kube.secret(OTHER_NAMESPACE, "elsewhere") == "under the old key too"
    assert kube.health("/readyz/kms-providers") == (200, "ok")
    assert daemon.key_id() == key_id
    assert stored_key_ids(kube) == {key_id}


def stored_key_ids(kube: KubeApiServer) -> set[str]:
    return {EncryptedObject.from_etcd(v).key_id for v in kube.all_stored().values()}


def stored_versions(kube: KubeApiServer) -> set[int]:
    values = kube.all_stored().values()
    return {EncryptedObject.from_etcd(v).seed_version for v in values}


def hash_of(key_id: str) -> str:
    """Return a key_id as kube-apiserver's metrics show it."""
    return f"sha256:{hashlib.sha256(key_id.encode()).hexdigest()}"
