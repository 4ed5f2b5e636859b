from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from tests.unit.kms_conformance.bad_plugins import bad
from tests.unit.kms_conformance.bad_plugins.by_hand import ByHand

from adapters_grpc.messages import DecryptRequest, EncryptRequest
from kms_conformance.reference import Refusal
from kms_conformance.reference_v1 import ReferenceWithV1
from kms_conformance.v1 import MESSAGES


if TYPE_CHECKING:
    from tests.unit.kms_conformance.bad_plugins.by_hand import Call


@bad("V01")
class NamesAnotherV1Version(ReferenceWithV1):
    async def v1_version(self, request: Any) -> Any:
        answer = await super().v1_version(request)
        answer.version = "v1"
        return answer


@bad("V01")
class LacksV1Version(ReferenceWithV1):
    async def v1_version(self, request: Any) -> Any:
        del request
        raise Refusal(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")


@bad("V02")
class SealsKeysAlone(ReferenceWithV1):
    async def v1_encrypt(self, request: Any) -> Any:
        if len(request.plain) != 32:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "this is no key")
        return await super().v1_encrypt(request)


@bad("V03")
class LosesTheLastByteOfAKey(ReferenceWithV1):
    async def v1_decrypt(self, request: Any) -> Any:
        answer = await super().v1_decrypt(request)
        answer.plain = answer.plain[:31]
        return answer


@bad("V04", timeout_s=1.0)
class HangsOnV1(ByHand):
    async def answer(self, call: Call) -> bytes:
        if call.path.startswith("/v1beta1."):
            await asyncio.get_running_loop().create_future()
        return await super().answer(call)


@bad("V04")
class RefusesV1InOtherWords(ByHand):
    async def answer(self, call: Call) -> bytes:
        if call.path.startswith("/v1beta1."):
            raise Refusal(grpc.StatusCode.NOT_FOUND, "no such service")
        return await super().answer(call)


@bad("V05")
class OpensV1InV2(ReferenceWithV1):
    async def v1_encrypt(self, request: Any) -> Any:
        sealed = await self.encrypt(EncryptRequest(plaintext=request.plain))
        return MESSAGES["EncryptResponse"](cipher=sealed.ciphertext)

    async def v1_decrypt(self, request: Any) -> Any:
        key_id = self.kms.key_ids()[-1]
        wanted = DecryptRequest(ciphertext=request.cipher, key_id=key_id)
        opened = await self.decrypt(wanted)
        return MESSAGES["DecryptResponse"](plain=opened.plaintext)


@bad("V05")
class OpensV2InV1(ReferenceWithV1):
    async def v1_decrypt(self, request: Any) -> Any:
        try:
            return await super().v1_decrypt(request)
        except Refusal:
            key_id = self.kms.key_ids()[-1]
            wanted = DecryptRequest(ciphertext=request.cipher, key_id=key_id)
            opened = await self.decrypt(wanted)
            return MESSAGES["DecryptResponse"](plain=opened.plaintext)
