from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import grpc
from cryptography.exceptions import InvalidTag
from tests.unit.kms_conformance.bad_plugins import bad

from adapters_grpc.messages import DecryptResponse
from kms_conformance.reference import ReferencePlugin, Refusal


if TYPE_CHECKING:
    from pathlib import Path

    from adapters_grpc.messages import (
        DecryptRequest,
        EncryptRequest,
        EncryptResponse,
        StatusRequest,
        StatusResponse,
    )
    from kms_conformance.reference import RemoteKms


# Old data.


@bad("R05", also=("R06", "R11", "A05"))
class LosesTheOldKey(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if request.key_id != self.kms.key_ids()[-1]:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "that key was rotated away")
        return await super().decrypt(request)


@bad("R06")
class KeepsOneOldKey(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if request.key_id not in self.kms.key_ids()[-2:]:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "that key was rotated away")
        return await super().decrypt(request)


@bad("R06")
class ForgetsOldKeysWhenItStarts(ReferencePlugin):
    async def start(self) -> None:
        self._oldest = len(self.kms.key_ids()) - 1
        await super().start()

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if request.key_id not in self.kms.key_ids()[self._oldest :]:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "that key was rotated away")
        return await super().decrypt(request)


@bad("R07")
class TriesEveryKey(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        self.kms.key(request.key_id)
        nonce, sealed = request.ciphertext[:12], request.ciphertext[12:]
        for key_id in self.kms.key_ids():
            try:
                key = self.kms.key(key_id)
                plaintext = key.decrypt(nonce, sealed, key_id.encode())
            except (InvalidTag, ValueError):
                continue
            return DecryptResponse(plaintext=plaintext)
        return await super().decrypt(request)


@bad("R11")
class RefusesAKeyIdWhenItIsNew(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._seen = set(kms.key_ids())

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        if request.key_id not in self._seen:
            self._seen.add(request.key_id)  # the next call will find it
            raise Refusal(grpc.StatusCode.NOT_FOUND, "the key_id is unknown")
        return answer


@bad("R11")
class MixesUpWhatItsPeerSealed(ReferencePlugin):
    async def start(self) -> None:
        self._own: set[bytes] = set()
        await super().start()

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        self._own.add(answer.ciphertext)
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        if request.ciphertext in self._own:
            return answer
        return DecryptResponse(plaintext=answer.plaintext[::-1])


# The key_id.


@bad("R01", also=("T", "S", "E", "D", "R12", "A", "L"))
class FlipFlopsItsKeyId(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._asked = 0

    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        self._asked += 1
        answer.key_id = f"{answer.key_id}-{self._asked % 2}"
        return answer


@bad("R12", also=("R11",))
class NamesTheKeyAfterItself(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.key_id += self.path.name
        return answer

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.key_id += self.path.name
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if not request.key_id.endswith(self.path.name):
            text = "the key_id is another instance's"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        request.key_id = request.key_id.removesuffix(self.path.name)
        return await super().decrypt(request)


class Lagging(ReferencePlugin):
    """Says for some calls of Status after a rotation what it should not.

    Attributes:
        calls_since: Calls of Status since the latest rotation; many before the first.
    """

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._generations = len(kms.versions)
        self.calls_since = 1000

    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        if len(self.kms.versions) != self._generations:
            self._generations, self.calls_since = len(self.kms.versions), 0
        self.calls_since += 1
        return answer


@bad("R02")
class EncryptsUnderTheKeyOfAMomentLater(Lagging):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        if self.calls_since < 20:
            answer.key_id = self.kms.key_ids()[-2]
        return answer


@bad("R03")
class ReturnsToTheOldKeyIdOnce(Lagging):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        if 5 < self.calls_since < 10:
            answer.key_id = self.kms.key_ids()[-2]
        return answer


@bad("R04")
class NeverNoticesARotation(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.key_id = self.kms.key_ids()[0]
        return answer


@bad("R07", also=("T08",))
class NamesTheOldKeyForEver(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._key_id = kms.key_ids()[0]

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.key_id = self._key_id
        return answer


@bad("R08", also=("R12",))
class NamesAKeyAfterItsBytes(ReferencePlugin):
    def _name(self, key_id: str) -> str:
        key = self.kms.versions[self.kms.key_ids().index(key_id)]
        return f"bytes:{hashlib.sha256(key).hexdigest()[:16]}"

    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.key_id = self._name(answer.key_id)
        return answer

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.key_id = self._name(answer.key_id)
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        for key_id in self.kms.key_ids():
            if self._name(key_id) == request.key_id:
                try:
                    asked = type(request)()
                    asked.CopyFrom(request)
                    asked.key_id = key_id
                    return await super().decrypt(asked)
                except Refusal:
                    continue
        return await super().decrypt(request)


@bad("R08")
class NeverNoticesThatAKeyReturns(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        last, third = self.kms.versions[-1], self.kms.versions[-3:-2]
        if [last] == third:
            answer.key_id = self.kms.key_ids()[-2]
        return answer


@bad("R10")
class AnnouncesAKeyThatItCannotUse(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        broken, self.kms.broken = self.kms.broken, False
        answer = await super().status(request)
        self.kms.broken = broken
        if not broken:
            self._used = len(self.kms.versions)
        return answer

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if not self.kms.broken:
            return await super().encrypt(request)
        # It still has the key that it saw last, and no other.
        versions = self.kms.versions
        self.kms.versions, self.kms.broken = versions[: self._used], False
        try:
            return await super().encrypt(request)
        finally:
            self.kms.versions, self.kms.broken = versions, True


# Errors while the key rotates.


@bad("R09", also=("T08",))
class CannotEncryptOnceTheKeyHasRotated(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._generations = len(kms.versions)

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if len(self.kms.versions) != self._generations:
            raise Refusal(grpc.StatusCode.ABORTED, "the key is rotating")
        return await super().encrypt(request)


@bad("R09", also=("T08",), timeout_s=2.0)
class HangsOnceTheKeyHasRotated(CannotEncryptOnceTheKeyHasRotated):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        try:
            return await super().encrypt(request)
        except Refusal as refusal:
            if refusal.code is grpc.StatusCode.ABORTED:
                await asyncio.Event().wait()
            raise


# The version.


@bad("R13", also=("S06",))
class SaysAnotherVersionAfterARotation(ReferencePlugin):
    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.version = "v2beta1" if len(self.kms.versions) > 1 else "v2"
        return answer


@bad("R13")
class SaysAnotherVersionAfterARestart(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._starts = 0

    async def start(self) -> None:
        self._starts += 1
        await super().start()

    async def status(self, request: StatusRequest) -> StatusResponse:
        answer = await super().status(request)
        answer.version = "v2beta1" if self._starts > 1 else "v2"
        return answer
