"""The count of failed API keys: a FIPS cluster resets a secret after too many.

100 failed API-key authentications of an app in 24 hours, and its secret is replaced
(reference, section 1.3): whoever retries a bad key every few seconds destroys it.
"""

from collections import deque


RESET_AFTER = 100
WINDOW_S = 24 * 3600.0


class FailedKeys:
    """The latest failures of each app, whether or not they have consequences."""

    def __init__(self) -> None:
        self._instants: dict[str, deque[float]] = {}

    def add(self, app_id: str, now_s: float) -> bool:
        """Count one more; return whether that is the one too many."""
        instants = self._instants.setdefault(app_id, deque(maxlen=RESET_AFTER))
        instants.append(now_s)
        return self.count(app_id, now_s) >= RESET_AFTER

    def count(self, app_id: str, now_s: float) -> int:
        """Return how many there were in the 24 hours before *now_s*; 100 at most."""
        return sum(now_s - then < WINDOW_S for then in self._instants.get(app_id, ()))

    def forget(self, app_id: str) -> None:
        """Start anew for an app whose secret is a new one."""
        self._instants.pop(app_id, None)
