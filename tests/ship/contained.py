"""The daemon in a root of its own, as its users would mount its files into it."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Final

from attrs import evolve
from tests.e2e.harness.plugin import START_S, Daemon, Emulator, command


if TYPE_CHECKING:
    from pathlib import Path

    from tests.ship.jail import Jail

# The paths of the Go plugin's README, and ours.
CONFIG: Final = "/etc/fortanix/k8s-sdkms-plugin.json"
CA_FILE: Final = "/etc/fortanix/ca.pem"
SOCKET_FOLDER: Final = "/var/run/kms-plugin"
STATE: Final = "/var/lib/k8s-sdkms-plugin"
# The key that the emulator has from the start.
KEY_NAME: Final = "Kubernetes Secret Encryption Key"


class ContainedDaemon(Daemon):
    """``serve`` in a jail, with config, socket folder and state folder bound into it.

    Attributes:
        jail: The jail, with those bound.
        ready_s: How long the last start took, from the first step into the jail.
    """

    def __init__(self, folder: Path, name: str, jail: Jail, emulator: Emulator) -> None:
        settings = {
            "socket_file": f"{SOCKET_FOLDER}/socket",
            "ca_file": CA_FILE,
            "state_dir": STATE,
            "write_format": "native",
        }
        super().__init__(folder, name, emulator, KEY_NAME, **settings)
        sockets, state = self.folder / "kms-plugin", self.folder / "state"
        for made in (sockets, state):
            made.mkdir(mode=0o700)
        self.socket = sockets / "socket"
        self.configure()
        binds = {
            self.config: CONFIG,
            emulator.ca_file: CA_FILE,
            sockets: SOCKET_FOLDER,
            state: STATE,
        }
        self.jail = evolve(jail, binds={**jail.binds, **binds})
        self.ready_s = 0.0

    def start_as(self, *words: str, state: str = "ready") -> None:
        """Start it with these words and wait until it is in this state."""
        begun = time.monotonic()
        self.run(self.jail.command(*words))
        self.await_true(self.accepts, within_s=START_S, what="its socket accepts")
        self.await_state(state, within_s=START_S)
        self.ready_s = time.monotonic() - begun

    def opens_what_it_seals(self) -> bool:
        """Ask the socket, from outside, to seal a seed and to open it again."""
        sealed = self._call("encrypt", "--random")
        return "sha256" in self._call("decrypt", given=sealed)

    def kernel_says(self, field: str) -> str:
        """Return what the kernel says of it in a line of proc_pid_status(5)."""
        with open(f"/proc/{self.pid}/status") as status:  # noqa: PTH123 # no file
            found = dict(line.split(":", 1) for line in status)
        return found[field].strip()

    def _call(self, method: str, *words: str, given: str = "") -> str:
        done = subprocess.run(
            [command(), "call", method, "--socket", self.socket, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
