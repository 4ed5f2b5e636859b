"""DSM's REST API over the model: which call is which; sessions, health and the cipher.

Nearly every call, and each hot one, is found by one dictionary look-up. `rest_keys` has
the calls about keys; those whose path carries a kid go through its second table.
"""

from collections.abc import Callable

from dsm_emulator import rest_keys
from dsm_emulator.dsm import VERSION, Dsm
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.sessions import Session
from dsm_emulator.wire import (
    decode_object,
    encode_base64,
    optional_bytes,
    optional_int,
    optional_str,
    required_bytes,
    required_str,
)


_NO_CONTENT = Answer(204)


def answer(dsm: Dsm, request: Request) -> Answer:
    """Return what DSM answers to *request*; refusals are answers too."""
    call = _CALLS.get((request.method, request.path))
    try:
        if call is not None:
            return call(dsm, request)
        if request.path.startswith(rest_keys.KID_PREFIX):
            return rest_keys.answer_for_kid(dsm, request)
    except DsmError as refused:
        return Answer.of_refusal(refused)
    return Answer(404, text="Not found")


# The service itself.


def _health(dsm: Dsm, _: Request) -> Answer:
    return _NO_CONTENT if dsm.healthy else Answer(503, text="Service unavailable")


def _version(_: Dsm, __: Request) -> Answer:
    shown = {"version": VERSION, "api_version": "v1", "server_mode": "Software"}
    return Answer(200, json=shown)


# Sessions.


def _auth(dsm: Dsm, request: Request) -> Answer:
    return _session_opened(dsm, dsm.logins.log_in(*request.caller))


def _refresh(dsm: Dsm, request: Request) -> Answer:
    dsm.logins.session_of(*request.caller)
    return _NO_CONTENT


def _reauth(dsm: Dsm, request: Request) -> Answer:
    return _session_opened(dsm, dsm.logins.log_in_again(*request.caller))


def _terminate(dsm: Dsm, request: Request) -> Answer:
    dsm.sessions.end(dsm.logins.session_of(*request.caller).token)
    return _NO_CONTENT


def _session_opened(dsm: Dsm, session: Session) -> Answer:
    opened = {
        "token_type": "Bearer",
        "expires_in": int(dsm.sessions.idle_s),
        "access_token": session.token,
        "entity_id": session.app_id,
    }
    return Answer(200, json=opened)


# The cipher.


def _encrypt(dsm: Dsm, request: Request) -> Answer:
    app = dsm.logins.authenticate(*request.caller)
    body = decode_object(request.body)
    if required_str(body, "alg") != "AES":
        raise bad_request("the emulator knows AES alone")
    plain = required_bytes(body, "plain")
    iv = optional_bytes(body, "iv")
    ad = optional_bytes(body, "ad")
    tag_bits = optional_int(body, "tag_len")
    mode = required_str(body, "mode")
    key = rest_keys.described_key(dsm, body.get("key"), request.connection)
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


def _decrypt(dsm: Dsm, request: Request) -> Answer:
    app = dsm.logins.authenticate(*request.caller)
    body = decode_object(request.body)
    if optional_str(body, "alg") not in {None, "AES"}:
        raise bad_request("the emulator knows AES alone")
    cipher = required_bytes(body, "cipher")
    iv = optional_bytes(body, "iv")
    ad = optional_bytes(body, "ad")
    tag = optional_bytes(body, "tag")
    mode = required_str(body, "mode")
    key = rest_keys.described_key(dsm, body.get("key"), request.connection)
    try:
        plain = dsm.decrypt(app, key, mode, cipher, iv=iv, ad=ad, tag=tag)
    except DsmError as refused:
        return Answer.of_refusal(refused, key.kid)
    return Answer(
        200, json={"kid": key.kid, "plain": encode_base64(plain)}, kid=key.kid
    )


_CALLS: dict[tuple[str, str], Callable[[Dsm, Request], Answer]] = {
    ("POST", "/crypto/v1/encrypt"): _encrypt,
    ("POST", "/crypto/v1/decrypt"): _decrypt,
    ("POST", "/sys/v1/session/auth"): _auth,
    ("POST", "/sys/v1/session/refresh"): _refresh,
    ("POST", "/sys/v1/session/reauth"): _reauth,
    ("POST", "/sys/v1/session/terminate"): _terminate,
    ("GET", "/sys/v1/health"): _health,
    ("GET", "/sys/v1/version"): _version,
    **rest_keys.CALLS,
}
