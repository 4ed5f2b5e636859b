"""Finding apps and groups the way people call them: by name or id."""

from typing import TypeVar

from dsm_emulator.account import App, Group
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError


_T = TypeVar("_T")


def app_named(dsm: Dsm, text: str) -> App:
    """Return the app of that id or name.

    Raises:
        DsmError: 404, or 409 when several have that name.
    """
    apps = dsm.logins.apps
    if text in apps:
        return apps[text]
    return _only([app for app in apps.values() if app.name == text], "app")


def group_named(dsm: Dsm, text: str | None) -> Group:
    """Return the group of that id or name; the only one there is for None.

    Raises:
        DsmError: 404, or 409 when several would do.
    """
    groups = dsm.groups
    if text is None:
        return _only(list(groups.values()), "group")
    if text in groups:
        return groups[text]
    return _only([group for group in groups.values() if group.name == text], "group")


def _only(found: list[_T], what: str) -> _T:
    if not found:
        raise DsmError(404, f"{what} does not exist")
    if len(found) > 1:
        raise DsmError(409, f"several {what}s are meant; give an id")
    return found[0]
