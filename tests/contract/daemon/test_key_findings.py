"""What `check` and the daemon say of a key that serves, from DSM's own words on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.contract.daemon.support import INFO, KEY_NAME, run

from dsm_emulator import Fault, FaultKind
from dsm_emulator.account import Permission
from dsm_emulator.rotation import RotationPolicy
from dsm_emulator.sobject import KeyOp


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.contract.daemon.support import Lab


DAY_S: Final = 86_400.0


def allow(lab: Lab, *more: KeyOp) -> None:
    lab.demo.key.key_ops = (KeyOp.ENCRYPT, KeyOp.DECRYPT, *more)


def permit_everything(lab: Lab) -> None:
    held = frozenset(Permission)
    lab.demo.app.groups[lab.demo.group.group_id] = held


def end_in(lab: Lab, days: float) -> None:
    lab.demo.key.deactivation_date = lab.dsm.clock.now() + days * DAY_S


def rotate_by_policy(lab: Lab, *, deactivate: bool) -> None:
    policy = RotationPolicy(interval_days=30, deactivate_rotated_key=deactivate)
    lab.dsm.keys.set_rotation_policy(lab.demo.key, policy)


def say(lab: Lab, field: str, value: object) -> None:
    fault = Fault(FaultKind.SET_FIELD, path=INFO, field=field, value=value)
    lab.dsm.faults.add(fault)


SAID: Final[dict[str, tuple[Callable[[Lab], None], list[str]]]] = {
    "as it should be": (lambda _: None, []),
    "of 128 bits": (lambda lab: say(lab, "key_size", 128), ["KEY-SIZE"]),
    "exportable": (lambda lab: allow(lab, KeyOp.EXPORT), ["KEY-EXPORTABLE"]),
    "unaudited": (lambda lab: allow(lab, KeyOp.HIGHVOLUME), ["KEY-NOT-AUDITED"]),
    "of an app that may manage it": (permit_everything, ["KEY-PERMISSIONS"]),
    "against a policy": (
        lambda lab: say(lab, "compliant_with_policies", value=False),
        ["KEY-NOT-COMPLIANT"],
    ),
    "ending in 29 days": (lambda lab: end_in(lab, 29), ["KEY-DEACTIVATION-NEAR"]),
    "ending in 31 days": (lambda lab: end_in(lab, 31), ["KEY-DEACTIVATION-SET"]),
    "rotated by DSM": (
        lambda lab: rotate_by_policy(lab, deactivate=False),
        ["KEY-ROTATION-SCHEDULED"],
    ),
    "rotated and deactivated by DSM": (
        lambda lab: rotate_by_policy(lab, deactivate=True),
        ["KEY-ROTATION-SCHEDULED", "KEY-ROTATION-DEACTIVATES"],
    ),
    "with a date of another form": (
        lambda lab: say(lab, "deactivation_date", "soon\r\nforged: line"),
        ["KEY-UNREAD"],
    ),
}


def remarks(config: Path) -> tuple[int, list[dict[str, str]]]:
    """Return the exit code of `check`, and what it says of the key beside ok."""
    done = run("check", "--json", "--config", config)
    assert b"forged" not in done.stdout
    report: dict[str, Any] = json.loads(done.stdout)
    items = [i for i in report["items"] if i["about"] == "key" and i["level"] != "ok"]
    return done.returncode, items


@pytest.mark.parametrize("name", SAID)
def test_check_says_it_with_a_remedy_and_passes(lab: Lab, name: str) -> None:
    arrange, codes = SAID[name]
    arrange(lab)
    code, items = remarks(lab.config())
    assert [item["found"].partition(":")[0] for item in items] == codes
    assert code == 0
    assert all(item["level"] in ("warning", "notice") for item in items)
    assert all(item["remedy"] for item in items)


def test_check_says_that_the_configured_uuid_was_replaced(lab: Lab) -> None:
    kid = lab.demo.key.kid
    new = lab.dsm.rekey(KEY_NAME).kid
    code, items = remarks(lab.config(key_name=None, key_id=kid))
    assert code == 0
    (item,) = items
    assert item["found"].startswith(f"KEY-REPLACED: key {kid} was replaced by {new}")
    assert "key_name" in item["remedy"]


def test_check_names_every_error_of_the_key_at_once(lab: Lab) -> None:
    lab.dsm.account.mark_key_disable_when_deactivated = True
    lab.dsm.deactivate(lab.demo.key)
    lab.demo.key.key_ops = (KeyOp.DECRYPT,)
    code, items = remarks(lab.config())
    assert code == 1
    assert [(i["level"], i["found"].partition(":")[0]) for i in items] == [
        ("error", "KEY-DEACTIVATED"),
        ("error", "KEY-DISABLED"),
        ("error", "KEY-UNSUITABLE"),
    ]


def test_check_of_the_go_plugin_s_format_warns_of_a_rotation_to_come(
    lab: Lab,
) -> None:
    rotate_by_policy(lab, deactivate=False)
    code, items = remarks(lab.config(write_format="go-plugin"))
    assert code == 0
    found = [item["found"].partition(":")[0] for item in items]
    assert found == ["KEY-ROTATION-SCHEDULED", "KEY-ROTATION-HIDDEN"]


def test_check_of_a_key_under_a_quorum_fails_in_its_proof(lab: Lab) -> None:
    lab.demo.group.protect_crypto_operations = True
    done = run("check", "--json", "--config", lab.config())
    (error,) = (i for i in json.loads(done.stdout)["items"] if i["level"] == "error")
    assert (done.returncode, error["about"]) == (1, "seed")
    assert error["found"].startswith("APPROVAL-NEEDED: ")
    assert "quorum" in error["remedy"]


async def test_daemon_says_it_when_it_appears_and_once_when_it_goes(lab: Lab) -> None:
    daemon = lab.start()
    await daemon.await_ok()
    assert not daemon.lines(event="key finding")
    kid = lab.demo.key.kid
    allow(lab, KeyOp.EXPORT)
    daemon.hang_up()
    line = daemon.await_line(event="key finding", code="KEY-EXPORTABLE")
    assert (line["level"], line["kid"], line["gone"]) == ("warning", kid, False)
    assert line["cause"]
    assert line["remedy"]
    looks = lab.dsm.journal.count(INFO)
    allow(lab)
    daemon.hang_up()
    gone = daemon.await_line(event="key finding", code="KEY-EXPORTABLE", gone=True)
    assert gone["level"] == "info"
    end_in(lab, 3)
    daemon.hang_up()
    line = daemon.await_line(event="key finding", code="KEY-DEACTIVATION-NEAR")
    assert "within 7 days" in line["cause"]
    # Each SIGHUP brings two looks, and none of them says it again.
    assert lab.dsm.journal.count(INFO) > looks
    assert len(daemon.lines(event="key finding")) == 3
    assert (await daemon.status()).healthz == "ok"
