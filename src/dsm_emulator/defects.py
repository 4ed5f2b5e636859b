"""Answers that are wrong in themselves: fields missing, of another size, no JSON."""

import binascii
import gzip
import json
import uuid
from collections.abc import Callable
from typing import Any

import attrs

from dsm_emulator.fault import Fault
from dsm_emulator.fault_kinds import FaultKind
from dsm_emulator.wire import encode_base64


DEFAULT_SIZE = 8 * 1024 * 1024
_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"


@attrs.frozen
class Outgoing:
    """An answer as it goes out.

    Attributes:
        status: The HTTP status.
        headers: All but Content-Length.
        body: Nothing for a 204.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def spoil(
    answer: dict[str, Any], defects: list[Fault], *, status: int = 200
) -> Outgoing:
    """Return *answer* with *defects* in it.

    Those of fields come first, then those of the body as a whole, each in its order.
    """
    spoilt = dict(answer)
    for fault in defects:
        change = _OF_FIELDS.get(fault.kind)
        if change is not None:
            change(spoilt, fault)
    body = json.dumps(spoilt).encode()
    outgoing = Outgoing(status, ((b"content-type", _JSON),), body)
    for fault in defects:
        rewrite = _OF_BODIES.get(fault.kind)
        if rewrite is not None:
            outgoing = rewrite(outgoing, fault)
    return outgoing


def _drop(answer: dict[str, Any], fault: Fault) -> None:
    answer.pop(fault.field or "", None)


def _set(answer: dict[str, Any], fault: Fault) -> None:
    answer[fault.field or ""] = fault.value


def _resize(answer: dict[str, Any], fault: Fault) -> None:
    name, size = fault.field or "", fault.size or 0
    before = answer.get(name)
    # An answer without that field stays without it.
    if isinstance(before, str):
        known = binascii.a2b_base64(before)
        answer[name] = encode_base64(known[:size].ljust(size, b"\0"))


def _change_kid(answer: dict[str, Any], _: Fault) -> None:
    answer["kid"] = str(uuid.uuid4())


def _pad(answer: dict[str, Any], fault: Fault) -> None:
    answer["padding"] = "x" * (DEFAULT_SIZE if fault.size is None else fault.size)


def _no_json(outgoing: Outgoing, _: Fault) -> Outgoing:
    return attrs.evolve(outgoing, body=b"this is not JSON")


def _truncated(outgoing: Outgoing, _: Fault) -> Outgoing:
    return attrs.evolve(outgoing, body=outgoing.body[: len(outgoing.body) // 2])


def _compressed(outgoing: Outgoing, _: Fault) -> Outgoing:
    headers = (*outgoing.headers, (b"content-encoding", b"gzip"))
    return attrs.evolve(outgoing, headers=headers, body=gzip.compress(outgoing.body))


def _error_text(_: Outgoing, fault: Fault) -> Outgoing:
    return Outgoing(200, ((b"content-type", _TEXT),), fault.text.encode())


def _nothing(_: Outgoing, __: Fault) -> Outgoing:
    return Outgoing(204, (), b"")


_OF_FIELDS: dict[FaultKind, Callable[[dict[str, Any], Fault], None]] = {
    FaultKind.DROP_FIELD: _drop,
    FaultKind.SET_FIELD: _set,
    FaultKind.RESIZE_FIELD: _resize,
    FaultKind.WRONG_KID: _change_kid,
    FaultKind.HUGE_BODY: _pad,
}
_OF_BODIES: dict[FaultKind, Callable[[Outgoing, Fault], Outgoing]] = {
    FaultKind.NOT_JSON: _no_json,
    FaultKind.TRUNCATED_JSON: _truncated,
    FaultKind.GZIP: _compressed,
    FaultKind.ERROR_TEXT: _error_text,
    FaultKind.NO_CONTENT: _nothing,
}
