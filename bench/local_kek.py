"""What the local KEK brings, one JSON object: ``python -m bench.local_kek``.

- ``warm``: Decrypt and Encrypt through the socket, one in flight, DSM at 20 ms: calls a
  second, and how many times as many as one DSM round trip allows;
- ``load``: Decrypts a second with 64 in flight, and Status meanwhile;
- ``load_go``: the same by Kubernetes' Go client (``go_client/``), where there is a Go,
  at the log level ``info``, whose line for each call is part of the price;
- ``cipher``: microseconds of CPU of one open and one seal, with all that we add, but
  without gRPC;
- ``cold``: seeds sealed over as many restarts of the daemon; then a new daemon opens
  all of them, one after another: DSM decrypts, and seconds; with a state folder,
  without one, and sealed in one life;
- ``no_latency``: median milliseconds of a warm and of a direct Decrypt, DSM at 0 ms;
- ``growth``: resident memory before and after many warm calls, in MiB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.daemon import status_figures, timed
from bench.programs import (
    US,
    daemon,
    emulator,
    rss_mib,
    set_latency,
    until_ready,
    write_config,
)

from adapters_grpc.client import KmsClient
from kms_core.fakes import InMemoryKeyProvider
from kms_core.key_id import AnnouncedKey
from kms_core.local_kek import LocalKekEnvelope
from kms_core.store import NoStore
from kms_core.system import LoopClock, SystemRandomness


if TYPE_CHECKING:
    from adapters_grpc.messages import EncryptResponse


GO_CLIENT = Path(__file__).with_name("go_client")
LATENCY_MS = 20
IN_FLIGHT = 64


async def warm_figures(socket: Path) -> dict[str, float]:
    """Return rates of warm calls, one in flight."""
    async with KmsClient(socket) as client:
        stored = await client.encrypt(bytes(32))

        async def decrypt() -> None:
            await client.decrypt(stored.ciphertext, stored.key_id)

        async def encrypt() -> None:
            await client.encrypt(bytes(32))

        opened = statistics.median(await timed(decrypt, 2000))
        sealed = statistics.median(await timed(encrypt, 2000))
    return {
        "decrypt_p50_ms": round(opened, 3),
        "encrypt_p50_ms": round(sealed, 3),
        "decrypts_per_round_trip": round(LATENCY_MS / opened, 1),
        "encrypts_per_round_trip": round(LATENCY_MS / sealed, 1),
    }


async def cipher_figures() -> dict[str, float]:
    """Return the CPU time of opening and sealing, in this process."""
    provider = InMemoryKeyProvider()
    envelope = LocalKekEnvelope(
        provider,
        "sdkms.v1",
        clock=LoopClock(),
        randomness=SystemRandomness(),
        store=NoStore(),
    )
    key = AnnouncedKey(provider.configured, f"sdkms.v1:{provider.configured}")
    deadline = asyncio.get_running_loop().time() + 600
    await envelope.prove(key, bytes(32), deadline=deadline)
    count = 20_000
    began = time.process_time()
    for _ in range(count):
        stored = await envelope.seal(bytes(32), key, deadline=deadline)
    sealed = time.process_time()
    for _ in range(count):
        await envelope.open(stored, key.key_id, deadline=deadline)
    opened = time.process_time()
    await envelope.aclose()
    return {
        "seal_us": round((sealed - began) / count * 1e6, 1),
        "open_us": round((opened - sealed) / count * 1e6, 1),
    }


async def sealed_over_restarts(
    config: Path, socket: Path, restarts: int, each: int
) -> list[EncryptResponse]:
    """Return *each* sealed seeds of each of *restarts* lives of the daemon."""
    seeds = []
    for _ in range(restarts):
        with daemon(config):
            await until_ready(socket, time.monotonic())
            async with KmsClient(socket) as client:
                seeds += [await client.encrypt(bytes(32)) for _ in range(each)]
    return seeds


async def cold_figures(
    config: Path, socket: Path, folder: Path, seeds: list[EncryptResponse]
) -> dict[str, float]:
    """Let a new daemon open all *seeds* in a row; return what DSM was asked."""
    with daemon(config):
        await until_ready(socket, time.monotonic())
        before = decrypts_of_dsm(folder)
        began = time.monotonic()
        async with KmsClient(socket, timeout_s=10) as client:
            for seed in seeds:
                await client.decrypt(seed.ciphertext, seed.key_id)
        took = time.monotonic() - began
    asked = decrypts_of_dsm(folder) - before
    return {"seeds": len(seeds), "dsm_decrypts": asked, "seconds": round(took, 3)}


def decrypts_of_dsm(folder: Path) -> int:
    """Return how many decrypts the emulator has counted."""
    command = [*US, "emulator", "ctl", "--dir", str(folder), "counters"]
    done = subprocess.run(command, check=True, capture_output=True)
    counted = json.loads(done.stdout)
    return sum(
        count for path, count in _paths(counted) if path.endswith("/crypto/v1/decrypt")
    )


def _paths(counted: Any) -> list[tuple[str, int]]:
    return list(counted["path"].items())


def go_client_figures(socket: Path) -> dict[str, float] | None:
    """Return what Kubernetes' own client measures, or None without a Go."""
    if shutil.which("go") is None:
        return None
    run = ["go", "run", ".", str(socket), str(IN_FLIGHT), "6"]
    done = subprocess.run(run, cwd=GO_CLIENT, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


async def growth_figures(socket: Path, pid: int, calls: int) -> dict[str, float]:
    """Return memory before and after *calls* warm Decrypts, 64 in flight."""
    async with KmsClient(socket, timeout_s=10) as client:
        stored = await client.encrypt(bytes(32))

        async def some(count: int) -> None:
            for _ in range(count):
                await client.decrypt(stored.ciphertext, stored.key_id)

        await asyncio.gather(*(some(200) for _ in range(IN_FLIGHT)))
        before = rss_mib(pid)
        await asyncio.gather(*(some(calls // IN_FLIGHT) for _ in range(IN_FLIGHT)))
        after = rss_mib(pid)
    return {
        "calls": calls,
        "before_mib": round(before, 1),
        "after_mib": round(after, 1),
    }


async def median_decrypt_ms(config: Path, socket: Path) -> float:
    """Return the median of a Decrypt, after a first one, in milliseconds."""
    with daemon(config):
        await until_ready(socket, time.monotonic())
        async with KmsClient(socket) as client:
            stored = await client.encrypt(bytes(32))

            async def decrypt() -> None:
                await client.decrypt(stored.ciphertext, stored.key_id)

            return statistics.median(await timed(decrypt, 1000))


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=200)
    parser.add_argument("--growth-calls", type=int, default=1_000_000)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"cipher": asyncio.run(cipher_figures())}
    with tempfile.TemporaryDirectory() as name, emulator(Path(name)) as described:
        folder = Path(name)
        socket = folder / "kms.sock"
        state = folder / "state"
        state.mkdir(mode=0o700)
        figures["no_latency"] = {
            protection: round(
                asyncio.run(
                    median_decrypt_ms(
                        write_config(folder, described, protection=protection), socket
                    )
                ),
                3,
            )
            for protection in ("local-kek", "direct")
        }
        set_latency(folder, LATENCY_MS)
        plain = write_config(folder, described)
        with daemon(plain) as process:
            asyncio.run(until_ready(socket, time.monotonic()))
            figures["warm"] = asyncio.run(warm_figures(socket))
            figures["load"] = status_figures(socket)["target"]
            calls = arguments.growth_calls
            figures["growth"] = asyncio.run(growth_figures(socket, process.pid, calls))
        with daemon(
            write_config(folder, described, log_level="info"), subprocess.DEVNULL
        ):
            asyncio.run(until_ready(socket, time.monotonic()))
            figures["load_go"] = go_client_figures(socket)
        figures["cold"] = {}
        lives = arguments.restarts
        for label, more, restarts, each in (
            ("with_state_dir", {"state_dir": str(state)}, lives, 1),
            ("without", {}, lives, 1),
            ("one_life", {}, 1, lives),
        ):
            config = write_config(folder, described, **more)
            sealing = sealed_over_restarts(config, socket, restarts, each)
            seeds = asyncio.run(sealing)
            figures["cold"][label] = asyncio.run(
                cold_figures(config, socket, folder, seeds)
            )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
