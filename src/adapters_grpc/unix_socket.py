"""The unix socket: who may have the path, and how a socket gets there.

grpcio takes the socket of a live server over without a word, creates it with whatever
the umask leaves, and unlinks whatever bears the path when it stops (measured, see
section 2.4 of the contract). So it never sees the real path. ``claim`` takes a lock
beside the path, makes sure that no server lives there, and makes a directory of mode
0700 in which grpcio binds; ``publish`` sets group and mode and renames the socket onto
the path; ``withdraw`` removes it, if it is still ours.

Everything here is short blocking file work: call it from a thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import stat
from pathlib import Path
from typing import Final

from kms_core.errors import one_line


MAX_SUN_PATH_BYTES: Final = 107
"""Longest path of a unix socket in bytes, without its NUL (unix(7))."""

_BOUND_NAME: Final = "s"
_IN_URLS: Final = "%?#"


class SocketRefused(Exception):
    """The socket can't be put at its path; nothing was changed there.

    Args:
        text: What is wrong and what to do, in one line.

    Attributes:
        text: The same.
    """

    def __init__(self, text: str) -> None:
        self.text = one_line(text)
        super().__init__(self.text)


def socket_path(setting: str) -> Path:
    """Return the path that *setting* names.

    Args:
        setting: ``/a/path`` or ``unix:///a/path``, as kube-apiserver writes it.

    Raises:
        SocketRefused: It names no path in the file system.
    """
    name = setting
    if setting.startswith("unix:"):
        name = setting.removeprefix("unix:")
        name = name.removeprefix("//")
    if name.startswith(("@", "/@", "\0")):
        raise SocketRefused(
            f"{setting!r} is an abstract socket, which anybody in the network "
            "namespace may open: it has no permissions; name a path instead"
        )
    if not name.startswith("/"):
        raise SocketRefused(
            f"{setting!r} is no absolute path; write /a/path or unix:///a/path"
        )
    return Path(name)


def check_path(path: Path) -> list[str]:
    """Return what speaks against a socket at *path*, each with its remedy.

    Changes nothing, and does not mind a live server there.
    """
    return _name_problems(path) or [*_parent_problems(path.parent), *_taken(path)]


class UnixSocket:
    """A path that we have claimed for a socket. Made by ``claim``.

    Attributes:
        path: Where clients will find the socket.
        bind_path: Where the server must bind it.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.bind_path = _bind_path(path)
        self._lock_fd = lock_fd
        self._inode: tuple[int, int] | None = None

    def publish(self, mode: int, gid: int | None) -> None:
        """Give the bound socket its group and mode, then put it at its path.

        Args:
            mode: Permission bits; connecting needs write permission.
            gid: Group that will own it, or None for the process' own.

        Raises:
            SocketRefused: Group, mode or rename failed.
        """
        try:
            if gid is not None:
                os.chown(self.bind_path, -1, gid)
            self.bind_path.chmod(mode)
            status = self.bind_path.lstat()
            # A stale socket is replaced by this, in one step.
            self.bind_path.rename(self.path)
        except OSError as error:
            raise SocketRefused(
                f"can't set up the socket {self.path}: {_reason(error)}; check "
                "socket_mode, socket_group and the owner of its directory"
            ) from error
        self._inode = (status.st_dev, status.st_ino)

    def withdraw(self) -> None:
        """Remove our socket, if it still is ours, and let the path go."""
        if self._lock_fd < 0:
            return
        with contextlib.suppress(OSError):
            if self._inode is not None and self._inode == _inode(self.path):
                self.path.unlink()
        with contextlib.suppress(OSError):
            self.bind_path.unlink(missing_ok=True)
            self.bind_path.parent.rmdir()
        # The lock file stays: unlinking it would let two daemons hold "the" lock.
        os.close(self._lock_fd)
        self._lock_fd = -1


