"""Our own programs as child processes: a DSM emulator, and daemons in front of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from k8s_sdkms_plugin.config.model import ENVIRONMENT_PREFIX


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


STOP_S: Final = 10.0
"""How long a child may take to end after SIGTERM; then it is killed."""

_LAST_LINES: Final = 5


class NotStarted(Exception):
    """A child did not start; the text says why."""


@contextlib.contextmanager
def emulator(folder: Path, key_name: str) -> Iterator[dict[str, Any]]:
    """Serve a DSM with one key while the block runs, and give its description.

    Args:
        folder: Where its files go: ``emulator.log`` and those of `emulator serve`.
        key_name: The name of its key.

    Raises:
        NotStarted: It ended, or said something else than what it is.
    """
    command = [*ourselves(), "emulator", "serve", "--dir", str(folder)]
    with (
        (folder / "emulator.log").open("wb") as log,
        subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, "--key-name", key_name], stdout=subprocess.PIPE, stderr=log
        ) as process,
        ended(process),
    ):
        line = b"" if process.stdout is None else process.stdout.readline()
        try:
            described = json.loads(line)
        except ValueError:
            said = last_words(folder / "emulator.log")
            raise NotStarted(f"the emulator did not start: {said}") from None
        yield described


def start_daemon(config: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a daemon whose stderr goes to the end of *log*; wait for nothing."""
    command = [*ourselves(), "serve", "--config", str(config)]
    with log.open("ab") as stream:
        return subprocess.Popen(  # noqa: S603 - as above
            command, stdin=subprocess.DEVNULL, stderr=stream, env=_environment()
        )


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End *process* after the block: SIGTERM, and SIGKILL if it stays."""
    try:
        yield
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> int:
    """End *process*, which may have ended, and return its exit code."""
    process.terminate()
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def write_config(path: Path, settings: dict[str, Any]) -> None:
    """Write a daemon's config, which holds an API key, for its owner alone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(settings, file, indent=2)


def last_words(log: Path) -> str:
    """Return the end of a log, whose folder may be gone when the user reads this."""
    lines = log.read_text("utf-8", "replace").splitlines()
    return "\n".join(lines[-_LAST_LINES:]) or "it said nothing"


def ourselves() -> list[str]:
    """Return the command that is this program."""
    return [sys.executable, "-m", "k8s_sdkms_plugin"]


def _environment() -> dict[str, str]:
    """Return ours without what is meant for another daemon."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith((ENVIRONMENT_PREFIX, "NOTIFY_", "WATCHDOG_"))
    }
