from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import uuid
from typing import TYPE_CHECKING

import grpc
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.unit.kms_conformance.bad_plugins import bad
from tests.unit.kms_conformance.bad_plugins.by_hand import ByHand

from adapters_grpc.messages import (
    ENCRYPT_METHOD,
    DecryptResponse,
    EncryptResponse,
)
from kms_conformance.reference import MAX_PLAINTEXT_BYTES, ReferencePlugin, Refusal


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.kms_conformance.bad_plugins.by_hand import Call

    from adapters_grpc.messages import DecryptRequest, EncryptRequest
    from kms_conformance.reference import RemoteKms


EVERYTHING = ("T", "S", "E", "D", "R", "L", "A")
"""The groups in which a plugin shows that can't seal, or open what it sealed."""


# What it answers.


class Padded(ReferencePlugin):
    """Its ciphertexts have a length that a subclass says."""

    length = 0

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.ciphertext = answer.ciphertext.ljust(self.length, b"\0")
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        sealed, padding = request.ciphertext[:60], request.ciphertext[60:]
        if padding != bytes(self.length - 60):
            text = "the ciphertext was not made here"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        request.ciphertext = sealed
        return await super().decrypt(request)


@bad("E01", "E15", also=("A", "E08", "E11", "E12"))
class SealsIn1025Bytes(Padded):
    length = 1025


@bad("E01", "E05", also=EVERYTHING)
class SealsInNothing(ReferencePlugin):
    """It hands the seed out in an annotation."""

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.annotations["seed.example.com"] = request.plaintext
        answer.ciphertext = b""
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        return DecryptResponse(plaintext=request.annotations["seed.example.com"])


