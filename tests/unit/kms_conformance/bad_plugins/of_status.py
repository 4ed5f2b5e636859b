from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.unit.kms_conformance.bad_plugins import bad
from tests.unit.kms_conformance.bad_plugins.by_hand import ByHand

from adapters_grpc.messages import (
    STATUS_METHOD,
    DecryptResponse,
    EncryptResponse,
)
from kms_conformance.reference import ReferencePlugin, Refusal


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.kms_conformance.bad_plugins.by_hand import Call

    from adapters_grpc.messages import (
        DecryptRequest,
        EncryptRequest,
        StatusRequest,
        StatusResponse,
    )
    from kms_conformance.reference import RemoteKms


EVERYWHERE = ("T", "S", "E", "D", "R", "L", "A")
"""The groups that ask for Status."""


# What it says.


@bad("S02", also=("A",))
class SaysAnotherVersion(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.version = "v3"
        return answer


@bad("S03", also=("A", "S12"))
class SaysOkInCapitals(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.healthz = "OK"
        return answer


class Renamed(ReferencePlugin):
    """Calls its key otherwise; Decrypt turns the name back."""

    def renamed(self, key_id: str) -> str:
        raise NotImplementedError

    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.key_id = self.renamed(answer.key_id)
        return answer

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.key_id = self.renamed(answer.key_id)
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        for key_id in self.kms.key_ids():
            if request.key_id == self.renamed(key_id):
                request.key_id = key_id
                return await super().decrypt(request)
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the key_id is unknown")


@bad("S04", "E02", also=("R12", "E15", "D05", "R07", "A"))
class HasNoNameForItsKey(Renamed):
    def renamed(self, key_id: str) -> str:
        return ""


@bad("S04", "E02", also=("R12", "E15", "A"))
class HasAKeyIdOf1025Bytes(Renamed):
    def renamed(self, key_id: str) -> str:
        return key_id.ljust(1025, "0")


@bad("S04", "E02", also=("R12", "E15", "A"))
class CountsCharactersNotBytes(Renamed):
    def renamed(self, key_id: str) -> str:
        return key_id.ljust(1024, "\u00e9")


@bad("S05", also=EVERYWHERE)
class NamesItsKeyInLatin1(ByHand):
    async def message(self, call: Call) -> bytes:
        came = await super().message(call)
        latin = came.replace(b"reference", b"r\xe9f\xe9rence")
        return latin if call.path == STATUS_METHOD else came


@bad("S11", also=("R12",))
class NamesItsKeyByTheKey(Renamed):
    def renamed(self, key_id: str) -> str:
        return self.kms.versions[self.kms.key_ids().index(key_id)].hex()

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        key, nonce = self.kms.versions[-1], os.urandom(12)
        sealed = AESGCM(key).encrypt(nonce, request.plaintext, key.hex().encode())
        return EncryptResponse(ciphertext=nonce + sealed, key_id=key.hex())

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        nonce, sealed = request.ciphertext[:12], request.ciphertext[12:]
        try:
            key = AESGCM(bytes.fromhex(request.key_id))
            plaintext = key.decrypt(nonce, sealed, request.key_id.encode())
        except (InvalidTag, ValueError):
            text = "the ciphertext was not made here"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text) from None
        return DecryptResponse(plaintext=plaintext)


@bad("S11", also=("R12",))
class NamesItsKeyByAUrlWithAPassword(Renamed):
    def renamed(self, key_id: str) -> str:
        return f"https://admin:example@kms.example/{key_id}"


# How steadily.


@bad("S01", also=(*EVERYWHERE, "V"))
class ForgetsTheFirstCallOfAConnection(ByHand):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._known: set[int] = set()

    async def answer(self, call: Call) -> bytes:
        if call.path == STATUS_METHOD and call.connection not in self._known:
            self._known.add(call.connection)
            text = "this connection has no session yet"
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, text)
        self._known.add(call.connection)
        return await super().answer(call)


class Counting(ReferencePlugin):
    """Counts its Status."""

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self.asked = 0
        self.at_once = 0

    async def status(self, request: StatusRequest) -> StatusResponse:
        self.asked += 1
        self.at_once += 1
        try:
            await asyncio.sleep(0.005)  # what is asked meanwhile is asked at once
        finally:
            self.at_once -= 1
        return await super().status(request)


@bad("S06", also=EVERYWHERE)
class FlipsItsKeyIdEachSeventhTime(Counting):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        if self.asked % 7 == 0:
            answer.key_id = "reference:next"
        return answer


