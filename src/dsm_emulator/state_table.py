"""What DSM answers under which condition: the table of the reference's section 4.4.

Only two rows of it are proved (a deactivated key decrypts but doesn't encrypt; a key
that isn't there is 404) and one text. Every other cell is an assumption, therefore a
switch:

| condition | encrypt | decrypt | look-up |
|---|---|---|---|
| deactivated, enabled | 403 | 200 | 200 |
| deactivated and disabled | 403 | 403 | 200 |
| compromised | 403 | 200 | 200 |
| preactive | 403 | 403 | 200 |
| disabled | 403 | 403 | 200 |
| destroyed | 403 | 403 | 404 |
| key_ops lacks the operation | 403 | 403 | - |
| the app lacks the permission | 403 | 403 | 403 |
| the key is in a group of others | 403 | 403 | 403 |
| malformed (mode, IV, tag length) | 400 | 400 | - |
| wrong tag | - | 400 | - |
| IV from the caller, `random_iv` | 400 | - | - |
| account disabled, trial over | 403 | 403 | - |
| more operations than are allowed | 429 | 429 | - |
| read-only mode | 200 | 200 | 503 |

"look-up" stands for keys/info and for all management calls; in the last row for those
that write. The texts are assumed too.
"""

from enum import StrEnum


OK = 200


class Operation(StrEnum):
    """A column of the table."""

    ENCRYPT = "ENCRYPT"
    DECRYPT = "DECRYPT"
    LOOK_UP = "LOOK_UP"


class Condition(StrEnum):
    """A row of the table; the value is the text of the refusal, which is assumed."""

    DEACTIVATED = "sobject is deactivated"
    DEACTIVATED_AND_DISABLED = "sobject is deactivated and not enabled"
    COMPROMISED = "sobject is compromised"
    PREACTIVE = "sobject is not active yet"
    DISABLED = "sobject is not enabled"
    DESTROYED = "sobject is destroyed"
    OPERATION_NOT_ALLOWED = "operation is not allowed for this sobject"
    NO_PERMISSION = "app does not have the permission"
    FOREIGN_GROUP = "app is not a member of the sobject's group"
    MALFORMED = "invalid request"
    WRONG_TAG = "decryption failed"
    CALLER_IV = "iv must not be given for this sobject"
    ACCOUNT_DISABLED = "account is disabled"
    OVER_LIMIT = "operation limit is exceeded"
    READ_ONLY = "cluster is in read-only mode"


_DEFAULTS: dict[Condition, tuple[int, int, int]] = {
    Condition.DEACTIVATED: (403, OK, OK),
    Condition.DEACTIVATED_AND_DISABLED: (403, 403, OK),
    Condition.COMPROMISED: (403, OK, OK),
    Condition.PREACTIVE: (403, 403, OK),
    Condition.DISABLED: (403, 403, OK),
    Condition.DESTROYED: (403, 403, 404),
    Condition.OPERATION_NOT_ALLOWED: (403, 403, OK),
    Condition.NO_PERMISSION: (403, 403, 403),
    Condition.FOREIGN_GROUP: (403, 403, 403),
    Condition.MALFORMED: (400, 400, OK),
    Condition.WRONG_TAG: (OK, 400, OK),
    Condition.CALLER_IV: (400, OK, OK),
    Condition.ACCOUNT_DISABLED: (403, 403, OK),
    Condition.OVER_LIMIT: (429, 429, OK),
    Condition.READ_ONLY: (OK, OK, 503),
}
_LOOKED_UP = frozenset(
    {
        Condition.DESTROYED,
        Condition.NO_PERMISSION,
        Condition.FOREIGN_GROUP,
        Condition.READ_ONLY,
    }
)
# Those cells that decide anything: an encryption has no wrong tag, and so on.
CELLS = tuple(
    (condition, operation)
    for condition in Condition
    for operation in Operation
    if (operation is not Operation.LOOK_UP or condition in _LOOKED_UP)
    and (condition, operation)
    not in {
        (Condition.WRONG_TAG, Operation.ENCRYPT),
        (Condition.CALLER_IV, Operation.DECRYPT),
    }
)
# Without material, or with data that don't verify, there is nothing to answer 200 with.
_NEVER_OK = frozenset({Condition.DESTROYED, Condition.MALFORMED, Condition.WRONG_TAG})


class StateTable:
    """The table, each cell of which can be set."""

    def __init__(self) -> None:
        self._cells = {
            (condition, operation): status
            for condition, row in _DEFAULTS.items()
            for operation, status in zip(Operation, row, strict=True)
        }
        self._texts = {condition: condition.value for condition in Condition}

    def status(self, condition: Condition, operation: Operation) -> int:
        """Return what *operation* answers under *condition*; 200 is: go ahead."""
        return self._cells[condition, operation]

    def set(self, condition: Condition, operation: Operation, status: int) -> None:
        """Let *operation* answer *status* under *condition*.

        Raises:
            ValueError: 200 where the emulator has nothing to answer with.
        """
        if (
            status == OK
            and operation is not Operation.LOOK_UP
            and condition in _NEVER_OK
        ):
            raise ValueError(f"{condition.name} can't answer 200")
        self._cells[condition, operation] = status

    def text(self, condition: Condition) -> str:
        """Return how a refusal under *condition* is worded."""
        return self._texts[condition]

    def set_text(self, condition: Condition, text: str) -> None:
        """Word the refusals under *condition* in another way."""
        self._texts[condition] = text
