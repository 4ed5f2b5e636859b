"""The three calls of KMS v2: bytes in, bytes out, and one guard around them.

grpcio parses and serialises nothing here, since it answers unparsable input and stray
exceptions itself, with their text (design section 8). What leaves is an answer, a
``KmsError`` in its own words, or, for anything else, one fixed text.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import grpc
from attrs import define
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
from kms_core.errors import InternalFault, KmsError, MessageMalformed, one_line
from kms_core.events import CallFinished, Unexpected, describe_exception
from kms_core.limits import MAX_UID_CHARS
from kms_core.ports import call_uid


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kms_core.ports import Event, Telemetry
    from kms_core.service import KmsService


DEADLINE_MARGIN_S: Final = 0.05
"""How much earlier than the client we give up, so that our words reach it."""

DEADLINE_UNSET_S: Final = 10.0
"""Deadline of a call whose client set none."""

DEADLINE_CAP_S: Final = 30.0
"""Longest deadline that we work for, whatever the client set."""

MAX_LOGGED_KEY_ID_CHARS: Final = 128
"""Longest key_id of a request that reaches the log; a native one has 82 characters."""

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
M = TypeVar("M", bound=Message)


@define(slots=True)
class _Call:
    """What the log will say of a call, filled in as it becomes known."""

    method: str
    started: float
    uid: str = ""
    key_id: str = ""


class KmsHandlers:
    """KMS v2 on top of a KmsService.

    Args:
        service: The use cases.
        telemetry: Gets a CallFinished for each call, and an Unexpected for each defect.
    """

    def __init__(self, service: KmsService, telemetry: Telemetry) -> None:
        self._service = service
        self._telemetry = telemetry

    def serve_on(self, server: grpc.aio.Server) -> None:
        """Make *server*, which has not started yet, answer the three methods.

        A registered method is accepted from a queue of its own, which is what keeps
        Status from queueing behind Decrypts in front of our code: with 64 Decrypts in
        flight its median fell from 20 to 2 ms. grpc.aio up to 1.80 at least ignores
        the registration, hence the generic handler as well.
        """
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Status": grpc.unary_unary_rpc_method_handler(self.status),
            "Encrypt": grpc.unary_unary_rpc_method_handler(self.encrypt),
            "Decrypt": grpc.unary_unary_rpc_method_handler(self.decrypt),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, methods)
        server.add_generic_rpc_handlers([generic])
        server.add_registered_method_handlers(SERVICE, methods)

    async def status(self, raw: bytes, context: Context) -> bytes:
        """Answer Status, from memory and without waiting."""
        return await self._guarded("Status", self._status, raw, context)

    async def encrypt(self, raw: bytes, context: Context) -> bytes:
        """Answer Encrypt."""
        return await self._guarded("Encrypt", self._encrypt, raw, context)

    async def decrypt(self, raw: bytes, context: Context) -> bytes:
        """Answer Decrypt."""
        return await self._guarded("Decrypt", self._decrypt, raw, context)

    async def _guarded(
        self,
        method: str,
        work: Callable[[bytes, Context, _Call], Awaitable[bytes]],
        raw: bytes,
        context: Context,
    ) -> bytes:
        call = _Call(method, asyncio.get_running_loop().time())
        try:
            answer = await work(raw, context, call)
        except asyncio.CancelledError as error:
            if _hung_up():
                self._finish(call, "CANCELLED", "the client hung up")
                raise
            # Somebody inside cancelled what the call was waiting for. Passed on, it
            # would leave the client without any answer until its deadline.
            code, text = self._fault(call, error)
        except KmsError as error:
            code, text = error.rpc_code.value, error.text()
        except Exception as error:  # noqa: BLE001 - the outer guard
            code, text = self._fault(call, error)
        else:
            self._finish(call, "OK", None)
            return answer
        self._finish(call, code, text)
        # Outside of the guard: abort answers, and then raises to end the call.
        return await context.abort(grpc.StatusCode[code], text)

    async def _status(self, raw: bytes, _context: Context, call: _Call) -> bytes:
        _parsed(StatusRequest, raw)
        answer = self._service.status()
        call.key_id = answer.key_id
        return StatusResponse(
            version=answer.version, healthz=answer.healthz, key_id=answer.key_id
        ).SerializeToString()

    async def _encrypt(self, raw: bytes, context: Context, call: _Call) -> bytes:
        deadline = _deadline(context, call)
        request = _parsed(EncryptRequest, raw)
        _take_uid(request.uid, call)
        answer = await self._service.encrypt(request.plaintext, deadline=deadline)
        call.key_id = answer.key_id
        return EncryptResponse(
            ciphertext=answer.ciphertext, key_id=answer.key_id
        ).SerializeToString()

    async def _decrypt(self, raw: bytes, context: Context, call: _Call) -> bytes:
        deadline = _deadline(context, call)
        request = _parsed(DecryptRequest, raw)
        _take_uid(request.uid, call)
        call.key_id = _fit_for_log(request.key_id)
        plaintext = await self._service.decrypt(
            request.ciphertext,
            request.key_id,
            annotated=bool(request.annotations),
            deadline=deadline,
        )
        return DecryptResponse(plaintext=plaintext).SerializeToString()

    def _fault(self, call: _Call, error: BaseException) -> tuple[str, str]:
        self._emit(Unexpected(where=call.method, what=describe_exception(error)))
        fault = InternalFault("the plugin failed on this call")
        return fault.rpc_code.value, fault.text()

    def _finish(self, call: _Call, rpc_code: str, error: str | None) -> None:
        self._emit(
            CallFinished(
                method=call.method,
                uid=call.uid,
                key_id=call.key_id,
                rpc_code=rpc_code,
                error=error,
                duration_s=asyncio.get_running_loop().time() - call.started,
            )
        )

    def _emit(self, event: Event) -> None:
        # A defect in telemetry must not become an answer in grpcio's words.
        with contextlib.suppress(Exception):
            self._telemetry.emit(event)


def _hung_up() -> bool:
    """Return whether grpcio cancelled the call itself: hang-up, deadline or stop."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _parsed(message_class: type[M], raw: bytes) -> M:
    try:
        return message_class.FromString(raw)
    # The pure Python protobuf raises ValueError for strings that are not UTF-8.
    except (DecodeError, ValueError):
        raise MessageMalformed(
            f"the request's bytes are no {message_class.DESCRIPTOR.full_name}"
        ) from None


def _deadline(context: Context, call: _Call) -> float:
    # The type stubs do not know that it is None for a call without a deadline.
    remaining_s: float | None = context.time_remaining()
    if remaining_s is None:
        return call.started + DEADLINE_UNSET_S
    ours_s = max(remaining_s - DEADLINE_MARGIN_S, 0.0)
    return call.started + min(ours_s, DEADLINE_CAP_S)


def _take_uid(uid: str, call: _Call) -> None:
    if not (len(uid) <= MAX_UID_CHARS and uid.isascii() and uid.isprintable()):
        # Cut first: cleaning 64 kB would hold the loop for milliseconds.
        uid = one_line(uid[: MAX_UID_CHARS + 1], MAX_UID_CHARS)
    call.uid = uid
    # grpcio gives each call a task, and so a context, of its own: nothing to reset.
    call_uid.set(uid)


def _fit_for_log(key_id: str) -> str:
    if (
        len(key_id) <= MAX_LOGGED_KEY_ID_CHARS
        and key_id.isascii()
        and key_id.isprintable()
    ):
        return key_id
    return f"<{len(key_id.encode())} bytes>"
