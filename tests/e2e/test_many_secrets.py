"""A cluster with a history: several hundred Secrets over several seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness import stored


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Cluster, Workshop

NAMESPACE = "many"
STARTS = 3
PER_START = 120


@pytest.fixture
def cluster(workshop: Workshop) -> Iterator[Cluster]:
    made = workshop.cluster("many")
    made.kube.create_namespace(NAMESPACE)
    yield made
    made.close()


def test_list_reads_several_hundred_secrets_over_several_seeds(
    cluster: Cluster,
) -> None:
    expected = {}
    for start in range(STARTS):
        for i in range(PER_START):
            name, text = f"secret-{start}-{i:03}", f"value {i} of {start}"
            cluster.kube.create_secret(NAMESPACE, name, text)
            expected[name] = text
        # kube-apiserver has a new seed from each of its starts.
        cluster.kube.restart()

    assert cluster.kube.secrets(NAMESPACE) == expected
    in_etcd = cluster.kube.etcd.under(cluster.kube.etcd_key(NAMESPACE, "secret-"))
    objects = [stored.EncryptedObject.from_etcd(value) for value in in_etcd.values()]
    assert len(objects) == STARTS * PER_START
    assert len({each.sealed_seed for each in objects}) == STARTS
    assert {each.key_id for each in objects} == {cluster.key_id()}
