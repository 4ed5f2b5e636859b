"""DSM's REST API over the model: which call is which.

Nearly every call, and each hot one, is found by one dictionary look-up; those whose
path carries an id are found by its folder. What a call does stands in `rest_cipher`,
`rest_keys` and the other modules of that name.
"""

from collections.abc import Mapping

from dsm_emulator import (
    rest_approvals,
    rest_apps,
    rest_batch,
    rest_cipher,
    rest_groups,
    rest_key_list,
    rest_keys,
    rest_service,
    rest_sessions,
)
from dsm_emulator.answer_shape import ErrorForm
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.rest_call import Call, not_found


def answer(dsm: Dsm, request: Request) -> Answer:
    """Return what DSM answers to *request*; refusals are answers too."""
    try:
        call = CALLS.get((request.method, request.path)) or _call_in_folder(request)
        given = call(dsm, request)
    except DsmError as refused:
        given = Answer.of_refusal(refused)
    shape = dsm.shape
    if shape.unknown_fields or shape.error_form is not ErrorForm.TEXT:
        return shape.of_answer(given)
    return given


def _call_in_folder(request: Request) -> Call:
    for folder, call in _FOLDERS.items():
        if request.path.startswith(folder):
            return call
    raise not_found()


CALLS: Mapping[tuple[str, str], Call] = {
    **rest_cipher.CALLS,
    **rest_service.CALLS,
    **rest_sessions.CALLS,
    **rest_keys.CALLS,
    **rest_key_list.CALLS,
    **rest_batch.calls(answer),
    **rest_apps.CALLS,
    **rest_groups.CALLS,
    **rest_approvals.CALLS,
}
_FOLDERS: Mapping[str, Call] = {
    rest_keys.FOLDER: rest_keys.answer_for_kid,
    rest_apps.FOLDER: rest_apps.answer_for_id,
    rest_groups.FOLDER: rest_groups.answer_for_id,
    rest_approvals.FOLDER: rest_approvals.answers_for_id(answer),
}
