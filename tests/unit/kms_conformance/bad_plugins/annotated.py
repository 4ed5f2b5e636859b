"""Correct plugins that answer Encrypt with annotations."""

from __future__ import annotations

import os
from typing import Final

import grpc

from adapters_grpc.messages import (
    DecryptRequest,
    DecryptResponse,
    EncryptRequest,
    EncryptResponse,
)
from kms_conformance.reference import ReferencePlugin, Refusal


NONCE: Final = "nonce.example.com"
NONCE_BYTES: Final = 12


class Annotated(ReferencePlugin):
    """Keeps its nonce in an annotation, without which the seal is broken."""

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.annotations[NONCE] = answer.ciphertext[:NONCE_BYTES]
        answer.ciphertext = answer.ciphertext[NONCE_BYTES:]
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        if set(request.annotations) != {NONCE}:
            text = "these are no annotations of this plugin"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
        whole = request.annotations[NONCE] + request.ciphertext
        return await super().decrypt(
            DecryptRequest(ciphertext=whole, key_id=request.key_id)
        )


class AnnotatedForReadersOnly(ReferencePlugin):
    """Its annotations mean nothing to it; they differ from seed to seed."""

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        answer = await super().encrypt(request)
        answer.annotations["ticket.example.com"] = os.urandom(4)
        answer.annotations["empty.example.com"] = b""
        return answer

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        request.annotations.clear()
        return await super().decrypt(request)
