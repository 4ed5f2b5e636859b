"""What the modules of the REST API share: the shape of a call, and of its parts."""

from collections.abc import Callable
from typing import Any, TypeAlias

from dsm_emulator import access
from dsm_emulator.account import App
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.state_table import Condition, Operation
from dsm_emulator.wire import decode_object


Call: TypeAlias = Callable[[Dsm, Request], Answer]

_REFUSED_FROM = 400
NO_CONTENT = Answer(204)


def writing(call: Call) -> Call:
    """Refuse *call* in read-only mode; else say that it changed what is kept."""

    def checked(dsm: Dsm, request: Request) -> Answer:
        if dsm.read_only:
            access.check(dsm.table, Condition.READ_ONLY, Operation.LOOK_UP)
        answer = call(dsm, request)
        if answer.status < _REFUSED_FROM:
            dsm.touch()
        return answer

    return checked


def caller(dsm: Dsm, request: Request) -> App:
    """Return the app that calls.

    Raises:
        DsmError: 401 or what else the rules of logins say.
    """
    return dsm.logins.authenticate(*request.caller)


def admin(dsm: Dsm, request: Request) -> App:
    """Return the app that calls, an admin.

    Raises:
        DsmError: 401; what the table says of a missing permission.
    """
    app = caller(dsm, request)
    if not app.is_admin:
        access.check(dsm.table, Condition.NO_PERMISSION, Operation.LOOK_UP)
    return app


def body_of(dsm: Dsm, request: Request) -> dict[str, Any]:
    """Return the object in the body.

    Raises:
        DsmError: 400.
    """
    return decode_object(request.body, loose_base64=dsm.rules.loose_base64)


def flag(request: Request, name: str) -> bool:
    """Return whether a query parameter is `true`."""
    return request.parameter(name) == "true"


def number(request: Request, name: str, default: int) -> int:
    """Return a query parameter that is a whole number.

    Raises:
        DsmError: 400.
    """
    text = request.parameter(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal():
        raise bad_request(f"invalid {name}")
    return int(text)


def not_found() -> DsmError:
    """Return the refusal of a path that there isn't."""
    return DsmError(404, "Not found")