@bad("S06", also=EVERYWHERE)
class TurnsToAnotherVersion(Counting):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        if self.asked % 5 == 0:
            answer.version = "v2beta1"
        return answer


@bad("S07", also=(*EVERYWHERE, "V"), timeout_s=0.05)
class IsSlowToSayItsStatus(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        await asyncio.sleep(0.1)  # longer than the deadline
        return await super().status(request)


@bad("S08", also=("T", "S09", "L09"))
class RefusesStatusAtOnce(Counting):
    async def status(self, request: StatusRequest) -> StatusResponse:
        if self.at_once:
            text = "another call asks for the status"
            raise Refusal(grpc.StatusCode.ABORTED, text)
        return await super().status(request)


@bad("S08", also=("T", "S09", "L09"))
class SaysAnotherHealthToParallelCalls(Counting):
    async def status(self, request: StatusRequest) -> StatusResponse:
        busy = self.at_once
        answer = await super().status(request)
        if busy:
            answer.healthz = "busy"
        return answer


@bad("S09", also=("D", "T"), timeout_s=1.0)
class LetsStatusWaitForDecrypts(ReferencePlugin):
    _opening = 0

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        self._opening += 1
        try:
            await asyncio.sleep(0.02)
            return await super().decrypt(request)
        finally:
            self._opening -= 1

    async def status(self, request: StatusRequest) -> StatusResponse:
        if self._opening:
            await asyncio.sleep(1.5)  # longer than the deadline
        return await super().status(request)


@bad("S10")
class AsksItsKmsForEachStatus(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        self.kms.key(answer.key_id)
        return answer


@bad("S12", also=("R12",))
class NamesItsKeyAnewAtEachStart(Renamed):
    _starts = 0

    async def start(self) -> None:
        self._starts += 1
        await super().start()

    def renamed(self, key_id: str) -> str:
        return f"{key_id}/{self._starts}"


# What it says while its key service is broken.


class InAnOutage(ReferencePlugin):
    """Correct, until a subclass says what to do in an outage."""

    async def status(self, request: StatusRequest) -> StatusResponse:
        broken, self.kms.broken = self.kms.broken, False
        try:
            answer = await super().status(request)
        finally:
            self.kms.broken = broken
        return await self.in_outage(answer) if broken else answer

    async def in_outage(self, answer: StatusResponse) -> StatusResponse:
        raise NotImplementedError


@bad("S13")
class SaysOkThroughAnOutage(InAnOutage):
    async def in_outage(self, answer: StatusResponse) -> StatusResponse:
        return answer


@bad("S13", timeout_s=2.0)
class HangsWhileItsKmsIsBroken(InAnOutage):
    async def in_outage(self, answer: StatusResponse) -> StatusResponse:
        await asyncio.Event().wait()
        return answer


@bad("S14")
class SaysOkNowAndThenInAnOutage(InAnOutage):
    _asked = 0

    async def in_outage(self, answer: StatusResponse) -> StatusResponse:
        self._asked += 1
        if self._asked % 4:
            text = "the key service is away"
            raise Refusal(grpc.StatusCode.UNAVAILABLE, text)
        return answer


@bad("A06")
class SaysNotOkWithAValidKeyId(InAnOutage):
    """kubernetes#138950: S14 warns of it, and the API server writes on for ever."""

    async def in_outage(self, answer: StatusResponse) -> StatusResponse:
        answer.healthz = "not ok: the key is disabled"
        return answer


@bad("S15")
class ExplainsAnOutageInManyLines(InAnOutage):
    async def in_outage(self, answer: StatusResponse) -> StatusResponse:
        text = "the key service is away:\n  no route to host\n  tried 3 times"
        raise Refusal(grpc.StatusCode.UNAVAILABLE, text)


@bad("S15")
class ExplainsAnOutageAtLength(InAnOutage):
    async def in_outage(self, answer: StatusResponse) -> StatusResponse:
        answer.healthz, answer.key_id = "the key service is away; " * 50, ""
        return answer


@bad("S15")
class TellsItsTokenInAnOutage(InAnOutage):
    async def in_outage(self, answer: StatusResponse) -> StatusResponse:
        text = "GET /keys with Authorization: Bearer example: no answer"
        raise Refusal(grpc.StatusCode.UNAVAILABLE, text)


@bad("S16")
class NamesItsKeyAnewAfterAnOutage(Renamed):
    _was_broken = False

    async def status(self, request: StatusRequest) -> StatusResponse:
        self._was_broken = self._was_broken or self.kms.broken
        return await super().status(request)

    def renamed(self, key_id: str) -> str:
        return f"{key_id}/again" if self._was_broken else key_id
