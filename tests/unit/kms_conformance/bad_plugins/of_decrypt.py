from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from tests.unit.kms_conformance.bad_plugins import bad

from adapters_grpc.messages import DecryptResponse, EncryptRequest, EncryptResponse
from kms_conformance.reference import ReferencePlugin


if TYPE_CHECKING:
    from adapters_grpc.messages import DecryptRequest


@bad("D04", also=("D05", "R07"))
class IgnoresTheKeyId(ReferencePlugin):
    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        request.key_id = self.kms.key_ids()[-1]
        return await super().decrypt(request)


@bad("D06", also=("D07", "D08", "D09", "D14", "R07"))
class HasAnUnauthenticatedCipher(ReferencePlugin):
    def _cipher(self, key_id: str, nonce: bytes) -> Cipher[CFB]:
        self.kms.key(key_id)
        key = self.kms.versions[self.kms.key_ids().index(key_id)]
        return Cipher(AES(key), CFB(nonce))

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        key_id, nonce = self.kms.key_ids()[-1], os.urandom(16)
        sealing = self._cipher(key_id, nonce).encryptor()
        sealed = sealing.update(request.plaintext) + sealing.finalize()
        return EncryptResponse(ciphertext=nonce + sealed, key_id=key_id)

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        nonce, sealed = request.ciphertext[:16], request.ciphertext[16:]
        opening = self._cipher(request.key_id, nonce).decryptor()
        plaintext = opening.update(sealed) + opening.finalize()
        return DecryptResponse(plaintext=plaintext)
