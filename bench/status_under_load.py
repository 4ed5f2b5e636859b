"""Status' latency while Decrypts are in flight, beside that of an empty server.

    python bench/status_under_load.py --socket /run/kms/kms.sock
    python bench/status_under_load.py               # our server, a made-up service

Status is asked on a connection of its own from a process of its own, one call after
another; the Decrypts come from a second process; each server is a third. Rounds on the
empty server and on the target take turns, and medians over the rounds are printed as
JSON. The empty server is what protoc's generated code makes of grpc.aio: handlers that
return constant bytes, registered by name and generically.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from adapters_grpc.messages import (
    DECRYPT_METHOD,
    ENCRYPT_METHOD,
    SERVICE,
    STATUS_METHOD,
    DecryptRequest,
    DecryptResponse,
    EncryptRequest,
    EncryptResponse,
    StatusResponse,
)


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any


UID: Final = "9a1a2d3c-0000-4000-8000-000000000000"
WARM_UP_S: Final = 0.5
PAUSE_S: Final = 0.002
TIMEOUT_S: Final = 30.0


async def main() -> None:
    """Play the role that the command line names."""
    arguments = parsed()
    match arguments.role:
        case "empty":
            await serve_empty(arguments.socket)
        case "burning":
            await serve_burning(arguments.socket, arguments.burn_ms / 1000)
        case "load":
            await load(arguments.socket, arguments.in_flight)
        case "ask":
            await ask(arguments.socket, arguments.calls)
        case _:
            await compare(arguments)


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description="Status under Decrypts in flight")
    parser.add_argument("--socket", type=Path, help="a KMS v2 plugin's socket")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--calls", type=int, default=400, help="Status calls a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--burn-ms",
        type=float,
        default=0.9,
        help="CPU that the made-up service spends on a Decrypt, in three steps",
    )
    parser.add_argument("--role", default="compare", help=argparse.SUPPRESS)
    return parser.parse_args()


async def compare(arguments: argparse.Namespace) -> None:
    """Measure the empty server and the target in turns, and print the medians."""
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sockets = {"empty": directory / "empty.sock", "target": arguments.socket}
        await stack.enter_async_context(child("empty", sockets["empty"]))
        if arguments.socket is None:
            sockets["target"] = directory / "ours.sock"
            burn = ("--burn-ms", str(arguments.burn_ms))
            await stack.enter_async_context(child("burning", sockets["target"], *burn))
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sockets}
        for _ in range(arguments.rounds):
            for name, socket in sockets.items():
                rounds[name].append(await one_round(socket, arguments))
    figures = {
        name: {key: round(median(found, key), 3) for key in found[0]}
        for name, found in rounds.items()
    }
    ratio = figures["target"]["p99_ms"] / figures["empty"]["p99_ms"]
    summary = {
        "in_flight": arguments.in_flight,
        "rounds": arguments.rounds,
        **figures,
        "p99_ratio": round(ratio, 2),
    }
    print(json.dumps(summary))


def median(found: list[dict[str, float]], key: str) -> float:
    """Return the median of one figure over the rounds."""
    return statistics.median(one[key] for one in found)


async def one_round(socket: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return the figures of one round on one server."""
    in_flight = ("--in-flight", str(arguments.in_flight))
    async with child("load", socket, *in_flight) as loading:
        async with child("ask", socket, "--calls", str(arguments.calls)) as asking:
            figures = json.loads(await line_of(asking))
        assert loading.stdin is not None  # noqa: S101 - it was asked for
        loading.stdin.close()
        return {**figures, **json.loads(await line_of(loading))}


@contextlib.asynccontextmanager
async def child(
    role: str, socket: Path, *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run this script in another role, from its first line of output on."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        *("--role", role, "--socket", str(socket), *options),
        stdin=pipe,
        stdout=pipe,
    )
    try:
        await line_of(process)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> bytes:
    """Return the next line that a child prints."""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    line = await process.stdout.readline()
    if not line:
        raise SystemExit("a process of the benchmark failed; see above")
    return line


