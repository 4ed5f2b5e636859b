"""In the place of Fortanix' Go plugin: its stored data, and its config file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness import stored
from tests.e2e.harness.go_plugin import blob, key_id, put_secret, sealed_in
from tests.e2e.harness.kube import Kms
from tests.e2e.harness.plugin import Daemon
from tests.e2e.harness.program import eventually


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Cluster, Workshop
    from tests.e2e.harness.kube import KubeApiServer

NAMESPACE = "inherited"


@pytest.fixture(scope="module")
def cluster(workshop: Workshop) -> Iterator[Cluster]:
    made = workshop.cluster("migrated")
    made.kube.create_namespace(NAMESPACE)
    yield made
    made.close()


def test_secret_of_the_go_plugin_reads_back(cluster: Cluster) -> None:
    put_secret(cluster.kube, cluster.daemon, NAMESPACE, "old", "heirloom")

    assert cluster.kube.secret(NAMESPACE, "old") == "heirloom"


def test_rewriting_it_brings_it_under_our_key_id(cluster: Cluster) -> None:
    put_secret(cluster.kube, cluster.daemon, NAMESPACE, "moved", "relic")

    cluster.kube.rewrite_secret(NAMESPACE, "moved")

    value = cluster.kube.stored(NAMESPACE, "moved")
    assert stored.EncryptedObject.from_etcd(value).key_id == cluster.key_id()
    assert cluster.kube.secret(NAMESPACE, "moved") == "relic"


def test_list_reads_hundreds_of_its_secrets_each_of_another_seed(
    cluster: Cluster,
) -> None:
    expected = {f"many-{i:03}": f"value {i}" for i in range(200)}
    for name, text in expected.items():
        put_secret(cluster.kube, cluster.daemon, NAMESPACE, name, text)

    cluster.kube.restart()

    found = cluster.kube.secrets(NAMESPACE)
    assert {name: found.get(name) for name in expected} == expected
    assert cluster.kube.decrypt_calls() >= 200


@pytest.fixture(scope="module")
def daemon(workshop: Workshop) -> Iterator[Daemon]:
    workshop.emulator.create_key("kubernetes")
    daemon = Daemon(
        workshop.folder, "inherited-daemon", workshop.emulator, "kubernetes"
    )
    daemon.environ["SSL_CERT_FILE"] = str(workshop.emulator.ca_file)
    assert set(daemon.configure()) == {
        "sdkms_endpoint",
        "api_key",
        "key_name",
        "socket_file",
    }
    daemon.start()
    yield daemon
    daemon.close()


@pytest.fixture(scope="module")
def kube(workshop: Workshop, daemon: Daemon) -> Iterator[KubeApiServer]:
    kube = workshop.kube("inherited", Kms("dsm", daemon.socket))
    kube.start()
    kube.create_namespace(NAMESPACE)
    yield kube
    kube.close()


def test_what_we_write_is_what_the_go_plugin_wrote(
    daemon: Daemon, kube: KubeApiServer
) -> None:
    emulator = daemon.emulator
    kube.create_secret(NAMESPACE, "new", "same as ever")

    value = kube.stored(NAMESPACE, "new")

    found = stored.EncryptedObject.from_etcd(value)
    assert found.key_id == key_id(emulator.endpoint, "kubernetes")
    assert found.annotations == {}
    sealed = sealed_in(found.sealed_seed)
    assert sealed.kid == emulator.kid("kubernetes")
    assert blob(sealed) == found.sealed_seed
    # So the Go plugin could read it: DSM opens the seed, the seed the Secret.
    seed = emulator.decrypt(sealed)
    key = kube.etcd_key(NAMESPACE, "new")
    assert b"same as ever" in stored.decrypt(found.encrypted_data, seed, key)


def test_secrets_read_back_its_and_ours(daemon: Daemon, kube: KubeApiServer) -> None:
    put_secret(kube, daemon, NAMESPACE, "its", "heirloom")
    kube.create_secret(NAMESPACE, "ours", "fresh")

    kube.restart()

    assert kube.secret(NAMESPACE, "its") == "heirloom"
    assert kube.secret(NAMESPACE, "ours") == "fresh"


def test_native_format_is_adopted_without_a_restart_of_kube_apiserver(
    daemon: Daemon, kube: KubeApiServer
) -> None:
    kube.create_secret(NAMESPACE, "before", "in its format")

    # kube-apiserver has pinned the version that it saw first, the Go plugin's.
    daemon.configure(write_format="native", api_version="v2beta1")
    daemon.restart()

    def writes_are_native() -> bool:
        # Asking for its health makes it look at Status, every 20 s at most.
        assert kube.health("/readyz/kms-providers") == (200, "ok")
        kube.rewrite_secret(NAMESPACE, "before")
        found = stored.EncryptedObject.from_etcd(kube.stored(NAMESPACE, "before"))
        return found.key_id == f"sdkms.v1:{daemon.emulator.kid('kubernetes')}"

    eventually(writes_are_native, within_s=60, what="the native format", every_s=1)
    assert kube.secret(NAMESPACE, "before") == "in its format"
