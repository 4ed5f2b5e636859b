"""Keeping the state of a model in a file, and taking it up again.

The file holds the material of the keys and the secrets of the apps, in clear: mode
0600, in a folder that is open to nobody else. It is replaced as a whole, so that a
crash leaves the old one or the new one.
"""

import json
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from dsm_emulator.all_switches import NETWORK_SWITCHES
from dsm_emulator.dsm import Dsm
from dsm_emulator.folder import is_private, write_private
from dsm_emulator.snapshot import export_state, import_state


STATE = "state.json"
_FORMAT = 1


class StateDamaged(Exception):
    """The file can't be taken up; the message is a line for a person."""


@frozen
class Seeded:
    """What `serve` made, and tells of in emulator.json.

    Attributes:
        key_name: The name of the key.
    """

    app_id: str
    admin_app_id: str
    group_id: str
    key_name: str


class Keeper:
    """Writes the state of one model into one file."""

    def __init__(self, dsm: Dsm, path: Path, seeded: Seeded) -> None:
        """Keep *dsm* in *path* from now on; nothing is written yet."""
        self._dsm = dsm
        self._path = path
        self._seeded = seeded
        self._revision: int | None = None

    def keep_changes(self) -> None:
        """Write the state if it has changed; under the model's lock.

        The use of sessions is no change.
        """
        if self._dsm.revision != self._revision:
            self.save()

    def save(self) -> Path:
        """Write the state, sessions included, and return where.

        Raises:
            OSError: It can't be written.
        """
        with self._dsm.lock:
            revision = self._dsm.revision
            network = {
                name: switch.read(self._dsm)
                for name, switch in NETWORK_SWITCHES.items()
            }
            state = {
                "format": _FORMAT,
                "seeded": asdict(self._seeded),
                "clock_moved_s": self._dsm.clock.moved_s,
                "network": network,
                "model": export_state(self._dsm, sessions=True),
            }
            write_private(self._path, json.dumps(state), durable=True)
            self._revision = revision
        return self._path


def take_up(path: Path, dsm: Dsm, *, sessions: bool) -> Seeded | None:
    """Make *dsm* what *path* says, if it is there.

    Args:
        path: The file.
        dsm: A new model.
        sessions: Whether the sessions go on.

    Returns:
        What was seeded in it, or None without a file.

    Raises:
        StateDamaged: It isn't a state, or others can read it.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as failed:
        raise StateDamaged(f"can't read {path} ({type(failed).__name__})") from None
    if not is_private(path):
        raise StateDamaged(f"{path} is open to others; chmod 0600 it first")
    try:
        return _put(json.loads(text), dsm, sessions=sessions)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as wrong:
        # Its text may hold a part of the state, and thus a secret.
        kind = type(wrong).__name__
        raise StateDamaged(f"{path} is damaged ({kind}); move it away") from None


def _put(state: dict[str, Any], dsm: Dsm, *, sessions: bool) -> Seeded:
    if state["format"] != _FORMAT:
        raise ValueError("another format")
    seeded = Seeded(**state["seeded"])
    network = [(NETWORK_SWITCHES[n], value) for n, value in state["network"].items()]
    moved_s = float(state["clock_moved_s"])
    model = dict(state["model"])
    if not sessions:
        model.pop("sessions", None)
    # First, so that what is due by that clock is done.
    dsm.clock.advance(moved_s)
    import_state(dsm, model)
    for switch, value in network:
        switch.write(dsm, value)
    for app_id in (seeded.app_id, seeded.admin_app_id):
        if app_id not in dsm.logins.apps:
            raise ValueError("a seeded app is missing")
    return seeded
