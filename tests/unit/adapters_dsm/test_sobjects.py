"""What is read from DSM's security object beside what decides about its use."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from tests.unit.adapters_dsm.support import sobject

from adapters_dsm.answers import Answer, read_key
from kms_core.key_findings import key_findings
from kms_core.provider import KeyDescription, RotationPlan


DATE = dt.datetime(2027, 5, 9, 7, 9, 12, tzinfo=dt.UTC)
DSM_DATE = "20270509T070912Z"
BOTH = ["ENCRYPT", "DECRYPT"]
# A new AES key's, unless asked for others (dsm-api.md, 2.2).
DEFAULT = [*BOTH, "WRAPKEY", "UNWRAPKEY", "DERIVEKEY", "MACGENERATE", "APPMANAGEABLE"]


def described(**changes: Any) -> KeyDescription:
    body = json.dumps(sobject(**changes)).encode()
    return read_key(Answer(200, "application/json", None, "", body), None, "here")


def codes(**changes: Any) -> list[str]:
    now = dt.datetime(2027, 5, 1, tzinfo=dt.UTC)
    return [finding.code for finding in key_findings(described(**changes), now)]


def test_a_plain_key_is_said_nothing_of() -> None:
    assert codes() == []
    assert codes(never_exportable=True, compliant_with_policies=True) == []


def test_permissions_are_those_that_key_and_app_both_have() -> None:
    assert described(key_ops=DEFAULT).more_permissions == (
        "APPMANAGEABLE",
        "DERIVEKEY",
        "MACGENERATE",
        "UNWRAPKEY",
        "WRAPKEY",
    )
    policy = {"key_ops": [*BOTH, "WRAPKEY", "SIGN"]}
    limited = described(key_ops=DEFAULT, effective_key_policy=policy)
    assert limited.more_permissions == ("WRAPKEY",)
    silent = described(key_ops=DEFAULT, effective_key_policy={"key_ops": BOTH})
    assert silent.more_permissions == ()


def test_export_and_high_volume_are_the_key_s_own_whoever_asks() -> None:
    ops = [*BOTH, "EXPORT", "HIGHVOLUME"]
    found = described(key_ops=ops, effective_key_policy={"key_ops": BOTH})
    assert (found.exportable, found.audited) == (True, False)
    assert found.more_permissions == ()
    assert codes(key_ops=ops) == ["KEY-EXPORTABLE", "KEY-NOT-AUDITED"]


def test_operations_are_shown_as_words_or_not_at_all() -> None:
    odd = ["sign", "A B", "X\n", "\x1b[31m", "Ä", "", "A" * 33]
    found = described(key_ops=[*BOTH, "SIGN", *odd])
    assert found.more_permissions == ("SIGN",)
    assert found.unread == ("key_ops",)
    many = described(key_ops=[*BOTH, *("A" * n for n in range(1, 33))])
    assert len(many.more_permissions) == 16
    assert many.unread == ()


def test_dates_are_read_in_dsm_s_form() -> None:
    found = described(deactivation_date=DSM_DATE, scheduled_rotation=DSM_DATE)
    assert found.deactivates_at == DATE
    assert found.rotation == RotationPlan(at=DATE)
    assert found.unread == ()


@pytest.mark.parametrize(
    "odd",
    [
        1809846552,
        "2027-05-09T07:09:12Z",
        "20270509T070912",
        "20270509T070912+0000",
        "20271309T070912Z",
        "20270509T250912Z",
        "00000000T000000Z",
        "20270509T070912Z\n",
        "\u0662\u0660\u0662\u0667\u0660\u0665\u0660\u0669T070912Z",
        "",
        [],
        True,
    ],
)
def test_a_date_in_another_form_is_named_and_costs_nothing(odd: object) -> None:
    found = described(deactivation_date=odd, scheduled_rotation=odd)
    assert (found.deactivates_at, found.rotation) == (None, None)
    assert set(found.unread) == {"deactivation_date", "scheduled_rotation"}
    assert codes(deactivation_date=odd) == ["KEY-UNREAD"]
    found.judge()


@pytest.mark.parametrize(
    ("policy", "plan"),
    [
        (None, None),
        ({}, None),
        ({"deactivate_rotated_key": True}, None),
        ({"interval_days": None, "interval_months": None}, None),
        ({"interval_days": 30}, RotationPlan()),
        ({"interval_months": 3, "deactivate_rotated_key": False}, RotationPlan()),
        (
            {"interval_days": 1, "deactivate_rotated_key": True},
            RotationPlan(deactivates_old=True),
        ),
    ],
)
def test_a_rotation_policy_is_read(policy: object, plan: RotationPlan | None) -> None:
    found = described(rotation_policy=policy)
    assert found.rotation == plan
    assert found.unread == ()
    dated = described(rotation_policy=policy, scheduled_rotation=DSM_DATE)
    assert dated.rotation is not None
    assert dated.rotation.at == DATE


def test_an_odd_rotation_policy_is_warned_of_rather_than_missed() -> None:
    odds: tuple[object, ...] = ("P30D", 5, [], True)
    for odd in odds:
        found = described(rotation_policy=odd)
        assert found.rotation == RotationPlan()
        assert found.unread == ("rotation_policy",)
    policy = {"interval_days": 30, "deactivate_rotated_key": "yes"}
    assert described(rotation_policy=policy).unread == ("deactivate_rotated_key",)


def test_a_policy_that_is_broken_is_told() -> None:
    assert described(compliant_with_policies=False).compliant is False
    assert described(compliant_with_policies=None).compliant is True
    assert codes(compliant_with_policies=False) == ["KEY-NOT-COMPLIANT"]
    assert codes(compliant_with_policies="false") == ["KEY-UNREAD"]
