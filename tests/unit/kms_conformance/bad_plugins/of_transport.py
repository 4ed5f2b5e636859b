from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Final

import grpc.aio
from tests.unit.kms_conformance.bad_plugins import bad
from tests.unit.kms_conformance.bad_plugins.by_hand import ByHand

from adapters_grpc.messages import (
    DECRYPT_METHOD,
    SERVICE,
    STATUS_METHOD,
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
    StatusRequest,
    StatusResponse,
)
from kms_conformance.http2 import grpc_frame
from kms_conformance.reference import ReferencePlugin, Refusal, unary


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.kms_conformance.bad_plugins.by_hand import Call

    from adapters_grpc.messages import DecryptResponse
    from kms_conformance.reference import RemoteKms


EVERYTHING: Final = tuple("TSEDARLV")
"""The groups that fail when no call is answered."""


@bad("T01", also=EVERYTHING, timeout_s=0.05)
class SpeaksHttp1(ByHand):
    async def converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del reader
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@bad("T01", also=EVERYTHING, timeout_s=0.05)
class AcceptsAndIsSilent(ByHand):
    async def converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del writer
        while await reader.read(1024):
            pass


@bad("T02", also=EVERYTHING)
class WantsAHostName(ByHand):
    async def answer(self, call: Call) -> bytes:
        if call.headers[":authority"] == "localhost":
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "no such host here")
        return await super().answer(call)


@bad("T03", also=("V03",))
class KnowsLocalhostAlone(ByHand):
    async def answer(self, call: Call) -> bytes:
        if call.headers[":authority"] != "localhost":
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "no such host here")
        return await super().answer(call)


@bad("T04", also=EVERYTHING)
class LacksDecrypt(ReferencePlugin):
    def serve_on(self, server: grpc.aio.Server) -> None:
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Status": unary(StatusRequest, self.status),
            "Encrypt": unary(EncryptRequest, self.encrypt),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, methods)
        server.add_generic_rpc_handlers([generic])


@bad("T05", also=("V",))
class AnswersUnknownMethods(ByHand):
    def on_unknown_method(self) -> bytes:
        return b""


@bad("T05", also=("V04",))
class HangsUpOnUnknownMethods(ByHand):
    def on_unknown_method(self) -> bytes:
        raise ConnectionError


@bad("T06", also=EVERYTHING)
class WantsAToken(ByHand):
    async def answer(self, call: Call) -> bytes:
        if "authorization" not in call.headers:
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, "no token")
        return await super().answer(call)


@bad("T07", also=EVERYTHING)
class CompressesItsAnswers(ByHand):
    headers = (("grpc-encoding", "gzip"),)

    async def answer(self, call: Call) -> bytes:
        return grpc_frame(gzip.compress(await self.message(call)), flag=1)


@bad("T07", also=EVERYTHING)
class SetsTheCompressedFlag(ByHand):
    async def answer(self, call: Call) -> bytes:
        return grpc_frame(await self.message(call), flag=1)


