from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from k8s_sdkms_plugin.event_counts import DSM_BOUNDS_S, KMS_BOUNDS_S, EventCounts
from k8s_sdkms_plugin.metrics import Metrics, Sources, key_id_hash
from kms_core.errors import (
    CredentialRefused,
    KeyDisabled,
    ProviderUnreachable,
    error_classes,
)
from kms_core.events import (
    CallFinished,
    KeyFindingReported,
    ProviderCallFinished,
    SecretsDropped,
    StandingReported,
    Unexpected,
)
from kms_core.fakes import ManualClock
from kms_core.key_id import AnnouncedKey
from kms_core.key_rules import finding_codes
from kms_core.standing import Phase, Policy, Source, Standing, Trouble


if TYPE_CHECKING:
    from kms_core.ports import Event


KEY = AnnouncedKey("4b3d13a8-2c3a-47dc-8779-311dad6843a2", "sdkms.v1:4b3d13a8")
POLICY = Policy(coast_for_s=3600.0)
P = "k8s_sdkms_plugin_"

CALL = CallFinished(
    method="Decrypt", uid="u", key_id="k", rpc_code="OK", error=None, duration_s=0.001
)
ASKED = ProviderCallFinished(
    operation="encrypt",
    uid="u",
    kid="k",
    attempt=1,
    http_status=200,
    request_id="r",
    error=None,
    duration_s=0.02,
)
FINDING = KeyFindingReported(
    kid="k", code="KEY-SIZE", severity="warning", cause="c", remedy="r"
)
REPORT = StandingReported(
    state="ready",
    key_id="",
    code="",
    cause="",
    remedy="",
    meaning="",
    next_look_s=None,
    status_fails_at=None,
)


class Board:
    """Metrics of a standing that a test sets, on a clock that it moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.standing = Standing()
        self.keks = 0
        self.expires_at: dt.datetime | None = None
        self.dropped = 0
        self.counts = EventCounts()
        sources = Sources(
            standing=lambda: self.standing,
            policy=POLICY,
            clock=self.clock,
            local_keks=lambda: self.keks,
            credential_expires_at=lambda: self.expires_at,
            log_lines_dropped=lambda: self.dropped,
        )
        self.metrics = Metrics(self.counts, sources)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.counts.emit(event)

    def read(self) -> dict[str, float]:
        """Return every sample as Prometheus' own parser reads it."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.metrics.render().decode()):
            assert family.documentation
            for sample in family.samples:
                name = sample.name.removeprefix(P)
                assert name != sample.name, "a metric without our prefix"
                labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
                key = f"{name}{{{labels}}}" if labels else name
                assert key not in found
                found[key] = sample.value
        return found

    def named(self, name: str) -> dict[str, float]:
        """Return the samples of one metric."""
        return {k: v for k, v in self.read().items() if k.partition("{")[0] == name}


@pytest.fixture
async def board() -> Board:
    return Board()


def announced(board: Board, phase: Phase, **changes: Any) -> Standing:
    now = board.clock.monotonic()
    standing = Standing(phase=phase, announced=KEY, proven_at=now, well_at=now)
    return evolve(standing, **changes)


# The standing.


@pytest.mark.parametrize("phase", list(Phase))
async def test_exactly_one_state_is_hot(board: Board, phase: Phase) -> None:
    board.standing = announced(board, phase)
    states = board.named("state")
    assert states == {f"state{{state={p.value}}}": float(p is phase) for p in Phase}


async def test_start_shows_no_key_and_no_times(board: Board) -> None:
    read = board.read()
    assert read["state{state=starting}"] == 1
    absent = ("key_id_info", "coasting_ends", "last_good_look", "trouble_info")
    assert not [name for name in read if name.startswith(absent)]


async def test_key_id_is_hashed_as_kube_apiserver_hashes_it(board: Board) -> None:
    board.standing = announced(board, Phase.READY)
    hashed = f"sha256:{hashlib.sha256(KEY.key_id.encode()).hexdigest()}"
    assert key_id_hash(KEY.key_id) == hashed
    assert board.named("key_id_info") == {f"key_id_info{{key_id_hash={hashed}}}": 1}


