"""Nodes that lag behind: for a while after a change some still answer by the old state.

A cluster's reads may lag: about a second after a deletion has been seen (section 4.4).
Here there are two nodes, one current, one behind, and `Lag.seconds` says for how long
the second one doesn't know of a rekey, rename, replace or delete. Which node a request
meets alternates, by request or by connection.

Changes always go to the truth; only look-ups, encrypt and decrypt meet the stale node.
"""

from enum import StrEnum

import attrs

from dsm_emulator.sobject import Sobject


class LagPer(StrEnum):
    """What the nodes take turns by."""

    REQUEST = "request"
    CONNECTION = "connection"


class LagScope(StrEnum):
    """What the node that is behind doesn't know of.

    `names`: the mapping of names to keys, and deletions. `all`: also the states, and
    that new kids exist.
    """

    NAMES = "names"
    ALL = "all"


@attrs.frozen
class _Stale:
    """What the node that is behind has under a name or kid: a copy, or nothing."""

    key: Sobject | None
    until_s: float


class Lag:
    """What the node that is behind believes; true while it believes anything.

    Attributes:
        seconds: For how long a change is not known there; 0 is: no lag.
        per: Per request, the first that matters meets the old state, the next the new
            one, and so on; per connection, those of odd number meet the old state.
        scope: See `LagScope`.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.per = LagPer.REQUEST
        self.scope = LagScope.NAMES
        self._names: dict[str, _Stale] = {}
        self._kids: dict[str, _Stale] = {}
        self._turn = 0

    def __bool__(self) -> bool:
        return bool(self._names or self._kids)

    def is_behind(self, connection: int) -> bool:
        """Return whether the next look-up of this connection meets the old state."""
        if self.per is LagPer.CONNECTION:
            return connection % 2 == 1
        self._turn += 1
        return self._turn % 2 == 1

    def by_name(self, name: str, now_s: float) -> tuple[bool, Sobject | None]:
        """Return whether *name* is behind, and what it leads to there."""
        return _look_up(self._names, name, now_s)

    def by_kid(self, kid: str, now_s: float) -> tuple[bool, Sobject | None]:
        """Return whether *kid* is behind, and what it leads to there."""
        return _look_up(self._kids, kid, now_s)

    def mapping_changes(
        self, now_s: float, *keys: Sobject, new_names: tuple[str, ...] = ()
    ) -> None:
        """Remember the names of *keys* as they are, and that *new_names* are unknown.

        Call it before the change.
        """
        if self.seconds <= 0:
            return
        until_s = now_s + self.seconds
        for name in new_names:
            self._names[name] = _Stale(None, until_s)
        for key in keys:
            self._names[key.name] = _Stale(attrs.evolve(key), until_s)
        self.state_changes(now_s, *keys)

    def state_changes(self, now_s: float, *keys: Sobject) -> None:
        """Remember *keys* as they are, if the scope is all; before the change."""
        if self.seconds > 0 and self.scope is LagScope.ALL:
            for key in keys:
                self._kids[key.kid] = _Stale(attrs.evolve(key), now_s + self.seconds)

    def key_goes(self, now_s: float, key: Sobject) -> None:
        """Remember a key, by both name and kid, that is about to be deleted."""
        if self.seconds > 0:
            stale = _Stale(attrs.evolve(key), now_s + self.seconds)
            self._names[key.name] = stale
            self._kids[key.kid] = stale

    def key_comes(self, now_s: float, kid: str) -> None:
        """Remember that a new kid isn't known yet, if the scope is all."""
        if self.seconds > 0 and self.scope is LagScope.ALL:
            self._kids[kid] = _Stale(None, now_s + self.seconds)

    def end(self) -> None:
        """Let both nodes agree at once."""
        self._names.clear()
        self._kids.clear()


def _look_up(
    stale: dict[str, _Stale], what: str, now_s: float
) -> tuple[bool, Sobject | None]:
    found = stale.get(what)
    if found is None:
        return False, None
    if now_s >= found.until_s:
        del stale[what]
        return False, None
    return True, found.key
