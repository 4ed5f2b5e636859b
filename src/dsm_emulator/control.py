"""The control API: what a person or a test outside this process may do.

It lives below `/emulator/v1/`, on the same listener, and wants the control token as
Bearer. `GET <view>` shows, `POST <command>` does, with the parameters as a JSON object;
`dsm_emulator.command_table` has them all.
"""

import hmac

from dsm_emulator.command import Steered
from dsm_emulator.command_table import COMMANDS
from dsm_emulator.errors import DsmError
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.wire import decode_object


PREFIX = "/emulator/v1/"


def answer(steered: Steered, request: Request, token: str | None) -> Answer:
    """Return the answer of the control API, which only *token* opens."""
    scheme, _, given = (request.authorization or "").partition(" ")
    if (
        token is None
        or scheme.lower() != "bearer"
        or not hmac.compare_digest(given.encode(), token.encode())
    ):
        return Answer(401, text="control token required")
    command = COMMANDS.get(request.path.removeprefix(PREFIX))
    if command is None:
        return Answer(404, text="no such control call")
    if request.method != ("GET" if command.is_view else "POST"):
        return Answer(405, text="GET shows, POST does")
    try:
        arguments = command.read(decode_object(request.body))
        return Answer(200, json=command.run(steered, arguments))
    except DsmError as refused:
        return Answer.of_refusal(refused)
