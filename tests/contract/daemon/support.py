"""A DSM, daemons as processes of their own, and conditions that are waited for."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import httpx

from adapters_grpc.client import CallFailed, KmsClient
from dsm_emulator import Dsm, EmulatorServer


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from adapters_grpc.messages import StatusResponse
    from dsm_emulator.sessions import Session


T = TypeVar("T")

WITHIN_S: Final = 20.0
"""How long a condition may take on a busy machine, in seconds."""

POLL_S: Final = 0.02

KEY_NAME: Final = "Kubernetes Secret Encryption Key"
LOGIN: Final = "/sys/v1/session/auth"
LOGOUT: Final = "/sys/v1/session/terminate"
INFO: Final = "/crypto/v1/keys/info"
ENCRYPT: Final = "/crypto/v1/encrypt"
DECRYPT: Final = "/crypto/v1/decrypt"


def eventually(look: Callable[[], T | None], what: str) -> T:
    """Return what *look* finds, once it is neither None nor False."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(POLL_S)


async def eventually_async(look: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Do the same with a *look* that is awaited."""
    deadline = asyncio.get_running_loop().time() + WITHIN_S
    while True:
        found = await look()
        if found is not None and found is not False:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not in time: {what}"
        await asyncio.sleep(POLL_S)


def environment(**more: str) -> dict[str, str]:
    """Return the environment for our programs: nothing in it configures them."""
    mine = ("K8S_SDKMS_PLUGIN_", "NOTIFY_", "WATCHDOG_", "HTTPS_PROXY", "https_proxy")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(mine)}
    return kept | more


def run(
    *words: str | Path, stdin: bytes = b"", timeout_s: float = 30.0
) -> subprocess.CompletedProcess[bytes]:
    """Run a command of ours to its end."""
    command = [sys.executable, "-m", "k8s_sdkms_plugin", *map(str, words)]
    return subprocess.run(
        command,
        input=stdin,
        check=False,
        capture_output=True,
        timeout=timeout_s,
        env=environment(),
    )


class Daemon:
    """A daemon as a process, whose stderr goes into a file.

    Attributes:
        config: Its config file.
        socket: Where it serves.
        log: The file with its stderr.
    """

    def __init__(
        self,
        config: Path,
        socket: Path,
        *,
        stderr: int | None = None,
        environ: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.socket = socket
        self.log = config.with_suffix(".log")
        program = [sys.executable, "-m", "k8s_sdkms_plugin", "-config", str(config)]
        command = [*launcher, *program]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stderr=log if stderr is None else stderr,
                env=environment(**(environ or {})),
            )

    def text(self) -> str:
        """Return all that it wrote to stderr."""
        return self.log.read_text()

    def lines(self, **fields: object) -> list[dict[str, Any]]:
        """Return the whole log lines in which all *fields* have these values."""
        whole = self.text().split("\n")[:-1]
        return [
            line
            for line in map(json.loads, whole)
            if all(line.get(name) == value for name, value in fields.items())
        ]

    def await_line(self, *, count: int = 1, **fields: object) -> dict[str, Any]:
        """Return the *count*-th log line with these values, once it is there."""

        def look() -> dict[str, Any] | None:
            found = self.lines(**fields)
            assert self.process.poll() is None, f"it ended:\n{self.text()}"
            return found[count - 1] if len(found) >= count else None

        return eventually(look, f"{fields} in\n{self.log}")

    def await_socket(self) -> Self:
        """Wait until its socket is there."""
        eventually(self.socket.is_socket, "the socket is there")
        return self

    def client(self, timeout_s: float = 5.0) -> KmsClient:
        """Return a client of its socket, to be entered."""
        return KmsClient(self.socket, timeout_s=timeout_s)

    async def status(self) -> StatusResponse:
        """Return its Status, asked over a connection of its own.

        Raises:
            CallFailed: It is not ok.
        """
        async with self.client() as client:
            return await client.status()

    async def status_failure(self) -> CallFailed | None:
        """Return how Status fails, or None if it does not."""
        try:
            await self.status()
        except CallFailed as failure:
            return failure
        return None

    async def await_ok(self) -> StatusResponse:
        """Return the first Status that is ok."""

        async def look() -> StatusResponse | None:
            with contextlib.suppress(CallFailed):
                return await self.status()
            assert self.process.poll() is None, f"it ended:\n{self.text()}"
            return None

        return await eventually_async(look, "Status is ok")

    async def await_failure(self, code: str) -> CallFailed:
        """Return the first failure of Status whose text names *code*."""

        async def look() -> CallFailed | None:
            failure = await self.status_failure()
            return failure if failure is not None and code in failure.text else None

        return await eventually_async(look, f"Status fails with {code}")

    def hang_up(self) -> None:
        """Send SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        self.process.terminate()
        return self.process.wait(WITHIN_S)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


class Lab:
    """A DSM of our own over real TLS, and daemons in front of it.

    Attributes:
        folder: Where everything is.
        dsm: The model behind the server.
        demo: The model with its apps and its key.
        server: The server.
        socket: The daemons' socket.
        daemon: The daemon that was started last.
    """

    daemon: Daemon

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.demo = Dsm.with_demo_key(KEY_NAME)
        self.dsm = self.demo.dsm
        self.server = EmulatorServer(self.dsm)
        self.socket = folder / "kms.sock"
        self._daemons: list[Daemon] = []
        self._secrets = [self.demo.api_key, self.demo.app.secret]
        opened = self.dsm.sessions.open

        def remember(app_id: str) -> Session:
            session = opened(app_id)
            self._secrets.append(session.token)
            return session

        vars(self.dsm.sessions)["open"] = remember

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.dsm.faults.clear()
        try:
            for daemon in self._daemons:
                if daemon.process.poll() is None:
                    daemon.process.terminate()
            for daemon in self._daemons:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    daemon.process.wait(WITHIN_S)
                if daemon.process.poll() is None:
                    daemon.kill()
        finally:
            self.server.close()
        for daemon in self._daemons:
            self._require_clean(daemon)

    def seed(self) -> bytes:
        """Return a new seed, which no log may show."""
        seed = os.urandom(32)
        self._secrets += [
            base64.b64encode(seed).decode().rstrip("="),
            base64.urlsafe_b64encode(seed).decode().rstrip("="),
            seed.hex(),
            repr(seed)[2:-1],
        ]
        return seed

    def _require_clean(self, daemon: Daemon) -> None:
        """Check that every line is whole, and that no secret of ours is in any."""
        text = daemon.text()
        for secret in self._secrets:
            assert secret not in text, "a secret stands in the log"
        for line in text.split("\n")[:-1]:
            assert line.isprintable()
            assert "Traceback" not in line

    def config(self, name: str = "config.json", **changes: Any) -> Path:
        """Write a config; a setting that is None is left out."""
        settings = {
            "sdkms_endpoint": self.server.url,
            "api_key": self.demo.api_key,
            "key_name": KEY_NAME,
            "socket_file": str(self.socket),
            "ca_file": str(self.server.ca_file),
            "write_format": "native",
        }
        kept = {k: v for k, v in (settings | changes).items() if v is not None}
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(json.dumps(kept))
        return path

    def start(
        self,
        *,
        stderr: int | None = None,
        environ: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> Daemon:
        """Start a daemon, and wait until its socket is there."""
        daemon = self.launch(self.config(**changes), stderr=stderr, environ=environ)
        return daemon.await_socket()

    def launch(
        self,
        config: Path,
        *,
        stderr: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Daemon:
        """Start a daemon with *config*, and wait for nothing."""
        self.daemon = Daemon(config, self.socket, stderr=stderr, environ=environ)
        self._daemons.append(self.daemon)
        return self.daemon

    def launch_by(self, launcher: Sequence[str], config: Path) -> Daemon:
        """Do the same by another program, which becomes the daemon in the end."""
        self.daemon = Daemon(config, self.socket, launcher=launcher)
        self._daemons.append(self.daemon)
        return self.daemon

    @contextlib.contextmanager
    def rest(self) -> Iterator[httpx.Client]:
        """Give a client of DSM's REST API with the app's key, as the Go plugin's is."""
        with httpx.Client(
            base_url=self.server.url,
            verify=ssl.create_default_context(cafile=self.server.ca_file),
            trust_env=False,
            headers={"Authorization": f"Basic {self.demo.api_key}"},
        ) as client:
            yield client

    def encrypt_as_go_plugin(self, seed: bytes) -> dict[str, Any]:
        """Return DSM's answer to the Go plugin's Encrypt, its bytes decoded."""
        body = {
            "key": {"name": KEY_NAME},
            "alg": "AES",
            "mode": "GCM",
            "plain": base64.b64encode(seed).decode(),
            "tag_len": 128,
        }
        with self.rest() as client:
            answer = client.post(ENCRYPT, json=body).raise_for_status().json()
        decoded = {n: base64.b64decode(answer[n]) for n in ("cipher", "iv", "tag")}
        return {"kid": answer["kid"], **decoded}


def one_line_problem(text: str) -> str | None:
    """Return what is wrong with an error's text, if anything is."""
    if not text.isprintable():
        return "it is more than one line"
    if len(text.encode()) > 512:
        return "it is too long"
    code = text.split(":", 1)[0]
    if not code.replace("-", "").isupper():
        return "it begins with no code"
    return None
