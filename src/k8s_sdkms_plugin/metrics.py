"""What ``/metrics`` shows: counts of events, and gauges read when somebody asks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from attrs import frozen
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from k8s_sdkms_plugin.event_counts import PREFIX
from k8s_sdkms_plugin.version import version
from kms_core.standing import Phase, Ticked
from kms_core.transitions import step


if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from k8s_sdkms_plugin.event_counts import EventCounts
    from kms_core.ports import Clock
    from kms_core.standing import Policy, Standing


STATE: Final = PREFIX + "state"
KEY_ID: Final = PREFIX + "key_id"
TROUBLE: Final = PREFIX + "trouble"
COASTING_ENDS: Final = PREFIX + "coasting_ends_timestamp_seconds"
LAST_GOOD_LOOK: Final = PREFIX + "last_good_look_timestamp_seconds"
LOCAL_KEKS: Final = PREFIX + "local_keks"
CREDENTIAL_EXPIRY: Final = PREFIX + "credential_expiry_timestamp_seconds"

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def key_id_hash(key_id: str) -> str:
    """Return *key_id* as kube-apiserver's label ``key_id_hash`` has it."""
    return f"sha256:{hashlib.sha256(key_id.encode()).hexdigest()}"


@frozen(kw_only=True)
class Sources:
    """What the gauges are read from.

    Attributes:
        standing: Returns the watcher's standing.
        policy: The choices that say when coasting ends.
        clock: The clock of the standing.
        local_keks: Returns how many unwrapped local KEKs are in memory.
        credential_expires_at: Returns when the credential ends, if that is known.
        log_lines_dropped: Returns how many log lines found no place.
    """

    standing: Callable[[], Standing]
    policy: Policy
    clock: Clock
    local_keks: Callable[[], int]
    credential_expires_at: Callable[[], dt.datetime | None]
    log_lines_dropped: Callable[[], int]


class Metrics(Collector):
    """All that ``/metrics`` shows, in a registry of its own.

    Args:
        counts: The events, counted.
        sources: What the gauges are read from.
    """

    def __init__(self, counts: EventCounts, sources: Sources) -> None:
        self._counts = counts
        self._sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield everything, as it is now."""
        yield InfoMetricFamily(
            PREFIX + "build", "The program.", value={"version": version()}
        )
        yield from self._standing()
        yield _gauge(
            LOCAL_KEKS,
            "Unwrapped local KEKs in memory.",
            self._sources.local_keks(),
        )
        expires_at = self._sources.credential_expires_at()
        yield _gauge(
            CREDENTIAL_EXPIRY,
            "When the credential for DSM ends; only of certificates and JWTs.",
            None if expires_at is None else expires_at.timestamp(),
        )
        yield CounterMetricFamily(
            PREFIX + "log_lines_dropped",
            "Log lines that found no place, since nobody read the log.",
            value=self._sources.log_lines_dropped(),
        )
        yield from self._counts.collect()

    def _standing(self) -> Iterator[Metric]:
        policy = self._sources.policy
        now = self._sources.clock.monotonic()
        # As Status sees it: coasting may have ended since somebody last looked.
        standing = step(self._sources.standing(), Ticked(), now, policy).standing
        state = GaugeMetricFamily(
            STATE, "1 for the state that the daemon is in.", labels=("state",)
        )
        for phase in Phase:
            state.add_metric((phase.value,), float(phase is standing.phase))
        yield state
        key_id = InfoMetricFamily(
            KEY_ID, "The announced key_id, hashed as kube-apiserver's metrics do."
        )
        if standing.announced is not None:
            hashed = key_id_hash(standing.announced.key_id)
            key_id.add_metric((), {"key_id_hash": hashed})
        yield key_id
        trouble = InfoMetricFamily(
            TROUBLE, "The error that the latest log line on the standing names, if any."
        )
        if self._counts.trouble:
            trouble.add_metric((), {"code": self._counts.trouble})
        yield trouble
        coasts = standing.phase is Phase.COASTING
        yield _gauge(
            COASTING_ENDS,
            "When Status will fail if nothing changes; only while coasting.",
            self._date(standing.coasts_until(policy) if coasts else None, now),
        )
        yield _gauge(
            LAST_GOOD_LOOK,
            "When DSM and the key were last seen well.",
            self._date(standing.well_at, now),
        )

    def _date(self, at: float | None, now: float) -> float | None:
        if at is None:
            return None
        return self._sources.clock.now().timestamp() + at - now


def _gauge(name: str, what: str, value: float | None) -> Metric:
    made = GaugeMetricFamily(name, what)
    if value is not None:
        made.add_metric((), value)
    return made
