"""The daemon's figures, one JSON object: ``python -m bench.daemon``.

- ``start``: seconds from exec to the socket and to a good Status; resident memory;
- ``decrypt``: median milliseconds of one direct Decrypt through the socket, of the same
  decrypt asked of DSM by the adapter alone, and the difference, in interleaved rounds;
- ``burst``: how many of 100 concurrent Decrypts were refused or late;
- ``status``: Status with 64 Decrypts in flight, as a ratio to an empty grpc.aio server.

The DSM emulator is a process of its own. Compare ratios and differences of one run:
absolute figures move with the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.programs import (
    daemon,
    emulator,
    memory,
    set_latency,
    until_ready,
    write_config,
)

from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.provider import DsmKeyProvider
from adapters_dsm.settings import DsmSettings, Endpoint, KeySelector, Secret
from adapters_grpc.client import CallFailed, KmsClient
from kms_core.ports import Event, Telemetry
from kms_core.sealed_seed import SealedSeed, Version, aad_for_seed, decode
from kms_core.system import LoopClock, SystemRandomness


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


STARTS = 5
ROUNDS = 6
CALLS = 100
LATENCY_MS = 20
BURST = 100


class _Silence(Telemetry):
    def emit(self, event: Event) -> None:
        del event


async def start_figures(config: Path, socket: Path, folder: Path) -> dict[str, float]:
    """Start the daemon several times; return medians, and its memory."""
    bound, ready = [], []
    figures: dict[str, float] = {}
    for number in range(STARTS):
        since = time.monotonic()
        with daemon(config) as process:
            to_socket, to_status = await until_ready(socket, since)
            bound.append(to_socket)
            ready.append(to_status)
            if number == STARTS - 1:
                figures = await memory(socket, process.pid, folder)
    return {
        "socket_s": round(statistics.median(bound), 3),
        "ready_s": round(statistics.median(ready), 3),
        **figures,
    }


async def decrypt_figures(
    described: dict[str, Any], socket: Path, folder: Path
) -> dict[str, float]:
    """Return what a Decrypt through the socket takes beyond DSM's own time."""
    provider = DsmKeyProvider(
        DsmSettings(
            endpoints=(Endpoint.parse(described["url"]),),
            selector=KeySelector(name="bench"),
            credential=CredentialSource(
                api_key=Secret((folder / "api-key").read_text().strip())
            ),
            ca_file=folder / "ca.pem",
        ),
        clock=LoopClock(),
        randomness=SystemRandomness(),
        telemetry=_Silence(),
        environ=os.environ,
    )
    direct: list[float] = []
    through: list[float] = []
    async with KmsClient(socket) as client:
        stored = await client.encrypt(bytes(32))
        sealed = decode(stored.ciphertext)
        if not isinstance(sealed, SealedSeed):
            raise TypeError("the daemon does not protect directly")
        aad = aad_for_seed(Version.DIRECT, stored.key_id)

        async def ask_dsm() -> None:
            deadline = asyncio.get_running_loop().time() + 3
            await provider.decrypt(
                sealed.kid, sealed.ciphertext, aad, deadline=deadline
            )

        async def ask_socket() -> None:
            await client.decrypt(stored.ciphertext, stored.key_id)

        for _ in range(ROUNDS):
            direct += await timed(ask_dsm)
            through += await timed(ask_socket)
    await provider.aclose()
    own, ours = statistics.median(direct), statistics.median(through)
    return {
        "dsm_p50_ms": round(own, 2),
        "socket_p50_ms": round(ours, 2),
        "added_p50_ms": round(ours - own, 2),
    }


async def timed(call: Callable[[], Awaitable[None]], calls: int = CALLS) -> list[float]:
    """Return how long each of *calls* calls took, in milliseconds."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1000)
    return took


async def burst_figures(socket: Path) -> dict[str, int]:
    """Return how 100 concurrent Decrypts within 3 s went, ten times over."""
    failed = 0
    async with KmsClient(socket) as client:
        stored = await client.encrypt(bytes(32))
        for _ in range(10):
            outcomes = await asyncio.gather(
                *(
                    client.decrypt(stored.ciphertext, stored.key_id)
                    for _ in range(BURST)
                ),
                return_exceptions=True,
            )
            failed += sum(isinstance(outcome, CallFailed) for outcome in outcomes)
    return {"calls": 10 * BURST, "failed": failed}


def status_figures(socket: Path) -> dict[str, Any]:
    """Return Status under load, measured by the script of that name."""
    script = Path(__file__).with_name("status_under_load.py")
    command = [sys.executable, str(script), "--socket", str(socket)]
    done = subprocess.run(command, check=True, capture_output=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Measure everything and print it."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, emulator(Path(name)) as described:
        folder = Path(name)
        socket = folder / "kms.sock"
        config = write_config(folder, described, protection="direct")
        figures["start"] = asyncio.run(start_figures(config, socket, folder))
        with daemon(config):
            asyncio.run(until_ready(socket, time.monotonic()))
            set_latency(folder, LATENCY_MS)
            figures["decrypt"] = asyncio.run(decrypt_figures(described, socket, folder))
            figures["burst"] = asyncio.run(burst_figures(socket))
            set_latency(folder, 0)
            figures["status"] = status_figures(socket)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
