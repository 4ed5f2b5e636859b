from collections.abc import Callable

import httpx
import pytest

from dsm_emulator import Clock, DemoKey
from dsm_emulator.errors import DsmError
from dsm_emulator.lag import LagPer, LagScope
from dsm_emulator.rotation import RotationPolicy
from dsm_emulator.sobject import KeyState
from dsm_emulator.sobject_request import SobjectRequest


@pytest.fixture
def lagging(demo: DemoKey) -> DemoKey:
    demo.dsm.keys.lag.seconds = 5
    return demo


def seen(demo: DemoKey, name: str, times: int, connection: int = 0) -> list[str | None]:
    """Return what the nodes have under a name, look-up after look-up."""
    return [_kid(lambda: demo.dsm.keys.seen_by_name(name, connection).kid)] + (
        seen(demo, name, times - 1, connection) if times > 1 else []
    )


def seen_kid(demo: DemoKey, kid: str, times: int) -> list[bool]:
    return [
        _kid(lambda: demo.dsm.keys.seen_by_kid(kid, 0).kid) is not None
        for _ in range(times)
    ]


def _kid(look_up: Callable[[], str]) -> str | None:
    try:
        return look_up()
    except DsmError as refused:
        if refused.status == 404:
            return None
        raise


def test_nodes_flip_flop_after_a_rekey_until_the_lag_is_over(
    lagging: DemoKey, clock: Clock
) -> None:
    old, new = lagging.key.kid, lagging.dsm.rekey("kek").kid
    assert seen(lagging, "kek", 4) == [old, new, old, new]
    clock.advance(5)
    assert seen(lagging, "kek", 3) == [new] * 3


def test_without_lag_a_rekey_shows_at_once(demo: DemoKey) -> None:
    new = demo.dsm.rekey("kek").kid
    assert seen(demo, "kek", 3) == [new] * 3


def test_each_connection_may_stay_with_its_node(lagging: DemoKey) -> None:
    lagging.dsm.keys.lag.per = LagPer.CONNECTION
    old, new = lagging.key.kid, lagging.dsm.rekey("kek").kid
    assert seen(lagging, "kek", 3, connection=1) == [old] * 3
    assert seen(lagging, "kek", 3, connection=2) == [new] * 3


def test_stale_node_shows_the_key_as_it_was(lagging: DemoKey) -> None:
    lagging.dsm.rekey("kek", deactivate_rotated_key=True)
    stale = lagging.dsm.keys.seen_by_name("kek", 0)
    assert (stale.name, stale.state) == ("kek", KeyState.ACTIVE)
    assert stale.replacement is None


def test_rename_lags_for_both_names(lagging: DemoKey) -> None:
    kid = lagging.key.kid
    lagging.dsm.keys.rename(lagging.key, "other")
    assert seen(lagging, "kek", 2) == [kid, None]
    assert seen(lagging, "other", 2) == [None, kid]


def test_replace_lags_for_all_names(lagging: DemoKey) -> None:
    second = lagging.dsm.create_key(
        SobjectRequest(name="second", key_size=256),
        creator=lagging.admin,
        group_id=lagging.group.group_id,
    )
    lagging.dsm.keys.lag.end()
    lagging.dsm.keys.replace(lagging.key, "retired", second)
    assert seen(lagging, "kek", 2) == [lagging.key.kid, second.kid]
    assert seen(lagging, "second", 2) == [second.kid, None]
    assert seen(lagging, "retired", 2) == [None, lagging.key.kid]


def test_deleted_key_is_still_there_on_the_stale_node(
    lagging: DemoKey, clock: Clock
) -> None:
    kid = lagging.key.kid
    lagging.dsm.delete(lagging.key)
    stale = lagging.dsm.keys.seen_by_kid(kid, 0)
    lagging.dsm.encrypt(lagging.app, stale, "GCM", b"x", tag_bits=128)
    assert lagging.dsm.keys.seen_by_kid(kid, 0).state is KeyState.DELETED
    assert seen(lagging, "kek", 2) == [kid, None]
    clock.advance(5)
    assert lagging.dsm.keys.seen_by_kid(kid, 0).state is KeyState.DELETED


def test_kids_do_not_lag_unless_the_scope_is_all(lagging: DemoKey) -> None:
    new = lagging.dsm.rekey("kek")
    assert seen_kid(lagging, new.kid, 2) == [True, True]
    lagging.dsm.keys.lag.scope = LagScope.ALL
    newer = lagging.dsm.rekey("kek")
    assert seen_kid(lagging, newer.kid, 2) == [False, True]


def test_states_lag_if_the_scope_is_all(lagging: DemoKey) -> None:
    lagging.dsm.keys.lag.scope = LagScope.ALL
    lagging.dsm.disable(lagging.key)
    kid = lagging.key.kid
    enabled = [lagging.dsm.keys.seen_by_kid(kid, 0).enabled for _ in range(3)]
    assert enabled == [True, False, True]


def test_scheduled_rotation_lags_from_its_date_on(
    lagging: DemoKey, clock: Clock
) -> None:
    keys = lagging.dsm.keys
    keys.set_rotation_policy(lagging.key, RotationPolicy(interval_days=1))
    old = lagging.key.kid
    clock.advance(86_400 + 4)
    new = lagging.dsm.key(name="kek").kid
    assert seen(lagging, "kek", 2) == [old, new]
    clock.advance(1)
    assert seen(lagging, "kek", 2) == [new, new]


def test_info_and_encrypt_by_name_meet_the_lag_on_the_wire(
    client: httpx.Client, lagging: DemoKey
) -> None:
    old, new = lagging.key.kid, lagging.dsm.rekey("kek").kid
    body = {
        "key": {"name": "kek"},
        "alg": "AES",
        "mode": "GCM",
        "plain": "",
        "tag_len": 128,
    }
    kids = [
        client.post("/crypto/v1/keys/info", json={"name": "kek"}).json()["kid"],
        client.post("/crypto/v1/encrypt", json=body).json()["kid"],
        client.post("/crypto/v1/encrypt", json=body).json()["kid"],
    ]
    assert kids == [old, new, old]


def test_changes_go_to_the_truth_while_nodes_lag(
    admin: httpx.Client, lagging: DemoKey
) -> None:
    first = lagging.dsm.rekey("kek").kid
    body = {"name": "kek"}
    second = admin.post("/crypto/v1/keys/rekey", json=body).json()
    assert second["links"]["replaced"] == first
