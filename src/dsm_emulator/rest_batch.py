"""Batches: of encrypt or decrypt by kid, and the generic one (section 3.5).

A batch answers 200 with a status for each item; what becomes of one doesn't matter to
the others.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from dsm_emulator import rest_cipher
from dsm_emulator.account import App
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.rest_call import Call, caller
from dsm_emulator.sobject import Sobject
from dsm_emulator.wire import LooseBody, decode_list, decode_object, required_str


MAX_BODY_BYTES = 512 * 1024
_GENERIC = "/batch/v1"
_REFUSED_FROM = 400
_MAX_DEPTH = 8
_Cipher = Callable[[Dsm, App, Sobject, dict[str, Any]], Answer]


def calls(answer: Call) -> Mapping[tuple[str, str], Call]:
    """Return the calls of this module.

    Args:
        answer: Carries out an item of the generic batch, as if it had been sent alone.
    """
    return {
        ("POST", "/crypto/v1/keys/batch/encrypt"): _of(rest_cipher.encrypt),
        ("POST", "/crypto/v1/keys/batch/decrypt"): _of(rest_cipher.decrypt),
        ("POST", _GENERIC): lambda dsm, request: _generic(dsm, request, answer),
    }


def _of(cipher: _Cipher) -> Call:
    def call(dsm: Dsm, request: Request) -> Answer:
        app = caller(dsm, request)
        _expect_small(request)
        items = decode_list(request.body)
        return Answer(200, json=[_item(dsm, request, app, i, cipher) for i in items])

    return call


def _item(
    dsm: Dsm, request: Request, app: App, item: object, cipher: _Cipher
) -> dict[str, Any]:
    try:
        if not isinstance(item, dict) or not isinstance(item.get("request"), dict):
            raise bad_request("missing field `request`")
        body = item["request"]
        if dsm.rules.loose_base64:
            body = LooseBody(body)
        key = dsm.keys.seen_by_kid(required_str(item, "kid"), request.connection)
        answer = cipher(dsm, app, key, body)
    except DsmError as refused:
        return {"status": refused.status, "error": refused.text}
    if answer.status < _REFUSED_FROM:
        return {"status": answer.status, "body": answer.json}
    return {"status": answer.status, "error": answer.text}


def _generic(dsm: Dsm, request: Request, answer: Call) -> Answer:
    caller(dsm, request)
    _expect_small(request)
    wanted = decode_object(request.body)
    return Answer(200, json=_carried_out(dsm, request, wanted, answer, _MAX_DEPTH))


def _carried_out(
    dsm: Dsm, request: Request, wanted: object, answer: Call, depth: int
) -> dict[str, Any]:
    if not isinstance(wanted, dict) or len(wanted) != 1 or depth == 0:
        raise bad_request("invalid batch")
    if isinstance(wanted.get("SingleItem"), dict):
        return {"SingleItem": _single(dsm, request, wanted["SingleItem"], answer)}
    batch = wanted.get("Batch")
    if not isinstance(batch, dict) or not isinstance(batch.get("items"), list):
        raise bad_request("invalid batch")
    kind = batch.get("batch_execution_type")
    if kind not in {"Serial", "Unordered"}:
        raise bad_request("invalid batch_execution_type")
    results: list[dict[str, Any]] = []
    stopped = False
    for item in batch["items"]:
        if stopped:
            results.append({"SingleItem": {"Skipped": {"reason": "PrecedingFailed"}}})
            continue
        results.append(_carried_out(dsm, request, item, answer, depth - 1))
        # That a serial batch stops at its first failure is assumed.
        stopped = kind == "Serial" and _has_failed(results[-1])
    return {"Batch": {"items": results}}


def _single(
    dsm: Dsm, request: Request, item: dict[str, Any], answer: Call
) -> dict[str, Any]:
    method, operation = required_str(item, "method"), required_str(item, "operation")
    if operation.startswith(_GENERIC):
        raise bad_request("a batch has no batches for items")
    path, _, query = operation.partition("?")
    body = item.get("body")
    given = answer(
        dsm,
        attrs.evolve(
            request,
            method=method.upper(),
            path=path,
            query=query.encode(),
            body=b"" if body is None else json.dumps(body).encode(),
        ),
    )
    shown = given.json if given.text is None else given.text
    return {"Result": {"status": given.status, "body": shown}}


def _has_failed(result: dict[str, Any]) -> bool:
    single = result.get("SingleItem")
    if single is None:
        return any(_has_failed(item) for item in result["Batch"]["items"])
    return "Skipped" in single or single["Result"]["status"] >= _REFUSED_FROM


def _expect_small(request: Request) -> None:
    if len(request.body) > MAX_BODY_BYTES:
        raise DsmError(413, "request body is too large")
