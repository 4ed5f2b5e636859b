"""Says where the daemon stands, and what its operator should know of the key.

- A change of phase, key or error is said at once; while the key is not READY, only by
  the round that found it, which knows when the next look is.
- What is not well is said again every ``reminder_s``.
- A concern is said although the key is well: the configured name leads elsewhere, or
  the Go plugin's format hides a rotation.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING

from kms_core.errors import RotationHidden
from kms_core.events import StandingReported, Unexpected, describe_exception
from kms_core.key_findings import ReportedFindings
from kms_core.key_id import is_legacy
from kms_core.standing import Phase, meaning_of


if TYPE_CHECKING:
    from kms_core.errors import KmsError
    from kms_core.key_id import AnnouncedKey
    from kms_core.ports import Clock, Event, Telemetry
    from kms_core.provider import KeyDescription
    from kms_core.standing import Policy, Standing


class StandingReports:
    """Remembers what was said, so that nothing is said twice without need.

    Args:
        clock: Dates the end of coasting, and spaces the reminders.
        telemetry: Takes the events.
        policy: Says how long coasting lasts.
        reminder_s: Seconds between reports of what is not well.

    Attributes:
        first_kid: The first key that was announced, by an earlier process if one is
            remembered; None before there is one.
    """

    def __init__(
        self, clock: Clock, telemetry: Telemetry, policy: Policy, reminder_s: float
    ) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._policy = policy
        self._reminder_s = reminder_s
        self._said: tuple[Phase, AnnouncedKey | None, str] | None = None
        self._said_at = 0.0
        self._hidden: RotationHidden | None = None
        self._findings = ReportedFindings(self.emit)
        self.first_kid: str | None = None

    def tell(
        self, standing: Standing, stray: KmsError | None, *, next_look_s: float | None
    ) -> None:
        """Report *standing*, if it is new or a reminder is due.

        Args:
            standing: The current one.
            stray: Why the configured name leads to no key that can take over.
            next_look_s: Seconds until the next look; None when it is not known yet.
        """
        trouble = standing.trouble
        error = self._concern(standing, stray) if trouble is None else trouble.error
        key = standing.announced
        now = self._clock.monotonic()
        said = (standing.phase, key, "" if error is None else error.code)
        due = standing.phase is not Phase.READY or error is not None
        reminder = due and now - self._said_at >= self._reminder_s
        if said == self._said and not reminder:
            return
        if next_look_s is None and standing.phase is not Phase.READY:
            # The round that found this ends with a report that knows the next look.
            return
        self._said = said
        self._said_at = now
        self.emit(
            StandingReported(
                state=standing.phase.value,
                key_id="" if key is None else key.key_id,
                kid="" if key is None else key.kid,
                code="" if error is None else error.code,
                cause="" if error is None else error.cause,
                remedy="" if error is None else error.hint,
                meaning="" if error is None else meaning_of(error).value,
                next_look_s=next_look_s,
                status_fails_at=self._status_fails_at(standing, now),
            )
        )

    def tell_findings(
        self, description: KeyDescription, key_id: str, announced: AnnouncedKey | None
    ) -> None:
        """Say what is new of the described key, unless another one is announced."""
        if announced is not None and announced.kid != description.kid:
            # Not announced yet; key services that lag show two keys in turns.
            return
        try:
            self._findings.update(
                description, self._clock.now(), hides_rotation=is_legacy(key_id)
            )
        except Exception as error:  # noqa: BLE001 - words must not cost a look
            self.emit(Unexpected(where="findings", what=describe_exception(error)))

    def emit(self, event: Event) -> None:
        """Pass *event* on; a defect of telemetry ends neither watcher nor Status."""
        with contextlib.suppress(Exception):
            self._telemetry.emit(event)

    def _concern(self, standing: Standing, stray: KmsError | None) -> KmsError | None:
        """Return what an operator should know although the key is well."""
        if stray is not None:
            return stray
        key = standing.announced
        if key is None:
            return None
        if self.first_kid is None:
            self.first_kid = key.kid
        if key.kid != self.first_kid and is_legacy(key.key_id):
            # It stays, even if the first key comes back: seeds are sealed under both.
            self._hidden = RotationHidden(
                f"the key changed from {self.first_kid} to {key.kid}, and the Go "
                "plugin's key_id can't tell kube-apiserver"
            )
        return self._hidden

    def _status_fails_at(self, standing: Standing, now: float) -> dt.datetime | None:
        ends = standing.coasts_until(self._policy)
        if standing.phase is not Phase.COASTING or ends is None:
            return None
        return self._clock.now() + dt.timedelta(seconds=ends - now)
