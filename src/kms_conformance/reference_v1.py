"""The reference plugin with KMS v1beta1 on the same socket, for clusters that migrate.

v1 has neither key_id nor annotations: a cipher must say itself under which key it was
sealed. The name of the interface is authenticated, so that neither opens the other's.
"""

from __future__ import annotations

import os
from typing import Any, Final

import grpc.aio
from cryptography.exceptions import InvalidTag

from kms_conformance.reference import ReferencePlugin, Refusal, unary
from kms_conformance.v1 import API_VERSION, MESSAGES, SERVICE


_NONCE_BYTES: Final = 12
_DOMAIN: Final = b"v1beta1 "


class ReferenceWithV1(ReferencePlugin):
    """Serves v2 and v1beta1. Each method may be overridden."""

    async def v1_version(self, request: Any) -> Any:
        """Name the interface."""
        del request
        return MESSAGES["VersionResponse"](
            version=API_VERSION, runtime_name="reference", runtime_version="1"
        )

    async def v1_encrypt(self, request: Any) -> Any:
        """Seal under the current key, whose name stands before the cipher."""
        key_id = self.kms.key_ids()[-1]
        name, nonce = key_id.encode(), os.urandom(_NONCE_BYTES)
        sealed = self.kms.key(key_id).encrypt(nonce, request.plain, _DOMAIN + name)
        return MESSAGES["EncryptResponse"](cipher=name + b"\n" + nonce + sealed)

    async def v1_decrypt(self, request: Any) -> Any:
        """Open what ``v1_encrypt`` made, or refuse."""
        name, _, rest = request.cipher.partition(b"\n")
        key = self.kms.key(name.decode(errors="replace"))
        nonce, sealed = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        try:
            plain = key.decrypt(nonce, sealed, _DOMAIN + name)
        except (InvalidTag, ValueError):
            text = "the cipher was not made here"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text) from None
        return MESSAGES["DecryptResponse"](plain=plain)

    def serve_on(self, server: grpc.aio.Server) -> None:
        """Make *server* answer the methods of both interfaces."""
        super().serve_on(server)
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Version": unary(MESSAGES["VersionRequest"], self.v1_version),
            "Encrypt": unary(MESSAGES["EncryptRequest"], self.v1_encrypt),
            "Decrypt": unary(MESSAGES["DecryptRequest"], self.v1_decrypt),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, methods)
        server.add_generic_rpc_handlers([generic])
