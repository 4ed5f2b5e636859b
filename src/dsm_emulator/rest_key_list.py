"""The list of keys: filtered, sorted, cut into pages (section 2.1)."""

from collections.abc import Mapping

from dsm_emulator.account import App
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import bad_request
from dsm_emulator.http_message import Answer, Request
from dsm_emulator.key_filter import parse_filter
from dsm_emulator.rest_call import Call, caller, flag, number
from dsm_emulator.rest_key_view import shown_key
from dsm_emulator.rest_keys import KEYS
from dsm_emulator.sobject import KeyState, Sobject


_DEFAULT_LIMIT = 1000
# Query parameters that name the value of a field of the key's JSON.
_FIELDS = ("name", "group_id", "obj_type")


def _list(dsm: Dsm, request: Request) -> Answer:
    app = caller(dsm, request)
    visible = _visible(dsm, request, app)
    matching = [key for key in visible if _matches(request, key)]
    text = request.parameter("filter")
    if text is not None:
        is_wanted = parse_filter(text)
        matching = [key for key in matching if is_wanted(key.as_json())]
    page = _page(request, matching)
    kcv = flag(request, "show_kcv")
    shown = [shown_key(dsm, app, key, kcv=kcv) for key in page]
    if not flag(request, "with_metadata"):
        return Answer(200, json=shown)
    counts = {"total_count": len(visible), "filtered_count": len(matching)}
    return Answer(200, json={"metadata": counts, "items": shown})


def _visible(dsm: Dsm, request: Request, app: App) -> list[Sobject]:
    hidden = {
        state
        for state, shows in (
            (KeyState.DESTROYED, "show_destroyed"),
            (KeyState.DELETED, "show_deleted"),
        )
        if not flag(request, shows)
    }
    return [
        key
        for key in dsm.keys
        if app.is_member(key.group_id) and key.state not in hidden
    ]


def _matches(request: Request, key: Sobject) -> bool:
    shown = {"name": key.name, "group_id": key.group_id, "obj_type": "AES"}
    creator = request.parameter("creator")
    return creator in {None, key.creator_app_id} and all(
        request.parameter(field) in {None, shown[field]} for field in _FIELDS
    )


def _page(request: Request, keys: list[Sobject]) -> list[Sobject]:
    field, _, given = (request.parameter("sort") or "kid").partition(":")
    direction = given or "asc"
    if field not in {"kid", "name"} or direction not in {"asc", "desc"}:
        raise bad_request("invalid sort")
    downwards = direction == "desc"

    def place(key: Sobject) -> str:
        return key.kid if field == "kid" else key.name

    keys = sorted(keys, key=place, reverse=downwards)
    start = request.parameter("start")
    if start is not None:
        # The page begins behind the last one's last key.
        keys = [
            key
            for key in keys
            if (place(key) < start if downwards else place(key) > start)
        ]
    offset = number(request, "offset", 0)
    return keys[offset : offset + number(request, "limit", _DEFAULT_LIMIT)]


CALLS: Mapping[tuple[str, str], Call] = {("GET", KEYS): _list}
