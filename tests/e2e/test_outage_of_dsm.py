"""DSM is away for longer than kube-apiserver's three minutes, and comes back.

One outage serves all of these tests. It begins before the first test of the session,
and runs behind the others.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.outage import NAMESPACE
from tests.e2e.harness.stored import EncryptedObject


if TYPE_CHECKING:
    from tests.e2e.harness.outage import Outage, Party

# The name of each party, and the Version of the sealed seeds that it writes.
COASTING = {
    "local-kek": 3,
    "direct": 2,
    "go-plugin": 1,
    "restarted-before": 3,
    "restarted-within": 3,
    "restarted-within-direct": 2,
    "restarted-within-go-plugin": 1,
}


@pytest.fixture(autouse=True)
def _over(outage: Outage) -> None:
    outage.await_end()


@pytest.mark.parametrize("name", COASTING)
def test_coasting_cluster_writes_reads_and_stays_ready_throughout(
    outage: Outage, name: str
) -> None:
    party = outage.parties[name]
    turns = outage.turns(name)

    assert outage.ended_s - outage.began_s >= 240
    assert outage.states[name][-2:] == ["coasting", "ready"]
    assert len(turns) > 100
    # From before the outage until after it.
    troubled = [turn for turn in party.user.turns if not turn.is_well()]
    assert troubled == []
    value = party.kube.stored(NAMESPACE, turns[-1].name)
    assert EncryptedObject.from_etcd(value).seed_version == COASTING[name]


def test_failing_cluster_stops_to_write_after_three_minutes_and_reads_on(
    outage: Outage,
) -> None:
    turns = outage.turns("fail")

    assert outage.states["fail"][-2:] == ["degraded", "ready"]
    refused = [turn for turn in turns if turn.write]
    assert refused
    assert all("encryptedDEKSource with keyID hash" in t.write for t in refused)
    assert all("expired at" in t.write for t in refused)
    # A minute until the daemon says so, and three that kube-apiserver goes on.
    assert refused[0].at_s - outage.began_s > 180
    assert turns[-len(refused) :] == refused
    assert [turn for turn in turns if turn.read] == []
    assert all("[-]kms-providers failed" in turn.readyz for turn in refused)


def test_all_heal(outage: Outage) -> None:
    assert outage.healed_s - outage.ended_s < 90
    for name, party in outage.parties.items():
        assert outage.states[name][-1] == "ready"
        assert party.user.turns[-1].is_well()


def test_all_that_was_written_reads_from_cold_caches(outage: Outage) -> None:
    def restart_and_read(party: Party) -> dict[str, str]:
        party.kube.kill()
        party.daemon.restart()
        party.kube.start()
        return party.kube.secrets(NAMESPACE)

    parties = outage.parties
    with ThreadPoolExecutor(max_workers=2) as pool:
        found = pool.map(restart_and_read, parties.values())

    expected = {name: each.user.written() for name, each in parties.items()}
    assert dict(zip(parties, found, strict=True)) == expected
