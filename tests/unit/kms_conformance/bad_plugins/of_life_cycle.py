from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import grpc.aio
from tests.unit.kms_conformance.bad_plugins import bad

from kms_conformance.reference import ReferencePlugin, Refusal, SocketTaken


if TYPE_CHECKING:
    from pathlib import Path

    from adapters_grpc.messages import (
        EncryptRequest,
        EncryptResponse,
        StatusRequest,
        StatusResponse,
    )
    from kms_conformance.reference import RemoteKms


@bad("L01", "L02", also=("T08",))
class IsNotReadyBeforeTheFirstStatus(ReferencePlugin):
    _asked = False

    async def start(self) -> None:
        self._asked = False
        await super().start()

    async def status(self, request: StatusRequest) -> StatusResponse:
        self._asked = True
        return await super().status(request)

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if not self._asked:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "not logged in yet")
        return await super().encrypt(request)


@bad("L03")
class StumblesOverAStaleSocket(ReferencePlugin):
    """It removes the socket in its clean-up, so that its second start succeeds."""

    async def start(self) -> None:
        if self.path.exists():
            self.path.unlink()
            raise SocketTaken("the address is in use")
        await super().start()


@bad("L04")
class DoesNotDrain(ReferencePlugin):
    async def stop(self, grace_s: float = 0.0) -> None:
        del grace_s
        await super().stop(0.0)


@bad("L05")
class LeavesItsSocketBehind(ReferencePlugin):
    async def stop(self, grace_s: float = 0.0) -> None:
        await super().stop(grace_s)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(self.path))


@bad("L06")
class TakesTheSocketOver(ReferencePlugin):
    """What grpcio does by itself: the first server goes on where nobody finds it."""

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._cut_off: list[grpc.aio.Server] = []

    def _claim(self) -> None:
        if self._server is not None:
            self._cut_off.append(self._server)
        self.path.unlink(missing_ok=True)

    async def stop(self, grace_s: float = 0.0) -> None:
        for server in self._cut_off:
            await server.stop(0.0)
        self._cut_off = []
        await super().stop(grace_s)


@bad("L06")
class SaysThatASecondInstanceHasStarted(ReferencePlugin):
    async def start(self) -> None:
        if self._server is None:
            await super().start()


@bad("L07")
class NeedsItsKmsToStart(ReferencePlugin):
    async def start(self) -> None:
        if self.kms.broken:
            raise SocketTaken("no login")
        await super().start()


@bad("L07", also=("S13", "S14", "S15", "S16", "A06", "R10"))
class SaysOkWithoutItsKms(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        broken, self.kms.broken = self.kms.broken, False
        try:
            return await super().status(request)
        finally:
            self.kms.broken = broken


@bad("L07", timeout_s=2.0)
class HangsWithoutItsKms(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        if self.kms.broken:
            await asyncio.get_running_loop().create_future()
        return await super().status(request)


@bad("L08")
class DeletesAForeignFile(ReferencePlugin):
    def _claim(self) -> None:
        if self.path.is_file():
            self.path.unlink()
        super()._claim()


@bad("L08")
class StartsBesideAForeignFile(ReferencePlugin):
    async def start(self) -> None:
        if not self.path.is_file():
            await super().start()


@bad("L09")
class LeaksFileDescriptors(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._leaked: list[int] = []

    async def status(self, request: StatusRequest) -> StatusResponse:
        self._leaked.append(os.open(os.devnull, os.O_RDONLY))
        return await super().status(request)

    async def stop(self, grace_s: float = 0.0) -> None:
        await super().stop(grace_s)
        while self._leaked:
            os.close(self._leaked.pop())


@bad("L09")
class LeaksMemory(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._leaked: list[bytes] = []

    async def status(self, request: StatusRequest) -> StatusResponse:
        self._leaked.append(b"x" * (3 * 1024 * 512))
        return await super().status(request)
