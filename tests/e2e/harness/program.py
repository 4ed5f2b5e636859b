"""Processes that tests start, and waiting for what they do."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar


if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

ROOT = Path(__file__).parents[3]
POLL_S = 0.05
STOP_S = 30.0

# A program ends with the thread that started it, as the kernel sees it: this one lives
# as long as the tests, whichever thread of theirs wants the program.
_STARTER = ThreadPoolExecutor(max_workers=1)


class UnmetError(AssertionError):
    """What a test waited for did not happen in time."""


def eventually(
    look: Callable[[], T | None],
    *,
    within_s: float,
    what: str,
    every_s: float = POLL_S,
) -> T:
    """Look again and again until there is something to see.

    Args:
        look: Returns None (or anything false) as long as it isn't so. An
            AssertionError counts as "not yet", and is shown when time is up.
        within_s: The deadline, in seconds from now.
        what: What is awaited, for the failure's text.
        every_s: The pause between two looks, in seconds.

    Returns:
        What ``look`` saw.

    Raises:
        UnmetError: The deadline passed.
    """
    deadline = time.monotonic() + within_s
    while True:
        last: object = None
        try:
            seen = look()
        except AssertionError as error:
            last = error
        else:
            if seen:
                return seen
            last = seen
        if time.monotonic() > deadline:
            raise UnmetError(f"not within {within_s:g} s: {what}; last seen: {last}")
        time.sleep(every_s)


def free_port() -> int:
    """Return a loopback port that nobody uses.

    It lies below the range that the kernel takes ports for outgoing connections from,
    so that it is still free when the program binds it.
    """
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 # no secret
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


class Program:
    """A program that runs as a child, its output in a file of the test's folder."""

    every: ClassVar[list[Program]] = []

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._seen = 0
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        Program.every.append(self)

    @property
    def pid(self) -> int:
        """The process's id; the program must have been started."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; 0 before that."""
        return self._process.poll() if self._process is not None else 0

    def run(
        self, command: Sequence[str | Path], environ: Mapping[str, str] | None = None
    ) -> None:
        """Start the program, with its output appended to its log."""
        assert self.exit_code is not None, f"{self.name} is running already"
        # If the tests are killed, the kernel takes their programs along. A session of
        # its own keeps Ctrl-C for pytest, which then stops them in order.
        wrapper = [_tool("setpriv"), "--pdeathsig", "KILL", "--"]
        with self.log.open("ab") as log:
            self._process = _STARTER.submit(
                subprocess.Popen,
                [*wrapper, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ,
                cwd=self.folder,
                start_new_session=True,
            ).result()

    def await_true(
        self, look: Callable[[], T | None], *, within_s: float, what: str
    ) -> T:
        """As ``eventually``, but give up as soon as the program has ended."""

        def look_while_it_runs() -> T | None:
            if self.exit_code is not None:
                raise RuntimeError(f"{self.name} ended with {self.exit_code}: {what}")
            return look()

        return eventually(
            look_while_it_runs, within_s=within_s, what=f"{self.name}: {what}"
        )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None, f"{self.name} was never started"
        self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end (SIGTERM), and insist after 30 seconds; idempotent."""
        if self.exit_code is not None or self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); idempotent."""
        if self.exit_code is not None or self._process is None:
            return
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it for good; idempotent."""
        self.stop()

    def mark(self) -> None:
        """Take what the log holds as seen: ``new_output`` starts here."""
        self._seen = self.log.stat().st_size if self.log.exists() else 0

    def new_output(self, lines: int) -> str:
        """Return the last lines that it wrote since the mark."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._seen)
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def _tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} (of util-linux) is not on PATH"
    return found
