"""The place that the README describes, in a temporary folder.

Its commands are run word for word by bash. What differs is where things are: the paths
of the README stand for paths of the folder, DSM is the emulator, and `make` takes the
environment that runs the tests instead of making `.venv`.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final, Self

from tests.unit.docs.support import ROOT, Block


BIN: Final = Path(sys.executable).parent
TIMEOUT_S: Final = 60.0

_MAKE: Final = f"make --no-print-directory -o install BIN={BIN}"
_PREAMBLE: Final = f"""\
set -euo pipefail
make() {{ command {_MAKE} "$@"; }}
"""
_SET_BY_OTHERS: Final = re.compile(
    "K8S_SDKMS_PLUGIN_.*|SSL_CERT_.*|NOTIFY_SOCKET|WATCHDOG_.*|.*_proxy|MAKE.*|MFLAGS",
    re.IGNORECASE,
)
_VARIES: Final = {
    "uuid": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "digest": re.compile(r"\b[0-9a-f]{16}(?=\.\.\.)"),
    "hash": re.compile(r"\bsha256:[0-9a-f]{64}\b"),
    "age": re.compile(r"\b(?:[0-9]+[dhms])+(?= ago\b)"),
}


class Site:
    """A folder with a DSM emulator, in which the README's commands are run.

    A context manager, which ends every process that it started.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        self.socket = folder / "run" / "socket.sock"
        self.demo = folder / "demo"
        self.state = folder / "state"
        self.listener = f"127.0.0.1:{_free_port()}"
        self._outputs: dict[str, str] = {}
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            process.communicate(timeout=TIMEOUT_S)

    def here(self, text: str) -> str:
        """Return *text* with the README's paths made ours."""
        for theirs, ours in self._paths().items():
            text = text.replace(theirs, str(ours))
        return text

    def as_in_readme(self, text: str) -> str:
        """Return *text* with our paths made the README's."""
        for theirs, ours in self._paths().items():
            text = text.replace(str(ours), theirs)
        return text

    def run(self, block: Block, *, in_folder: bool = False) -> str:
        """Run a block once, which must succeed, and return what it prints."""
        if block.text not in self._outputs:
            done = subprocess.run(
                ["bash", "-c", _PREAMBLE + self.here(block.text)],
                cwd=self.folder if in_folder else ROOT,
                env=self.environment(),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            said = f"README.md:{block.line}: {done.stdout}{done.stderr}"
            assert done.returncode == 0, said
            self._outputs[block.text] = self.as_in_readme(done.stdout)
        return self._outputs[block.text]

    def start(self, command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command that serves until it is told to stop."""
        # In the place of the shell, so that a signal reaches it.
        words = re.sub(r"\Amake\b", _MAKE, self.here(command))
        process = subprocess.Popen(
            ["bash", "-c", f"exec {words}"],
            cwd=ROOT,
            env=self.environment() | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def start_emulator(self) -> dict[str, str]:
        """Start a DSM; return what it says of itself."""
        dsm, go_plugin = self.folder / "dsm", self.folder / "go-plugin.json"
        process = self.start(
            f"k8s-sdkms-plugin emulator serve --dir {dsm} --key-name kubernetes "
            f"--plugin-config {go_plugin} --socket {self.folder}/go-plugin.sock"
        )
        described: dict[str, str] = json.loads(read_until(process.stdout, "{"))
        return described

    def environment(self) -> dict[str, str]:
        """Return the environment of commands: ours, with the commands in it."""
        kept = {k: v for k, v in os.environ.items() if not _SET_BY_OTHERS.fullmatch(k)}
        return kept | {"PATH": f"{BIN}:{self.folder}/bin:{os.environ['PATH']}"}

    def _paths(self) -> dict[str, Path | str]:
        return {
            "/etc/fortanix/k8s-sdkms-plugin.json": self.config,
            "/var/run/kms-plugin": self.socket.parent,
            "/var/lib/k8s-sdkms-plugin": self.state,
            "127.0.0.1:9472": self.listener,
            "/tmp/kms-demo": self.demo,  # noqa: S108 - as the README calls it
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def read_until(stream: IO[str] | None, *words: str) -> str:
    """Return the line with the last of *words*; fail if the stream ends before."""
    assert stream is not None
    seen: list[str] = []
    missing = set(words)
    deadline = time.monotonic() + TIMEOUT_S
    for line in stream:
        seen.append(line)
        missing -= {word for word in missing if word in line}
        if not missing:
            return line
        assert time.monotonic() < deadline, seen
    raise AssertionError(f"it ended without {missing}: {seen}")


def numbered(text: str) -> str:
    """Return *text* with what varies replaced by numbers, in order of appearance.

    So two texts are equal if they differ in such (UUIDs, digests) alone, and in each
    the same ones stand in the same places.
    """
    for kind, pattern in _VARIES.items():
        names: dict[str, str] = {}
        text = pattern.sub(
            lambda found, names=names, kind=kind: names.setdefault(  # type: ignore[misc]
                found[0], f"<{kind} {len(names)}>"
            ),
            text,
        )
    return text
