"""From DSM's security object, as keys/info shows it, to the core's KeyDescription.

What decides about the key's use (kid, type, state, enabled, operations, links) must be
as the API describes it, or the whole answer is refused. The rest only leads to
warnings: what is odd there is left out and named, since a date in a new form must not
take a key out of service.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from typing import Any, Final

from attrs import define, field, frozen

from adapters_dsm.settings import MAX_NAME_CHARS, as_kid
from kms_core.errors import ProviderAnswerRefused
from kms_core.provider import KeyDescription, KeyState, RotationPlan


MAX_PERMISSIONS: Final = 16
"""How many operations beside the two that are needed are told of."""

_NEEDED = frozenset({"ENCRYPT", "DECRYPT"})
_EXPORT = "EXPORT"
_HIGH_VOLUME = "HIGHVOLUME"
_ALGORITHM = re.compile(r"[A-Z0-9]{1,16}")
_OPERATION = re.compile(r"[A-Z]{1,32}")
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")


@frozen
class EffectivePolicy:
    """Of ``effective_key_policy``: the operations that this app may perform."""

    key_ops: tuple[str, ...] | None = None


@frozen
class Links:
    """Of ``links``: the older and the newer key of a rotation."""

    replaced: str | None = None
    replacement: str | None = None


@frozen
class Sobject:
    """Those fields of a security object that we read (dsm-api.md, 2.2)."""

    kid: str
    obj_type: str
    enabled: bool
    key_ops: tuple[str, ...]
    name: str | None = None
    state: str | None = None
    key_size: int | None = None
    effective_key_policy: EffectivePolicy | None = None
    links: Links | None = None
    compliant_with_policies: Any = None
    deactivation_date: Any = None
    scheduled_rotation: Any = None
    rotation_policy: Any = None


def describe(key: Sobject, where: str) -> KeyDescription:
    """Return the description of *key*.

    Raises:
        ProviderAnswerRefused: Its id or state makes no sense.
    """
    links = key.links or Links()
    allowed = set(key.key_ops)
    if key.effective_key_policy and key.effective_key_policy.key_ops is not None:
        allowed &= set(key.effective_key_policy.key_ops)
    more = sorted(allowed - _NEEDED - {_EXPORT, _HIGH_VOLUME})
    shown = tuple(word for word in more if _OPERATION.fullmatch(word))
    odd = _Reader()
    if len(shown) < len(more):
        odd.unread.append("key_ops")
    return KeyDescription(
        kid=_kid(key.kid, where),
        name=_shown(key.name),
        state=_state(key.state, where),
        enabled=key.enabled,
        algorithm=(key.obj_type if _ALGORITHM.fullmatch(key.obj_type) else "unknown"),
        size_bits=key.key_size,
        can_encrypt="ENCRYPT" in allowed,
        can_decrypt="DECRYPT" in allowed,
        replaced=None if links.replaced is None else _kid(links.replaced, where),
        replacement=(
            None if links.replacement is None else _kid(links.replacement, where)
        ),
        more_permissions=shown[:MAX_PERMISSIONS],
        exportable=_EXPORT in key.key_ops,
        audited=_HIGH_VOLUME not in key.key_ops,
        compliant=odd.flag("compliant_with_policies", key.compliant_with_policies)
        is not False,
        deactivates_at=odd.date("deactivation_date", key.deactivation_date),
        rotation=_rotation(key, odd),
        unread=tuple(odd.unread),
    )


@define
class _Reader:
    """Reads what is optional, and notes the name of what it can't read."""

    unread: list[str] = field(factory=list)

    def date(self, name: str, value: object) -> dt.datetime | None:
        """Return a date in DSM's form, which is ISO 8601's basic one, in UTC."""
        if value is None:
            return None
        if type(value) is str and _DATE.fullmatch(value):
            with contextlib.suppress(ValueError):
                return dt.datetime.strptime(value, "%Y%m%dT%H%M%S%z")
        self.unread.append(name)
        return None

    def flag(self, name: str, value: object) -> bool | None:
        """Return a boolean."""
        if value is None or type(value) is bool:
            return value
        self.unread.append(name)
        return None


def _rotation(key: Sobject, reader: _Reader) -> RotationPlan | None:
    at = reader.date("scheduled_rotation", key.scheduled_rotation)
    policy = key.rotation_policy
    if policy is None:
        return None if at is None else RotationPlan(at=at)
    if type(policy) is not dict:
        reader.unread.append("rotation_policy")
        return RotationPlan(at=at)
    deactivates = reader.flag(
        "deactivate_rotated_key", policy.get("deactivate_rotated_key")
    )
    intervals = [policy.get("interval_days"), policy.get("interval_months")]
    if at is None and all(interval is None for interval in intervals):
        return None
    return RotationPlan(at=at, deactivates_old=bool(deactivates))


def _kid(text: str, where: str) -> str:
    kid = as_kid(text)
    if kid is None:
        raise ProviderAnswerRefused(f"{where}: a key id in the answer is not a UUID")
    return kid


def _shown(name: str | None) -> str | None:
    """A name that a log can't show is dropped: nothing depends on it."""
    if name is None or not name.isprintable() or len(name) > MAX_NAME_CHARS:
        return None
    return name


def _state(text: str | None, where: str) -> KeyState:
    # Absent for some objects; DSM's Python client also knows the word "None".
    if text is None or text == "None":
        return KeyState.ACTIVE
    try:
        return KeyState(text)
    except ValueError:
        raise ProviderAnswerRefused(
            f"{where}: the key is in a state that this version does not know"
        ) from None
