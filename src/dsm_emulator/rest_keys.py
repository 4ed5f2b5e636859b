"""The calls about keys: look-up, list, making, changing, rotating, ending them."""

from collections.abc import Callable
from typing import Any

from dsm_emulator import access
from dsm_emulator.account import App, Permission
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.sobject import KeyState, Sobject
from dsm_emulator.sobject_request import SobjectRequest, is_key_name
from dsm_emulator.state_table import Condition, Operation
from dsm_emulator.wire import (
    decode_object,
    encode_base64,
    optional_bool,
    optional_str,
    required_str,
)


_KEYS = "/crypto/v1/keys"
KID_PREFIX = _KEYS + "/"
_DEFAULT_LIMIT = 1000


def answer_for_kid(dsm: Dsm, request: Request) -> Answer:
    """Return the answer to a call whose path carries a kid.

    Raises:
        DsmError: The call is refused before a key is found.
    """
    kid, _, action = request.path.removeprefix(KID_PREFIX).partition("/")
    call = _KEY_CALLS.get((request.method, action))
    if call is None:
        return Answer(404, text="Not found")
    permission, change = call
    app = dsm.logins.authenticate(*request.caller)
    key = dsm.key(kid=kid)
    try:
        access.expect_manageable(dsm.table, app, key, permission)
        shown = change(dsm, app, key, decode_object(request.body))
    except DsmError as refused:
        return Answer.of_refusal(refused, key.kid)
    return Answer(204 if shown is None else 200, json=shown, kid=key.kid)


def described_key(dsm: Dsm, descriptor: object, connection: int = 0) -> Sobject:
    """Return the key that a descriptor names, as the node of *connection* sees it.

    Raises:
        DsmError: 400, neither or both of kid and name; 404.
    """
    if not isinstance(descriptor, dict):
        raise bad_request("missing field `key`")
    kid = optional_str(descriptor, "kid")
    name = optional_str(descriptor, "name")
    if kid is not None and name is None:
        return dsm.keys.seen_by_kid(kid, connection)
    if name is not None and kid is None:
        return dsm.keys.seen_by_name(name, connection)
    raise bad_request("a key is described by exactly one of kid and name")


def _info(dsm: Dsm, request: Request) -> Answer:
    app = dsm.logins.authenticate(*request.caller)
    key = described_key(dsm, decode_object(request.body), request.connection)
    try:
        access.expect_visible(
            dsm.table,
            app,
            key,
            show_destroyed=_flag(request, "show_destroyed"),
            show_deleted=_flag(request, "show_deleted"),
        )
        shown = _shown(app, key)
        if request.parameter("view") == "value":
            shown["value"] = encode_base64(_exported(app, key))
    except DsmError as refused:
        return Answer.of_refusal(refused, key.kid)
    return Answer(200, json=shown, kid=key.kid)


def _list(dsm: Dsm, request: Request) -> Answer:
    app = dsm.logins.authenticate(*request.caller)
    hidden = {
        state
        for state, flag in (
            (KeyState.DESTROYED, "show_destroyed"),
            (KeyState.DELETED, "show_deleted"),
        )
        if not _flag(request, flag)
    }
    name = request.parameter("name")
    keys = [
        key
        for key in dsm.keys
        if app.is_member(key.group_id)
        and key.state not in hidden
        and name in {None, key.name}
    ]
    field, _, direction = (request.parameter("sort") or "kid:asc").partition(":")
    if field not in {"kid", "name"} or direction not in {"asc", "desc"}:
        raise bad_request("invalid sort")
    keys.sort(key=lambda key: str(getattr(key, field)), reverse=direction == "desc")
    offset = _number(request, "offset", 0)
    limit = _number(request, "limit", _DEFAULT_LIMIT)
    page = keys[offset : offset + limit]
    return Answer(200, json=[_shown(app, key) for key in page])


def _generate(dsm: Dsm, request: Request) -> Answer:
    return _create(dsm, request, imports=False)


def _import(dsm: Dsm, request: Request) -> Answer:
    return _create(dsm, request, imports=True)


