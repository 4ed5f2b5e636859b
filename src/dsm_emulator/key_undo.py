"""The undo of what happened to a key: states, deletion, removed operations.

DSM's Key Undo is a policy with a window of 7 to 180 days (section 4.3). What exactly it
brings back is assumed: all that `_UNDONE` lists.
"""

import uuid
from collections import deque
from typing import Any

import attrs

from dsm_emulator.clock import basic_iso
from dsm_emulator.sobject import Sobject


_KEPT = 16
_UNDONE = (
    "state",
    "enabled",
    "material",
    "key_ops",
    "activation_date",
    "deactivation_date",
    "compromise_date",
    "destruction_date",
    "deletion_date",
    "revocation_reason",
)


@attrs.frozen
class Change:
    """How a key was before a change.

    Attributes:
        made_s: When the change was made.
        before: A copy of the key, material included.
        change_id: The id of the history item.
    """

    made_s: float
    before: Sobject
    change_id: str = attrs.field(factory=lambda: str(uuid.uuid4()))

    def as_json(self, *, expires_s: float) -> dict[str, Any]:
        """Return the history item as DSM shows it."""
        return {
            "id": self.change_id,
            "created_at": basic_iso(self.made_s),
            "expiry": basic_iso(expires_s),
            "state": {
                "state": self.before.state.value,
                "key_ops": list(self.before.key_ops),
            },
        }


class KeyUndo:
    """The latest changes of each key."""

    def __init__(self) -> None:
        self._changes: dict[str, deque[Change]] = {}

    def remember(self, key: Sobject, now_s: float) -> None:
        """Remember *key* as it is before a change."""
        changes = self._changes.setdefault(key.kid, deque(maxlen=_KEPT))
        changes.append(Change(now_s, attrs.evolve(key)))

    def changes(self, kid: str, since_s: float) -> list[Change]:
        """Return the changes of a key from *since_s* on, oldest first."""
        return [
            change for change in self._changes.get(kid, ()) if change.made_s >= since_s
        ]

    def undo(self, key: Sobject, change: Change) -> None:
        """Make *key* what it was before *change*; later changes are undone with it."""
        for field in _UNDONE:
            setattr(key, field, getattr(change.before, field))
        changes = self._changes[key.kid]
        while changes and changes.pop() is not change:
            pass
