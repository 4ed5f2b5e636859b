from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import traceback
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from tests.unit.kms_conformance.bad_plugins import bad
from tests.unit.kms_conformance.bad_plugins.annotated import NONCE, Annotated
from tests.unit.kms_conformance.bad_plugins.by_hand import ByHand

from adapters_grpc.messages import (
    DECRYPT_METHOD,
    ENCRYPT_METHOD,
    DecryptResponse,
    EncryptRequest,
    EncryptResponse,
)
from kms_conformance.connection import Sealed
from kms_conformance.corpus import Corpus, Entry
from kms_conformance.reference import ReferencePlugin, Refusal


if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.kms_conformance.bad_plugins.by_hand import Call

    from adapters_grpc.messages import DecryptRequest
    from kms_conformance.reference import RemoteKms


EVERYTHING = ("T", "S", "E", "D", "R", "L", "A")
"""The groups in which a plugin shows that can't open what it sealed."""


# What is genuine.


@bad("D01", also=EVERYTHING)
class LosesTheLastBytes(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        plaintext = (await super().decrypt(request)).plaintext
        return DecryptResponse(plaintext=plaintext[:-2])


@bad("D02", also=EVERYTHING)
class OpensOnlyOnTheConnectionThatSealed(ByHand):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._sealed_on: dict[bytes, int] = {}

    async def message(self, call: Call) -> bytes:
        came = await super().message(call)
        if call.path == ENCRYPT_METHOD:
            sealed = EncryptResponse.FromString(came)
            self._sealed_on[sealed.ciphertext] = call.connection
        return came

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        self._asked = request.ciphertext
        return await super().decrypt(request)

    async def answer(self, call: Call) -> bytes:
        came = await super().answer(call)
        home = self._sealed_on.get(self._asked, call.connection)
        if call.path == DECRYPT_METHOD and home != call.connection:
            text = "this connection has no session"
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, text)
        return came


