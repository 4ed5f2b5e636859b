"""The daemon lives within what its systemd unit allows: system calls, and no power.

Skipped for users other than root, and without systemd-analyze and libseccomp; with
E2E_REQUIRED=1 it fails without these two.
"""

from __future__ import annotations

import ctypes.util
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.contract.daemon.support import run


if TYPE_CHECKING:
    from tests.contract.daemon.support import Lab

LAUNCHER = Path(__file__).with_name("sandboxed.py")
GROUP = ("--set", "socket_group=4242", "--set", "socket_mode=0660")


@pytest.fixture(autouse=True)
def _needed() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give up root's capabilities")
    lacking = [
        what
        for what, there in (
            ("systemd-analyze", shutil.which("systemd-analyze")),
            ("libseccomp", ctypes.util.find_library("seccomp")),
        )
        if not there
    ]
    if lacking and os.environ.get("E2E_REQUIRED") == "1":
        pytest.fail(f"there is no {lacking[0]}")
    if lacking:
        pytest.skip(f"there is no {lacking[0]}")


def unit_of(lab: Lab, *words: str) -> Path:
    unit = lab.folder / "k8s-sdkms-plugin.service"
    done = run("render", "systemd", *words, "--output", unit)
    assert done.returncode == 0, done.stderr
    return unit


def _facts_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


async def test_daemon_serves_in_the_sandbox_of_its_unit(lab: Lab) -> None:
    unit = unit_of(lab)
    state = lab.folder / "state"
    state.mkdir(mode=0o700)
    daemon = lab.launch_by(
        [sys.executable, str(LAUNCHER), str(unit)],
        lab.config(state_dir=str(state), listen=None),
    )
    daemon.await_socket()
    status = await daemon.await_ok()
    seed = lab.seed()
    async with daemon.client() as client:
        sealed = await client.encrypt(seed)
        assert sealed.key_id == status.key_id
        assert await client.decrypt(sealed.ciphertext, sealed.key_id) == seed
    assert {path.name for path in state.iterdir()} == {"local-kek.json", "proof.json"}
    facts = _facts_of(daemon.process.pid)
    assert "CapEff:\t0000000000000000" in facts
    assert "NoNewPrivs:\t1" in facts
    assert "Seccomp:\t2" in facts
    assert daemon.stop() == 0


async def test_sandbox_lets_the_socket_have_its_group(lab: Lab) -> None:
    unit = unit_of(lab, *GROUP)
    assert "Group=4242" in unit.read_text()
    # As systemd starts it: with that group as its own.
    command = [shutil.which("setpriv") or "", "--regid=4242", "--clear-groups"]
    daemon = lab.launch_by(
        [*command, sys.executable, str(LAUNCHER), str(unit)],
        lab.config(socket_group="4242", socket_mode="0660"),
    )
    daemon.await_socket()
    await daemon.await_ok()
    found = lab.socket.stat()
    assert (found.st_gid, found.st_mode & 0o777) == (4242, 0o660)
    assert daemon.stop() == 0


def test_sandbox_is_one(lab: Lab) -> None:
    """See that the launcher confines at all, by what it keeps a program from."""
    tries = (
        "import os, socket, ctypes, mmap, sys\n"
        "def refused(do):\n"
        "    try:\n"
        "        do()\n"
        "    except OSError as error:\n"
        "        return error.errno\n"
        "print([refused(do) for do in (\n"
        "    lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),\n"
        "    lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),\n"
        "    lambda: os.chown(sys.argv[1], 1, 1),\n"
        "    lambda: os.chroot('/'),\n"
        "    lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),\n"
        ")])\n"
    )
    unit = unit_of(lab)
    done = subprocess.run(
        [sys.executable, LAUNCHER, unit, sys.executable, "-c", tries, unit],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert numbers == [*[errno.EPERM] * 4, errno.EACCES]
