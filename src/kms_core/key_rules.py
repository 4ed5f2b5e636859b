"""The rules from a key's description to what an operator should know of it.

``docs/key-findings.md`` is generated from ``RULES``.
"""

from __future__ import annotations

import datetime as dt
import enum
from typing import TYPE_CHECKING, Final

from attrs import frozen

from kms_core.provider import KeyState


if TYPE_CHECKING:
    from collections.abc import Callable

    from kms_core.provider import KeyDescription


SEED_BITS: Final = 256
"""Size of the seeds, and so the size below which a key is the weakest part."""

STAGES_DAYS: Final = (1, 7, 30)
"""How many days before its deactivation a key is warned of, again at each."""


class Severity(enum.Enum):
    """How grave a finding is."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@frozen
class Sight:
    """What a rule looks at.

    Attributes:
        key: The key's description.
        now: The date, in UTC.
        hides_rotation: Whether the key_id in use can't show a rotation.
    """

    key: KeyDescription
    now: dt.datetime
    hides_rotation: bool


@frozen
class Rule:
    """One rule.

    Attributes:
        severity: Of what it finds.
        code: Of what it finds.
        what: When it finds something, for the documentation.
        remedy: What to do about it.
        find: Returns the cause, or None.
    """

    severity: Severity
    code: str
    what: str
    remedy: str
    find: Callable[[Sight], str | None]


def _size(sight: Sight) -> str | None:
    bits = sight.key.size_bits
    if bits is None or bits == SEED_BITS or sight.key.algorithm != "AES":
        return None
    return f"key {sight.key.kid} has {bits} bits, the seeds have {SEED_BITS}"


def _exportable(sight: Sight) -> str | None:
    if not sight.key.exportable:
        return None
    return f"the material of key {sight.key.kid} may be exported"


def _permissions(sight: Sight) -> str | None:
    words = sight.key.more_permissions
    if not words:
        return None
    return f"key {sight.key.kid} may also be used for {', '.join(words)}"


def _unaudited(sight: Sight) -> str | None:
    if sight.key.audited:
        return None
    return f"uses of key {sight.key.kid} are not in DSM's audit log (HIGHVOLUME)"


def _noncompliant(sight: Sight) -> str | None:
    if sight.key.compliant:
        return None
    return (
        f"key {sight.key.kid} breaks a cryptographic policy of its group or account: "
        "DSM may refuse its use at any time"
    )


def _replaced(sight: Sight) -> str | None:
    key = sight.key
    # A name that came back to a key (A, B, A) leaves both links on it.
    if key.replacement is None or key.replacement == key.replaced:
        return None
    return f"key {key.kid} was replaced by {key.replacement} and is still in use"


def _days_left(sight: Sight) -> float | None:
    at = sight.key.deactivates_at
    if at is None or sight.key.state not in (KeyState.ACTIVE, KeyState.PRE_ACTIVE):
        return None
    return (at - sight.now) / dt.timedelta(days=1)


def _deactivation_near(sight: Sight) -> str | None:
    days = _days_left(sight)
    if days is None or days > max(STAGES_DAYS):
        return None
    label, date = f"key {sight.key.kid}", _date(sight.key.deactivates_at)
    if days <= 0:
        return f"{label} was to be deactivated at {date}"
    stage = min(stage for stage in STAGES_DAYS if days <= stage)
    unit = "day" if stage == 1 else "days"
    return f"{label} will be deactivated at {date}, within {stage} {unit}"


def _deactivation_set(sight: Sight) -> str | None:
    days = _days_left(sight)
    if days is None or days <= max(STAGES_DAYS):
        return None
    date = _date(sight.key.deactivates_at)
    return f"key {sight.key.kid} will be deactivated at {date}"


def _rotation(sight: Sight) -> str | None:
    plan = sight.key.rotation
    if plan is None:
        return None
    when = "by itself, at a date that it does not tell"
    if plan.at is not None:
        when = f"at {_date(plan.at)}"
    return f"DSM will rotate key {sight.key.kid} {when}"


def _rotation_deactivates(sight: Sight) -> str | None:
    plan = sight.key.rotation
    if plan is None or not plan.deactivates_old:
        return None
    return (
        f"the scheduled rotation will deactivate key {sight.key.kid}: it then opens "
        "what is stored, but not if the account disables what is deactivated"
    )


def _rotation_hidden(sight: Sight) -> str | None:
    if sight.key.rotation is None or not sight.hides_rotation:
        return None
    return (
        f"the scheduled rotation of key {sight.key.kid} will be hidden from "
        "kube-apiserver by the Go plugin's format"
    )


def _unread(sight: Sight) -> str | None:
    if not sight.key.unread:
        return None
    fields = ", ".join(sight.key.unread)
    return f"of key {sight.key.kid} DSM gives in an unknown form: {fields}"


def _date(at: dt.datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


RULES: Final = (
    Rule(
        Severity.WARNING,
        "KEY-SIZE",
        "The key has not 256 bits, as the seeds have.",
        "use an AES key of 256 bits: make one, and rotate to it in DSM",
        _size,
    ),
    Rule(
        Severity.WARNING,
        "KEY-EXPORTABLE",
        "The key's operations include `EXPORT`: its material may leave DSM.",
        "take EXPORT off the key in DSM, or rotate to a key without it",
        _exportable,
    ),
    Rule(
        Severity.WARNING,
        "KEY-PERMISSIONS",
        "Key and app may do more than encrypt and decrypt, as far as DSM tells.",
        "leave the app ENCRYPT and DECRYPT in the key's group, and the key no more",
        _permissions,
    ),
    Rule(
        Severity.WARNING,
        "KEY-NOT-AUDITED",
        "The key's operations include `HIGHVOLUME`: DSM does not log its uses.",
        "take HIGHVOLUME off the key in DSM",
        _unaudited,
    ),
    Rule(
        Severity.WARNING,
        "KEY-NOT-COMPLIANT",
        "DSM says that the key breaks a cryptographic policy.",
        "change the policy in DSM, or rotate to a key that obeys it",
        _noncompliant,
    ),
    Rule(
        Severity.WARNING,
        "KEY-REPLACED",
        "Another key took over from the configured one, and is not used: `key_id` "
        "names one key for ever.",
        "set key_name, or the new key's UUID as key_id, on every node",
        _replaced,
    ),
    Rule(
        Severity.WARNING,
        "KEY-DEACTIVATION-NEAR",
        "The key's deactivation date is at most 30 days away; said again 7 days and "
        "1 day before.",
        "rotate the key before, and rewrite everything that is encrypted; or take the "
        "date off the key in DSM",
        _deactivation_near,
    ),
    Rule(
        Severity.NOTICE,
        "KEY-DEACTIVATION-SET",
        "The key has a deactivation date, more than 30 days away.",
        "plan a rotation before that date",
        _deactivation_set,
    ),
    Rule(
        Severity.NOTICE,
        "KEY-ROTATION-SCHEDULED",
        "The key has a rotation policy: DSM will rotate it by itself.",
        "nothing; after it, rewrite everything that is encrypted",
        _rotation,
    ),
    Rule(
        Severity.WARNING,
        "KEY-ROTATION-DEACTIVATES",
        "The rotation policy has `deactivate_rotated_key`. A deactivated key still "
        "opens what is stored, unless the account disables what it deactivates "
        "(`mark_key_disable_when_deactivated`): then nothing opens until somebody "
        "enables it.",
        "turn deactivate_rotated_key off in the key's rotation policy, and deactivate "
        "old keys once everything is rewritten",
        _rotation_deactivates,
    ),
    Rule(
        Severity.WARNING,
        "KEY-ROTATION-HIDDEN",
        "The key has a rotation policy, and `write_format` is `go-plugin`, whose "
        "key_id can't show a rotation.",
        "move to write_format native, or take the rotation policy off the key",
        _rotation_hidden,
    ),
    Rule(
        Severity.WARNING,
        "KEY-UNREAD",
        "DSM filled a field in a form that this version does not know, so that a "
        "warning may be missing.",
        "look at these fields in DSM, and report it",
        _unread,
    ),
)
"""Every rule but those of the errors."""


def finding_codes() -> tuple[str, ...]:
    """Return the code of each rule, in the order of the documentation."""
    return tuple(rule.code for rule in RULES)