@bad("E02", also=("T09", "R01", "A", "D"))
class SealsUnderAnotherName(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.key_id += "-local"
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if not request.key_id.endswith("-local"):
            text = "the key_id is unknown"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        request.key_id = request.key_id.removesuffix("-local")
        return await super().decrypt(request)


class AnnotatedBadly(ReferencePlugin):
    """Adds an annotation, and wants it back."""

    name = "version.example.com"
    content = b"1"

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.annotations[self.name] = self.content
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if dict(request.annotations) != {self.name: self.content}:
            text = "these are no annotations of this plugin"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        request.annotations.clear()
        return await super().decrypt(request)


@bad("E03", also=("E15", "A"))
class AnnotatesWithASlash(AnnotatedBadly):
    name = "kms.example.com/version"


@bad("E03", also=("E15", "A"))
class AnnotatesInCapitals(AnnotatedBadly):
    name = "Version.example.com"


@bad("E03", also=("E15", "A"))
class AnnotatesWithOneLabel(AnnotatedBadly):
    name = "version"


@bad("E04", "E15", also=("A",))
class AnnotatesWith33Kilobytes(AnnotatedBadly):
    content = bytes(33_000)


@bad("E05", also=("D", "E", "R07", "S11", "V05"))
class EchoesThePlaintext(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        key_id = self.kms.key_ids()[-1]
        return EncryptResponse(ciphertext=b"sealed:" + request.plaintext, key_id=key_id)

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        self.kms.key(request.key_id)
        if not request.ciphertext.startswith(b"sealed:"):
            text = "the ciphertext was not made here"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        return DecryptResponse(plaintext=request.ciphertext[7:])


@bad(
    *("E05", "E07", "D04", "D05", "D06", "D09"),
    also=("E11", "D07", "D08", "D18", "R07", "V05"),
)
class IsUpstreamsMock(ReferencePlugin):
    """What section 12 of the contract names: Base64, whatever the key_id."""

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        text = base64.b64encode(request.plaintext)
        return EncryptResponse(ciphertext=text, key_id=self.kms.key_ids()[-1])

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        try:
            plaintext = base64.b64decode(request.ciphertext, validate=True)
        except ValueError:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no Base64") from None
        return DecryptResponse(plaintext=plaintext)


# How distinctly.


@bad("E06", "E07", also=EVERYTHING)
class AnswersAConstantCiphertext(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        return EncryptResponse(ciphertext=b"sealed", key_id=self.kms.key_ids()[-1])


@bad("E07")
class TakesItsNonceFromThePlaintext(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)  # refuses what is too long
        key = self.kms.versions[-1]
        nonce = hashlib.sha256(key + request.plaintext).digest()[:12]
        sealed = AESGCM(key).encrypt(nonce, request.plaintext, answer.key_id.encode())
        answer.ciphertext = nonce + sealed
        return answer


@bad("E10")
class TakesTheUidForTheNameOfARequest(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._answered: dict[str, EncryptResponse] = {}

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        return self._answered.setdefault(request.uid, answer) if request.uid else answer


# What it takes.


@bad("E08")
class TakesZeroesForNothing(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if not any(request.plaintext):
            request.plaintext = b""
        return await super().encrypt(request)


@bad("E08")
class TakesTheSeedForText(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        if answer.plaintext == b"\xff" * 32:
            answer.plaintext = answer.plaintext.decode(errors="replace").encode()
        return answer


@bad("E09", also=("T04",))
class NeedsTheUidOfEncrypt(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        uuid.UUID(request.uid)  # raises
        return await super().encrypt(request)


@bad("E09", also=("T04",))
class SealsTheUidToo(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if not request.uid:
            request.plaintext = b"-" + request.plaintext
        return await super().encrypt(request)


@bad("E11", "E12")
class IsRightForThirtyTwoBytesOnly(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        request.plaintext = request.plaintext[:32].ljust(32, b"\0")
        return await super().encrypt(request)


@bad("E11", also=("T04",))
class TripsOverNothing(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        request.plaintext[0]  # raises
        return await super().encrypt(request)


@bad("E12")
class TripsOverALongPlaintext(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if len(request.plaintext) > MAX_PLAINTEXT_BYTES:
            raise OverflowError
        return await super().encrypt(request)


@bad("E12")
class QuotesALongPlaintext(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if len(request.plaintext) > MAX_PLAINTEXT_BYTES:
            text = f"this is too long: {request.plaintext[:20].hex()}..."
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        return await super().encrypt(request)


@bad("E12", timeout_s=2.0)
class HangsOnALongPlaintext(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        if len(request.plaintext) > MAX_PLAINTEXT_BYTES:
            await asyncio.Event().wait()
        return await super().encrypt(request)


# How fast, and in an outage.


@bad("E13", also=("T11", "E06", "D16", "D17", "R01", "S09", "T14"), timeout_s=1.0)
class TiresOfAConnection(ByHand):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._sealed: dict[int, int] = {}

    async def answer(self, call: Call) -> bytes:
        if call.path == ENCRYPT_METHOD:
            count = self._sealed[call.connection] = (
                self._sealed.get(call.connection, 0) + 1
            )
            if count > 15:
                await asyncio.Event().wait()
        return await super().answer(call)


class SealsInAnOutage(ReferencePlugin):
    """Correct, until a subclass says what Encrypt does in an outage."""

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        broken, self.kms.broken = self.kms.broken, False
        try:
            answer = await super().encrypt(request)
        finally:
            self.kms.broken = broken
        return await self.in_outage(answer) if broken else answer

    async def in_outage(self, answer: EncryptResponse) -> EncryptResponse:
        raise NotImplementedError


@bad("E14", timeout_s=2.0)
class HangsOnEncryptWithoutItsKms(SealsInAnOutage):
    async def in_outage(self, answer: EncryptResponse) -> EncryptResponse:
        await asyncio.Event().wait()
        return answer


@bad("E14")
class SealsUnderNoNameInAnOutage(SealsInAnOutage):
    async def in_outage(self, answer: EncryptResponse) -> EncryptResponse:
        answer.key_id = ""
        return answer


@bad("E14")
class LosesTheLocalKeyOfAnOutage(SealsInAnOutage):
    async def in_outage(self, answer: EncryptResponse) -> EncryptResponse:
        answer.ciphertext = os.urandom(60)
        return answer
