"""Reading a small file that others write: bounded, and never a pipe or a device."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from attrs import frozen


if TYPE_CHECKING:
    from pathlib import Path


OTHERS: Final = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
"""Permissions that a file with a secret should not give."""


class NotRegular(Exception):
    """What the path leads to is no regular file."""


@frozen
class Stamp:
    """What changes when a file does, also if a symlink on its path is renamed."""

    device: int
    inode: int
    size: int
    changed_ns: int
    written_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp that *status* shows."""
        return cls(
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_ctime_ns,
            status.st_mtime_ns,
        )


@frozen
class FileContent:
    """A file as it was read.

    Attributes:
        content: Its bytes, one more than the limit if it is longer.
        mode: Its type and permissions.
    """

    content: bytes
    mode: int

    @property
    def open_to_others(self) -> bool:
        """Whether others than its owner may read or change it."""
        return bool(self.mode & OTHERS)


def read_file(path: Path, max_bytes: int) -> FileContent:
    """Return what *path* holds; symlinks are followed.

    Args:
        path: The file.
        max_bytes: How much of it may be read; one byte more shows that there is more.

    Raises:
        NotRegular: It is a folder, a pipe, a device or a socket.
        OSError: It can't be read.
        ValueError: The path has a NUL byte.
    """
    with open(path, "rb", opener=_open) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegular
        return FileContent(file.read(max_bytes + 1), mode)


def _open(path: str, flags: int) -> int:
    # Not blocking, so that a pipe without a writer is an error, not a hang.
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
