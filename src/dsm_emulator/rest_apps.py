"""The calls about apps and their credentials (sections 1.2 to 1.4)."""

from collections.abc import Mapping
from typing import Any

from dsm_emulator import access
from dsm_emulator.account import App, Role
from dsm_emulator.app_json import (
    credential_json,
    read_credential,
    read_groups,
    read_ip_policy,
    shown_app,
)
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.rest_call import (
    NO_CONTENT,
    Call,
    admin,
    body_of,
    caller,
    flag,
    not_found,
    writing,
)
from dsm_emulator.state_table import Condition, Operation
from dsm_emulator.wire import optional_bool, optional_int, optional_str, required_str


APPS = "/sys/v1/apps"
FOLDER = APPS + "/"
_MIN_SECRET_BYTES = 16


def answer_for_id(dsm: Dsm, request: Request) -> Answer:
    """Return the answer to a call whose path carries an app's id.

    Raises:
        DsmError: The call is refused.
    """
    action = request.path.removeprefix(FOLDER).partition("/")[2]
    call = _APP_CALLS.get((request.method, action))
    if call is None:
        raise not_found()
    return call(dsm, request)


def _list(dsm: Dsm, request: Request) -> Answer:
    admin(dsm, request)
    apps = dsm.logins.apps.values()
    return Answer(200, json=[_shown(dsm, request, app) for app in apps])


@writing
def _create(dsm: Dsm, request: Request) -> Answer:
    admin(dsm, request)
    body = body_of(dsm, request)
    app = dsm.add_app(
        required_str(body, "name"),
        role=_role(body),
        groups=read_groups(body.get("add_groups")),
        credential=read_credential(body.get("credential")),
    )
    _change(dsm, app, body)
    return Answer(201, json=_shown(dsm, request, app))


def _get(dsm: Dsm, request: Request) -> Answer:
    who = caller(dsm, request)
    app = _named(dsm, request)
    if not who.is_admin and not (who is app and dsm.rules.app_reads_itself):
        access.check(dsm.table, Condition.NO_PERMISSION, Operation.LOOK_UP)
    return Answer(200, json=_shown(dsm, request, app))


@writing
def _patch(dsm: Dsm, request: Request) -> Answer:
    admin(dsm, request)
    app = _named(dsm, request)
    body = body_of(dsm, request)
    added = read_groups(body.get("add_groups")) | read_groups(body.get("mod_groups"))
    removed = body.get("del_groups") or []
    if not isinstance(removed, list):
        raise bad_request("invalid type for field `del_groups`")
    credential = read_credential(body.get("credential"))
    _change(dsm, app, body)
    app.groups = {g: p for g, p in (app.groups | added).items() if g not in removed}
    app.name = optional_str(body, "name") or app.name
    if credential is not None:
        app.credential = credential
        dsm.sessions.end_all(app.app_id)
    return Answer(200, json=_shown(dsm, request, app))


@writing
def _delete(dsm: Dsm, request: Request) -> Answer:
    admin(dsm, request)
    dsm.delete_app(_named(dsm, request))
    return NO_CONTENT


@writing
def _reset_secret(dsm: Dsm, request: Request) -> Answer:
    who = caller(dsm, request)
    app = _named(dsm, request)
    if not who.is_admin and who is not app:
        access.check(dsm.table, Condition.NO_PERMISSION, Operation.LOOK_UP)
    body = body_of(dsm, request)
    size = optional_int(body, "secret_size")
    migration_s = optional_int(body, "credential_migration_period")
    if (size is not None and size < _MIN_SECRET_BYTES) or (
        migration_s is not None and migration_s < 0
    ):
        raise bad_request("invalid secret_size or credential_migration_period")
    dsm.reset_secret(app, migration_s, size)
    return Answer(200, json=_shown(dsm, request, app))


def _credential(dsm: Dsm, request: Request) -> Answer:
    admin(dsm, request)
    return Answer(200, json=credential_json(_named(dsm, request)))


def _named(dsm: Dsm, request: Request) -> App:
    app_id = request.path.removeprefix(FOLDER).partition("/")[0]
    app = dsm.logins.apps.get(app_id)
    if app is None:
        raise DsmError(404, "app does not exist")
    return app


def _change(dsm: Dsm, app: App, body: dict[str, Any]) -> None:
    enabled = optional_bool(body, "enabled")
    description = optional_str(body, "description")
    policy = body.get("ip_address_policy")
    whitelist = app.ip_whitelist if policy is None else read_ip_policy(policy)
    if enabled is not None:
        dsm.set_app_enabled(app, enabled=enabled)
    app.description = app.description if description is None else description
    app.ip_whitelist = whitelist


def _role(body: dict[str, Any]) -> Role:
    try:
        return Role(optional_str(body, "role") or Role.CRYPTO)
    except ValueError:
        raise bad_request("invalid role") from None


def _shown(dsm: Dsm, request: Request, app: App) -> dict[str, Any]:
    return shown_app(
        app,
        acct_id=dsm.account.acct_id,
        with_permissions=flag(request, "group_permissions"),
    )


CALLS: Mapping[tuple[str, str], Call] = {("GET", APPS): _list, ("POST", APPS): _create}
_APP_CALLS: Mapping[tuple[str, str], Call] = {
    ("GET", ""): _get,
    ("PATCH", ""): _patch,
    ("DELETE", ""): _delete,
    ("POST", "reset_secret"): _reset_secret,
    ("GET", "credential"): _credential,
}
