"""Where keys are found: by kid, by name, and as a node that is behind sees them.

Rotations that are due happen before anybody sees a key: at every look-up, and when
`settle` is called because the clock was moved.
"""

import abc
import math
import uuid
from collections.abc import Iterator
from enum import StrEnum

from attrs import define

from dsm_emulator import key_life
from dsm_emulator.account import Account
from dsm_emulator.clock import Clock
from dsm_emulator.errors import bad_request, name_taken, no_such_key
from dsm_emulator.key_undo import KeyUndo
from dsm_emulator.lag import Lag
from dsm_emulator.sobject import KeyState, Sobject


class RotatedNameForm(StrEnum):
    """How a rotated key's new name tells the instant."""

    BASIC_ISO = "basic-iso"
    ISO = "iso"
    EPOCH = "epoch"


@define
class KeyRules:
    """What isn't known of keys, therefore switches.

    Attributes:
        rotated_name_form: The timestamp in "(rotated at ...)" (section 4.1).
        dates_move_states: Whether a date's arrival activates and deactivates a key with
            no call (section 4.3).
    """

    rotated_name_form: RotatedNameForm = RotatedNameForm.BASIC_ISO
    dates_move_states: bool = True


class KeyIndex(abc.ABC):
    """The keys, and the ways to find one.

    A deleted key is kept for `show_deleted`, by kid alone: its name is free again.

    Attributes:
        rules: Switches.
        lag: What a node that is behind doesn't know yet; only `seen_by_kid` and
            `seen_by_name` ever ask such a node.
        undos: What can be undone.
        changes: Grows with each change.
    """

    def __init__(self, account: Account, clock: Clock) -> None:
        self.rules = KeyRules()
        self.lag = Lag()
        self.undos = KeyUndo()
        self.changes = 0
        self._account = account
        self._clock = clock
        self._by_kid: dict[str, Sobject] = {}
        self._by_name: dict[str, Sobject] = {}
        self._next_rotation_s = math.inf

    def __iter__(self) -> Iterator[Sobject]:
        self.settle()
        return iter(list(self._by_kid.values()))

    def by_kid(self, kid: str) -> Sobject:
        """Return the key of *kid*, deleted ones included.

        Raises:
            DsmError: 400 when *kid* isn't a UUID, 404 when no key has it.
        """
        key = self._by_kid.get(kid)
        if key is None:
            try:
                canonical = str(uuid.UUID(kid))
            except ValueError:
                raise bad_request("invalid kid") from None
            key = self._by_kid.get(canonical)
        if key is None:
            raise no_such_key()
        return self._settled(key)

    def by_name(self, name: str) -> Sobject:
        """Return the key that bears *name* now.

        Raises:
            DsmError: 404, no key does.
        """
        now_s = self._clock.now()
        self._rotate_due(now_s)
        key = self._by_name.get(name)
        if key is None:
            raise no_such_key()
        return self._settled(key, now_s)

    def seen_by_kid(self, kid: str, connection: int) -> Sobject:
        """Return what the node of this connection has under *kid*.

        Raises:
            DsmError: 400, 404.
        """
        if not self.lag:
            return self.by_kid(kid)
        now_s = self._clock.now()
        self._rotate_due(now_s)
        is_behind, stale = self.lag.by_kid(kid, now_s)
        if is_behind and self.lag.is_behind(connection):
            return _expect_there(stale)
        return self.by_kid(kid)

    def seen_by_name(self, name: str, connection: int) -> Sobject:
        """Return what the node of this connection has under *name*.

        Raises:
            DsmError: 404.
        """
        now_s = self._clock.now()
        self._rotate_due(now_s)
        if self.lag:
            is_behind, stale = self.lag.by_name(name, now_s)
            if is_behind and self.lag.is_behind(connection):
                return _expect_there(stale)
        return self.by_name(name)

    def settle(self) -> None:
        """Let everything happen that is due by now."""
        now_s = self._clock.now()
        self._rotate_due(now_s)
        for key in list(self._by_kid.values()):
            self._settled(key, now_s)

    def add(self, key: Sobject) -> Sobject:
        """Take in a key as it is, e.g. from a state that was saved."""
        self.changes += 1
        self._by_kid[key.kid] = key
        if key.state is not KeyState.DELETED:
            self._by_name[key.name] = key
        self._reschedule()
        return self._settled(key)

    def clear(self) -> None:
        """Forget all keys."""
        self.changes += 1
        self._by_kid.clear()
        self._by_name.clear()
        self.lag.end()
        self.undos = KeyUndo()
        self._reschedule()

    @abc.abstractmethod
    def _rotate(self, key: Sobject, due_s: float) -> None:
        """Rotate a key by its policy; its `scheduled_rotation` is *due_s*."""

    def _settled(self, key: Sobject, now_s: float | None = None) -> Sobject:
        if now_s is None:
            now_s = self._clock.now()
            if now_s >= self._next_rotation_s:
                self._rotate_due(now_s)
        if self.rules.dates_move_states:
            key_life.settle(self._account, key, now_s)
        return key

    def _rotate_due(self, now_s: float) -> None:
        while now_s >= self._next_rotation_s:
            due_s = self._next_rotation_s
            # Each rotation finds its successor's date later, so this ends.
            self._next_rotation_s = math.inf
            for key in list(self._by_kid.values()):
                if key.scheduled_rotation == due_s:
                    self._rotate(key, due_s)
            self._reschedule()

    def _reschedule(self) -> None:
        self._next_rotation_s = min(
            (
                key.scheduled_rotation
                for key in self._by_kid.values()
                if key.scheduled_rotation is not None
            ),
            default=math.inf,
        )

    def _rename(self, key: Sobject, name: str) -> None:
        self.changes += 1
        del self._by_name[key.name]
        key.name = name
        self._by_name[name] = key

    def _expect_free(self, name: str) -> None:
        if name in self._by_name:
            raise name_taken()


def _expect_there(key: Sobject | None) -> Sobject:
    if key is None:
        raise no_such_key()
    return key
