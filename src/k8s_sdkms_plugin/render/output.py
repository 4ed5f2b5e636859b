"""Where a rendered file goes: standard output, or a file that appears whole."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from k8s_sdkms_plugin.render.refusal import RenderRefused


if TYPE_CHECKING:
    from pathlib import Path


def write_out(text: str, output: Path | None, *, secret: bool) -> None:
    """Write *text* to *output*, or print it.

    A file appears whole or not at all, with mode 0600 if it is secret. One that is
    replaced keeps its owner and group.

    Args:
        text: The file.
        output: Its path; None prints it.
        secret: Whether it holds keys or a credential.

    Raises:
        RenderRefused: It can't be written.
    """
    if output is None:
        if secret and sys.stdout.isatty():
            print(
                "warning: this holds secrets, and a terminal keeps what it shows; use "
                "--output FILE",
                file=sys.stderr,
            )
        sys.stdout.write(text)
        return
    try:
        _replace(text, output, 0o600 if secret else 0o644)
    except OSError as failure:
        why = failure.strerror or type(failure).__name__
        raise RenderRefused(
            f"error: --output: {output} can't be written ({why})"
        ) from None


def _replace(text: str, output: Path, mode: int) -> None:
    # A link stays, and what it leads to is replaced.
    target = output.resolve()
    # mkstemp: mode 0600 from the start.
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            with contextlib.suppress(FileNotFoundError):
                before = target.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, target)  # noqa: PTH105 - a str
    except BaseException:
        os.unlink(temporary)  # noqa: PTH108 - a str
        raise