async def test_last_good_look_is_a_date_that_stays_while_time_goes_on(
    board: Board,
) -> None:
    at = board.clock.now().timestamp()
    board.standing = announced(board, Phase.READY)
    await board.clock.advance(90)
    seen = board.read()["last_good_look_timestamp_seconds"]
    assert seen == pytest.approx(at, abs=0.001)


async def test_end_of_coasting_is_shown_only_while_coasting(board: Board) -> None:
    at = board.clock.now().timestamp()
    board.standing = announced(board, Phase.COASTING)
    await board.clock.advance(90)
    ends = board.read()["coasting_ends_timestamp_seconds"]
    assert ends == pytest.approx(at + 3600, abs=0.001)
    for phase in set(Phase) - {Phase.COASTING}:
        board.standing = announced(board, phase)
        assert "coasting_ends_timestamp_seconds" not in board.read()


async def test_coasting_that_is_over_shows_as_degraded_though_nobody_has_looked(
    board: Board,
) -> None:
    trouble = Trouble(ProviderUnreachable("x"), Source.LOOK, 0.0, 9)
    board.standing = announced(board, Phase.COASTING, trouble=trouble)
    await board.clock.advance(3599)
    assert board.read()["state{state=coasting}"] == 1
    await board.clock.advance(1)
    read = board.read()
    assert (read["state{state=coasting}"], read["state{state=degraded}"]) == (0, 1)
    assert "coasting_ends_timestamp_seconds" not in read
    assert board.standing.phase is Phase.COASTING, "reading moves nothing"


async def test_trouble_is_that_of_the_latest_report(board: Board) -> None:
    board.tell(evolve(REPORT, state="coasting", code=ProviderUnreachable.code))
    board.tell(evolve(REPORT, state="denied", code=KeyDisabled.code))
    assert board.named("trouble_info") == {"trouble_info{code=KEY-DISABLED}": 1}
    board.tell(REPORT)
    assert not board.named("trouble_info")


async def test_local_keks_and_dropped_lines_are_read_when_somebody_asks(
    board: Board,
) -> None:
    assert board.read()["local_keks"] == 0
    board.keks, board.dropped = 3, 7
    read = board.read()
    assert read["local_keks"] == 3
    assert read["log_lines_dropped_total"] == 7


# Calls.


async def test_calls_are_counted_by_method_and_grpc_code(board: Board) -> None:
    failed = evolve(
        CALL, rpc_code="UNAVAILABLE", error=ProviderUnreachable("x; y").text()
    )
    board.tell(CALL, CALL, failed, evolve(CALL, method="Status"))
    assert board.named("kms_calls_total") == {
        "kms_calls_total{grpc_code=OK,method=Decrypt}": 2,
        "kms_calls_total{grpc_code=UNAVAILABLE,method=Decrypt}": 1,
        "kms_calls_total{grpc_code=OK,method=Encrypt}": 0,
        "kms_calls_total{grpc_code=OK,method=Status}": 1,
    }
    errors = board.named("errors_total")
    assert errors.pop("errors_total{code=DSM-UNREACHABLE}") == 1
    assert set(errors.values()) == {0}


async def test_every_error_code_stands_at_zero_from_the_start(board: Board) -> None:
    errors = board.named("errors_total")
    codes = {"other", *(cls.code for cls in error_classes())}
    assert errors == {f"errors_total{{code={code}}}": 0 for code in codes}


async def test_client_that_hangs_up_is_no_error(board: Board) -> None:
    board.tell(evolve(CALL, rpc_code="CANCELLED", error="the client hung up"))
    assert board.read()["kms_calls_total{grpc_code=CANCELLED,method=Decrypt}"] == 1
    assert set(board.named("errors_total").values()) == {0}


