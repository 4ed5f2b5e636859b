from collections.abc import Callable

import pytest

from dsm_emulator import Condition, DemoKey, Operation
from dsm_emulator.account import Permission
from dsm_emulator.aes import Sealed
from dsm_emulator.errors import DsmError
from dsm_emulator.sobject import KeyOp, KeyState
from dsm_emulator.state_table import StateTable


@pytest.fixture
def sealed(demo: DemoKey) -> Sealed:
    return demo.dsm.encrypt(demo.app, demo.key, "GCM", b"seed", tag_bits=128)


def encrypt(demo: DemoKey) -> int:
    try:
        demo.dsm.encrypt(demo.app, demo.key, "GCM", b"seed", tag_bits=128)
    except DsmError as refused:
        return refused.status
    return 200


def decrypt(demo: DemoKey, sealed: Sealed) -> int:
    try:
        demo.dsm.decrypt(
            demo.app, demo.key, "GCM", sealed.cipher, iv=sealed.iv, tag=sealed.tag
        )
    except DsmError as refused:
        return refused.status
    return 200


def deactivate(demo: DemoKey) -> None:
    demo.dsm.deactivate(demo.key)


def deactivate_and_disable(demo: DemoKey) -> None:
    demo.dsm.account.mark_key_disable_when_deactivated = True
    demo.dsm.deactivate(demo.key)


def compromise(demo: DemoKey) -> None:
    demo.dsm.compromise(demo.key)


def preactivate(demo: DemoKey) -> None:
    demo.key.state = KeyState.PREACTIVE
    demo.key.activation_date = None


def disable(demo: DemoKey) -> None:
    demo.dsm.disable(demo.key)


def destroy(demo: DemoKey) -> None:
    demo.dsm.destroy(demo.key)


def drop_key_ops(demo: DemoKey) -> None:
    demo.key.key_ops = (KeyOp.WRAPKEY,)


def drop_permission(demo: DemoKey) -> None:
    demo.app.groups[demo.group.group_id] = frozenset({Permission.MANAGE})


def leave_group(demo: DemoKey) -> None:
    demo.app.groups.clear()


def disable_account(demo: DemoKey) -> None:
    demo.dsm.account.enabled = False


ROWS: list[tuple[Condition, Callable[[DemoKey], None], int, int]] = [
    (Condition.DEACTIVATED, deactivate, 403, 200),
    (Condition.DEACTIVATED_AND_DISABLED, deactivate_and_disable, 403, 403),
    (Condition.COMPROMISED, compromise, 403, 200),
    (Condition.PREACTIVE, preactivate, 403, 403),
    (Condition.DISABLED, disable, 403, 403),
    (Condition.DESTROYED, destroy, 403, 403),
    (Condition.OPERATION_NOT_ALLOWED, drop_key_ops, 403, 403),
    (Condition.NO_PERMISSION, drop_permission, 403, 403),
    (Condition.FOREIGN_GROUP, leave_group, 403, 403),
    (Condition.ACCOUNT_DISABLED, disable_account, 403, 403),
]


def test_active_enabled_key_is_usable(demo: DemoKey, sealed: Sealed) -> None:
    assert (encrypt(demo), decrypt(demo, sealed)) == (200, 200)


@pytest.mark.parametrize(("condition", "bring_about", "of_encrypt", "of_decrypt"), ROWS)
def test_condition_answers_as_the_table_says(
    demo: DemoKey,
    sealed: Sealed,
    *,
    condition: Condition,
    bring_about: Callable[[DemoKey], None],
    of_encrypt: int,
    of_decrypt: int,
) -> None:
    bring_about(demo)
    assert (encrypt(demo), decrypt(demo, sealed)) == (of_encrypt, of_decrypt)


@pytest.mark.parametrize(("condition", "bring_about", "of_encrypt", "of_decrypt"), ROWS)
def test_each_cell_can_be_set(
    demo: DemoKey,
    sealed: Sealed,
    *,
    condition: Condition,
    bring_about: Callable[[DemoKey], None],
    of_encrypt: int,
    of_decrypt: int,
) -> None:
    bring_about(demo)
    demo.dsm.table.set(condition, Operation.ENCRYPT, 418)
    demo.dsm.table.set(condition, Operation.DECRYPT, 404)
    assert (encrypt(demo), decrypt(demo, sealed)) == (418, 404)


def test_cell_of_200_lets_the_operation_through(demo: DemoKey) -> None:
    demo.dsm.table.set(Condition.DEACTIVATED, Operation.ENCRYPT, 200)
    demo.dsm.deactivate(demo.key)
    assert encrypt(demo) == 200


def test_disabled_key_is_refused_even_if_its_state_would_do(
    demo: DemoKey, sealed: Sealed
) -> None:
    demo.dsm.compromise(demo.key)
    demo.dsm.disable(demo.key)
    assert decrypt(demo, sealed) == 403
    demo.dsm.enable(demo.key)
    assert decrypt(demo, sealed) == 200


def test_deleted_key_does_not_exist(demo: DemoKey, sealed: Sealed) -> None:
    demo.dsm.delete(demo.key)
    assert (encrypt(demo), decrypt(demo, sealed)) == (404, 404)


def test_admin_app_does_no_crypto(demo: DemoKey) -> None:
    with pytest.raises(DsmError) as refused:
        demo.dsm.encrypt(demo.admin, demo.key, "GCM", b"", tag_bits=128)
    assert refused.value.status == 403


def test_quorum_policy_asks_for_approval(demo: DemoKey) -> None:
    demo.group.protect_crypto_operations = True
    with pytest.raises(DsmError) as refused:
        demo.dsm.encrypt(demo.app, demo.key, "GCM", b"", tag_bits=128)
    assert refused.value.status == 403
    assert refused.value.text == "This operation requires approval"


def test_malformed_and_wrong_tag_are_cells_too(demo: DemoKey) -> None:
    table, app, key = demo.dsm.table, demo.app, demo.key
    table.set(Condition.MALFORMED, Operation.ENCRYPT, 422)
    table.set(Condition.MALFORMED, Operation.DECRYPT, 423)
    table.set(Condition.WRONG_TAG, Operation.DECRYPT, 424)
    with pytest.raises(DsmError) as no_tag_len:
        demo.dsm.encrypt(app, key, "GCM", b"")
    with pytest.raises(DsmError) as no_tag:
        demo.dsm.decrypt(app, key, "GCM", b"", iv=bytes(12))
    with pytest.raises(DsmError) as wrong_tag:
        demo.dsm.decrypt(app, key, "GCM", b"", iv=bytes(12), tag=bytes(16))
    statuses = [refused.value.status for refused in (no_tag_len, no_tag, wrong_tag)]
    assert statuses == [422, 423, 424]


@pytest.mark.parametrize(
    ("condition", "operation"),
    [
        (Condition.DESTROYED, Operation.ENCRYPT),
        (Condition.MALFORMED, Operation.ENCRYPT),
        (Condition.WRONG_TAG, Operation.DECRYPT),
    ],
)
def test_cell_without_an_answer_cannot_be_200(
    condition: Condition, operation: Operation
) -> None:
    with pytest.raises(ValueError, match=condition.name):
        StateTable().set(condition, operation, 200)


def test_destroyed_key_may_be_shown_unasked() -> None:
    table = StateTable()
    table.set(Condition.DESTROYED, Operation.LOOK_UP, 200)
    assert table.status(Condition.DESTROYED, Operation.LOOK_UP) == 200
