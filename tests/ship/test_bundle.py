"""The bundle on hosts that have nothing to run Python with."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from attrs import frozen
from tests.e2e.harness.program import ROOT
from tests.ship.conftest import built
from tests.ship.contained import CA_FILE, CONFIG, STATE, ContainedDaemon
from tests.ship.jail import Jail
from tests.unit.docs.support import Page


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.harness.plugin import Emulator

HOSTS = {
    "bookworm": ("bare", "bookworm"),
    "older": ("bare", "bullseye"),
    "newer": ("bare", "trixie"),
    "busybox": ("busybox",),
}
HOME = "/opt/k8s-sdkms-plugin"
PROGRAM = f"{HOME}/bin/k8s-sdkms-plugin"
UNIT = "etc/systemd/system/k8s-sdkms-plugin.service"
INSTALL, CHECK, UNINSTALL = (
    block.text
    for block in Page.read(ROOT / "docs/host-bundle.md").blocks
    if block.mark == "on the host"
)
UNPACK = "".join(INSTALL.splitlines(keepends=True)[:-1])


@frozen
class Host:
    """A root to install into, with the bundle and a config on it."""

    daemon: ContainedDaemon

    @property
    def root(self) -> Path:
        """Where it is, seen from outside."""
        return self.daemon.jail.root

    def sh(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands of the guide, in the folder with the bundle."""
        script = f"set -e\ncd /root\n{commands}"
        return self.daemon.jail.run("/bin/sh", "-c", script)

    def must(self, commands: str) -> str:
        """Run commands that succeed; return what they print."""
        done = self.sh(commands)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def in_use(self) -> str:
        """Return the version that is switched to."""
        return str((self.root / HOME[1:] / "current").readlink())

    def versions(self) -> set[str]:
        """Return all that are there."""
        return {p.name for p in (self.root / HOME[1:] / "versions").iterdir()}


def a_host(
    kind: str, folder: Path, archive: Path, emulator: Emulator
) -> Iterator[Host]:
    root = folder / "root"
    root.mkdir()
    base = built(["scripts/base", *HOSTS[kind]])
    unpack = ["tar", "--extract", "--numeric-owner", "--file", base]
    subprocess.run([*unpack, "--directory", root], check=True)
    for path in (archive, archive.with_name(f"{archive.name}.sha256")):
        (root / "root" / path.name).hardlink_to(path)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    made = Host(ContainedDaemon(folder, "host", Jail(root=root), emulator))
    try:
        yield made
    finally:
        made.daemon.close()
        # 300 MB; pytest would keep them for three runs.
        shutil.rmtree(root)


@pytest.fixture(params=HOSTS)
def host(
    request: pytest.FixtureRequest, tmp_path: Path, archive: Path, emulator: Emulator
) -> Iterator[Host]:
    yield from a_host(request.param, tmp_path, archive, emulator)


@pytest.fixture
def bookworm(tmp_path: Path, archive: Path, emulator: Emulator) -> Iterator[Host]:
    yield from a_host("bookworm", tmp_path, archive, emulator)


def test_guide_brings_a_daemon_onto_a_host_without_python(
    host: Host, emulator: Emulator, figure: list[str]
) -> None:
    assert host.sh("command -v python3").returncode != 0
    # A name, so that the bundle's own C library looks it up.
    by_name = emulator.endpoint.replace("127.0.0.1", "localhost")
    host.daemon.configure(sdkms_endpoint=by_name)

    host.must(INSTALL)
    host.must(CHECK)
    host.daemon.start_as(PROGRAM, "serve")
    assert host.daemon.opens_what_it_seals()
    figure.append(f"bundle: ready {host.daemon.ready_s:.2f} s after its start")

    host.daemon.stop()
    assert host.daemon.exit_code == 0


def test_daemon_loads_no_library_of_the_host(bookworm: Host) -> None:
    bookworm.must(INSTALL)
    bookworm.daemon.start_as(PROGRAM)
    with open(f"/proc/{bookworm.daemon.pid}/maps") as maps:  # noqa: PTH123 # no file
        loaded = {line.split()[-1] for line in maps if ".so" in line}
    assert any(path.endswith("/libc.so.6") for path in loaded)
    assert [path for path in loaded if f"{HOME}/versions/" not in path] == []


def test_daemon_serves_while_its_version_is_replaced_twice(bookworm: Host) -> None:
    bookworm.must(INSTALL)
    first = bookworm.in_use()
    bookworm.daemon.start_as(PROGRAM)

    bookworm.must("k8s-sdkms-plugin-*/install")
    second = bookworm.in_use()
    assert second != first
    assert bookworm.versions() == {first.split("/")[1], second.split("/")[1]}
    assert bookworm.daemon.opens_what_it_seals()
    bookworm.daemon.stop()

    bookworm.must("k8s-sdkms-plugin-*/install --no-restart")
    assert bookworm.versions() == {
        second.split("/")[1],
        bookworm.in_use().split("/")[1],
    }
    bookworm.daemon.start_as(PROGRAM)
    assert bookworm.daemon.opens_what_it_seals()


