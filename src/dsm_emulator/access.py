"""Who may do what to which key, and in which state: the rules before the cipher.

The order of the checks decides which refusal a client sees when several apply: the
account (whose rule is in `dsm`), group, permission, quorum, key_ops, then the state of
the key.
"""

from dsm_emulator.account import App, Group, Permission
from dsm_emulator.errors import (
    NEEDS_APPROVAL,
    NO_SUCH_KEY,
    DsmError,
    no_such_key,
)
from dsm_emulator.sobject import KeyOp, KeyState, Sobject
from dsm_emulator.state_table import OK, Condition, Operation, StateTable


_STATE_CONDITIONS = {
    KeyState.PREACTIVE: Condition.PREACTIVE,
    KeyState.DEACTIVATED: Condition.DEACTIVATED,
    KeyState.COMPROMISED: Condition.COMPROMISED,
    KeyState.DESTROYED: Condition.DESTROYED,
}
_MANAGING = (
    Permission.CREATE_SOBJECTS,
    Permission.ROTATE_SOBJECTS,
    Permission.ACTIVATE_SOBJECTS,
    Permission.REVOKE_SOBJECTS,
    Permission.DESTROY_SOBJECTS,
    Permission.DELETE_SOBJECTS,
    Permission.UPDATE_SOBJECTS_PROFILE,
)


def expect_usable(  # noqa: PLR0913 - the rules depend on all of them
    table: StateTable,
    app: App,
    group: Group | None,
    key: Sobject,
    *,
    operation: Operation,
    approved: bool = False,
) -> None:
    """Refuse *operation* on *key* unless every rule allows it.

    Raises:
        DsmError: The refusal that the table has for the first rule that fails.
    """
    if key.state is KeyState.DELETED:
        raise no_such_key()
    if group is None or not app.is_member(key.group_id):
        check(table, Condition.FOREIGN_GROUP, operation)
    if not app.permits(Permission(operation.value), key.group_id):
        check(table, Condition.NO_PERMISSION, operation)
    if group is not None and group.protect_crypto_operations and not approved:
        raise DsmError(403, NEEDS_APPROVAL)
    if KeyOp(operation.value) not in key.key_ops:
        check(table, Condition.OPERATION_NOT_ALLOWED, operation)
    for condition in _conditions_of(key):
        check(table, condition, operation)


def expect_visible(
    table: StateTable,
    app: App,
    key: Sobject,
    *,
    show_destroyed: bool = False,
    show_deleted: bool = False,
) -> None:
    """Refuse to show *key*.

    Raises:
        DsmError: 404 for a deleted or destroyed key that wasn't asked for, else what
            the table has for a key of a foreign group.
    """
    if key.state is KeyState.DELETED and not show_deleted:
        raise no_such_key()
    if key.state is KeyState.DESTROYED and not show_destroyed:
        check(table, Condition.DESTROYED, Operation.LOOK_UP)
    if not app.is_member(key.group_id):
        check(table, Condition.FOREIGN_GROUP, Operation.LOOK_UP)


def expect_manageable(
    table: StateTable,
    app: App,
    key: Sobject,
    permission: Permission,
    *,
    show_deleted: bool = False,
) -> None:
    """Refuse to let *app* manage *key*.

    A crypto app needs the permission, and a key with APPMANAGEABLE.

    Raises:
        DsmError: What the table has for the first rule that fails.
    """
    expect_visible(table, app, key, show_destroyed=True, show_deleted=show_deleted)
    if not app.permits(permission, key.group_id) or (
        not app.is_admin and KeyOp.APPMANAGEABLE not in key.key_ops
    ):
        check(table, Condition.NO_PERMISSION, Operation.LOOK_UP)


def effective_key_ops(app: App, key: Sobject) -> list[str]:
    """Return those of the key's operations that *app* may perform."""
    permitted = {
        KeyOp.ENCRYPT: app.permits(Permission.ENCRYPT, key.group_id),
        KeyOp.DECRYPT: app.permits(Permission.DECRYPT, key.group_id),
        KeyOp.EXPORT: app.permits(Permission.EXPORT, key.group_id),
        KeyOp.APPMANAGEABLE: any(
            app.permits(permission, key.group_id) for permission in _MANAGING
        ),
    }
    return [op.value for op in key.key_ops if permitted.get(op, False)]


def check(table: StateTable, condition: Condition, operation: Operation) -> None:
    """Refuse by the table's cell, unless that cell says to go ahead.

    Raises:
        DsmError: The cell's status with the condition's text.
    """
    status = table.status(condition, operation)
    if status != OK:
        raise refusal(status, table.text(condition))


def refusal(status: int, text: str) -> DsmError:
    """Return a refusal; a 404 hides its reason behind DSM's only text for it."""
    return DsmError(status, NO_SUCH_KEY if status == 404 else text)  # noqa: PLR2004


def _conditions_of(key: Sobject) -> list[Condition]:
    if key.state is KeyState.DEACTIVATED and not key.enabled:
        return [Condition.DEACTIVATED_AND_DISABLED]
    conditions = [] if key.enabled else [Condition.DISABLED]
    if key.state is not KeyState.ACTIVE:
        conditions.append(_STATE_CONDITIONS[key.state])
    return conditions
