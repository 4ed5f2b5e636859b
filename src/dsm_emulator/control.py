"""The control API: what a person or a test outside this process may do to the model.

It lives below `/emulator/v1/`, on the same listener, and wants the control token as
Bearer.

| call | body | effect |
|---|---|---|
| GET journal, counters, keys, faults | | shows them |
| POST key | `action`, `kid` or `name` | rekey, enable, disable, deactivate, ... |
| POST kill-sessions | | ends all sessions |
| POST latency | `ms` | every answer comes so much later |
| POST faults | the fields of a `Fault` | arms it |
| DELETE faults | | disarms all, lets go what hangs |
| POST reset-secret | `app_id`, `migration_s` | answers with the new API key |
"""

import hmac
from collections.abc import Callable
from typing import Any

import attrs

from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.fault import Fault
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.sobject import Sobject
from dsm_emulator.wire import (
    decode_object,
    optional_bool,
    optional_str,
    required_str,
)


PREFIX = "/emulator/v1/"


def answer(dsm: Dsm, request: Request, token: str | None) -> Answer:
    """Return the answer of the control API, which only *token* opens."""
    scheme, _, given = (request.authorization or "").partition(" ")
    if (
        token is None
        or scheme.lower() != "bearer"
        or not hmac.compare_digest(given.encode(), token.encode())
    ):
        return Answer(401, text="control token required")
    call = _CALLS.get((request.method, request.path.removeprefix(PREFIX)))
    if call is None:
        return Answer(404, text="no such control call")
    try:
        return Answer(200, json=call(dsm, decode_object(request.body)))
    except DsmError as refused:
        return Answer.of_refusal(refused)


def _journal(dsm: Dsm, _: dict[str, Any]) -> Any:
    return dsm.journal.entries_json()


def _counters(dsm: Dsm, _: dict[str, Any]) -> Any:
    return dsm.journal.counters_json()


def _keys(dsm: Dsm, _: dict[str, Any]) -> Any:
    return [key.as_json() for key in dsm.keys]


def _faults(dsm: Dsm, _: dict[str, Any]) -> Any:
    return [attrs.asdict(fault) for fault in dsm.faults]


def _add_fault(dsm: Dsm, body: dict[str, Any]) -> Any:
    try:
        fault = Fault(**body)
    except (TypeError, ValueError) as wrong:
        raise bad_request(f"not a fault: {wrong}") from None
    dsm.faults.add(fault)
    return attrs.asdict(fault)


def _clear_faults(dsm: Dsm, _: dict[str, Any]) -> Any:
    dsm.faults.clear()
    return {}


def _latency(dsm: Dsm, body: dict[str, Any]) -> Any:
    latency_ms = _number(body, "ms")
    if latency_ms is None:
        raise bad_request("missing field `ms`")
    dsm.latency_ms = latency_ms
    return {"latency_ms": latency_ms}


def _kill_sessions(dsm: Dsm, _: dict[str, Any]) -> Any:
    return {"killed": dsm.kill_sessions()}


def _reset_secret(dsm: Dsm, body: dict[str, Any]) -> Any:
    app = dsm.logins.apps.get(required_str(body, "app_id"))
    if app is None:
        raise DsmError(404, "app does not exist")
    api_key = dsm.reset_secret(app, _number(body, "migration_s"))
    return {"app_id": app.app_id, "api_key": api_key}


def _key(dsm: Dsm, body: dict[str, Any]) -> Any:
    action = required_str(body, "action")
    key = dsm.key(kid=optional_str(body, "kid"), name=optional_str(body, "name"))
    if action == "rekey":
        deactivates = bool(optional_bool(body, "deactivate_rotated_key"))
        return dsm.rekey(key.name, deactivate_rotated_key=deactivates).as_json()
    try:
        change = _KEY_ACTIONS[action]
    except KeyError:
        raise bad_request("unknown action") from None
    change(dsm, key)
    return key.as_json()


def _number(body: dict[str, Any], field: str) -> float | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise bad_request(f"invalid value of field `{field}`")


_KEY_ACTIONS: dict[str, Callable[[Dsm, Sobject], None]] = {
    "activate": Dsm.activate,
    "compromise": Dsm.compromise,
    "deactivate": Dsm.deactivate,
    "delete": Dsm.delete,
    "destroy": Dsm.destroy,
    "disable": Dsm.disable,
    "enable": Dsm.enable,
}
_CALLS: dict[tuple[str, str], Callable[[Dsm, dict[str, Any]], Any]] = {
    ("GET", "counters"): _counters,
    ("GET", "faults"): _faults,
    ("GET", "journal"): _journal,
    ("GET", "keys"): _keys,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "faults"): _add_fault,
    ("POST", "key"): _key,
    ("POST", "kill-sessions"): _kill_sessions,
    ("POST", "latency"): _latency,
    ("POST", "reset-secret"): _reset_secret,
}