def test_interrupted_upgrade_leaves_the_version_in_use(bookworm: Host) -> None:
    bookworm.must(INSTALL)
    before = bookworm.in_use()
    # As if the power had failed while files were copied.
    left = bookworm.root / HOME[1:] / "versions" / ".new.1"
    left.mkdir()
    bookworm.must(f"{PROGRAM} version")
    assert bookworm.in_use() == before

    bookworm.must("k8s-sdkms-plugin-*/install")
    assert not left.exists()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("echo >>lib/libc.so.6", "damaged"),
        ("rm licenses/python3", "damaged"),
        ("echo other >MACHINE", "is for other"),
    ],
    ids=["changed", "missing", "of another machine"],
)
def test_bundle_that_is_not_whole_changes_nothing(
    bookworm: Host, damage: str, why: str
) -> None:
    bookworm.must(f"{UNPACK}cd k8s-sdkms-plugin-*/\n{damage}")
    done = bookworm.sh("k8s-sdkms-plugin-*/install")
    assert done.returncode == 1
    assert why in done.stderr
    assert not (bookworm.root / HOME[1:]).exists()
    assert not (bookworm.root / UNIT).exists()


def test_unknown_word_changes_nothing(bookworm: Host) -> None:
    bookworm.must(UNPACK)
    done = bookworm.sh("k8s-sdkms-plugin-*/install --upgrade")
    assert done.returncode == 1
    assert "unknown word --upgrade" in done.stderr
    assert not (bookworm.root / HOME[1:]).exists()


def test_uninstalling_keeps_config_and_state(bookworm: Host) -> None:
    bookworm.must(INSTALL)
    bookworm.daemon.start_as(PROGRAM)
    bookworm.daemon.stop()
    # The folders as such, not as they are mounted into each jail.
    state = bookworm.daemon.folder / "state"
    kept = {path.name: path.read_bytes() for path in state.iterdir() if path.is_file()}
    assert kept
    config = bookworm.daemon.config.read_bytes()

    bookworm.must(UNINSTALL)

    assert bookworm.daemon.config.read_bytes() == config
    assert kept == {
        path.name: path.read_bytes() for path in state.iterdir() if path.is_file()
    }
    for gone in (HOME[1:], UNIT, "usr/local/bin/k8s-sdkms-plugin"):
        assert not (bookworm.root / gone).is_symlink()
        assert not (bookworm.root / gone).exists()
    for there in (CONFIG, CA_FILE, STATE):
        assert (bookworm.root / there[1:]).exists()


def test_unit_is_ours_and_starts_what_is_installed(bookworm: Host) -> None:
    bookworm.must(INSTALL)
    installed = bookworm.root / UNIT
    ours = ROOT / "deploy/systemd/k8s-sdkms-plugin.service"
    assert installed.read_bytes() == ours.read_bytes()
    (started,) = (
        line.removeprefix("ExecStart=").split()[0]
        for line in installed.read_text().splitlines()
        if line.startswith("ExecStart=")
    )
    assert bookworm.must(f"{started} version").startswith("k8s-sdkms-plugin ")


def test_program_of_another_is_not_replaced(bookworm: Host) -> None:
    other = bookworm.root / "usr/local/bin/k8s-sdkms-plugin"
    other.write_text("the Go plugin\n")
    bookworm.must(INSTALL)
    assert other.read_text() == "the Go plugin\n"
    bookworm.must(UNINSTALL)
    assert other.read_text() == "the Go plugin\n"


def test_same_files_make_the_same_archive(archive: Path, tmp_path: Path) -> None:
    again = built(["scripts/bundle", str(tmp_path)])
    with open(again, "rb") as made, archive.open("rb") as first:  # noqa: PTH123
        assert (
            hashlib.file_digest(made, "sha256").digest()
            == hashlib.file_digest(first, "sha256").digest()
        )


def test_nobodys_user_and_one_time_are_in_the_archive(
    archive: Path, figure: list[str]
) -> None:
    with tarfile.open(archive) as packed:
        members = packed.getmembers()
    assert {(m.uid, m.gid) for m in members} == {(0, 0)}
    assert len({m.mtime for m in members}) == 1
    assert not [m.name for m in members if m.mode & 0o7022 and not m.issym()]
    figure.append(f"bundle: {archive.stat().st_size / 1e6:.0f} MB")
