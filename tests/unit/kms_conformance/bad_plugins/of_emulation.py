from __future__ import annotations

import os
from typing import TYPE_CHECKING

import grpc
from tests.unit.kms_conformance.bad_plugins import bad
from tests.unit.kms_conformance.bad_plugins.by_hand import ByHand
from tests.unit.kms_conformance.bad_plugins.of_status import Renamed

from adapters_grpc.messages import (
    DECRYPT_METHOD,
    ENCRYPT_METHOD,
    STATUS_METHOD,
    DecryptResponse,
    EncryptResponse,
    StatusResponse,
)
from kms_conformance.reference import ReferencePlugin, Refusal


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.kms_conformance.bad_plugins.by_hand import Call

    from adapters_grpc.messages import (
        DecryptRequest,
        EncryptRequest,
        StatusRequest,
    )
    from kms_conformance.reference import RemoteKms


EVERYTHING = ("T", "S", "E", "D", "R", "L", "A")
"""The groups in which a plugin shows that can't open what it sealed."""


@bad("A01", also=EVERYTHING)
class WantsTwoStatusBeforeItSeals(ByHand):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._calls: dict[int, int] = {}

    async def answer(self, call: Call) -> bytes:
        count = self._calls.setdefault(call.connection, 0)
        self._calls[call.connection] += 1
        if call.path == ENCRYPT_METHOD and count < 2:
            text = "this connection is new here"
            raise Refusal(grpc.StatusCode.UNAVAILABLE, text)
        return await super().answer(call)


@bad("A02", also=EVERYTHING)
class SealsOneSeedAndOpensAnother(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        request.plaintext = os.urandom(len(request.plaintext))
        return await super().encrypt(request)


class KeepsFewSeeds(ReferencePlugin):
    """Its ciphertexts are the numbers of a small table."""

    size = 0

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._kept: dict[bytes, EncryptResponse] = {}

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        number = os.urandom(16)
        self._kept[number] = answer
        if len(self._kept) > self.size:
            del self._kept[next(iter(self._kept))]
        return EncryptResponse(ciphertext=number, key_id=answer.key_id)

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        kept = self._kept.get(request.ciphertext, EncryptResponse())
        request.ciphertext = kept.ciphertext
        return await super().decrypt(request)


@bad("A03", also=EVERYTHING)
class KeepsTheLatestSeedAlone(KeepsFewSeeds):
    size = 1


@bad("A04", also=("D", "S09", "T09", "T11"))
class KeepsEightSeeds(KeepsFewSeeds):
    size = 8


@bad("A05")
class OpensUnderTheLatestKeyAlone(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if request.key_id != self.kms.key_ids()[-1]:
            text = "the key_id is out of date"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, text)
        return await super().decrypt(request)


@bad("A05")
class GoesBackAndForthAfterARotation(ReferencePlugin):
    _asked = 0

    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        self._asked += 1
        if len(self.kms.versions) > 1 and self._asked % 2:
            answer.key_id = self.kms.key_ids()[-2]
        return answer


@bad("A05")
class SealsUnderTheOldKeyAfterARotation(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        latest = self.kms.versions.pop() if len(self.kms.versions) > 1 else None
        try:
            return await super().encrypt(request)
        finally:
            if latest is not None:
                self.kms.versions.append(latest)


@bad("A05")
class ShowsNoRotationWhereItHasSealed(ByHand):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._sealed_under: dict[int, str] = {}

    async def message(self, call: Call) -> bytes:
        came = await super().message(call)
        if call.path == ENCRYPT_METHOD:
            key_id = EncryptResponse.FromString(came).key_id
            self._sealed_under[call.connection] = key_id
        if call.path == STATUS_METHOD and call.connection in self._sealed_under:
            answer = StatusResponse.FromString(came)
            answer.key_id = self._sealed_under[call.connection]
            return answer.SerializeToString()
        return came


@bad("A06")
class NamesAnotherKeyInAnOutage(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        if self.kms.broken:
            text = "not ok: the key service is away"
            return StatusResponse(version="v2", healthz=text, key_id="fallback")
        return await super().status(request)


@bad("A07", also=EVERYTHING)
class OpensForTheLatestApiServerAlone(ByHand):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._latest = 0

    async def answer(self, call: Call) -> bytes:
        if call.path == ENCRYPT_METHOD:
            self._latest = max(self._latest, call.connection)
        if call.path == DECRYPT_METHOD and call.connection < self._latest:
            text = "another API server has taken over"
            raise Refusal(grpc.StatusCode.ABORTED, text)
        return await super().answer(call)


@bad("A08", also=EVERYTHING)
class OpensWithPadding(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        plaintext = (await super().decrypt(request)).plaintext
        return DecryptResponse(plaintext=plaintext + bytes(8))


# D04 sends names that are nearly right, and some of them are its former ones.
@bad("A09", also=("T", "S", "A", "L", "R", "E", "D04"))
class RenamesItsKeyNowAndThen(Renamed):
    """It opens what it sealed under any name that it has used."""

    _asked = 0

    async def status(self, request: StatusRequest) -> StatusResponse:
        self._asked += 1
        return await super().status(request)

    def renamed(self, key_id: str) -> str:
        return f"{key_id}/{self._asked // 9}"

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        base, _, number = request.key_id.partition("/")
        if number.isdecimal() and int(number) <= self._asked // 9:
            request.key_id = base
        return await ReferencePlugin.decrypt(self, request)


@bad("A09", also=("T", "S", "A", "L", "R", "E"))
class SaysEachTenthTimeThatItIsBusy(ReferencePlugin):
    _asked = 0

    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        self._asked += 1
        if self._asked % 10 == 0:
            answer.healthz = "busy"
        return answer
