"""Starting the emulator and the daemon for benchmarks, and watching them start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_grpc.client import CallFailed, KmsClient


if TYPE_CHECKING:
    from collections.abc import Iterator


US = [sys.executable, "-m", "k8s_sdkms_plugin"]
START_S = 20.0


@contextlib.contextmanager
def emulator(folder: Path) -> Iterator[dict[str, Any]]:
    """Run the DSM emulator; yield what it says of itself, and its ``pid``."""
    command = [*US, "emulator", "serve", "--dir", str(folder), "--key-name", "bench"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            line = b"" if process.stdout is None else process.stdout.readline()
            yield json.loads(line) | {"pid": process.pid}
        finally:
            process.terminate()


def write_config(
    folder: Path, described: dict[str, Any], place: Path | None = None, /, **more: Any
) -> Path:
    """Write a config for a daemon in front of the emulator; return its path.

    Args:
        folder: The emulator's folder.
        described: What it says of itself.
        place: Folder for config and socket; the emulator's if absent.
        **more: Settings; one that is None is left out.
    """
    home = place or folder
    config = home / "config.json"
    settings = {
        "sdkms_endpoint": described["url"],
        "api_key": (folder / "api-key").read_text().strip(),
        "key_name": "bench",
        "socket_file": str(home / "kms.sock"),
        "ca_file": str(folder / "ca.pem"),
        "write_format": "native",
        "log_level": "warning",
        **more,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    config.touch(0o600)
    config.write_text(json.dumps(given))
    return config


@contextlib.contextmanager
def daemon(
    config: Path, stderr: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon; its log goes to the descriptor *stderr*, or to ours."""
    command = [*US, "serve", "--config", str(config)]
    with subprocess.Popen(command, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.terminate()


async def until_ready(socket: Path, since: float) -> tuple[float, float]:
    """Return seconds from *since* to the socket and to the first good Status."""
    while not socket.exists():
        await asyncio.sleep(0.002)
        if time.monotonic() - since > START_S:
            raise TimeoutError
    bound = time.monotonic() - since
    async with KmsClient(socket) as client:
        while True:
            try:
                await client.status()
                return bound, time.monotonic() - since
            except CallFailed:
                await asyncio.sleep(0.005)
                if time.monotonic() - since > START_S:
                    raise


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(pid)


def set_latency(folder: Path, latency_ms: int) -> None:
    """Let every answer of the emulator come so many milliseconds later."""
    command = [*US, "emulator", "ctl", "--dir", str(folder), "latency"]
    subprocess.run([*command, str(latency_ms)], check=True, stdout=subprocess.DEVNULL)


async def memory(socket: Path, pid: int, folder: Path) -> dict[str, float]:
    """Return RSS idle, and the peak with 100 Decrypts in flight, in MiB.

    DSM answers after 20 ms from then on, so that the 100 really are in flight.
    """
    idle = rss_mib(pid)
    set_latency(folder, 20)
    peak = idle
    async with KmsClient(socket, timeout_s=10) as client:
        sealed = await client.encrypt(bytes(32))
        for _ in range(20):
            calls = asyncio.gather(
                *(client.decrypt(sealed.ciphertext, sealed.key_id) for _ in range(100))
            )
            while not calls.done():
                await asyncio.sleep(0.005)
                peak = max(peak, rss_mib(pid))
            await calls
    return {"rss_idle_mib": round(idle, 1), "rss_100_in_flight_mib": round(peak, 1)}
