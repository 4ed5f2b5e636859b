"""A correct KMS v2 plugin in memory: what every check must pass, and can be read.

``RemoteKms`` stands for the key service, and is shared by all instances that use one
key. ``ReferencePlugin`` serves it on a unix socket. The kit's own tests derive bad
plugins from it; the author of another plugin may read what a good one needs.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

import grpc.aio
from attrs import define, field
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError, Message

from adapters_grpc.messages import (
    SERVICE,
    DecryptRequest,
    DecryptResponse,
    EncryptRequest,
    EncryptResponse,
    StatusRequest,
    StatusResponse,
)


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


M = TypeVar("M", bound=Message)

MAX_PLAINTEXT_BYTES: Final = 512
"""Keeps every ciphertext below the 1024 bytes that kube-apiserver accepts."""

_NONCE_BYTES: Final = 12
_GRACE_S: Final = 5.0


class Refusal(Exception):
    """A call that the plugin refuses, in words that may reach API users."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(code, text)


class SocketTaken(Exception):
    """Another plugin serves the path, or something that is no socket is there."""


@define
class RemoteKms:
    """A key service with one key and its former versions.

    Attributes:
        versions: The key of each generation; a key that returns is another generation.
        broken: It can't be reached.
        calls: How many calls it has had.
    """

    versions: list[bytes] = field(
        factory=lambda: [AESGCM.generate_key(256)], repr=False
    )
    broken: bool = False
    calls: int = 0

    def rotate(self) -> None:
        """Make a new key the current one."""
        self.versions.append(AESGCM.generate_key(256))

    def back(self) -> None:
        """Make the key before the current one current again, as a new generation."""
        self.versions.append(self.versions[-2])

    def key_ids(self) -> list[str]:
        """Return the name of each generation; it is never used again."""
        return [f"reference:{number}" for number in range(len(self.versions))]

    def key(self, key_id: str) -> AESGCM:
        """Return the key that *key_id* names.

        Raises:
            Refusal: There is none, or the service can't be reached.
        """
        self.calls += 1
        if self.broken:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "the key service is away")
        if key_id not in self.key_ids():
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the key_id is unknown")
        return AESGCM(self.versions[self.key_ids().index(key_id)])


class ReferencePlugin:
    """Serves KMS v2 on a unix socket. Each method may be overridden.

    Args:
        kms: The key service.
        path: Where the socket is to be.
    """

    def __init__(self, kms: RemoteKms, path: Path) -> None:
        self.kms = kms
        self.path = path
        self._server: grpc.aio.Server | None = None

    async def status(self, request: StatusRequest) -> StatusResponse:
        """Say which key is used now."""
        del request
        if self.kms.broken:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "the key service is away")
        return StatusResponse(version="v2", healthz="ok", key_id=self.kms.key_ids()[-1])

    async def encrypt(self, request: EncryptRequest) -> EncryptResponse:
        """Seal a seed under the key that Status names; the key_id is authenticated."""
        if len(request.plaintext) > MAX_PLAINTEXT_BYTES:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the plaintext is too long")
        key_id = self.kms.key_ids()[-1]
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self.kms.key(key_id).encrypt(nonce, request.plaintext, key_id.encode())
        return EncryptResponse(ciphertext=nonce + sealed, key_id=key_id)

    async def decrypt(self, request: DecryptRequest) -> DecryptResponse:
        """Open a sealed seed under the key that its key_id names, or refuse."""
        if request.annotations:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no annotations were given")
        key = self.kms.key(request.key_id)
        nonce = request.ciphertext[:_NONCE_BYTES]
        sealed = request.ciphertext[_NONCE_BYTES:]
        try:
            plaintext = key.decrypt(nonce, sealed, request.key_id.encode())
        except (InvalidTag, ValueError):
            text = "the ciphertext was not made here"
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, text) from None
        return DecryptResponse(plaintext=plaintext)

    async def start(self) -> None:
        """Serve.

        Raises:
            SocketTaken: The path can't be had; what is there stays as it is.
        """
        self._claim()
        server = self.new_server()
        self.serve_on(server)
        umask = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{quote(str(self.path))}")
        finally:
            os.umask(umask)
        await server.start()
        self._server = server

    async def stop(self, grace_s: float = _GRACE_S) -> None:
        """Let calls in flight end, and remove the socket."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)

    def new_server(self) -> grpc.aio.Server:
        """Return a server that serves nothing yet."""
        return grpc.aio.server()

    def serve_on(self, server: grpc.aio.Server) -> None:
        """Make *server* answer the three methods."""
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Status": unary(StatusRequest, self.status),
            "Encrypt": unary(EncryptRequest, self.encrypt),
            "Decrypt": unary(DecryptRequest, self.decrypt),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, methods)
        server.add_generic_rpc_handlers([generic])

    def _claim(self) -> None:
        """Refuse a path that is in use; grpcio would take it over without a word."""
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise SocketTaken(f"{self.path} is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(self.path)) == 0:
                raise SocketTaken(f"{self.path} is served by another plugin")


def unary(
    request_class: type[M], method: Callable[[M], Awaitable[Message]]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Return a handler: bytes in, bytes out, and a refusal becomes a status."""

    # grpcio would answer garbage with a text of its own.
    async def answer(
        raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        try:
            return (await method(request_class.FromString(raw))).SerializeToString()
        except (DecodeError, UnicodeDecodeError):
            code, text = grpc.StatusCode.INVALID_ARGUMENT, "the request is malformed"
        except Refusal as refusal:
            code, text = refusal.code, refusal.text
        return await context.abort(code, text)

    return grpc.unary_unary_rpc_method_handler(answer)
