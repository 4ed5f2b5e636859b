"""What was asked of the emulator: entries and counters, never a secret.

An entry holds the path without its query, ids and the status. Bodies, headers, tokens
and keys don't get here in the first place.
"""

from collections import Counter, deque
from typing import Any

from attrs import asdict, frozen

from dsm_emulator.fault_kinds import FaultKind


KEPT_ENTRIES = 10_000


@frozen
class Entry:
    """One request that was answered, or given up by the client.

    Attributes:
        time_s: When it was answered, by the model's clock, in seconds since the epoch.
        app: The id of the app that the credential names, proved or not; None when the
            emulator doesn't know the credential.
        kid: The key that an answer was about.
        status: The HTTP status; None when no answer was sent.
        request_id: As sent in X-Request-Id.
        connection: The number of the connection, from 1.
        faults: What struck, in its order.
    """

    time_s: float
    method: str
    path: str
    app: str | None
    kid: str | None
    status: int | None
    request_id: str
    connection: int = 0
    faults: tuple[FaultKind, ...] = ()


class Journal:
    """The latest entries, and counters over all of them.

    Attributes:
        failed_logins: By app; None is: no app that the emulator knows.
        connections: How many were `accepted`, and in how many `handshakes_failed`.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT_ENTRIES)
        self._counts: Counter[tuple[str, str, str | None, str | None, int | None]] = (
            Counter()
        )
        self.failed_logins: Counter[str | None] = Counter()
        self.connections: Counter[str] = Counter()

    @property
    def entries(self) -> list[Entry]:
        """The latest entries, oldest first."""
        return list(self._entries)

    def record(self, entry: Entry) -> None:
        """Add *entry* and count it."""
        self._entries.append(entry)
        self._counts[entry.method, entry.path, entry.app, entry.kid, entry.status] += 1

    def count(
        self,
        path: str | None = None,
        *,
        method: str | None = None,
        app: str | None = None,
        kid: str | None = None,
        status: int | None = None,
    ) -> int:
        """Return how many requests there were that agree with every given argument."""
        wanted = (method, path, app, kid, status)
        return sum(
            number
            for key, number in self._counts.copy().items()
            if all(w is None or w == k for w, k in zip(wanted, key, strict=True))
        )

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._counts.clear()
        self.failed_logins.clear()
        self.connections.clear()

    def entries_json(self) -> list[dict[str, Any]]:
        """Return the entries for the control API."""
        return [asdict(entry) for entry in self.entries]

    def counters_json(self) -> dict[str, dict[str, int]]:
        """Return the counters for the control API; "-" stands for nobody and none."""
        by_path: Counter[str] = Counter()
        by_app: Counter[str] = Counter()
        by_kid: Counter[str] = Counter()
        by_status: Counter[str] = Counter()
        for (_, path, app, kid, status), number in self._counts.copy().items():
            by_path[path] += number
            by_app[app or "-"] += number
            by_kid[kid or "-"] += number
            by_status["-" if status is None else str(status)] += number
        failed = {app or "-": n for app, n in self.failed_logins.items()}
        return {
            "path": dict(by_path),
            "app": dict(by_app),
            "kid": dict(by_kid),
            "status": dict(by_status),
            "failed_logins": failed,
            "connections": dict(self.connections),
        }
