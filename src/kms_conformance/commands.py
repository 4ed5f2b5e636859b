"""Hooks as a command line gives them: commands, and a process id or its file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kms_conformance.target import Pulled


if TYPE_CHECKING:
    from collections.abc import Callable

    from kms_conformance.target import Pull


COMMAND_S: Final = 60.0
"""How long a hook's command may take."""

_KEPT_CHARS: Final = 2000
_KEPT_BYTES: Final = 4 * _KEPT_CHARS


def shell(command: str, *, timeout_s: float = COMMAND_S) -> Pull:
    """Return a hook that runs *command* with ``sh -c``.

    It is done when the shell has exited, whatever it left running. Its output goes to
    a file, not a pipe: a daemon that it started would hold a pipe open.

    Args:
        command: What to run.
        timeout_s: Seconds after which the shell is killed, with what it started.
    """

    async def run() -> Pulled:
        with tempfile.TemporaryFile() as output:
            started = await asyncio.create_subprocess_shell(
                command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(timeout_s):
                    exit_code = await started.wait()
            except BaseException as error:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(started.pid, signal.SIGKILL)
                await started.wait()
                if not isinstance(error, TimeoutError):
                    raise
                return Pulled(-1, f"it had not ended after {timeout_s:g} s")
            # It may have printed more than fits into memory.
            output.seek(max(output.seek(0, os.SEEK_END) - _KEPT_BYTES, 0))
            text = output.read(_KEPT_BYTES).decode(errors="replace")
            return Pulled(exit_code, text.strip()[-_KEPT_CHARS:])

    return run


def pid_source(text: str) -> Callable[[], int]:
    """Return what tells the process id: *text* itself, or the file that it names.

    The file is read each time. It raises OSError or ValueError when it can't be had.
    """
    if text.isascii() and text.isdigit():
        number = int(text)
        return lambda: number
    return lambda: int(Path(text).read_text())
