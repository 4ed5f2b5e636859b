"""Connection: one HTTP/2 connection to a plugin, dialled as kube-apiserver dials."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, TypeVar

import grpc.aio
from attrs import frozen
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
from kms_conformance.outcome import CallFailed
from kms_conformance.recorder import Exchange


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kms_conformance.recorder import Recorder
    from kms_conformance.target import Endpoint


M = TypeVar("M", bound=Message)

AUTHORITY: Final = "localhost"
"""kube-apiserver's :authority since 1.32 (contract 2.3)."""

_NAMES: Final = {
    STATUS_METHOD: "Status",
    ENCRYPT_METHOD: "Encrypt",
    DECRYPT_METHOD: "Decrypt",
}


@frozen
class Dial:
    """How a connection is made. The defaults are kube-apiserver's (contract 2.3).

    Attributes:
        authority: The :authority of each call.
        backoff_s: Seconds before the second attempt to connect; grows by 1.6.
        max_backoff_s: Longest wait between two attempts.
    """

    authority: str = AUTHORITY
    backoff_s: float = 1.0
    max_backoff_s: float = 120.0

    def options(self) -> tuple[tuple[str, str | int], ...]:
        """Return grpcio's channel options."""
        return (
            ("grpc.default_authority", self.authority),
            ("grpc.use_local_subchannel_pool", 1),  # a new connection dials anew
            ("grpc.initial_reconnect_backoff_ms", int(self.backoff_s * 1000)),
            ("grpc.min_reconnect_backoff_ms", int(self.backoff_s * 1000)),
            ("grpc.max_reconnect_backoff_ms", int(self.max_backoff_s * 1000)),
            # identity alone is what every API server reads: gzip is linked into those
            # of today by their tracing, not by KMS (contract T07)
            ("grpc.compression_enabled_algorithms_bitset", 1),
        )


@frozen
class StatusAnswer:
    """What Status answered, unchecked."""

    version: str
    healthz: str
    key_id: str


@frozen
class Sealed:
    """What Encrypt answered, unchecked, and what Decrypt is asked with.

    Attributes:
        ciphertext: The sealed seed.
        key_id: The name of the key.
        annotations: Key and value of each, sorted by key.
    """

    ciphertext: bytes
    key_id: str
    annotations: tuple[tuple[str, bytes], ...] = ()


def sorted_pairs(pairs: Iterable[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """Return annotations as ``Sealed`` has them."""
    return tuple(sorted(pairs))


class Connection:
    """Calls a plugin as kube-apiserver does: cleartext, no metadata, WaitForReady.

    Args:
        endpoint: The plugin's socket.
        dial: How to connect.
        timeout_s: Seconds for each call, connecting included.
        recorder: Learns of each call.
        new_uid: Makes the uid of a call that names none.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        dial: Dial,
        timeout_s: float,
        recorder: Recorder,
        new_uid: Callable[[], str],
    ) -> None:
        self._timeout_s = timeout_s
        self._recorder = recorder
        self._new_uid = new_uid
        self._channel = grpc.aio.insecure_channel(
            endpoint.grpc_target, options=dial.options()
        )

    async def aclose(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        await self._channel.close()

    async def ready(self, within_s: float) -> None:
        """Wait until the connection stands.

        Raises:
            TimeoutError: It did not within *within_s* seconds.
        """
        async with asyncio.timeout(within_s):
            await self._channel.channel_ready()

    def state(self) -> str:
        """Return how the connection stands, such as ``READY``; asking dials nothing."""
        return self._channel.get_state().name

    async def status(self, *, timeout_s: float | None = None) -> StatusAnswer:
        """Ask for the plugin's status.

        Raises:
            CallFailed: It was not answered, or with bytes that are no StatusResponse.
        """
        raw = StatusRequest().SerializeToString()
        came = await self.raw(STATUS_METHOD, raw, timeout_s=timeout_s)
        answer = _parsed(STATUS_METHOD, StatusResponse, came)
        return StatusAnswer(answer.version, answer.healthz, answer.key_id)

    async def encrypt(
        self,
        plaintext: bytes,
        *,
        uid: str | None = None,
        timeout_s: float | None = None,
    ) -> Sealed:
        """Have *plaintext* sealed.

        Args:
            plaintext: kube-apiserver sends 32 bytes.
            uid: The uid; None makes a new one, as kube-apiserver does.
            timeout_s: Seconds for this call, instead of the connection's.

        Raises:
            CallFailed: It was not answered, or with bytes that are no EncryptResponse.
        """
        uid = self._new_uid() if uid is None else uid
        raw = EncryptRequest(plaintext=plaintext, uid=uid).SerializeToString()
        came = await self.raw(ENCRYPT_METHOD, raw, timeout_s=timeout_s)
        answer = _parsed(ENCRYPT_METHOD, EncryptResponse, came)
        annotations = sorted_pairs(answer.annotations.items())
        return Sealed(answer.ciphertext, answer.key_id, annotations)

    async def decrypt(
        self, sealed: Sealed, *, uid: str | None = None, timeout_s: float | None = None
    ) -> bytes:
        """Have what Encrypt answered opened; arguments and errors as of ``encrypt``."""
        raw = DecryptRequest(
            ciphertext=sealed.ciphertext,
            uid=self._new_uid() if uid is None else uid,
            key_id=sealed.key_id,
            annotations=dict(sealed.annotations),
        ).SerializeToString()
        came = await self.raw(DECRYPT_METHOD, raw, timeout_s=timeout_s)
        return _parsed(DECRYPT_METHOD, DecryptResponse, came).plaintext

    async def raw(
        self, method: str, body: bytes, *, timeout_s: float | None = None
    ) -> bytes:
        """Send *body* as the message of *method*, whatever it is.

        Args:
            method: The full path, such as ``/v2.KeyManagementService/Status``.
            body: The message's bytes; gRPC puts its frame around them.
            timeout_s: Seconds for this call, instead of the connection's.

        Returns:
            The answer's message.

        Raises:
            CallFailed: The code is not OK.
        """
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = self._channel.unary_unary(method)
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        name = _NAMES.get(method, method)
        began = time.perf_counter()
        try:
            came = await call(body, timeout=limit_s, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            took_s = time.perf_counter() - began
            code, text = error.code().name, error.details() or ""
            self._recorder.add(Exchange(name, took_s, code, text, sent=body))
            raise CallFailed(name, code, text) from None
        took_s = time.perf_counter() - began
        self._recorder.add(Exchange(name, took_s, "OK", sent=body, came=came))
        return came


def _parsed(method: str, answer_class: type[M], raw: bytes) -> M:
    try:
        return answer_class.FromString(raw)
    # The pure Python protobuf raises ValueError for strings that are not UTF-8.
    except (DecodeError, ValueError):
        text = "the answer is no KMS v2 message"
        raise CallFailed(_NAMES[method], "OK", text) from None