@pytest.mark.parametrize("duration_s", [0.0, 0.0001, 0.00011, 1.5, 1e6])
async def test_duration_falls_into_every_bucket_that_is_long_enough(
    board: Board, duration_s: float
) -> None:
    board.tell(evolve(CALL, duration_s=duration_s))
    read = board.read()
    name = "kms_call_duration_seconds"
    assert read[f"{name}_count{{method=Decrypt}}"] == 1
    assert read[f"{name}_sum{{method=Decrypt}}"] == duration_s
    buckets = {
        float(key.partition("le=")[2].partition(",")[0]): value
        for key, value in read.items()
        if key.startswith(f"{name}_bucket") and "Decrypt" in key
    }
    assert set(buckets) == {*KMS_BOUNDS_S, float("inf")}
    assert all(value == (duration_s <= bound) for bound, value in buckets.items())


# Requests to DSM.


async def test_requests_are_counted_by_operation_and_error(board: Board) -> None:
    failed = evolve(ASKED, error=ProviderUnreachable.code, http_status=None)
    refused = evolve(ASKED, operation="login", error=CredentialRefused.code)
    board.tell(failed, evolve(ASKED, attempt=2), refused)
    read = board.read()
    assert read["dsm_calls_total{code=OK,operation=encrypt}"] == 1
    assert read["dsm_calls_total{code=DSM-UNREACHABLE,operation=encrypt}"] == 1
    assert read["dsm_calls_total{code=CREDENTIAL-REFUSED,operation=login}"] == 1
    assert read["dsm_calls_total{code=OK,operation=logout}"] == 0
    assert read["dsm_retries_total{operation=encrypt}"] == 1
    assert read["dsm_retries_total{operation=login}"] == 0
    assert read["dsm_call_duration_seconds_count{operation=encrypt}"] == 2
    bucket = "dsm_call_duration_seconds_bucket{le=0.032,operation=encrypt}"
    assert read[bucket] == 2
    assert len(DSM_BOUNDS_S) == 15


async def test_defects_are_counted(board: Board) -> None:
    board.tell(Unexpected(where="watcher", what="ValueError at x:1"))
    assert board.read()["defects_total"] == 1


# The key.


async def test_finding_is_shown_from_when_it_appears_until_it_goes(
    board: Board,
) -> None:
    quiet = {f"key_finding{{code={code}}}": 0 for code in finding_codes()}
    assert board.named("key_finding") == quiet
    board.tell(FINDING, FINDING)
    loud = quiet | {"key_finding{code=KEY-SIZE}": 1}
    assert board.named("key_finding") == loud
    board.tell(evolve(FINDING, gone=True))
    assert board.named("key_finding") == quiet


# The credential.


async def test_credential_that_ends_shows_when(board: Board) -> None:
    assert board.named("credential_expiry_timestamp_seconds") == {}
    board.expires_at = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    (shown,) = board.named("credential_expiry_timestamp_seconds").values()
    assert shown == board.expires_at.timestamp()


# Labels.


async def test_no_event_can_make_a_label_value_of_its_own(board: Board) -> None:
    board.counts.emit(evolve(CALL, method="x", rpc_code="y", error="z: w"))
    board.counts.emit(evolve(ASKED, operation="x", error="y", attempt=2))
    board.counts.emit(evolve(REPORT, code="x"))
    board.counts.emit(evolve(FINDING, code="x"))
    board.counts.emit(SecretsDropped(kid="k", count=1))
    read = board.read()
    assert read["kms_calls_total{grpc_code=other,method=other}"] == 1
    assert read["errors_total{code=other}"] == 1
    assert read["dsm_calls_total{code=other,operation=other}"] == 1
    assert read["dsm_retries_total{operation=other}"] == 1
    assert read["trouble_info{code=other}"] == 1
    assert read["key_finding{code=other}"] == 1


async def test_page_names_the_version_and_no_uid_kid_or_key_id(board: Board) -> None:
    board.standing = announced(board, Phase.READY)
    board.tell(evolve(CALL, uid="uid-1"), evolve(ASKED, kid="kid-1", request_id="r-1"))
    page = board.metrics.render().decode()
    assert f"{P}build_info{{version=" in page
    assert not [w for w in ("uid-1", "kid-1", "r-1", KEY.kid, KEY.key_id) if w in page]
    assert "_created" not in page


async def test_nothing_is_kept_in_the_registry_of_the_process(board: Board) -> None:
    Board()
    assert not [m for m in REGISTRY.collect() if m.name.startswith(P)]
