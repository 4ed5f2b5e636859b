"""Scheduled rotation: a key's policy, and when it is due (section 4.2).

The server rotates by itself; a client learns of it by looking. That the first rotation
of a policy without `effective_at` comes one interval after the policy is set, and that
the policy moves on to the new key, is assumed.
"""

import calendar
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from dsm_emulator.clock import basic_iso, parse_basic_iso
from dsm_emulator.errors import bad_request
from dsm_emulator.wire import optional_bool, optional_int, optional_str


_DAY_S = 86_400.0
_MONTHS = 12


@frozen
class RotationPolicy:
    """How often a key is rotated, and what happens to the old one.

    Attributes:
        interval_days: In days; or else
        interval_months: in months of the calendar.
        effective_at: The instant of the first rotation.
        deactivate_rotated_key: Whether each rotation deactivates the old key.
    """

    interval_days: int | None = None
    interval_months: int | None = None
    effective_at: float | None = None
    deactivate_rotated_key: bool = False

    def __attrs_post_init__(self) -> None:
        """Check the interval.

        Raises:
            DsmError: 400, not exactly one positive interval.
        """
        given = [
            interval
            for interval in (self.interval_days, self.interval_months)
            if interval is not None
        ]
        if len(given) != 1 or given[0] < 1:
            raise bad_request("a rotation policy has exactly one positive interval")

    @classmethod
    def from_json(cls, value: object) -> "RotationPolicy":
        """Read DSM's form.

        Raises:
            DsmError: 400, not of that form.
        """
        if not isinstance(value, dict):
            raise bad_request("invalid type for field `rotation_policy`")
        effective_at = optional_str(value, "effective_at")
        try:
            starts_s = None if effective_at is None else parse_basic_iso(effective_at)
        except ValueError:
            raise bad_request("invalid date in field `effective_at`") from None
        return cls(
            interval_days=optional_int(value, "interval_days"),
            interval_months=optional_int(value, "interval_months"),
            effective_at=starts_s,
            deactivate_rotated_key=bool(optional_bool(value, "deactivate_rotated_key")),
        )

    def as_json(self) -> dict[str, Any]:
        """Return DSM's form."""
        shown: dict[str, Any] = {"deactivate_rotated_key": self.deactivate_rotated_key}
        if self.interval_days is not None:
            shown["interval_days"] = self.interval_days
        if self.interval_months is not None:
            shown["interval_months"] = self.interval_months
        if self.effective_at is not None:
            shown["effective_at"] = basic_iso(self.effective_at)
        return shown

    def first_after(self, now_s: float) -> float:
        """Return when a key that gets this policy at *now_s* is rotated first."""
        if self.effective_at is None:
            return self.next_after(now_s)
        due_s = self.effective_at
        while due_s <= now_s:
            due_s = self.next_after(due_s)
        return due_s

    def next_after(self, due_s: float) -> float:
        """Return when the rotation after the one at *due_s* is due."""
        if self.interval_days is not None:
            return due_s + self.interval_days * _DAY_S
        then = datetime.fromtimestamp(due_s, UTC)
        months = then.year * _MONTHS + then.month - 1 + (self.interval_months or 0)
        year, month = divmod(months, _MONTHS)
        # The 31st of a shorter month is its last day.
        day = min(then.day, calendar.monthrange(year, month + 1)[1])
        return then.replace(year=year, month=month + 1, day=day).timestamp()