@bad("T08")
class AnswersWithPadding(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        # Field 1000 with 40000 bytes, which every client skips.
        padded = answer.SerializeToString() + b"\xc2\x3e\xc0\xb8\x02" + bytes(40_000)
        return EncryptResponse.FromString(padded)


@bad("T09", "L10", also=("S", "D", "A", "T11", "T12", "T14", "V"), timeout_s=0.3)
class ServesOneConnectionAtATime(ByHand):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._turn = asyncio.Lock()

    async def converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with self._turn:
            await super().converse(reader, writer)


@bad("T09", also=("S", "E", "D", "A", "R"))
class NamesTheKeyByTheConnection(ByHand):
    async def message(self, call: Call) -> bytes:
        suffix = f"@{call.connection}"
        if call.path == DECRYPT_METHOD:
            request = DecryptRequest.FromString(self.opened(call))
            request.key_id = request.key_id.partition("@")[0]
            return (await self.decrypt(request)).SerializeToString()
        raw = await super().message(call)
        answer = StatusResponse() if call.path == STATUS_METHOD else EncryptResponse()
        answer.MergeFromString(raw)
        answer.key_id += suffix
        return answer.SerializeToString()


# T14 leaves the connection to rest while the plugin chews on garbage.
@bad("T10", also=("L09", "T14"))
class ClosesIdleConnections(ReferencePlugin):
    def new_server(self) -> grpc.aio.Server:
        return grpc.aio.server(options=[("grpc.max_connection_idle_ms", 20)])


@bad("T11", also=("S", "E", "D", "A", "R", "L09"))
class RefusesTheEleventhCall(ReferencePlugin):
    """As grpcio does with maximum_concurrent_rpcs=10."""

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._in_flight = 0

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        self._in_flight += 1
        try:
            if self._in_flight > 10:
                text = "too many calls at once"
                raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            await asyncio.sleep(0.002)
            if self._in_flight > 1:
                await asyncio.sleep(0.1)  # so that the others come in meanwhile
            return await super().encrypt(request)
        finally:
            self._in_flight -= 1


@bad("T11", also=("S", "E", "D", "A", "R", "L09"), timeout_s=1.0)
class HasOneWorker(ReferencePlugin):
    """Calls queue for it, and it pays for each that waits."""

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._worker = asyncio.Lock()
        self._waiting = 0

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        self._waiting += 1
        try:
            async with self._worker:
                await asyncio.sleep(0.002)
                if self._waiting > 1:
                    await asyncio.sleep(0.1)
                return await super().decrypt(request)
        finally:
            self._waiting -= 1


@bad("T12")
class IsUnwellAfterAReset(ByHand):
    _unwell = False

    def on_reset(self) -> None:
        self._unwell = True

    async def answer(self, call: Call) -> bytes:
        unwell, self._unwell = self._unwell, False
        if unwell:
            raise Refusal(grpc.StatusCode.INTERNAL, "the client went away")
        return await super().answer(call)


@bad("T12")
class IsUnwellAfterAStatusThatWasGivenUp(ReferencePlugin):
    """As a worker that is never given back, of which there was one."""

    _unwell = False

    async def status(self, request: StatusRequest) -> StatusResponse:
        unwell, self._unwell = self._unwell, False
        if unwell:
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "no worker is free")
        try:
            await asyncio.sleep(0.01)  # the worker's work
        except asyncio.CancelledError:
            self._unwell = True
            raise
        return await super().status(request)


@bad("T13")
class RefusesUnknownFields(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        before = request.ByteSize()
        request.DiscardUnknownFields()
        if request.ByteSize() != before:
            text = "the request has unknown fields"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        return await super().status(request)


@bad("T13")
class SealsUnknownFieldsToo(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        raw = request.SerializeToString()
        request.DiscardUnknownFields()
        unknown = raw[request.ByteSize() :]
        request.plaintext += unknown
        return await super().encrypt(request)


@bad("T14", timeout_s=2.0)
class HangsOnGarbage(ByHand):
    async def on_garbage(self) -> bytes:
        forever: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        return await forever


@bad("T14")
class AnswersGarbage(ByHand):
    async def on_garbage(self) -> bytes:
        return b""


@bad("T14")
class IsUnwellAfterGarbage(ByHand):
    _unwell = False

    async def on_garbage(self) -> bytes:
        self._unwell = True
        return await super().on_garbage()

    async def answer(self, call: Call) -> bytes:
        unwell, self._unwell = self._unwell, False
        if unwell:
            raise Refusal(grpc.StatusCode.INTERNAL, "a worker has died")
        return await super().answer(call)


@bad("T14")
class BelievesEveryFrame(ByHand):
    def opened(self, call: Call) -> bytes:
        return call.frame[5:] if call.frame[:1] == b"\x00" else b""


@bad("T14", timeout_s=2.0)
class WaitsForeverForTheRestOfAFrame(ByHand):
    async def answer(self, call: Call) -> bytes:
        if call.frame != grpc_frame(call.frame[5:]):
            await asyncio.get_running_loop().create_future()
        return await super().answer(call)


@bad("T15")
class HasAnOpenSocket(ReferencePlugin):
    async def start(self) -> None:
        await super().start()
        self.path.chmod(0o777)


@bad("T15")
class OpensItsDirectory(ReferencePlugin):
    async def start(self) -> None:
        await super().start()
        self.path.parent.chmod(0o777)


@bad("T16", also=EVERYTHING)
class LeavesItsAbstractNameToAnother(ReferencePlugin):
    """Its address is filled with NUL bytes; another server has the plain name."""

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self.path = type(path)(f"@{path}")
        self._another = grpc.aio.server()

    async def start(self) -> None:
        self._another.add_insecure_port(f"unix-abstract:{str(self.path)[1:]}")
        await self._another.start()

    async def stop(self, grace_s: float = 0.0) -> None:
        await self._another.stop(grace_s)
