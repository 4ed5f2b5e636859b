"""The calls about groups; an admin app changes them, members see them."""

from collections.abc import Mapping
from typing import Any

from dsm_emulator.account import App, Group
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.rest_call import (
    NO_CONTENT,
    Call,
    admin,
    body_of,
    caller,
    not_found,
    writing,
)
from dsm_emulator.wire import optional_bool, optional_str, required_str


GROUPS = "/sys/v1/groups"
FOLDER = GROUPS + "/"


def answer_for_id(dsm: Dsm, request: Request) -> Answer:
    """Return the answer to a call whose path carries a group's id.

    Raises:
        DsmError: The call is refused.
    """
    call = {"GET": _get, "PATCH": _patch, "DELETE": _delete}.get(request.method)
    if call is None:
        raise not_found()
    return call(dsm, request)


def _get(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    return Answer(200, json=_shown(dsm, _group(dsm, request, app)))


def _list(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    groups = [g for g in dsm.groups.values() if app.is_member(g.group_id)]
    return Answer(200, json=[_shown(dsm, group) for group in groups])


@writing
def _create(dsm: Dsm, request: Request) -> Answer:
    admin(dsm, request)
    body = body_of(dsm, request)
    policy = _protects(body)
    group = dsm.add_group(required_str(body, "name"))
    group.protect_crypto_operations = bool(policy)
    return Answer(201, json=_shown(dsm, group))


@writing
def _patch(dsm: Dsm, request: Request) -> Answer:
    group = _group(dsm, request, admin(dsm, request))
    body = body_of(dsm, request)
    policy = _protects(body)
    group.name = optional_str(body, "name") or group.name
    if policy is not None:
        group.protect_crypto_operations = policy
    return Answer(200, json=_shown(dsm, group))


@writing
def _delete(dsm: Dsm, request: Request) -> Answer:
    group = _group(dsm, request, admin(dsm, request))
    dsm.delete_group(group)
    return NO_CONTENT


def _group(dsm: Dsm, request: Request, app: App) -> Group:
    group = dsm.groups.get(request.path.removeprefix(FOLDER))
    if group is None or not app.is_member(group.group_id):
        raise DsmError(404, "group does not exist")
    return group


def _protects(body: dict[str, Any]) -> bool | None:
    policy = body.get("approval_policy")
    if policy is None:
        return None
    if not isinstance(policy, dict):
        raise bad_request("invalid type for field `approval_policy`")
    return bool(optional_bool(policy, "protect_crypto_operations"))


def _shown(dsm: Dsm, group: Group) -> dict[str, Any]:
    return {
        "acct_id": dsm.account.acct_id,
        "group_id": group.group_id,
        "name": group.name,
        "approval_policy": {
            "protect_crypto_operations": group.protect_crypto_operations
        },
    }


CALLS: Mapping[tuple[str, str], Call] = {
    ("GET", GROUPS): _list,
    ("POST", GROUPS): _create,
}
