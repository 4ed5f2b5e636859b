"""Encrypt and decrypt: by descriptor, and by the kid of a batch's item or a path."""

from collections.abc import Mapping
from typing import Any

from dsm_emulator.account import App
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.rest_call import Call, body_of, caller
from dsm_emulator.rest_key_view import described_key
from dsm_emulator.sobject import Sobject
from dsm_emulator.wire import (
    encode_base64,
    optional_bytes,
    optional_int,
    optional_str,
    required_bytes,
    required_str,
)


def encrypt(dsm: Dsm, app: App, key: Sobject, body: dict[str, Any]) -> Answer:
    """Encrypt what *body* says; it needs no descriptor.

    Raises:
        DsmError: 400, the body is malformed.
    """
    if required_str(body, "alg") != "AES":
        raise bad_request("the emulator knows AES alone")
    plain = required_bytes(body, "plain")
    iv = optional_bytes(body, "iv")
    ad = optional_bytes(body, "ad")
    tag_bits = optional_int(body, "tag_len")
    mode = required_str(body, "mode")
    try:
        sealed = dsm.encrypt(app, key, mode, plain, iv=iv, ad=ad, tag_bits=tag_bits)
    except DsmError as refused:
        return Answer.of_refusal(refused, key.kid)
    shown = {
        "kid": key.kid,
        "cipher": encode_base64(sealed.cipher),
        "iv": encode_base64(sealed.iv),
    }
    if sealed.tag is not None:
        shown["tag"] = encode_base64(sealed.tag)
    return Answer(200, json=shown, kid=key.kid)


def decrypt(dsm: Dsm, app: App, key: Sobject, body: dict[str, Any]) -> Answer:
    """Decrypt what *body* says; it needs no descriptor.

    Raises:
        DsmError: 400, the body is malformed.
    """
    if optional_str(body, "alg") not in {None, "AES"}:
        raise bad_request("the emulator knows AES alone")
    cipher = required_bytes(body, "cipher")
    iv = optional_bytes(body, "iv")
    ad = optional_bytes(body, "ad")
    tag = optional_bytes(body, "tag")
    mode = required_str(body, "mode")
    try:
        plain = dsm.decrypt(app, key, mode, cipher, iv=iv, ad=ad, tag=tag)
    except DsmError as refused:
        return Answer.of_refusal(refused, key.kid)
    return Answer(
        200, json={"kid": key.kid, "plain": encode_base64(plain)}, kid=key.kid
    )


def _encrypt(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    body = body_of(dsm, request)
    key = described_key(dsm, body.get("key"), request.connection)
    return encrypt(dsm, app, key, body)


def _decrypt(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    body = body_of(dsm, request)
    key = described_key(dsm, body.get("key"), request.connection)
    return decrypt(dsm, app, key, body)


CALLS: Mapping[tuple[str, str], Call] = {
    ("POST", "/crypto/v1/encrypt"): _encrypt,
    ("POST", "/crypto/v1/decrypt"): _decrypt,
}
