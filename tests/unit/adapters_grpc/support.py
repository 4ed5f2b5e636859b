"""What the gRPC adapter's tests share: a service to serve, and raw calls to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, cast

import grpc
import grpc.aio

from adapters_grpc.server import KmsServer
from kms_core.events import CallFinished
from kms_core.fakes import RecordedTelemetry
from kms_core.ports import call_uid
from kms_core.service import EncryptAnswer, KmsService, StatusAnswer


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


KEY_ID = "sdkms.v1:7f8d0c5e-0000-4000-8000-000000000001"
ANSWER = StatusAnswer("v2", "ok", KEY_ID)


class ReversingService:
    """Encrypts by reversing. Fails with ``error``; Decrypt waits for ``gate``."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.in_flight = 0
        self.most_in_flight = 0
        self.arrived = asyncio.Event()
        self.deadlines: list[float] = []
        self.annotated: list[bool] = []
        self.uids: list[str] = []
        self.cancelled = asyncio.Event()

    def status(self) -> StatusAnswer:
        self._fail()
        return ANSWER

    async def encrypt(self, plaintext: bytes, *, deadline: float) -> EncryptAnswer:
        self.uids.append(call_uid.get())
        self.deadlines.append(deadline)
        self._fail()
        return EncryptAnswer(plaintext[::-1], KEY_ID)

    async def decrypt(
        self, ciphertext: bytes, key_id: str, *, annotated: bool, deadline: float
    ) -> bytes:
        self.uids.append(call_uid.get())
        self.annotated.append(annotated)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.arrived.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.in_flight -= 1
        self._fail()
        return ciphertext[::-1]

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class World:
    """A server on a unix socket, its service and what it told the log."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "kms.sock"
        self.service = ReversingService()
        self.telemetry = RecordedTelemetry()

    def server(self) -> KmsServer:
        service = cast("KmsService", self.service)
        return KmsServer(service, self.telemetry, self.path)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[KmsServer]:
        server = self.server()
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    def listing(self) -> list[str]:
        return sorted(entry.name for entry in self.path.parent.iterdir())

    def finished(self) -> list[CallFinished]:
        return [e for e in self.telemetry.events if isinstance(e, CallFinished)]


@contextlib.asynccontextmanager
async def channel(
    path: Path, *, authority: str = "localhost", compression: int | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    options: list[tuple[str, str | int]] = [
        ("grpc.default_authority", authority),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if compression is not None:
        options.append(("grpc.default_compression_algorithm", compression))
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as open_one:
        yield open_one


def raw_method(
    on: grpc.aio.Channel, method: str
) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """Return *method* of the channel, which neither parses nor serialises."""
    return on.unary_unary(method)


async def call(
    on: grpc.aio.Channel, method: str, raw: bytes, timeout_s: float | None = 3.0
) -> bytes:
    """Send *raw* as it is and return the answer as it is."""
    return await raw_method(on, method)(raw, timeout=timeout_s)


async def outcome(
    on: grpc.aio.Channel, method: str, raw: bytes, timeout_s: float | None = 3.0
) -> tuple[str, str]:
    """Return code and details of a call."""
    try:
        await call(on, method, raw, timeout_s)
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


def run_python(code: str, *, path: Path | None = None) -> str:
    """Run *code* in a fresh interpreter and return what it printed."""
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