def _create(dsm: Dsm, request: Request, *, imports: bool) -> Answer:
    app = dsm.logins.authenticate(*request.caller)
    body = decode_object(request.body)
    required_str(body, "obj_type")
    wanted = SobjectRequest.from_json(body)
    if imports != (wanted.value is not None):
        raise bad_request("generate takes no field `value`, import needs it")
    group_id = wanted.group_id or app.default_group
    if group_id is None:
        raise bad_request("missing field `group_id`")
    if group_id not in dsm.groups:
        raise DsmError(404, "group does not exist")
    if not app.permits(Permission.CREATE_SOBJECTS, group_id):
        access.check(dsm.table, Condition.NO_PERMISSION, Operation.LOOK_UP)
    key = dsm.create_key(wanted, creator=app, group_id=group_id)
    return Answer(201, json=_shown(app, key), kid=key.kid)


def _rekey(dsm: Dsm, request: Request) -> Answer:
    app = dsm.logins.authenticate(*request.caller)
    body = decode_object(request.body)
    wanted = SobjectRequest.from_json(body)
    # Only the name says which key is meant (section 4.1).
    old = dsm.key(name=required_str(body, "name"))
    access.expect_manageable(dsm.table, app, old, Permission.ROTATE_SOBJECTS)
    new = dsm.keys.rekey(
        old,
        wanted,
        creator_app_id=app.app_id,
        deactivate_rotated_key=optional_bool(body, "deactivate_rotated_key"),
    )
    return Answer(201, json=_shown(app, new), kid=new.kid)


def _replace(dsm: Dsm, request: Request) -> Answer:
    app = dsm.logins.authenticate(*request.caller)
    body = decode_object(request.body)
    new_name = required_str(body, "replaced_new_name")
    if not is_key_name(new_name):
        raise bad_request("invalid name")
    old = dsm.key(kid=required_str(body, "replaced"))
    new = dsm.key(kid=required_str(body, "replacement"))
    for key in (old, new):
        access.expect_manageable(dsm.table, app, key, Permission.ROTATE_SOBJECTS)
    dsm.keys.replace(old, new_name, new)
    return Answer(204, kid=new.kid)


def _patch(
    dsm: Dsm, app: App, key: Sobject, body: dict[str, Any]
) -> dict[str, Any] | None:
    return _shown(app, dsm.keys.change(key, SobjectRequest.from_json(body)))


def _delete(dsm: Dsm, _: App, key: Sobject, __: dict[str, Any]) -> None:
    dsm.delete(key)


def _activate(dsm: Dsm, _: App, key: Sobject, __: dict[str, Any]) -> None:
    dsm.activate(key)


def _revoke(dsm: Dsm, _: App, key: Sobject, body: dict[str, Any]) -> None:
    code = required_str(body, "code")
    dsm.keys.revoke(key, code, optional_str(body, "message"))


def _destroy(dsm: Dsm, _: App, key: Sobject, __: dict[str, Any]) -> None:
    dsm.destroy(key)


def _shown(app: App, key: Sobject) -> dict[str, Any]:
    shown = key.as_json()
    shown["effective_key_policy"] = {"key_ops": access.effective_key_ops(app, key)}
    return shown


def _exported(app: App, key: Sobject) -> bytes:
    if key.material is None or "EXPORT" not in access.effective_key_ops(app, key):
        raise DsmError(403, Condition.OPERATION_NOT_ALLOWED.value)
    return key.material


def _flag(request: Request, name: str) -> bool:
    return request.parameter(name) == "true"


def _number(request: Request, name: str, default: int) -> int:
    text = request.parameter(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal():
        raise bad_request(f"invalid {name}")
    return int(text)


CALLS: dict[tuple[str, str], Callable[[Dsm, Request], Answer]] = {
    ("POST", "/crypto/v1/keys/info"): _info,
    ("GET", _KEYS): _list,
    ("POST", _KEYS): _generate,
    ("PUT", _KEYS): _import,
    ("POST", "/crypto/v1/keys/rekey"): _rekey,
    ("POST", "/crypto/v1/keys/replace"): _replace,
}
_KEY_CALLS: dict[
    tuple[str, str],
    tuple[
        Permission,
        Callable[[Dsm, App, Sobject, dict[str, Any]], dict[str, Any] | None],
    ],
] = {
    ("PATCH", ""): (Permission.UPDATE_SOBJECTS_PROFILE, _patch),
    ("DELETE", ""): (Permission.DELETE_SOBJECTS, _delete),
    ("POST", "activate"): (Permission.ACTIVATE_SOBJECTS, _activate),
    ("POST", "revoke"): (Permission.REVOKE_SOBJECTS, _revoke),
    ("POST", "destroy"): (Permission.DESTROY_SOBJECTS, _destroy),
}
