from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import pytest

from dsm_emulator import Clock, DemoKey
from dsm_emulator.clock import basic_iso
from dsm_emulator.errors import DsmError
from dsm_emulator.rotation import RotationPolicy
from dsm_emulator.sobject import KeyState


DAY_S = 86_400
INFO = "/crypto/v1/keys/info"


def let_rotate(demo: DemoKey, *, deactivate: bool = False, days: int = 30) -> None:
    policy = RotationPolicy(interval_days=days, deactivate_rotated_key=deactivate)
    demo.dsm.keys.set_rotation_policy(demo.key, policy)


@pytest.mark.parametrize("deactivate", [False, True])
def test_rotation_comes_with_the_clock_and_no_call(
    demo: DemoKey, clock: Clock, *, deactivate: bool
) -> None:
    let_rotate(demo, deactivate=deactivate)
    clock.advance(30 * DAY_S - 1)
    assert demo.dsm.key(name="kek").kid == demo.key.kid
    clock.advance(1)
    state = KeyState.DEACTIVATED if deactivate else KeyState.ACTIVE
    assert demo.key.replacement is not None
    assert demo.key.state is state
    assert demo.key.name.startswith("kek (rotated at 20231214T")
    new = demo.dsm.key(name="kek")
    assert new.kid == demo.key.replacement
    assert (new.replaced, new.created_at) == (demo.key.kid, clock.now())
    assert new.state is KeyState.ACTIVE


def test_missed_rotations_happen_one_after_the_other(
    demo: DemoKey, clock: Clock
) -> None:
    let_rotate(demo)
    began_s = clock.now()
    clock.advance(95 * DAY_S)
    keys = sorted(demo.dsm.keys, key=lambda key: key.created_at)
    made_days = [(key.created_at - began_s) / DAY_S for key in keys]
    assert made_days == [0, 30, 60, 90]
    for older, newer in pairwise(keys):
        assert (older.replacement, newer.replaced) == (newer.kid, older.kid)
    assert keys[-1].scheduled_rotation == began_s + 120 * DAY_S
    assert [key.rotation_policy is None for key in keys] == [True, True, True, False]


def test_rotation_by_the_wall_clock_shows_at_the_next_look_up(demo: DemoKey) -> None:
    let_rotate(demo)
    clock = demo.dsm.clock
    clock.on_move.clear()
    clock.advance(30 * DAY_S)
    assert demo.key.replacement is None
    assert demo.dsm.keys.seen_by_name("kek", 0).replaced == demo.key.kid


def test_destroyed_key_is_not_rotated(demo: DemoKey, clock: Clock) -> None:
    let_rotate(demo)
    demo.dsm.destroy(demo.key)
    clock.advance(90 * DAY_S)
    assert len(list(demo.dsm.keys)) == 1


def test_rekey_may_set_another_policy(admin: httpx.Client, demo: DemoKey) -> None:
    body = {"name": "kek", "rotation_policy": {"interval_days": 7}}
    new = admin.post("/crypto/v1/keys/rekey", json=body).json()
    assert new["rotation_policy"]["interval_days"] == 7
    assert "rotation_policy" not in admin.post(INFO, json={"kid": demo.key.kid}).json()


def test_policy_that_is_taken_away_rotates_no_more(demo: DemoKey, clock: Clock) -> None:
    let_rotate(demo)
    demo.dsm.keys.set_rotation_policy(demo.key, None)
    clock.advance(90 * DAY_S)
    assert len(list(demo.dsm.keys)) == 1


def test_rekey_by_hand_moves_the_next_date(demo: DemoKey, clock: Clock) -> None:
    let_rotate(demo)
    clock.advance(10 * DAY_S)
    new = demo.dsm.rekey("kek")
    assert new.scheduled_rotation == clock.now() + 30 * DAY_S
    assert demo.key.scheduled_rotation is None


def test_first_rotation_is_when_the_policy_takes_effect() -> None:
    policy = RotationPolicy(interval_days=10, effective_at=5.0)
    assert policy.first_after(0) == 5.0
    assert policy.first_after(5) == 5.0 + 10 * DAY_S


@pytest.mark.parametrize(
    ("since", "months", "due"),
    [
        ((2024, 1, 31), 1, (2024, 2, 29)),
        ((2023, 11, 14), 3, (2024, 2, 14)),
        ((2023, 12, 1), 12, (2024, 12, 1)),
    ],
)
def test_months_are_those_of_the_calendar(
    since: tuple[int, int, int], months: int, due: tuple[int, int, int]
) -> None:
    policy = RotationPolicy(interval_months=months)
    since_s = datetime(*since, tzinfo=UTC).timestamp()
    assert policy.next_after(since_s) == datetime(*due, tzinfo=UTC).timestamp()


def test_policy_is_set_and_shown_on_the_wire(
    admin: httpx.Client, demo: DemoKey, clock: Clock
) -> None:
    starts = basic_iso(clock.now() + DAY_S)
    policy = {
        "interval_months": 2,
        "effective_at": starts,
        "deactivate_rotated_key": True,
    }
    path = f"/crypto/v1/keys/{demo.key.kid}"
    shown = admin.patch(path, json={"rotation_policy": policy}).json()
    assert shown["rotation_policy"] == policy
    assert shown["scheduled_rotation"] == starts
    clock.advance(DAY_S)
    new = admin.post(INFO, json={"name": "kek"}).json()
    assert new["links"] == {"replaced": demo.key.kid}
    assert new["rotation_policy"] == policy
    old = admin.post(INFO, json={"kid": demo.key.kid}).json()
    assert old["state"] == "Deactivated"
    assert "scheduled_rotation" not in old


def test_key_may_be_made_with_a_policy(
    admin: httpx.Client, demo: DemoKey, clock: Clock
) -> None:
    body = {
        "name": "fresh",
        "obj_type": "AES",
        "key_size": 256,
        "group_id": demo.group.group_id,
        "rotation_policy": {"interval_days": 1},
    }
    made = admin.post("/crypto/v1/keys", json=body).json()
    clock.advance(DAY_S)
    assert demo.dsm.key(name="fresh").replaced == made["kid"]


@pytest.mark.parametrize(
    "policy",
    [
        1,
        {},
        {"interval_days": 0},
        {"interval_days": 1, "interval_months": 1},
        {"interval_days": "1"},
        {"interval_days": 1, "effective_at": "tomorrow"},
    ],
)
def test_malformed_policy_is_400(policy: Any) -> None:
    with pytest.raises(DsmError) as refused:
        RotationPolicy.from_json(policy)
    assert refused.value.status == 400


@pytest.mark.parametrize("default", [False, True])
def test_rekey_that_does_not_say_leaves_the_old_key_to_the_account(
    admin: httpx.Client, demo: DemoKey, *, default: bool
) -> None:
    demo.dsm.account.deactivate_rotated_key = default
    assert admin.post("/crypto/v1/keys/rekey", json={"name": "kek"}).is_success
    assert (demo.key.state is KeyState.DEACTIVATED) is default
    body = {"name": "kek", "deactivate_rotated_key": not default}
    second = demo.dsm.key(name="kek")
    assert admin.post("/crypto/v1/keys/rekey", json=body).is_success
    assert (second.state is KeyState.DEACTIVATED) is not default


@pytest.mark.parametrize("mark", [False, True])
def test_scheduled_deactivation_disables_as_the_account_says(
    demo: DemoKey, clock: Clock, *, mark: bool
) -> None:
    demo.dsm.account.mark_key_disable_when_deactivated = mark
    let_rotate(demo, deactivate=True)
    clock.advance(30 * DAY_S)
    assert demo.key.enabled is not mark
