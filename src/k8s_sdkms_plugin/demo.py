"""``demo``: the daemon in front of an embedded DSM emulator, each a process.

What it shows is what a cluster sees: Status, one Encrypt and one Decrypt through the
socket, by a KMS v2 client.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adapters_grpc.client import CallFailed, KmsClient
from k8s_sdkms_plugin.own_processes import (
    NotStarted,
    emulator,
    ended,
    last_words,
    ourselves,
    start_daemon,
    write_config,
)


if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from adapters_grpc.messages import StatusResponse


KEY_NAME: Final = "kubernetes"

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1

_START_S: Final = 30.0
_SEED_BYTES: Final = 32


class _DemoFailed(Exception):
    """The show can't go on; the text says why."""


def demo(folder: Path | None, *, once: bool) -> int:
    """Run the show, then serve until Ctrl-C, and return the exit code.

    Args:
        folder: Where its files go; None makes a folder that is removed at the end.
        once: Whether to stop after the show.
    """
    # Both signals end the `with` blocks below in order, children first.
    # SIGINT by name: a shell makes what it puts into the background deaf to it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            if folder is None:
                made = tempfile.TemporaryDirectory(prefix="kms-demo-")
                folder = Path(stack.enter_context(made))
            _run(folder.absolute(), stack, once=once)
    except KeyboardInterrupt:
        print("\nStopped.")
    except (_DemoFailed, NotStarted) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _run(folder: Path, stack: contextlib.ExitStack, *, once: bool) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _DemoFailed(f"can't make {folder}: {error.strerror}") from error
    socket = folder / "kms.sock"
    log = folder / "daemon.log"
    print("Starting a DSM emulator, and the daemon in front of it ...")
    dsm = stack.enter_context(emulator(folder, KEY_NAME))
    config = _write_config(folder, dsm, socket)
    daemon = stack.enter_context(_daemon(config, log))
    asyncio.run(_show(socket, daemon, log))
    _explain(folder, socket, dsm, config, daemon.pid)
    if once:
        return
    print("\nServing until Ctrl-C.", flush=True)
    code = daemon.wait()
    raise _DemoFailed(f"the daemon ended with exit code {code}: {last_words(log)}")


@contextlib.contextmanager
def _daemon(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with start_daemon(config, log) as process, ended(process):
        yield process


def _write_config(folder: Path, dsm: dict[str, Any], socket: Path) -> Path:
    config = folder / "k8s-sdkms-plugin.json"
    settings = {
        "sdkms_endpoint": dsm["url"],
        "api_key": (folder / "api-key").read_text().strip(),
        "key_name": KEY_NAME,
        "socket_file": str(socket),
        "ca_file": str(folder / "ca.pem"),
        "write_format": "native",
        "log_format": "text",
    }
    write_config(config, settings)
    return config


async def _show(socket: Path, daemon: subprocess.Popen[bytes], log: Path) -> None:
    async with KmsClient(socket) as client:
        try:
            status = await _ready(client, daemon, log)
            print(f"\nStatus   version={status.version} healthz={status.healthz}")
            print(f"         key_id={status.key_id}")
            seed = secrets.token_bytes(_SEED_BYTES)
            sealed = await client.encrypt(seed, uid="demo-encrypt")
            print(f"Encrypt  {len(seed)} random bytes, sha256 {_digest(seed)}")
            print(f"         -> {len(sealed.ciphertext)} bytes under {sealed.key_id}")
            opened = await client.decrypt(
                sealed.ciphertext, sealed.key_id, uid="demo-decrypt"
            )
        except CallFailed as failure:
            raise _DemoFailed(str(failure)) from failure
    same = secrets.compare_digest(opened, seed)
    print(f"Decrypt  -> {len(opened)} bytes, sha256 {_digest(opened)}", end="")
    print(", the same" if same else ", NOT the same")
    if not same:
        raise _DemoFailed("Decrypt returned other bytes")


async def _ready(
    client: KmsClient, daemon: subprocess.Popen[bytes], log: Path
) -> StatusResponse:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            return await client.status()
        except CallFailed as failure:
            if daemon.poll() is not None:
                said = last_words(log)
                raise _DemoFailed(f"the daemon ended: {said}") from failure
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


def _explain(
    folder: Path, socket: Path, dsm: dict[str, Any], config: Path, pid: int
) -> None:
    us = shlex.join(_ourselves_for_people())
    print(
        f"""
Files
  socket          {socket}
  configuration   {config}
  daemon's log    {folder / "daemon.log"}
  DSM emulator    {dsm["url"]}, CA {folder / "ca.pem"}

For kube-apiserver, --encryption-provider-config:
  kind: EncryptionConfiguration
  apiVersion: apiserver.config.k8s.io/v1
  resources:
    - resources: [secrets]
      providers:
        - kms:
            apiVersion: v2
            name: dsm
            endpoint: unix://{socket}
            timeout: 3s
        - identity: {{}}

Ask the socket yourself:
  {us} call status --socket {socket}

Rotate the key in DSM:
  {us} emulator ctl --dir {folder} rekey
Within 30 s (at once after kill -HUP {pid}) Status names the new key and the one that
it replaced, sdkms.v1:<new>:<old>, and what was sealed before still opens. That is how
kube-apiserver learns of the rotation and writes under the new key from then on."""
    )


def _ourselves_for_people() -> list[str]:
    script = Path(sys.argv[0])
    return [str(script)] if script.name == "k8s-sdkms-plugin" else ourselves()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16] + "..."
