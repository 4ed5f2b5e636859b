"""The calls about sessions (section 1.2)."""

from collections.abc import Mapping

from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.rest_call import NO_CONTENT, Call
from dsm_emulator.sessions import Session


def _auth(dsm: Dsm, request: Request) -> Answer:
    return _opened(dsm, dsm.logins.log_in(*request.caller))


def _refresh(dsm: Dsm, request: Request) -> Answer:
    dsm.logins.session_of(*request.caller)
    return NO_CONTENT


def _reauth(dsm: Dsm, request: Request) -> Answer:
    return _opened(dsm, dsm.logins.log_in_again(*request.caller))


def _terminate(dsm: Dsm, request: Request) -> Answer:
    dsm.sessions.end(dsm.logins.session_of(*request.caller).token)
    return NO_CONTENT


def _select_account(dsm: Dsm, request: Request) -> Answer:
    # Apps are bound to their account; users, who choose one, aren't emulated.
    dsm.logins.session_of(*request.caller)
    raise DsmError(403, "an app has no account to select")


def _opened(dsm: Dsm, session: Session) -> Answer:
    shown = {
        "token_type": "Bearer",
        "expires_in": int(dsm.sessions.idle_s),
        "access_token": session.token,
        "entity_id": session.app_id,
    }
    return Answer(200, json=shown)


CALLS: Mapping[tuple[str, str], Call] = {
    ("POST", "/sys/v1/session/auth"): _auth,
    ("POST", "/sys/v1/session/refresh"): _refresh,
    ("POST", "/sys/v1/session/reauth"): _reauth,
    ("POST", "/sys/v1/session/terminate"): _terminate,
    ("POST", "/sys/v1/session/select_account"): _select_account,
}
