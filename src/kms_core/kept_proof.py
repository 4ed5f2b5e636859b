"""KeptProof: which key was last proven, kept for the next process.

A daemon that starts in an outage goes on with that key (``standing``). So what is kept
must never be better than what was seen: the moment is that of the last good word of the
key service, not that of writing, and a key that two looks called unusable is forgotten.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from kms_core.errors import Meaning
from kms_core.standing import Phase, Policy, Remembered, Standing
from kms_core.store import StateStore, StoredProof


if TYPE_CHECKING:
    from kms_core.key_id import AnnouncedKey
    from kms_core.ports import Clock


CLOCK_SLACK_S: Final = 300.0
"""How far in the future a kept proof may lie, in seconds, and still be believed."""


class KeptProof:
    """Reads the proof of an earlier process, and keeps ours.

    Args:
        store: Where it is kept.
        clock: Time.
        interval_s: Seconds between two writes for the same key.

    Attributes:
        first_kid: The kid of the proof that was found, even if it is too old to use.
    """

    def __init__(self, store: StateStore, clock: Clock, interval_s: float) -> None:
        self._store = store
        self._clock = clock
        self._interval_s = interval_s
        self._holds_one = False
        self._kept: tuple[AnnouncedKey, float] | None = None
        self.first_kid: str | None = None

    async def recall(self) -> Remembered | None:
        """Return the key that an earlier process had proven."""
        stored = await self._store.load_proof()
        if stored is None:
            return None
        self._holds_one = True
        self.first_kid = stored.key.kid
        age_s = (self._clock.now() - stored.well_at).total_seconds()
        # Written in what is now the future: one of the two clocks is wrong.
        if age_s < -CLOCK_SLACK_S:
            return None
        return Remembered(stored.key, self._clock.monotonic() - max(age_s, 0.0))

    async def update(self, standing: Standing, policy: Policy) -> None:
        """Keep what *standing* says: at each announcement, and now and then."""
        if _is_denied(standing, policy):
            await self._forget()
            return
        key, well_at = standing.announced, standing.well_at
        if standing.phase is not Phase.READY or key is None or well_at is None:
            return
        if self._kept is not None:
            kept_key, kept_at = self._kept
            if key == kept_key and well_at - kept_at < self._interval_s:
                return
        self._kept = (key, well_at)
        self._holds_one = True
        # READY may be in trouble that does not count yet.
        ago = dt.timedelta(seconds=self._clock.monotonic() - well_at)
        await self._store.save_proof(StoredProof(key, self._clock.now() - ago))

    async def _forget(self) -> None:
        if self._holds_one:
            self._holds_one = False
            self._kept = None
            await self._store.forget_proof()


def _is_denied(standing: Standing, policy: Policy) -> bool:
    """Return whether two looks called the announced, or the kept, key unusable."""
    if standing.announced is not None or standing.remembered is not None:
        return standing.phase is Phase.DENIED
    trouble = standing.trouble
    return (
        trouble is not None
        and trouble.error.meaning is Meaning.DENIED
        and trouble.seen >= policy.agreeing_looks
    )
