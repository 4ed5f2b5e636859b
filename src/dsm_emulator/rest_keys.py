"""The calls about one key: look-up, making, changing, rotating, ending it."""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from dsm_emulator import access, rest_cipher
from dsm_emulator.account import App, Permission
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.rest_call import Call, body_of, caller, flag, not_found, writing
from dsm_emulator.rest_key_view import described_key, shown_key
from dsm_emulator.sobject import Sobject
from dsm_emulator.sobject_request import SobjectRequest, is_key_name
from dsm_emulator.state_table import Condition, Operation
from dsm_emulator.wire import (
    encode_base64,
    optional_bool,
    optional_str,
    required_str,
)


KEYS = "/crypto/v1/keys"
FOLDER = KEYS + "/"


def answer_for_kid(dsm: Dsm, request: Request) -> Answer:
    """Return the answer to a call whose path carries a kid.

    Raises:
        DsmError: The call is refused before a key is found.
    """
    kid, _, action = request.path.removeprefix(FOLDER).partition("/")
    change = _CHANGES.get((request.method, action))
    if change is not None:
        return writing(lambda dsm, request: _changed(dsm, request, kid, change))(
            dsm, request
        )
    legacy = _LEGACY.get((request.method, action))
    if legacy is None or not dsm.rules.legacy_paths:
        raise not_found()
    return legacy(dsm, request, kid)


# Look-up.


