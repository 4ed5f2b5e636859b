"""Our two programs as their users start them: the daemon, and the DSM emulator."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import httpx
from tests.e2e.harness.program import Program


START_S = 20.0


def command() -> Path:
    """Return the ``k8s-sdkms-plugin`` under test.

    It is the one beside the Python that runs the tests, or what E2E_PLUGIN names.
    """
    named = os.environ.get("E2E_PLUGIN")
    return Path(named) if named else Path(sys.executable).with_name("k8s-sdkms-plugin")


@attrs.frozen
class Told:
    """What a command of ours said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it said, of a command that says JSON."""
        return json.loads(self.out)


def told(*words: str | Path) -> Told:
    """Run a command of ours, as a person at a shell would."""
    done = subprocess.run(
        [command(), *words], capture_output=True, text=True, timeout=120, check=False
    )
    return Told(done.returncode, done.stdout, done.stderr)


@attrs.frozen
class Sealed:
    """What DSM answers to an encrypt call."""

    kid: str
    cipher: bytes
    iv: bytes
    tag: bytes


class Emulator(Program):
    """A DSM of our own, as a process, reached over its REST API with real TLS."""

    def __init__(self, folder: Path, name: str = "emulator") -> None:
        super().__init__(name, folder / name)
        self.dir = self.folder / "dsm"
        self.ca_file = self.dir / "ca.pem"
        self._client: httpx.Client | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.mark()
        self.run([command(), "emulator", "serve", "--dir", self.dir])
        self.await_true(self._listens, within_s=START_S, what="it listens")
        trust = ssl.create_default_context(cafile=self.ca_file)
        self._client = httpx.Client(
            base_url=self.endpoint, verify=trust, trust_env=False
        )

    def stop(self) -> None:
        """Ask it to end; its keys end with it."""
        if self._client is not None:
            self._client.close()
        super().stop()

    @property
    def endpoint(self) -> str:
        """The URL that a daemon's ``sdkms_endpoint`` names."""
        return str(self._described()["url"])

    @property
    def port(self) -> int:
        """The loopback port that it listens on."""
        return httpx.URL(self.endpoint).port or 443

    @property
    def api_key(self) -> str:
        """The API key of an app that may encrypt and decrypt."""
        return (self.dir / "api-key").read_text().strip()

    def create_key(self, name: str) -> str:
        """Create an AES-256 key; return its kid."""
        operations = ["ENCRYPT", "DECRYPT", "APPMANAGEABLE"]
        body = {
            "name": name,
            "obj_type": "AES",
            "key_size": 256,
            "key_ops": operations,
            "group_id": self._described()["group_id"],
        }
        return str(self._admin("/crypto/v1/keys", body)["kid"])

    def kid(self, name: str) -> str:
        """Return the kid of the key that has this name now."""
        return str(self._admin("/crypto/v1/keys/info", {"name": name})["kid"])

    def encrypt(self, name: str, plain: bytes) -> Sealed:
        """Encrypt under a named key, as the Go plugin does: AES-GCM without AAD."""
        body = {
            "key": {"name": name},
            "alg": "AES",
            "mode": "GCM",
            "tag_len": 128,
            "plain": _base64(plain),
        }
        found = self._app("/crypto/v1/encrypt", body)
        return Sealed(
            kid=found["kid"],
            cipher=base64.b64decode(found["cipher"]),
            iv=base64.b64decode(found["iv"]),
            tag=base64.b64decode(found["tag"]),
        )

    def decrypt(self, sealed: Sealed) -> bytes:
        """Decrypt what ``encrypt`` or the Go plugin made."""
        body = {
            "key": {"kid": sealed.kid},
            "alg": "AES",
            "mode": "GCM",
            "cipher": _base64(sealed.cipher),
            "iv": _base64(sealed.iv),
            "tag": _base64(sealed.tag),
        }
        return base64.b64decode(self._app("/crypto/v1/decrypt", body)["plain"])

    def control(self, *arguments: str) -> str:
        """Run ``emulator ctl``, as a person at a shell would; return what it says."""
        done = subprocess.run(
            [command(), "emulator", "ctl", "--dir", self.dir, *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _admin(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call(path, body, (self.dir / "admin-api-key").read_text().strip())

    def _app(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call(path, body, self.api_key)

    def _call(self, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        assert self._client is not None, f"{self.name} was never started"
        headers = {"Authorization": f"Basic {key}"}
        answer = self._client.post(path, json=body, headers=headers)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        found: dict[str, Any] = answer.json()
        return found

    def _described(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads((self.dir / "emulator.json").read_text())
        return described

    def _listens(self) -> bool:
        return '"url"' in self.new_output(lines=20)


class Daemon(Program):
    """The daemon as a process, with a config file and a socket of its own.

    Its config is the Go plugin's four fields, and whatever else the test adds.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        emulator: Emulator,
        key_name: str,
        **settings: str,
    ) -> None:
        super().__init__(name, folder / name)
        self.socket = self.folder / "kms.sock"
        self.config = self.folder / "config.json"
        self.key_name = key_name
        self.environ = _environ_without_proxies()
        self.emulator = emulator
        self._settings = settings

    def configure(self, **settings: str) -> dict[str, str]:
        """Write the config file, with more settings if need be; return what it says."""
        self._settings |= settings
        written = {
            "sdkms_endpoint": self.emulator.endpoint,
            "api_key": self.emulator.api_key,
            "key_name": self.key_name,
            "socket_file": str(self.socket),
            **self._settings,
        }
        self.config.touch(mode=0o600)
        self.config.write_text(json.dumps(written))
        return written

    def start(self) -> None:
        """Start it and wait until its socket accepts."""
        if not self.config.exists():
            self.configure()
        self.run([command(), "serve", "--config", self.config], self.environ)
        self.await_true(self.accepts, within_s=START_S, what="its socket accepts")

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def key_id(self) -> str:
        """Return the key_id that Status answers, as ``status`` tells a person."""
        done = subprocess.run(
            [command(), "status", "--socket", self.socket, "--json"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(json.loads(done.stdout)["key_id"])

    def states(self) -> list[str]:
        """Return the states that it has logged since it was last started."""
        whole_lines, _, _ = self.log.read_text().rpartition("\n")
        found: list[str] = []
        for line in map(json.loads, whole_lines.splitlines()):
            if line["event"] == "serving":
                found.clear()
            elif line["event"] == "standing":
                found.append(line["state"])
        return found

    def await_state(self, *states: str, within_s: float) -> None:
        """Wait until the state that it logged last is one of these."""
        self.await_true(
            lambda: self.states()[-1:] and self.states()[-1] in states,
            within_s=within_s,
            what=f"its state is {' or '.join(states)}",
        )

    def accepts(self) -> bool:
        """Return whether somebody listens at its socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0


def _environ_without_proxies() -> dict[str, str]:
    # The DSM of these tests is on this machine, whatever proxy the machine has.
    return {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
