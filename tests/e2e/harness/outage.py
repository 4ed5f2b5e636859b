"""An outage of DSM that several clusters go through at the same time."""

from __future__ import annotations

import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import attrs
from tests.e2e.harness.program import eventually


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.e2e.harness.kube import KubeApiServer
    from tests.e2e.harness.plugin import Daemon
    from tests.e2e.harness.relay import Relay

NAMESPACE = "outage"
BEFORE = "before"
PAUSE_S = 0.5
ENOUGH = 10


@attrs.frozen(kw_only=True)
class Turn:
    """What a user met at one time; an empty text is success.

    Attributes:
        at_s: When the turn began, on this process's monotonic clock.
        name: The Secret that was to be written.
        write: Why it was not.
        read: Why the Secret from before the outage could not be read.
        readyz: What /readyz said in place of ok.
    """

    at_s: float
    name: str
    write: str
    read: str
    readyz: str

    def is_well(self) -> bool:
        """Tell whether all of it succeeded."""
        return not (self.write or self.read or self.readyz)


class User:
    """Writes a Secret, reads it and an old one, asks for /readyz, again and again."""

    def __init__(self, kube: KubeApiServer) -> None:
        self.turns: list[Turn] = []
        self._kube = kube
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def start(self) -> None:
        """Write the old Secret, and begin."""
        self._kube.create_namespace(NAMESPACE)
        self._kube.create_secret(NAMESPACE, BEFORE, BEFORE)
        self._thread.start()

    def stop(self) -> None:
        """End; idempotent."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def refused(self) -> int:
        """Return how many writes failed."""
        return sum(bool(turn.write) for turn in self.turns)

    def written(self) -> dict[str, str]:
        """Return all Secrets that were written, as a LIST shows them."""
        names = [turn.name for turn in self.turns if not turn.write]
        return {name: name for name in [BEFORE, *names]}

    def _go_on(self) -> None:
        while not self._stopped.wait(PAUSE_S):
            name = f"secret-{len(self.turns):04}"
            turn = Turn(
                at_s=time.monotonic(),
                name=name,
                write=_problem(partial(self._write, name)),
                read=_problem(partial(self._read, BEFORE)),
                readyz=_problem(self._ready),
            )
            self.turns.append(turn)

    def _write(self, name: str) -> None:
        self._kube.create_secret(NAMESPACE, name, name)
        self._read(name)

    def _read(self, name: str) -> None:
        assert self._kube.secret(NAMESPACE, name) == name

    def _ready(self) -> None:
        code, text = self._kube.health("/readyz")
        assert (code, text) == (200, "ok"), text


@attrs.frozen
class Party:
    """A cluster that goes through the outage, and what its user sees."""

    name: str
    daemon: Daemon
    kube: KubeApiServer
    user: User
    fails: bool = False
    restarted_within: bool = False

    def close(self) -> None:
        """Stop all three."""
        self.user.stop()
        self.kube.kill()
        self.daemon.close()


class Outage:
    """One outage, in a thread, long enough for the slowest of its parties.

    Attributes:
        began_s: When DSM went away, on this process's monotonic clock.
        ended_s: When it came back.
        healed_s: When the last party was well again.
        states: What the daemon of each party logged, since it was last started.
    """

    def __init__(
        self, way_to_dsm: Relay, parties: Iterable[Party], *, least_s: float
    ) -> None:
        self.parties = {party.name: party for party in parties}
        self.began_s = self.ended_s = self.healed_s = 0.0
        self.states: dict[str, list[str]] = {}
        self._way_to_dsm = way_to_dsm
        self._least_s = least_s
        self._error: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._happen_and_tell, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def await_end(self) -> None:
        """Wait until it is over and all parties are well again, or failed to be."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def turns(self, party: str) -> list[Turn]:
        """Return what the user of a party met from its beginning to its end."""
        turns = self.parties[party].user.turns
        return [turn for turn in turns if self.began_s <= turn.at_s < self.ended_s]

    def close(self) -> None:
        """Stop it, wherever it is, and all parties; idempotent."""
        self._stopped.set()
        self._thread.join()
        self._way_to_dsm.close()
        for party in self.parties.values():
            party.close()

    def _happen_and_tell(self) -> None:
        try:
            self._happen()
        except Exception as error:  # noqa: BLE001 # the test raises it
            self._error = error
            for party in self.parties.values():
                party.user.stop()

    def _happen(self) -> None:
        parties = self.parties.values()
        self._way_to_dsm.close()
        self.began_s = time.monotonic()
        for party in parties:
            # They would look within 30 s by themselves.
            party.daemon.signal(signal.SIGHUP)
        self._await(self._was_noticed, within_s=150, what="all have noticed")
        for party in parties:
            if party.restarted_within:
                self._restart(party)
        self._await(self._has_lasted, within_s=360, what="it has lasted")
        self._way_to_dsm.open()
        self.ended_s = time.monotonic()
        self._await(self._have_healed, within_s=120, what="all are well again")
        self.healed_s = time.monotonic()
        for party in parties:
            party.user.stop()
            self.states[party.name] = party.daemon.states()

    def _was_noticed(self) -> bool:
        for party in self.parties.values():
            assert party.daemon.states()[-1:] in (["coasting"], ["degraded"]), (
                party.name
            )
        return True

    def _restart(self, party: Party) -> None:
        # kube-apiserver asks for Status every 20 s, and a restart takes a second or
        # two. One that it falls into may fail, for 3 s: that is of no interest here.
        calls = party.kube.status_calls()
        self._await(
            lambda: party.kube.status_calls() > calls,
            within_s=30,
            what=f"{party.name} was asked for its status",
        )
        party.daemon.restart()

    def _has_lasted(self) -> bool:
        failing = [party.user for party in self.parties.values() if party.fails]
        assert all(user.refused() >= ENOUGH for user in failing), "writes go on"
        return time.monotonic() - self.began_s >= self._least_s

    def _have_healed(self) -> bool:
        for party in self.parties.values():
            assert party.daemon.states()[-1:] == ["ready"], party.name
            last = party.user.turns[-1]
            assert last.at_s > self.ended_s, party.name
            assert last.is_well(), (party.name, last)
        return True

    def _await(self, look: Callable[[], bool], *, within_s: float, what: str) -> None:
        eventually(
            lambda: self._stopped.is_set() or look(),
            within_s=within_s,
            what=what,
            every_s=0.5,
        )


def _problem(act: Callable[[], None]) -> str:
    try:
        act()
    except Exception as error:  # noqa: BLE001 # each is a finding
        return repr(error)
    return ""
