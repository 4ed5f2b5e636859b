"""The calls about requests that wait for a quorum (section 5).

In DSM users approve; here an admin app does, or nobody has to (`Approvals.automatic`).
"""

import json
from collections.abc import Mapping

from dsm_emulator.approvals import ApprovalRequest, ApprovalStatus
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
from dsm_emulator.wire import optional_str, required_str


REQUESTS = "/sys/v1/approval_requests"
FOLDER = REQUESTS + "/"
_REFUSED_FROM = 400
_APPROVED_BY_ITSELF = "automatic"


def answers_for_id(answer: Call) -> Call:
    """Return the call for paths that carry a request's id.

    Args:
        answer: Carries out an operation that was approved.
    """

    def answer_for_id(dsm: Dsm, request: Request) -> Answer:
        request_id, _, action = request.path.removeprefix(FOLDER).partition("/")
        asked = _visible(dsm, request, request_id)
        if (request.method, action) == ("GET", ""):
            return Answer(200, json=asked.as_json())
        if (request.method, action) == ("POST", "result"):
            return _result(dsm, asked, answer)
        call = _CHANGES.get((request.method, action))
        if call is None:
            raise not_found()
        return writing(lambda dsm, request: call(dsm, request, asked))(dsm, request)

    return answer_for_id


def _list(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    status = request.parameter("status")
    return Answer(
        200,
        json=[
            asked.as_json()
            for asked in dsm.approvals.all()
            if (app.is_admin or asked.requester == app.app_id)
            and status in {None, asked.status.value}
        ],
    )


@writing
def _ask(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    body = body_of(dsm, request)
    operation = required_str(body, "operation")
    if not operation.startswith("/crypto/v1/"):
        raise bad_request("the operation is not one that a quorum protects")
    asked = dsm.approvals.ask(
        app.app_id,
        dsm.account.acct_id,
        method=required_str(body, "method").upper(),
        operation=operation,
        body=body.get("body"),
        description=optional_str(body, "description"),
    )
    if dsm.approvals.automatic:
        dsm.approvals.approve(asked, _APPROVED_BY_ITSELF)
    return Answer(201, json=asked.as_json())


def _approve(dsm: Dsm, request: Request, asked: ApprovalRequest) -> Answer:
    dsm.approvals.approve(asked, admin(dsm, request).app_id)
    return Answer(200, json=asked.as_json())


def _deny(dsm: Dsm, request: Request, asked: ApprovalRequest) -> Answer:
    dsm.approvals.deny(asked, admin(dsm, request).app_id)
    return Answer(200, json=asked.as_json())


def _delete(dsm: Dsm, _: Request, asked: ApprovalRequest) -> Answer:
    dsm.approvals.delete(asked)
    return NO_CONTENT


def _result(dsm: Dsm, asked: ApprovalRequest, answer: Call) -> Answer:
    if asked.result is None:
        if asked.status is not ApprovalStatus.APPROVED:
            raise bad_request(f"approval request is {asked.status}")
        asked.result = _carried_out(dsm, asked, answer)
        if asked.result.status >= _REFUSED_FROM:
            asked.status = ApprovalStatus.FAILED
    given = asked.result
    shown = given.json if given.text is None else given.text
    return Answer(200, json={"status": given.status, "body": shown}, kid=given.kid)


def _carried_out(dsm: Dsm, asked: ApprovalRequest, answer: Call) -> Answer:
    """Carry out what was asked, as the app that asked."""
    app = dsm.logins.apps.get(asked.requester)
    if app is None:
        return Answer(403, text="the requester does not exist")
    path, _, query = asked.operation.partition("?")
    body = b"" if asked.body is None else json.dumps(asked.body).encode()
    session = dsm.sessions.open(app.app_id)
    try:
        with dsm.quorum_approved():
            return answer(
                dsm,
                Request(
                    asked.method, path, query.encode(), f"Bearer {session.token}", body
                ),
            )
    finally:
        dsm.sessions.end(session.token)


def _visible(dsm: Dsm, request: Request, request_id: str) -> ApprovalRequest:
    app = caller(dsm, request)
    asked = dsm.approvals.one(request_id)
    if not app.is_admin and asked.requester != app.app_id:
        raise DsmError(404, "approval request does not exist")
    return asked


CALLS: Mapping[tuple[str, str], Call] = {
    ("GET", REQUESTS): _list,
    ("POST", REQUESTS): _ask,
}
_CHANGES = {
    ("POST", "approve"): _approve,
    ("POST", "deny"): _deny,
    ("DELETE", ""): _delete,
}