async def serve_empty(socket: Path) -> None:
    """Serve constant bytes, as protoc's generated code would."""
    status = StatusResponse(version="v2", healthz="ok", key_id="k").SerializeToString()
    sealed = EncryptResponse(ciphertext=b"c" * 300, key_id="k").SerializeToString()
    seed = DecryptResponse(plaintext=b"p" * 32).SerializeToString()

    def constant(answer: bytes) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def respond(_raw: bytes, _context: object) -> bytes:
            return answer

        return grpc.unary_unary_rpc_method_handler(respond)

    methods = {
        "Status": constant(status),
        "Encrypt": constant(sealed),
        "Decrypt": constant(seed),
    }
    server = grpc.aio.server()
    generic = grpc.method_handlers_generic_handler(SERVICE, methods)
    server.add_generic_rpc_handlers([generic])
    server.add_registered_method_handlers(SERVICE, methods)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    print("serving", flush=True)
    await server.wait_for_termination()


async def serve_burning(socket: Path, burn_s: float) -> None:
    """Serve our handlers on a service that burns CPU in each Decrypt."""
    # Only here: with --socket this script needs nothing of ours but the messages.
    from adapters_grpc.server import KmsServer  # noqa: PLC0415
    from kms_core.fakes import RecordedTelemetry  # noqa: PLC0415
    from kms_core.service import EncryptAnswer, StatusAnswer  # noqa: PLC0415

    class Burning:
        def status(self) -> StatusAnswer:
            return StatusAnswer("v2", "ok", "k")

        async def encrypt(self, _plaintext: bytes, *, deadline: float) -> EncryptAnswer:
            return EncryptAnswer(b"c" * 300, f"k{deadline:.0f}"[:1])

        async def decrypt(self, *_: Any, **__: Any) -> bytes:
            for _step in range(3):
                until = time.perf_counter() + burn_s / 3
                while time.perf_counter() < until:
                    pass
                await asyncio.sleep(0)
            return b"p" * 32

    class Deaf(RecordedTelemetry):
        def emit(self, event: object) -> None:
            pass

    server = KmsServer(Burning(), Deaf(), socket)  # type: ignore[arg-type]
    await server.start()
    print("serving", flush=True)
    await asyncio.Event().wait()


async def load(socket: Path, in_flight: int) -> None:
    """Keep *in_flight* Decrypts in flight until stdin ends, and print their rate."""
    async with channel(socket) as on:
        encrypt = raw_method(on, ENCRYPT_METHOD)
        decrypt = raw_method(on, DECRYPT_METHOD)
        ask_seed = EncryptRequest(plaintext=bytes(range(32)), uid=UID)
        raw = await encrypt(ask_seed.SerializeToString(), timeout=TIMEOUT_S)
        sealed = EncryptResponse.FromString(raw)
        echo = DecryptRequest(
            ciphertext=sealed.ciphertext, key_id=sealed.key_id, uid=UID
        ).SerializeToString()
        ended = asyncio.Event()
        answered = 0

        async def worker() -> None:
            nonlocal answered
            while not ended.is_set():
                await decrypt(echo, timeout=TIMEOUT_S)
                answered += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(worker())
            await asyncio.sleep(WARM_UP_S)
            print("loading", flush=True)
            begun, answered = time.perf_counter(), 0
            await asyncio.to_thread(sys.stdin.read)
            elapsed_s = time.perf_counter() - begun
            ended.set()
    print(json.dumps({"decrypts_per_s": answered / elapsed_s}), flush=True)


async def ask(socket: Path, calls: int) -> None:
    """Ask for Status, one call after another, and print the quantiles."""
    print("asking", flush=True)
    took_ms = []
    async with channel(socket) as on:
        status = raw_method(on, STATUS_METHOD)
        await status(b"", timeout=TIMEOUT_S)
        for _ in range(calls):
            begun = time.perf_counter()
            await status(b"", timeout=TIMEOUT_S)
            took_ms.append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(PAUSE_S)
    cuts = statistics.quantiles(took_ms, n=100)
    print(json.dumps({"p50_ms": cuts[49], "p99_ms": cuts[98]}), flush=True)


def raw_method(
    on: grpc.aio.Channel, method: str
) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """Return *method*, which neither parses nor serialises."""
    return on.unary_unary(method)


def channel(socket: Path) -> grpc.aio.Channel:
    """Return a connection of our own to *socket*."""
    options = [
        ("grpc.default_authority", "localhost"),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.insecure_channel(f"unix:{socket}", options=options)


if __name__ == "__main__":
    asyncio.run(main())