def claim(path: Path) -> UnixSocket:
    """Take *path* for a socket of ours.

    Returns:
        The claim, whose ``bind_path`` lies in an empty directory of mode 0700.

    Raises:
        SocketRefused: The path is unfit, taken by something else, or a server lives
            there. Nothing was changed there.
    """
    problems = check_path(path)
    if problems:
        raise SocketRefused("; ".join(problems))
    try:
        claimed = UnixSocket(path, _lock(path))
    except OSError as error:
        raise SocketRefused(
            f"can't lock {_lock_path(path)}: {_reason(error)}; check the owner and "
            "mode of the file and its directory"
        ) from error
    try:
        _refuse_live_server(path)
        _make_bind_directory(claimed.bind_path)
    except BaseException:
        claimed.withdraw()
        raise
    return claimed


def _bind_path(path: Path) -> Path:
    # One fixed name for each socket, which the lock makes ours: a killed daemon's
    # directory is used again instead of being left behind. A short one, since its
    # length counts: for all but the shortest names the socket's own is the longer.
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:6]
    return path.parent / f".{digest}" / _BOUND_NAME


def _lock_path(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def _name_problems(path: Path) -> list[str]:
    if not path.is_absolute() or not path.name or ".." in path.parts:
        return [f"{str(path)!r} is no absolute path of a socket; write /a/path"]
    text = str(path)
    if not text.isprintable() or any(c in text for c in _IN_URLS):
        # kube-apiserver parses the endpoint as a URL (contract, section 2.4).
        problem = (
            f"the path {text!r} has a control character, '%', '?' or '#', which "
            "kube-apiserver can't read back from a URL; name another"
        )
        return [problem]
    spare = len(os.fsencode(_bind_path(path))) - len(os.fsencode(path))
    allowed = MAX_SUN_PATH_BYTES - max(spare, 0)
    length = len(os.fsencode(path))
    if length > allowed:
        problem = (
            f"the path {text!r} has {length} bytes, and a socket of that name can have "
            f"{allowed} at most (unix(7), and a private directory in which it is "
            "made); name a shorter one"
        )
        return [problem]
    return []


def _parent_problems(parent: Path) -> list[str]:
    try:
        status = parent.stat()
    except OSError as error:
        problem = (
            f"the directory {parent} can't be used: {_reason(error)}; make it first, "
            "with mode 0700 or 0750"
        )
        return [problem]
    if not stat.S_ISDIR(status.st_mode):
        return [f"{parent} is no directory; name a path in a directory"]
    problems = []
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        problems.append(f"everybody may rename files in {parent}: run chmod o-w on it")
    if status.st_uid not in {0, os.geteuid()}:
        problems.append(
            f"the directory {parent} belongs to user {status.st_uid}, who could "
            "replace the socket: give it to root or to the daemon's user"
        )
    if not os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
        problems.append(
            f"the daemon's user may not write in {parent}: give it to that user"
        )
    return problems


def _taken(path: Path) -> list[str]:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return []  # nothing there; or the directory can't be read, which was said
    if stat.S_ISSOCK(mode):
        return []
    kind = "a symbolic link" if stat.S_ISLNK(mode) else "no socket"
    return [f"{path} exists and is {kind}: move it away, or name another path"]


def _lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_lock_path(path), flags, 0o600)
    try:
        _take_lock(fd, _lock_path(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _take_lock(fd: int, name: Path) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise SocketRefused(f"{name} is not a file of the daemon's user: remove it")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SocketRefused(
            f"another instance holds {name}: stop it, or name another socket"
        ) from None


def _refuse_live_server(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - socket's own signature
        try:
            probe.connect(os.fsencode(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return  # nothing there, or a socket that its server left behind
        except BlockingIOError:
            pass  # somebody listens, with a full backlog (EAGAIN, connect(2))
        except OSError as error:
            raise SocketRefused(
                f"can't tell whether a server lives at {path}: {_reason(error)}; "
                "remove the socket if it is a stale one"
            ) from error
    raise SocketRefused(
        f"another server answers at {path}, and goes on serving: stop it, or name "
        "another socket"
    )


def _make_bind_directory(bind_path: Path) -> None:
    directory = bind_path.parent
    try:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise SocketRefused(
                f"{directory} is not a directory of the daemon's user: remove it"
            )
        directory.chmod(0o700)
        bind_path.unlink(missing_ok=True)
    except OSError as error:
        raise SocketRefused(
            f"can't use the directory {directory}: {_reason(error)}; remove it"
        ) from error


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
