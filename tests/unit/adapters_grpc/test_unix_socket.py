from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters_grpc.unix_socket import SocketRefused, check_path, claim, socket_path


if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "kms.sock"


@contextlib.contextmanager
def listening(path: Path, backlog: int = 5) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen(backlog)
        yield server


def listing(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def refused(path: Path) -> str:
    with pytest.raises(SocketRefused) as caught:
        claim(path)
    assert "\n" not in caught.value.text
    assert str(caught.value) == caught.value.text
    return caught.value.text


@pytest.mark.parametrize(
    "setting", ["/run/kms/s.sock", "unix:///run/kms/s.sock", "unix:/run/kms/s.sock"]
)
def test_setting_may_be_a_path_or_a_url(setting: str) -> None:
    assert socket_path(setting) == Path("/run/kms/s.sock")


@pytest.mark.parametrize("setting", ["@kms", "unix:@kms", "unix:///@kms", "\0kms"])
def test_abstract_socket_is_refused_with_the_reason(setting: str) -> None:
    with pytest.raises(SocketRefused, match="is an abstract socket"):
        socket_path(setting)


@pytest.mark.parametrize("setting", ["", "kms.sock", "unix://run/kms.sock", "unix:"])
def test_relative_path_is_refused(setting: str) -> None:
    with pytest.raises(SocketRefused, match="no absolute path"):
        socket_path(setting)


@pytest.mark.parametrize("name", ["a%41", "a?b", "a#b", "a\nb"])
def test_name_that_kube_apiserver_would_read_otherwise_is_a_problem(
    directory: Path, name: str
) -> None:
    (problem,) = check_path(directory / name)
    assert "URL" in problem
    assert "\n" not in problem


@pytest.mark.parametrize("name", ["/", "/run/../kms.sock", "kms.sock"])
def test_path_that_names_no_file_plainly_is_a_problem(name: str) -> None:
    (problem,) = check_path(Path(name))
    assert "absolute path" in problem


def test_longest_path_is_what_the_kernel_allows(directory: Path) -> None:
    spare = 107 - len("/") - len(str(directory))
    longest = directory / ("n" * spare)
    assert check_path(longest) == []
    claimed = claim(longest)
    with listening(claimed.bind_path):
        claimed.publish(0o600, None)
    claimed.withdraw()
    (problem,) = check_path(directory / ("n" * (spare + 1)))
    assert "108 bytes, and a socket of that name can have 107" in problem
    assert "shorter" in problem


def test_path_of_a_short_name_leaves_room_for_the_private_directory() -> None:
    parent = Path("/" + "d" * 94)
    assert all("shorter" not in p for p in check_path(parent / "socket.sock"))
    parent = Path("/" + "d" * 98)
    (problem,) = check_path(parent / "s")
    assert "101 bytes, and a socket of that name can have 99" in problem


def test_missing_directory_is_a_problem(directory: Path) -> None:
    (problem,) = check_path(directory / "missing" / "kms.sock")
    assert "No such file" in problem
    assert "make it first" in problem


def test_parent_that_is_a_file_is_a_problem(directory: Path) -> None:
    (directory / "file").touch()
    (problem,) = check_path(directory / "file" / "kms.sock")
    assert "is no directory" in problem


def test_world_writable_parent_is_a_problem_unless_it_is_sticky(
    directory: Path, path: Path
) -> None:
    directory.chmod(0o777)
    (problem,) = check_path(path)
    assert "chmod o-w" in problem
    directory.chmod(0o1777)
    assert check_path(path) == []


def test_parent_of_another_user_is_a_problem(
    directory: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(directory, 12345, -1)
    (problem,) = check_path(path)
    assert "belongs to user 12345" in problem
    os.chown(directory, 0, -1)


def test_parent_in_which_we_may_not_write_is_a_problem(
    directory: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may write anywhere
    (problem,) = check_path(path)
    assert "may not write" in problem


def test_regular_file_is_refused_and_untouched(path: Path) -> None:
    path.write_text("precious")
    assert "no socket" in refused(path)
    assert path.read_text() == "precious"
    assert listing(path.parent) == ["kms.sock"]


def test_symbolic_link_is_refused_even_to_a_stale_socket(
    directory: Path, path: Path
) -> None:
    with listening(directory / "other"):
        pass
    path.symlink_to(directory / "other")
    assert "symbolic link" in refused(path)
    assert path.is_symlink()


def test_socket_appears_with_its_mode_and_group_set(path: Path) -> None:
    gid = 4321 if os.geteuid() == 0 else os.getegid()
    claimed = claim(path)
    assert stat.S_IMODE(claimed.bind_path.parent.stat().st_mode) == 0o700
    with listening(claimed.bind_path):
        assert not path.exists()
        claimed.publish(0o660, gid)
        status = path.lstat()
        assert stat.S_ISSOCK(status.st_mode)
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, gid)
    claimed.withdraw()
    assert listing(path.parent) == [".kms.sock.lock"]
    assert stat.S_IMODE((path.parent / ".kms.sock.lock").stat().st_mode) == 0o600


def test_group_that_may_not_be_given_is_refused_before_anything_is_visible(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chown(*_: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "chown", chown)
    claimed = claim(path)
    with listening(claimed.bind_path), pytest.raises(SocketRefused, match="group"):
        claimed.publish(0o600, 4321)
    assert not path.exists()
    claimed.withdraw()
    assert listing(path.parent) == [".kms.sock.lock"]


def test_live_server_without_our_lock_is_left_alone(path: Path) -> None:
    with listening(path) as server:
        assert "another server answers" in refused(path)
        server.accept()[0].close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
    # Refused again for as long as it lives, then replaced.
    claim(path).withdraw()


def test_live_server_with_a_full_backlog_is_left_alone(path: Path) -> None:
    with listening(path, backlog=0), contextlib.ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            )
            client.setblocking(False)  # noqa: FBT003 - socket's own signature
            client.connect_ex(str(path))
        assert "another server answers" in refused(path)


def test_socket_that_cannot_be_asked_is_refused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        assert "can't tell whether a server lives" in refused(path)
        assert path.is_socket()


def test_second_claim_is_refused_while_the_first_holds_the_lock(path: Path) -> None:
    first = claim(path)
    assert "another instance holds" in refused(path)
    first.withdraw()
    claim(path).withdraw()


def test_stale_socket_and_leftovers_of_a_killed_daemon_are_replaced(
    path: Path,
) -> None:
    code = (
        "import os, signal, socket, sys; from pathlib import Path\n"
        "from adapters_grpc.unix_socket import claim\n"
        "claimed = claim(Path(sys.argv[1]))\n"
        "server = socket.socket(socket.AF_UNIX); server.bind(str(claimed.bind_path))\n"
        "server.listen()\n"
        "if sys.argv[2] == 'published': claimed.publish(0o600, None)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for moment in ("published", "bound"):
        subprocess.run([sys.executable, "-c", code, path, moment], check=False)
        assert path.is_socket()
    before = path.stat().st_ino
    claimed = claim(path)
    with listening(claimed.bind_path):
        claimed.publish(0o600, None)
        assert path.stat().st_ino != before
    claimed.withdraw()
    assert listing(path.parent) == [".kms.sock.lock"]


def test_socket_of_somebody_else_is_not_removed_at_the_end(path: Path) -> None:
    claimed = claim(path)
    with listening(claimed.bind_path):
        claimed.publish(0o600, None)
        path.unlink()
        with listening(path):
            claimed.withdraw()
            claimed.withdraw()
            assert path.is_socket()


def test_withdrawing_what_was_removed_already_is_harmless(path: Path) -> None:
    claimed = claim(path)
    with listening(claimed.bind_path):
        claimed.publish(0o600, None)
    path.unlink()
    claimed.withdraw()
    assert listing(path.parent) == [".kms.sock.lock"]


def test_lock_file_that_is_a_link_is_refused_and_its_target_untouched(
    directory: Path, path: Path
) -> None:
    (directory / ".kms.sock.lock").symlink_to(directory / "target")
    assert "can't lock" in refused(path)
    assert not (directory / "target").exists()


def test_lock_file_of_another_user_is_refused(directory: Path, path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    lock = directory / ".kms.sock.lock"
    lock.touch()
    os.chown(lock, 12345, -1)
    assert "not a file of the daemon's user" in refused(path)


def test_private_directory_that_is_something_else_is_refused(
    directory: Path, path: Path
) -> None:
    claimed = claim(path)
    private = claimed.bind_path.parent
    claimed.withdraw()
    private.symlink_to(directory)
    assert "not a directory of the daemon's user" in refused(path)
    private.unlink()
    (private / "s").mkdir(parents=True)
    assert "can't use the directory" in refused(path)
