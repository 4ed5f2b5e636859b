"""Every row of the reference's table 4.4, from DSM's answer to kube-apiserver's.

What the reference marks as assumed is a switch of the emulator: the adapter must make
sense of whatever stands there.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import pytest
from attrs import frozen
from tests.contract.dsm_faults.support import WELL

from dsm_emulator import Condition, Fault, FaultKind, Operation
from dsm_emulator.fault import BodyForm


if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.dsm_faults.support import Front
    from tests.unit.adapters_dsm.support import Emulated

    from kms_core.provider import Ciphertext


DENIED = "PERMISSION-REFUSED"
GONE = "KEY-NOT-FOUND"


@frozen
class Row:
    """One row: how DSM comes to it, and the code that each call ends in.

    Attributes:
        arrange: Brings the key there.
        encrypt: Code of an Encrypt's error; empty if it succeeds.
        decrypt: The same for a Decrypt.
        describe: The same for a look at the key and what it is judged to be.
    """

    arrange: Callable[[Emulated], None]
    encrypt: str
    decrypt: str
    describe: str


def deactivate_and_disable(emulated: Emulated) -> None:
    emulated.dsm.account.mark_key_disable_when_deactivated = True
    emulated.dsm.deactivate(emulated.demo.key)


def make_preactive(emulated: Emulated) -> None:
    key = emulated.demo.key
    key.state = type(key.state)("PreActive")
    key.activation_date = emulated.dsm.clock.now() + 3600


def take_operations(emulated: Emulated) -> None:
    emulated.demo.key.key_ops = ()


def take_permissions(emulated: Emulated) -> None:
    groups = emulated.demo.app.groups
    groups[emulated.demo.group.group_id] = frozenset()


def leave_group(emulated: Emulated) -> None:
    emulated.demo.app.groups.clear()


def protect_by_quorum(emulated: Emulated) -> None:
    emulated.demo.group.protect_crypto_operations = True


def end_trial(emulated: Emulated) -> None:
    emulated.dsm.account.enabled = False


ROWS: Final = {
    "active": Row(lambda _: None, WELL, WELL, WELL),
    "deactivated": Row(
        lambda e: e.dsm.deactivate(e.demo.key), DENIED, WELL, "KEY-DEACTIVATED"
    ),
    "deactivated and disabled": Row(
        deactivate_and_disable, DENIED, DENIED, "KEY-DEACTIVATED"
    ),
    "compromised": Row(
        lambda e: e.dsm.compromise(e.demo.key), DENIED, WELL, "KEY-COMPROMISED"
    ),
    "preactive": Row(make_preactive, DENIED, DENIED, "KEY-NOT-ACTIVE"),
    "disabled": Row(
        lambda e: e.dsm.disable(e.demo.key), DENIED, DENIED, "KEY-DISABLED"
    ),
    "destroyed": Row(
        lambda e: e.dsm.destroy(e.demo.key), DENIED, DENIED, "KEY-DESTROYED"
    ),
    "deleted": Row(lambda e: e.dsm.delete(e.demo.key), GONE, GONE, GONE),
    "operations taken": Row(take_operations, DENIED, DENIED, "KEY-UNSUITABLE"),
    "permissions taken": Row(take_permissions, DENIED, DENIED, "KEY-UNSUITABLE"),
    "in a group of others": Row(leave_group, DENIED, DENIED, DENIED),
    "under a quorum": Row(
        protect_by_quorum, "APPROVAL-NEEDED", "APPROVAL-NEEDED", WELL
    ),
    "trial over": Row(end_trial, DENIED, DENIED, WELL),
}

CELLS: Final = {
    "deactivated": Condition.DEACTIVATED,
    "deactivated and disabled": Condition.DEACTIVATED_AND_DISABLED,
    "compromised": Condition.COMPROMISED,
    "preactive": Condition.PREACTIVE,
    "disabled": Condition.DISABLED,
    "destroyed": Condition.DESTROYED,
    "operations taken": Condition.OPERATION_NOT_ALLOWED,
    "permissions taken": Condition.NO_PERMISSION,
    "in a group of others": Condition.FOREIGN_GROUP,
    "trial over": Condition.ACCOUNT_DISABLED,
}


async def judged(front: Front, kid: str) -> None:
    (await front.adapter_describe(kid)).judge()


async def asked_of_the_adapter(
    front: Front, kid: str, sealed: Ciphertext, seed: bytes
) -> tuple[str, str, str]:
    return (
        await front.outcome(front.adapter_encrypt(kid, seed)),
        await front.outcome(front.adapter_decrypt(kid, sealed)),
        await front.outcome(judged(front, kid)),
    )


@pytest.mark.parametrize("name", ROWS)
async def test_row(front: Front, emulated: Emulated, name: str) -> None:
    row, seed, kid = ROWS[name], front.seed(), emulated.kid
    stored = await front.encrypt(seed)
    sealed = await front.adapter_encrypt(kid, seed)
    row.arrange(emulated)
    if row.decrypt == WELL:
        assert await front.decrypt(stored) == seed
        assert await front.adapter_decrypt(kid, sealed) == seed
    codes = await asked_of_the_adapter(front, kid, sealed, seed)
    assert codes == (row.encrypt, row.decrypt, row.describe)
    assert await front.outcome(front.decrypt(stored)) == row.decrypt
    assert await front.outcome(front.encrypt(seed)) == row.encrypt


BY_STATUS: Final = {
    400: ("DSM-REQUEST-REFUSED", "SEALED-SEED-NOT-AUTHENTIC"),
    401: ("CREDENTIAL-REFUSED", "CREDENTIAL-REFUSED"),
    403: (DENIED, DENIED),
    404: (GONE, GONE),
    409: ("DSM-REQUEST-REFUSED", "DSM-REQUEST-REFUSED"),
    423: ("DSM-REQUEST-REFUSED", "DSM-REQUEST-REFUSED"),
    500: ("DSM-FAULTY", "DSM-FAULTY"),
}


@pytest.mark.parametrize("status", BY_STATUS)
@pytest.mark.parametrize("name", CELLS)
async def test_row_under_every_status_that_dsm_might_have_for_it(
    front: Front, emulated: Emulated, name: str, status: int
) -> None:
    seed, kid = front.seed(), emulated.kid
    stored = await front.encrypt(seed)
    for operation in (Operation.ENCRYPT, Operation.DECRYPT):
        emulated.dsm.table.set(CELLS[name], operation, status)
    ROWS[name].arrange(emulated)
    encrypt, decrypt = BY_STATUS[status]
    assert await front.outcome(front.decrypt(stored)) == decrypt
    assert await front.outcome(front.encrypt(seed)) == encrypt
    assert await front.outcome(front.adapter_encrypt(kid, seed)) == encrypt


@pytest.mark.parametrize(("status", "expected"), [(403, DENIED), (404, GONE)])
@pytest.mark.parametrize("name", ["destroyed", "in a group of others"])
async def test_look_that_dsm_refuses(
    front: Front, emulated: Emulated, name: str, status: int, expected: str
) -> None:
    ROWS[name].arrange(emulated)
    emulated.dsm.table.set(CELLS[name], Operation.LOOK_UP, status)
    # By its name: show_destroyed is asked for with a kid alone.
    assert await front.outcome(front.adapter_describe(None)) == expected


async def test_key_that_never_was(front: Front) -> None:
    seed = front.seed()
    sealed = await front.adapter_encrypt((await front.adapter_describe(None)).kid, seed)
    codes = await asked_of_the_adapter(front, str(uuid.uuid4()), sealed, seed)
    assert codes == (GONE, GONE, GONE)


async def test_what_is_malformed(front: Front, emulated: Emulated) -> None:
    seed = front.seed()
    stored = await front.encrypt(seed)
    malformed = Fault(FaultKind.STATUS, path="/crypto/v1/*", status=400)
    emulated.dsm.faults.add(malformed)
    assert await front.outcome(front.encrypt(seed)) == "DSM-REQUEST-REFUSED"
    assert await front.outcome(front.decrypt(stored)) == "SEALED-SEED-NOT-AUTHENTIC"
    described = await front.outcome(front.adapter_describe(None))
    assert described == "DSM-REQUEST-REFUSED"


FORMS = ["text", "json", "json-string", "html", "empty", "huge"]
TEXTS: Final = {
    (401, "Session does not exist"): "CREDENTIAL-REFUSED",
    (403, "Session does not exist"): "CREDENTIAL-REFUSED",
    (404, "sobject does not exist"): GONE,
    (409, "sobject already exists"): "DSM-REQUEST-REFUSED",
    (403, "This operation requires approval"): "APPROVAL-NEEDED",
    (403, "\x1b[31mred\r\nforged: line"): DENIED,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("status", "text"), TEXTS)
async def test_known_text_in_every_form_of_a_body(
    front: Front, emulated: Emulated, status: int, text: str, form: str
) -> None:
    stored = await front.encrypt(front.seed())
    emulated.dsm.faults.add(
        Fault(
            FaultKind.STATUS,
            path="/crypto/v1/decrypt",
            status=status,
            text=text,
            body=BodyForm(form),
            size=1_000_000,
        )
    )
    front.secrets += ["forged", "\x1b"]
    expected = TEXTS[status, text]
    if form == "html" and status != 401 and "Session" not in text:
        expected = "DSM-ANSWER-REFUSED"
    # Where there is no text, or too much to look for one, the status decides.
    if form in ("empty", "huge") and status == 403:
        expected = DENIED
    code = await front.outcome(front.decrypt(stored))
    assert code == expected