@bad("D15", also=("T04",))
class NeedsTheUidOfDecrypt(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        uuid.UUID(request.uid)  # raises
        return await super().decrypt(request)


@bad("D15", also=("T04",))
class TakesTheUidForASalt(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        return answer if request.uid else DecryptResponse(plaintext=bytes(32))


# What is forged.


@bad("D04", also=("D05", "R07"))
class IgnoresTheKeyId(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        request.key_id = self.kms.key_ids()[-1]
        return await super().decrypt(request)


@bad("D04")
class ReadsTheKeyIdInAnyCase(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        request.key_id = request.key_id.lower()
        return await super().decrypt(request)


@bad("D05")
class TakesTheLatestKeyWhereNoneIsNamed(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        request.key_id = request.key_id or self.kms.key_ids()[-1]
        return await super().decrypt(request)


@bad("D06", also=("D07", "D08", "D09", "D14", "R07", "V05"))
class HasAnUnauthenticatedCipher(ReferencePlugin):
    def _cipher(self, key_id: str, nonce: bytes) -> Cipher[CTR]:
        self.kms.key(key_id)
        key = self.kms.versions[self.kms.key_ids().index(key_id)]
        return Cipher(AES(key), CTR(nonce))

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        key_id, nonce = self.kms.key_ids()[-1], os.urandom(16)
        sealing = self._cipher(key_id, nonce).encryptor()
        sealed = sealing.update(request.plaintext) + sealing.finalize()
        return EncryptResponse(ciphertext=nonce + sealed, key_id=key_id)

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        nonce, sealed = request.ciphertext[:16], request.ciphertext[16:]
        opening = self._cipher(request.key_id, nonce.ljust(16, b"\0")).decryptor()
        plaintext = opening.update(sealed) + opening.finalize()
        return DecryptResponse(plaintext=plaintext)


@bad("D06", "D09", also=("E11", "D08", "R07"))
class WritesAnUnauthenticatedCipherAsText(HasAnUnauthenticatedCipher):
    """A byte that is no Base64 is refused, and so is another length."""

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.ciphertext = base64.b64encode(answer.ciphertext)
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        request.ciphertext = bytes_of(request.ciphertext)
        answer = await super().decrypt(request)
        if len(answer.plaintext) != 32:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no 32 bytes")
        return answer


def bytes_of(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no Base64") from None


@bad("D06", "D07", "D08", "D09", "D14", also=("D12", "V05", "R07", "E11"))
class AnswersZeroesWhenItCannotOpen(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        self.kms.key(request.key_id)
        try:
            return await super().decrypt(request)
        except Refusal:
            return DecryptResponse(plaintext=bytes(32))


@bad("D07")
class OpensNothingAsNothing(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        self.kms.key(request.key_id)
        return await super().decrypt(request) if request.ciphertext else _NOTHING


_NOTHING = DecryptResponse()


@bad("D08")
class TrimsWhatItIsGiven(ReferencePlugin):
    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.ciphertext = answer.ciphertext.hex().encode()
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        try:
            # bytes.fromhex skips white space, and takes capitals too.
            request.ciphertext = bytes.fromhex(request.ciphertext.decode())
        except ValueError:
            text = "the ciphertext was not made here"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text) from None
        return await super().decrypt(request)


@bad("D10", "D11", "D13")
class AuthenticatesEverythingButItsAnnotation(ReferencePlugin):
    def _key(self, key_id: str) -> bytes:
        self.kms.key(key_id)
        return self.kms.versions[self.kms.key_ids().index(key_id)]

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        key_id, nonce = self.kms.key_ids()[-1], os.urandom(16)
        key = self._key(key_id)
        sealing = Cipher(AES(key), CTR(nonce)).encryptor()
        sealed = sealing.update(request.plaintext) + sealing.finalize()
        tag = hmac.digest(key, sealed, hashlib.sha256)
        return EncryptResponse(
            ciphertext=tag + sealed, key_id=key_id, annotations={NONCE: nonce}
        )

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        key = self._key(request.key_id)
        tag, sealed = request.ciphertext[:32], request.ciphertext[32:]
        if not hmac.compare_digest(tag, hmac.digest(key, sealed, hashlib.sha256)):
            text = "the ciphertext was not made here"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        nonce = request.annotations[NONCE].ljust(16, b"\0")
        opening = Cipher(AES(key), CTR(nonce)).decryptor()
        plaintext = opening.update(sealed) + opening.finalize()
        return DecryptResponse(plaintext=plaintext)


@bad("D12")
class TakesAForeignAnnotationForAnOrder(Annotated):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if len(request.annotations) > 1:
            return DecryptResponse(plaintext=min(request.annotations.values()))
        return await super().decrypt(request)


@bad("D14", timeout_s=2.0)
class HangsOnALongCiphertext(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if len(request.ciphertext) > 1024:
            await asyncio.Event().wait()
        return await super().decrypt(request)


# What is many.


@bad("D03", also=("E", "A", "S09", "L"))
class OpensEachSeedOnce(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._opened: set[bytes] = set()

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        if request.ciphertext in self._opened:
            text = "this is a replay"
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, text)
        self._opened.add(request.ciphertext)
        return answer


@bad("D16", also=EVERYTHING)
class CachesUnderAShortName(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._cache: dict[int, DecryptResponse] = {}

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        name = hashlib.sha256(request.ciphertext).digest()[0] % 16
        return self._cache.setdefault(name, answer)


@bad("D17", also=("T09", "T11", "S09", "D16", "A", "E"))
class SingleFlightMixesAnswersUp(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._flight: asyncio.Future[DecryptResponse] | None = None

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        if self._flight is not None:
            # One that hangs up takes no other's answer away: that is another fault.
            return await asyncio.shield(self._flight)
        self._flight = asyncio.get_running_loop().create_future()
        try:
            await asyncio.sleep(0.005)  # what is asked meanwhile gets the same answer
        finally:
            self._flight.set_result(answer)
            self._flight = None
        return answer


@bad("D17", also=("T09", "T11", "S09", "A", "E"))
class AnswersAnotherSeedUnderLoad(ReferencePlugin):
    def __init__(self, kms: RemoteKms, path: Path) -> None:
        super().__init__(kms, path)
        self._under_way = 0
        self._buffer = DecryptResponse()

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        self._under_way += 1
        if self._under_way < 3:
            self._buffer = answer
        busy = self._under_way > 2
        try:
            await asyncio.sleep(0.002)
        finally:
            self._under_way -= 1
        return self._buffer if busy else answer


# What is old.


@bad("D19", "D20", also=("R11", "T09", "A"))
class KnowsOnlyWhatItSealedItself(ReferencePlugin):
    async def start(self) -> None:
        self._seeds: dict[bytes, bytes] = {}
        await super().start()
        corpus = Corpus(self.path.with_name("corpus.jsonl"))
        if not corpus.entries():
            corpus.add([await self._of_an_earlier_run()])

    async def _of_an_earlier_run(self) -> Entry:
        answer = await super().encrypt(EncryptRequest(plaintext=bytes(32)))
        sealed = Sealed(answer.ciphertext, answer.key_id)
        return Entry(datetime(2026, 1, 2, tzinfo=UTC), bytes(32), sealed)

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        self._seeds[answer.ciphertext] = request.plaintext
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        answer = await super().decrypt(request)
        if request.ciphertext not in self._seeds:
            text = "nothing is known of this ciphertext"
            raise Refusal(grpc.StatusCode.NOT_FOUND, text)
        return answer


@bad("D21", timeout_s=2.0)
class HangsWithoutItsKeyService(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if self.kms.broken:
            await asyncio.Event().wait()
        return await super().decrypt(request)


@bad("D21")
class AnswersZeroesInAnOutage(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if self.kms.broken:
            return DecryptResponse(plaintext=bytes(32))
        return await super().decrypt(request)


# What is said.


@bad("D18")
class LeaksPlaintextInAnError(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if not request.annotations:
            return await super().decrypt(request)
        request.annotations.clear()
        seed = (await super().decrypt(request)).plaintext
        text = f"no annotations belong to {seed.hex()}"
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)


@bad("D18")
class AnswersWithAStackTrace(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        try:
            return await super().decrypt(request)
        except Refusal as refusal:
            raise Refusal(refusal.code, traceback.format_exc()) from None


@bad("D18")
class RaisesWhatComes(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        try:
            return await super().decrypt(request)
        except Refusal:
            raise RuntimeError("it does not open") from None


@bad("D18")
class TellsItsKeyInAnError(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        try:
            return await super().decrypt(request)
        except Refusal as refusal:
            text = f"the key {self.kms.versions[-1].hex()} does not open it"
            raise Refusal(refusal.code, text) from None
