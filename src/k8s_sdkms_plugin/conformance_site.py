"""What the conformance kit moves: our daemon and a peer on a DSM emulator.

Each is a process. Every hook of the kit is a method here, and whatever was started ends
with the site, however the run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import secrets
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final, Self

from dsm_emulator.ctl import Call, ControlError, EmulatorProcess
from dsm_emulator.folder import API_KEY
from k8s_sdkms_plugin.own_processes import (
    NotStarted,
    emulator,
    end,
    last_words,
    start_daemon,
    write_config,
)
from kms_conformance.target import Endpoint, Hook, Pulled, Target


if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from k8s_sdkms_plugin.config.model import Protection
    from kms_conformance.target import Pull


KEY_NAME: Final = "kubernetes"

START_S: Final = 30.0
"""How long a daemon may take until it listens, on a busy machine."""

ROTATION_S: Final = 120.0
"""For a rotation or an outage to show in Status; an outage counts after a minute."""

_POLL_S: Final = 0.02
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: unix(7)


class BreakBy(enum.Enum):
    """How the emulator fails for ``--break``."""

    REFUSING = "refusing"
    """It answers 403: what the daemon believes after two looks, within seconds."""

    FAILING = "failing"
    """It answers 503: an outage, which counts after a minute (failure-modes.md)."""

    HANGING = "hanging"
    """It answers nothing, which is an outage likewise."""


_FAULTS: Final[dict[BreakBy, dict[str, Any]]] = {
    BreakBy.REFUSING: {"name": "status", "status": 403, "path": "/crypto/*"},
    BreakBy.FAILING: {"name": "status", "status": 503},
    BreakBy.HANGING: {"name": "hang"},
}


class Daemon:
    """One daemon: it is started, stopped and killed, and may refuse a second start.

    Args:
        folder: Where its files go; short, for the socket's path.
        name: What its files are called.
        settings: Its config, but for the socket.
    """

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]) -> None:
        self.socket = folder / f"{name}.sock"
        self.log = folder / f"{name}.log"
        self._config = folder / f"{name}.json"
        self._process: subprocess.Popen[bytes] | None = None
        write_config(self._config, settings | {"socket_file": str(self.socket)})

    @property
    def pid(self) -> int:
        """The id of the process that was started last.

        Raises:
            ProcessLookupError: There is none.
        """
        if self._process is None:
            raise ProcessLookupError("the daemon does not run")
        return self._process.pid

    def start(self) -> Pulled:
        """Start it, and return when it listens, or when it has refused to."""
        process = start_daemon(self._config, self.log)
        try:
            code = self._refusal(process)
        except BaseException:  # a signal has ended the run: nobody knows it but this
            end(process)
            raise
        if code is not None:
            return Pulled(code or -1, f"it ended: {last_words(self.log)}")
        # A second instance that took the path over leaves the first to be ended.
        if self._process is not None:
            end(self._process)
        self._process = process
        return Pulled(0)

    def stop(self) -> Pulled:
        """Send SIGTERM, and return when it has ended, with its exit code."""
        process, self._process = self._process, None
        return Pulled(0 if process is None else end(process))

    def kill(self) -> Pulled:
        """Send SIGKILL, and return when it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        return Pulled(0)

    def _refusal(self, process: subprocess.Popen[bytes]) -> int | None:
        """Wait until *process* listens, or return the code with which it has ended."""
        deadline = time.monotonic() + START_S
        while _listener(self.socket) != process.pid:
            code = process.poll()
            if code is None and time.monotonic() > deadline:
                code = end(process)
            if code is not None:
                return code
            time.sleep(_POLL_S)
        return None

    def look(self) -> None:
        """Make it look at its key now, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)


class Site:
    """A DSM emulator, a daemon, and its peer.

    Args:
        folder: Where all files go; short, private.
        protection: How the daemons protect seeds.
        break_by: How the emulator fails.
    """

    def __init__(
        self,
        folder: Path,
        protection: Protection,
        break_by: BreakBy = BreakBy.REFUSING,
    ) -> None:
        self._folder = folder
        self._protection = protection
        self._break_by = break_by
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            NotStarted: A process did not start.
        """
        with contextlib.ExitStack() as stack:
            dsm = self._folder / "dsm"
            dsm.mkdir(mode=0o700)
            described = stack.enter_context(emulator(dsm, KEY_NAME))
            self._emulator = EmulatorProcess(dsm)
            self._dsm_folder, self._url = dsm, str(described["url"])
            self.plugin, self.peer = (
                Daemon(self._folder, name, self._settings()) for name in ("kms", "peer")
            )
            for daemon in (self.plugin, self.peer):
                stack.callback(daemon.stop)
                started = daemon.start()
                if started.exit_code != 0:
                    raise NotStarted(f"a daemon did not start: {started.output}")
            self._ending = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.close()

    @property
    def target(self) -> Target:
        """The daemon with all hooks."""
        return Target(
            Endpoint(str(self.plugin.socket)),
            peer=Endpoint(str(self.peer.socket)),
            pulls={
                Hook.ROTATE: _pull(self._rotate),
                Hook.BACK: _pull(self._back),
                Hook.STOP: _pull(self.plugin.stop),
                Hook.START: _pull(self.plugin.start),
                Hook.KILL: _pull(self.plugin.kill),
                Hook.BREAK: _pull(self._break),
                Hook.HEAL: _pull(self._heal),
                Hook.KMS_CALLS: _pull(self._kms_calls),
            },
            pid=lambda: self.plugin.pid,
            corpus=self._folder / "corpus.jsonl",
            rotation_s=ROTATION_S,
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "sdkms_endpoint": self._url,
            "api_key": (self._dsm_folder / API_KEY).read_text().strip(),
            "key_name": KEY_NAME,
            "ca_file": str(self._dsm_folder / "ca.pem"),
            "write_format": "native",
            "protection": self._protection.value,
            # By default the daemon coasts through an outage, and Status stays ok for a
            # day (docs/failure-modes.md); what it says when it does not is the kit's.
            "on_outage": "fail",
            "on_refused": "fail",
        }

    def _rotate(self) -> Pulled:
        self._do("rekey", name=KEY_NAME)
        return self._looked()

    def _back(self) -> Pulled:
        """Give the name back to the key that the current one took over from."""
        keys = {one["kid"]: one for one in self._emulator.ask(Call("GET", "keys"))}
        (current,) = (one for one in keys.values() if one["name"] == KEY_NAME)
        former = current.get("links", {}).get("replaced")
        if former is None:
            return Pulled(1, "the key has no former one")
        old_name = f"{KEY_NAME}-{secrets.token_hex(4)}"
        self._do("replace", kid=current["kid"], by=former, old_name=old_name)
        return self._looked()

    def _break(self) -> Pulled:
        self._do("fault", **_FAULTS[self._break_by])
        return self._looked()

    def _heal(self) -> Pulled:
        self._do("clear-faults")
        return self._looked()

    def _kms_calls(self) -> Pulled:
        """Count what DSM was asked by anybody, the peer's probes included."""
        by_path = self._emulator.ask(Call("GET", "counters"))["path"]
        return Pulled(0, str(sum(by_path.values())))

    def _do(self, command: str, **parameters: Any) -> None:
        self._emulator.ask(Call("POST", command, parameters))

    def _looked(self) -> Pulled:
        for daemon in (self.plugin, self.peer):
            daemon.look()
        return Pulled(0)


def _pull(move: Callable[[], Pulled]) -> Pull:
    """Return a hook: *move* waits for processes, which must not hold up the kit."""

    @functools.wraps(move)
    async def pulled() -> Pulled:
        try:
            return await asyncio.to_thread(move)
        except ControlError as failed:
            return Pulled(1, str(failed))

    return pulled


def _listener(path: Path) -> int | None:
    """Return the id of the process that listens at *path*, if one does."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return None
        found = probe.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
    pid: int = _CREDENTIALS.unpack(found)[0]
    return pid