def _info(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    key = described_key(dsm, body_of(dsm, request), request.connection)
    return _looked_up(dsm, request, app, key)


def _legacy_get(dsm: Dsm, request: Request, kid: str) -> Answer:
    app = caller(dsm, request)
    return _looked_up(dsm, request, app, dsm.keys.seen_by_kid(kid, request.connection))


def _looked_up(dsm: Dsm, request: Request, app: App, key: Sobject) -> Answer:
    try:
        access.expect_visible(
            dsm.table,
            app,
            key,
            show_destroyed=flag(request, "show_destroyed"),
            show_deleted=flag(request, "show_deleted"),
        )
        shown = shown_key(dsm, app, key, kcv=flag(request, "show_kcv"))
        if request.parameter("view") == "value" or flag(request, "show_value"):
            shown["value"] = encode_base64(_exported(dsm, app, key))
    except DsmError as refused:
        return Answer.of_refusal(refused, key.kid)
    return Answer(200, json=shown, kid=key.kid)


def _exported(dsm: Dsm, app: App, key: Sobject) -> bytes:
    if key.material is None or "EXPORT" not in access.effective_key_ops(app, key):
        raise DsmError(403, dsm.table.text(Condition.OPERATION_NOT_ALLOWED))
    return key.material


# Making.


@writing
def _generate(dsm: Dsm, request: Request) -> Answer:
    return _create(dsm, request, imports=False)


@writing
def _import(dsm: Dsm, request: Request) -> Answer:
    return _create(dsm, request, imports=True)


def _create(dsm: Dsm, request: Request, *, imports: bool) -> Answer:
    app = caller(dsm, request)
    body = body_of(dsm, request)
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
    return Answer(201, json=shown_key(dsm, app, key), kid=key.kid)


# Rotating.


@writing
def _rekey(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    body = body_of(dsm, request)
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
    return Answer(201, json=shown_key(dsm, app, new), kid=new.kid)


@writing
def _replace(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    body = body_of(dsm, request)
    new_name = required_str(body, "replaced_new_name")
    if not is_key_name(new_name):
        raise bad_request("invalid name")
    old = dsm.key(kid=required_str(body, "replaced"))
    new = dsm.key(kid=required_str(body, "replacement"))
    for key in (old, new):
        access.expect_manageable(dsm.table, app, key, Permission.ROTATE_SOBJECTS)
    dsm.replace(old, new_name, new)
    return Answer(204, kid=new.kid)


# Changing and ending the key of a path.


@frozen
class _Change:
    """A call on a kid: what it needs, and what it does to the key.

    `carry_out` returns whether the answer shows the key.
    """

    permission: Permission
    carry_out: Callable[[Dsm, Sobject, dict[str, Any]], bool]
    on_deleted: bool = False


def _changed(dsm: Dsm, request: Request, kid: str, change: _Change) -> Answer:
    app = caller(dsm, request)
    key = dsm.key(kid=kid)
    try:
        access.expect_manageable(
            dsm.table, app, key, change.permission, show_deleted=change.on_deleted
        )
        shows = change.carry_out(dsm, key, body_of(dsm, request))
    except DsmError as refused:
        return Answer.of_refusal(refused, key.kid)
    if not shows:
        return Answer(204, kid=key.kid)
    return Answer(200, json=shown_key(dsm, app, key), kid=key.kid)


def _patch(dsm: Dsm, key: Sobject, body: dict[str, Any]) -> bool:
    dsm.keys.change(key, SobjectRequest.from_json(body))
    return True


def _delete(dsm: Dsm, key: Sobject, _: dict[str, Any]) -> bool:
    dsm.delete(key)
    return False


def _activate(dsm: Dsm, key: Sobject, _: dict[str, Any]) -> bool:
    dsm.activate(key)
    return False


def _revoke(dsm: Dsm, key: Sobject, body: dict[str, Any]) -> bool:
    code = required_str(body, "code")
    dsm.keys.revoke(key, code, optional_str(body, "message"))
    return False


def _destroy(dsm: Dsm, key: Sobject, _: dict[str, Any]) -> bool:
    dsm.destroy(key)
    return False


def _revert(dsm: Dsm, key: Sobject, body: dict[str, Any]) -> bool:
    window_s = dsm.account.key_undo_window_s
    if window_s is None:
        raise DsmError(403, "there is no key undo policy")
    ids = body.get("ids")
    change_id = ids[0] if isinstance(ids, list) and ids else None
    dsm.keys.undo(key, within_s=window_s, change_id=change_id)
    return True


# Before version 5.8.


def _legacy_encrypt(dsm: Dsm, request: Request, kid: str) -> Answer:
    app = caller(dsm, request)
    key = dsm.keys.seen_by_kid(kid, request.connection)
    return rest_cipher.encrypt(dsm, app, key, body_of(dsm, request))


def _legacy_decrypt(dsm: Dsm, request: Request, kid: str) -> Answer:
    app = caller(dsm, request)
    key = dsm.keys.seen_by_kid(kid, request.connection)
    return rest_cipher.decrypt(dsm, app, key, body_of(dsm, request))


CALLS: Mapping[tuple[str, str], Call] = {
    ("POST", KEYS + "/info"): _info,
    ("POST", KEYS): _generate,
    ("PUT", KEYS): _import,
    ("POST", KEYS + "/rekey"): _rekey,
    ("POST", KEYS + "/replace"): _replace,
}
_CHANGES = {
    ("PATCH", ""): _Change(Permission.UPDATE_SOBJECTS_PROFILE, _patch),
    ("DELETE", ""): _Change(Permission.DELETE_SOBJECTS, _delete),
    ("POST", "activate"): _Change(Permission.ACTIVATE_SOBJECTS, _activate),
    ("POST", "revoke"): _Change(Permission.REVOKE_SOBJECTS, _revoke),
    ("POST", "destroy"): _Change(Permission.DESTROY_SOBJECTS, _destroy),
    ("PUT", "revert"): _Change(
        Permission.UPDATE_SOBJECTS_PROFILE, _revert, on_deleted=True
    ),
}
_LEGACY: Mapping[tuple[str, str], Callable[[Dsm, Request, str], Answer]] = {
    ("GET", ""): _legacy_get,
    ("POST", "encrypt"): _legacy_encrypt,
    ("POST", "decrypt"): _legacy_decrypt,
}
