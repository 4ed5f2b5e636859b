"""`demo`: what it shows is true, the lines that it prints work, and it cleans up."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from tests.contract.daemon.support import (
    WITHIN_S,
    environment,
    eventually,
    eventually_async,
    run,
)

from adapters_grpc.client import KmsClient


if TYPE_CHECKING:
    from collections.abc import Iterator


LAST_WORDS = b"Serving until Ctrl-C."


class Demo:
    """`demo --dir FOLDER` as a process, shown to its last word."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.socket = folder / "kms.sock"
        command = [sys.executable, "-m", "k8s_sdkms_plugin", "demo", "--dir"]
        self.process = subprocess.Popen(
            [*command, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(**environ),
        )
        self.text = ""

    def await_show(self) -> Self:
        """Read what it prints until it serves."""
        assert self.process.stdout is not None
        read = b""
        deadline = time.monotonic() + 2 * WITHIN_S
        descriptor = self.process.stdout.fileno()
        while LAST_WORDS not in read:
            left_s = max(0.0, deadline - time.monotonic())
            assert select.select([descriptor], [], [], left_s)[0], read
            more = os.read(descriptor, 65536)
            assert more, f"it ended: {read!r}"
            read += more
        self.text = read.decode()
        return self

    @property
    def daemon_pid(self) -> int:
        """The daemon's process, as the text names it."""
        found = re.search(r"kill -HUP (\d+)", self.text)
        assert found is not None
        return int(found[1])

    def typed(self, heading: str) -> str:
        """Run the command below *heading*, and return what it prints."""
        _, rest = self.text.split(f"{heading}\n")
        words = shlex.split(rest.splitlines()[0])
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        return done.stdout

    def children(self) -> list[int]:
        """Return the processes that it started."""
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in text.split()]

    def ended(self, number: int) -> tuple[int, str, str]:
        """Send a signal; return exit code, stdout and stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=WITHIN_S)
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "d"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def demo(folder: Path) -> Iterator[Demo]:
    with running(folder) as made:
        yield made


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Return a demo for tests that only look at it."""
    with running(tmp_path_factory.mktemp("shown")) as made:
        yield made


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Demo]:
    """Give a demo that has shown everything and serves."""
    # What is meant for another daemon must not reach the demo's.
    endpoint = {"K8S_SDKMS_PLUGIN_SDKMS_ENDPOINT": "https://real.example.com"}
    made = Demo(folder, **endpoint)
    try:
        yield made.await_show()
    finally:
        if made.process.poll() is None:
            made.process.terminate()
            made.process.communicate(timeout=WITHIN_S)
        for stream in (made.process.stdout, made.process.stderr):
            if stream is not None:
                stream.close()


def gone(pid: int) -> bool:
    """Return whether no process has this id."""
    return not Path(f"/proc/{pid}").exists()


def test_show_ends_with_0_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "k8s_sdkms_plugin", "demo", "--once"]
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=environment(TMPDIR=str(tmp_path)),
        timeout=2 * WITHIN_S,
    )
    assert done.stderr == ""
    text = done.stdout
    assert "version=v2 healthz=ok" in text
    assert re.search(r"key_id=sdkms\.v1:[0-9a-f-]{36}\n", text)
    sent, got = re.findall(r"sha256 ([0-9a-f]{16})\.\.\.", text)
    assert sent == got
    assert ", the same\n" in text
    assert "Serving until" not in text
    assert list(tmp_path.iterdir()) == []
    assert gone(int(re.findall(r"kill -HUP (\d+)", text)[0]))


async def test_printed_lines_work_and_sigterm_ends_everything(demo: Demo) -> None:
    children = demo.children()
    assert len(children) == 2
    assert demo.daemon_pid in children
    assert '"healthz": "ok"' in demo.typed("Ask the socket yourself:")
    async with KmsClient(demo.socket) as client:
        before = await client.status()
        sealed = await client.encrypt(b"s" * 32)
        demo.typed("Rotate the key in DSM:")
        os.kill(demo.daemon_pid, signal.SIGHUP)

        async def rotated() -> str | None:
            key_id = (await client.status()).key_id
            return key_id if key_id != before.key_id else None

        after = await eventually_async(rotated, "Status names the new key")
        # sdkms.v1:<new>:<old>
        assert after.split(":")[2] == before.key_id.split(":")[1]
        assert await client.decrypt(sealed.ciphertext, sealed.key_id) == b"s" * 32
    code, out, err = demo.ended(signal.SIGTERM)
    assert (code, out.strip(), err) == (0, "Stopped.", "")
    assert all(gone(pid) for pid in children)
    assert not demo.socket.exists()


def test_encryption_configuration_names_the_socket(shown: Demo) -> None:
    _, rest = shown.text.split("--encryption-provider-config:\n")
    block = rest.split("\n\n")[0].splitlines()
    # What a YAML reader makes of it: each line's depth, and its key and value.
    lines = [
        (len(s) - len(s.lstrip(" -")), s.strip(" -").partition(": ")) for s in block
    ]
    found = [(depth, key.rstrip(":"), value) for depth, (key, _, value) in lines]
    assert found == [
        (2, "kind", "EncryptionConfiguration"),
        (2, "apiVersion", "apiserver.config.k8s.io/v1"),
        (2, "resources", ""),
        (6, "resources", "[secrets]"),
        (6, "providers", ""),
        (10, "kms", ""),
        (12, "apiVersion", "v2"),
        (12, "name", "dsm"),
        (12, "endpoint", f"unix://{shown.socket}"),
        (12, "timeout", "3s"),
        (10, "identity", "{}"),
    ]


def test_secrets_of_the_demo_are_the_owners_alone(shown: Demo) -> None:
    assert shown.folder.stat().st_mode & 0o077 == 0
    config = shown.folder / "k8s-sdkms-plugin.json"
    assert config.stat().st_mode & 0o077 == 0
    api_key = (shown.folder / "api-key").read_text().strip()
    assert api_key not in shown.text
    for pid in (shown.process.pid, *shown.children()):
        assert api_key not in Path(f"/proc/{pid}/cmdline").read_text()


async def test_daemon_that_dies_ends_the_demo_with_1(demo: Demo) -> None:
    (emulator,) = set(demo.children()) - {demo.daemon_pid}
    os.kill(demo.daemon_pid, signal.SIGKILL)
    _, err = demo.process.communicate(timeout=WITHIN_S)
    assert demo.process.returncode == 1
    assert err.startswith(b"error: the daemon ended with exit code -9: time='")
    eventually(lambda: gone(emulator), "the emulator ends as well")


def test_relative_folder_is_fine(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "k8s_sdkms_plugin", "demo", "--once", "--dir", "rel"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        timeout=2 * WITHIN_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"socket          {tmp_path}/rel/kms.sock" in done.stdout


def test_folder_that_can_not_be_used_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    opened = tmp_path / "open"
    opened.mkdir(mode=0o755)
    opened.chmod(0o755)
    for path, words in ((file, b"can't make"), (opened, b"is open to others")):
        done = run("demo", "--once", "--dir", path)
        assert done.returncode == 1
        assert words in done.stderr
        assert b"Traceback" not in done.stderr


def test_daemon_that_refuses_to_start_is_quoted(tmp_path: Path) -> None:
    # Too long for a socket's path, and fine for a folder.
    done = run("demo", "--once", "--dir", tmp_path / ("d" * 100))
    assert done.returncode == 1
    assert b"error: the daemon ended: " in done.stderr
    assert b"name a shorter one" in done.stderr
