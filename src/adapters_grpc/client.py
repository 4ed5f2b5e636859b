"""KmsClient: a small KMS v2 client, for people and for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import quote

import grpc.aio
from google.protobuf.message import DecodeError, Message

from adapters_grpc.messages import (
    DECRYPT_METHOD,
    ENCRYPT_METHOD,
    STATUS_METHOD,
    DecryptRequest,
    DecryptResponse,
    EncryptRequest,
    EncryptResponse,
    StatusRequest,
    StatusResponse,
)


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType


M = TypeVar("M", bound=Message)

_OPTIONS: Final = (
    ("grpc.default_authority", "localhost"),  # as kube-apiserver 1.32 and later
    ("grpc.use_local_subchannel_pool", 1),  # a new client dials anew
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class CallFailed(Exception):
    """The call did not end with an answer.

    Attributes:
        code_name: Name of the status code, such as ``UNAVAILABLE``; ``OK`` when an
            answer came but is no KMS v2 message.
        text: What the server, or gRPC itself, said.
    """

    def __init__(self, code_name: str, text: str) -> None:
        self.code_name = code_name
        self.text = text
        super().__init__(f"{code_name}: {text}")


class KmsClient:
    """Calls a KMS v2 plugin as kube-apiserver does. An async context manager.

    Args:
        path: The plugin's socket.
        timeout_s: Seconds for each call, connecting included.
    """

    def __init__(self, path: Path, *, timeout_s: float = 3.0) -> None:
        self._target = f"unix:{quote(str(path))}"
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def status(self) -> StatusResponse:
        """Return what the plugin says of itself.

        Raises:
            CallFailed: It did not say OK in time.
        """
        return await self._call(STATUS_METHOD, StatusRequest(), StatusResponse)

    async def encrypt(self, plaintext: bytes, uid: str = "") -> EncryptResponse:
        """Return *plaintext* encrypted.

        Raises:
            CallFailed: The plugin did not say OK in time.
        """
        request = EncryptRequest(plaintext=plaintext, uid=uid)
        return await self._call(ENCRYPT_METHOD, request, EncryptResponse)

    async def decrypt(
        self,
        ciphertext: bytes,
        key_id: str,
        uid: str = "",
        *,
        annotations: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """Return the plaintext of what ``encrypt`` answered.

        Raises:
            CallFailed: The plugin did not say OK in time.
        """
        request = DecryptRequest(
            ciphertext=ciphertext,
            key_id=key_id,
            uid=uid,
            annotations=annotations or {},
        )
        answer = await self._call(DECRYPT_METHOD, request, DecryptResponse)
        return answer.plaintext

    async def _call(self, method: str, request: Message, answer_class: type[M]) -> M:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = self._channel.unary_unary(method)
        raw = request.SerializeToString()
        try:
            answer = await call(raw, timeout=self._timeout_s, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(error.code().name, error.details() or "") from None
        try:
            return answer_class.FromString(answer)
        except (DecodeError, ValueError):
            raise CallFailed("OK", "the answer is no KMS v2 message") from None
