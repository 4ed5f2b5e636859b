"""A control plane that boots while DSM is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.kube import Kms
from tests.e2e.harness.relay import Relay


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Workshop

NAMESPACE = "boot"


@pytest.fixture
def way_to_dsm(workshop: Workshop) -> Iterator[Relay]:
    relay = Relay(workshop.emulator.port)
    yield relay
    relay.close()


def test_readyz_says_that_dsm_was_never_reached_and_recovers(
    workshop: Workshop, way_to_dsm: Relay
) -> None:
    endpoint = f"https://127.0.0.1:{way_to_dsm.port}"
    daemon = workshop.native_daemon("never-reached", sdkms_endpoint=endpoint)
    kube = workshop.kube("never-reached", Kms("dsm", daemon.socket))

    daemon.start()
    kube.start(check="/livez")

    # Word for word what the daemon answers to Status: gRPC's code, our own code. It
    # answers from the start, but only its first look at DSM tells it what is wrong.
    why = kube.await_health(
        500, "/readyz/kms-providers", within_s=30, saying="DSM-UNREACHABLE"
    )
    assert "code = Unavailable" in why
    _, verbose = kube.health("/readyz?verbose")
    assert "[-]kms-providers failed" in verbose
    kube.create_namespace(NAMESPACE)
    refused = kube.try_create_secret(NAMESPACE, "too-early", "x")
    assert refused.status_code == 500

    way_to_dsm.open()

    kube.await_health(200, "/readyz", within_s=60)
    kube.create_secret(NAMESPACE, "in-time", "arrived")
    assert kube.secret(NAMESPACE, "in-time") == "arrived"
    kube.close()
    daemon.close()
