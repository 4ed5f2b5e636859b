"""How fast the daemon is ready after exec, and how much memory it takes.

Prints JSON: seconds from exec to the socket, and to the first good Status, median of
several starts; RSS idle and with 100 Decrypts in flight, in MiB. The DSM emulator runs
in a process of its own and answers after 20 ms while the 100 are in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
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
    """Run the DSM emulator; yield what it says of itself."""
    command = [*US, "emulator", "serve", "--dir", str(folder), "--key-name", "bench"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            line = b"" if process.stdout is None else process.stdout.readline()
            yield json.loads(line)
        finally:
            process.terminate()


def write_config(folder: Path, described: dict[str, Any], **more: str) -> Path:
    """Write a config for the daemon in front of the emulator; return its path."""
    config = folder / "config.json"
    settings = {
        "sdkms_endpoint": described["url"],
        "api_key": (folder / "api-key").read_text().strip(),
        "key_name": "bench",
        "socket_file": str(folder / "kms.sock"),
        "ca_file": str(folder / "ca.pem"),
        "write_format": "native",
        "log_level": "warning",
        **more,
    }
    config.touch(0o600)
    config.write_text(json.dumps(settings))
    return config


@contextlib.contextmanager
def daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon."""
    with subprocess.Popen([*US, "serve", "--config", str(config)]) as process:
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


async def memory(socket: Path, pid: int, folder: Path) -> dict[str, float]:
    """Return RSS idle, and the peak with 100 Decrypts in flight."""
    idle = rss_mib(pid)
    subprocess.run(
        [*US, "emulator", "ctl", "--dir", str(folder), "latency", "20"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=7)
    starts = parser.parse_args().starts
    bound, ready = [], []
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, emulator(Path(name)) as described:
        folder = Path(name)
        config = write_config(folder, described)
        socket = folder / "kms.sock"
        for _ in range(starts):
            since = time.monotonic()
            with daemon(config) as process:
                to_socket, to_status = asyncio.run(until_ready(socket, since))
                bound.append(to_socket)
                ready.append(to_status)
                if len(ready) == starts:
                    figures = asyncio.run(memory(socket, process.pid, folder))
    print(
        json.dumps(
            {
                "socket_s": round(statistics.median(bound), 3),
                "ready_s": round(statistics.median(ready), 3),
                **figures,
            }
        )
    )


if __name__ == "__main__":
    main()
