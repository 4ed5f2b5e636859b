"""Commands: what an administrator, or misfortune, does to keys."""

from collections.abc import Callable
from typing import Any

from dsm_emulator.account import App
from dsm_emulator.command import (
    Arguments,
    Command,
    Default,
    Kind,
    Parameter,
    Steered,
    positional,
)
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError
from dsm_emulator.named import group_named
from dsm_emulator.sobject import Sobject
from dsm_emulator.sobject_request import SobjectRequest


_WHICH = (
    Parameter("kid", Kind.TEXT, "the key's id"),
    Parameter("name", Kind.TEXT, "the key's name", default=Default.KEY),
)


def _key(steered: Steered, given: Arguments) -> Sobject:
    if "kid" in given:
        return steered.dsm.key(kid=given["kid"])
    return steered.dsm.key(name=given.get("name"))


def _creator(dsm: Dsm) -> App:
    for app in dsm.logins.apps.values():
        if app.is_admin:
            return app
    raise DsmError(409, "there is no admin app that could create a key")


def _create(steered: Steered, given: Arguments) -> Any:
    dsm = steered.dsm
    fields = given.get("fields", {})
    if not isinstance(fields, dict):
        raise DsmError(400, "fields is not a JSON object")
    wanted = {"name": given["name"], "key_size": given.get("key_size", 256), **fields}
    group = group_named(dsm, given.get("group"))
    key = dsm.create_key(
        SobjectRequest.from_json(wanted),
        creator=_creator(dsm),
        group_id=group.group_id,
    )
    return key.as_json()


def _rekey(steered: Steered, given: Arguments) -> Any:
    key = _key(steered, given)
    deactivates = given.get("deactivate", False)
    new = steered.dsm.rekey(key.name, deactivate_rotated_key=deactivates)
    return new.as_json()


def _replace(steered: Steered, given: Arguments) -> Any:
    old = _key(steered, given)
    new = steered.dsm.key(kid=given["by"])
    steered.dsm.replace(old, given.get("old_name", f"{old.name} (replaced)"), new)
    return new.as_json()


def _rename(steered: Steered, given: Arguments) -> Any:
    key = _key(steered, given)
    steered.dsm.rename(key, given["to"])
    return key.as_json()


def _change(
    what: Callable[[Dsm, Sobject], None],
) -> Callable[[Steered, Arguments], Any]:
    def run(steered: Steered, given: Arguments) -> Any:
        key = _key(steered, given)
        what(steered.dsm, key)
        return key.as_json()

    return run


COMMANDS = (
    Command(
        "create-key",
        "generate an AES key",
        _create,
        (
            positional("name", Kind.TEXT, "its name"),
            Parameter("key_size", Kind.INTEGER, "in bits; 256 if absent"),
            Parameter(
                "group", Kind.TEXT, "its group, by name or id", default=Default.GROUP
            ),
            Parameter(
                "fields",
                Kind.JSON,
                "any other fields of DSM's call, as a JSON object, e.g. "
                '\'{"rotation_policy": {"interval_days": 30}}\'',
            ),
        ),
    ),
    Command(
        "rekey",
        "rotate a key: a new one takes its name",
        _rekey,
        (
            *_WHICH,
            Parameter("deactivate", Kind.FLAG, "and deactivate the old one"),
        ),
    ),
    Command(
        "replace",
        "let another key that is there take the name of this one",
        _replace,
        (
            *_WHICH,
            Parameter("by", Kind.TEXT, "the id of the other key", is_required=True),
            Parameter(
                "old_name",
                Kind.TEXT,
                'the new name of this one; its name and " (replaced)" if absent',
            ),
        ),
    ),
    Command(
        "rename",
        "give a key another name",
        _rename,
        (
            *_WHICH,
            Parameter("to", Kind.TEXT, "the other name", is_required=True),
        ),
    ),
    Command("activate", "make a PreActive key Active", _change(Dsm.activate), _WHICH),
    Command("disable", "disable a key; its state stays", _change(Dsm.disable), _WHICH),
    Command("enable", "enable a key; its state stays", _change(Dsm.enable), _WHICH),
    Command("deactivate", "deactivate a key", _change(Dsm.deactivate), _WHICH),
    Command("compromise", "mark a key as compromised", _change(Dsm.compromise), _WHICH),
    Command("destroy", "destroy a key's material", _change(Dsm.destroy), _WHICH),
    Command("delete", "delete a key", _change(Dsm.delete), _WHICH),
    Command(
        "undo",
        "undo the last change of a key, if the account's policy allows it",
        _change(Dsm.undo),
        _WHICH,
    ),
)
