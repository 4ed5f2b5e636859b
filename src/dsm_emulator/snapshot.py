"""The whole state of a model as plain JSON, and back.

It holds the material of the keys and the secrets of the apps: whoever writes it to a
file keeps that file private. Switches are kept where they differ from a new model's, so
that a state of an older emulator doesn't pin what was assumed then. What can be undone,
approval requests, lag, faults and journal end with the process.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from dsm_emulator.account import App, Group, Permission, PreviousSecret, Role
from dsm_emulator.aes_options import AesOptions
from dsm_emulator.app_json import read_credential, stored_credential
from dsm_emulator.clock import Clock
from dsm_emulator.credentials import Credential
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import DsmError
from dsm_emulator.rotation import RotationPolicy
from dsm_emulator.sessions import Session
from dsm_emulator.sobject import KeyOp, KeyState, Sobject
from dsm_emulator.switches import SWITCHES
from dsm_emulator.wire import decode_base64, encode_base64


VERSION = 1
_T = TypeVar("_T")


def export_state(dsm: Dsm, *, sessions: bool = False) -> dict[str, Any]:
    """Return the state of *dsm*, secrets included.

    Args:
        dsm: The model.
        sessions: Whether the sessions belong to it.
    """
    with dsm.lock:
        state: dict[str, Any] = {
            "version": VERSION,
            "acct_id": dsm.account.acct_id,
            "operations": dsm.quota.used,
            "switches": _changed_switches(dsm),
            "groups": [attrs.asdict(group) for group in dsm.groups.values()],
            "apps": [_app_out(app) for app in dsm.logins.apps.values()],
            "keys": [_key_out(key) for key in dsm.keys],
        }
        if sessions:
            state["sessions"] = [_session_out(session) for session in dsm.sessions]
        return state


def import_state(dsm: Dsm, state: object) -> None:
    """Make *dsm* what it was when *state* was exported; nothing changes on an error.

    Raises:
        ValueError: *state* is of another version, or not such a state.
    """
    if not isinstance(state, Mapping) or state.get("version") != VERSION:
        raise ValueError(f"not a state of version {VERSION}")
    try:
        acct_id = str(state["acct_id"])
        operations = int(state["operations"])
        switches = [(SWITCHES[name], v) for name, v in state["switches"].items()]
        groups = [Group(**_whole(Group, group)) for group in state["groups"]]
        apps = [_app_in(app) for app in state["apps"]]
        keys = [_key_in(key) for key in state["keys"]]
        sessions = [_session_in(session) for session in state.get("sessions", [])]
        trial = Dsm(clock=Clock(0))
        for switch, value in switches:
            switch.write(trial, value)
    except (AttributeError, DsmError, KeyError, TypeError, ValueError) as wrong:
        # Its text may hold a part of the state, and thus a secret.
        kind = type(wrong).__name__
        raise ValueError(f"the state is damaged ({kind})") from None
    with dsm.lock:
        _put(dsm, groups, apps, keys)
        dsm.account.acct_id = acct_id
        dsm.quota.used = operations
        for session in sessions:
            if session.app_id in dsm.logins.apps:
                dsm.sessions.add(session)
        for switch in SWITCHES.values():
            switch.write(dsm, switch.read(trial))
        dsm.keys.settle()
        dsm.touch()


def _put(dsm: Dsm, groups: list[Group], apps: list[App], keys: list[Sobject]) -> None:
    dsm.sessions.end_all()
    dsm.groups.clear()
    dsm.groups.update({group.group_id: group for group in groups})
    dsm.logins.apps.clear()
    dsm.logins.apps.update({app.app_id: app for app in apps})
    dsm.keys.clear()
    for key in keys:
        dsm.keys.add(key)


def _changed_switches(dsm: Dsm) -> dict[str, Any]:
    new = Dsm(clock=Clock(0))
    values = {name: switch.read(dsm) for name, switch in SWITCHES.items()}
    return {n: v for n, v in values.items() if v != SWITCHES[n].read(new)}


def _app_out(app: App) -> dict[str, Any]:
    return {
        "app_id": app.app_id,
        "name": app.name,
        "role": app.role.value,
        "secret": app.secret,
        "enabled": app.enabled,
        "groups": {group: sorted(held) for group, held in app.groups.items()},
        "previous": None if app.previous is None else attrs.asdict(app.previous),
        "credential": stored_credential(app.credential, ""),
        "ip_whitelist": app.ip_whitelist and list(app.ip_whitelist),
        "description": app.description,
    }


def _app_in(value: Mapping[str, Any]) -> App:
    networks = value["ip_whitelist"]
    return App(
        **(
            _whole(App, value)
            | {
                "role": Role(value["role"]),
                "groups": {
                    group: frozenset(Permission(p) for p in held)
                    for group, held in value["groups"].items()
                },
                "previous": _optional(
                    value["previous"], lambda previous: PreviousSecret(**previous)
                ),
                "credential": read_credential(value["credential"]) or Credential(),
                "ip_whitelist": None if networks is None else tuple(networks),
            }
        )
    )


def _key_out(key: Sobject) -> dict[str, Any]:
    shown = attrs.asdict(key, recurse=False)
    return shown | {
        "material": _optional(key.material, encode_base64),
        "key_ops": list(key.key_ops),
        "state": key.state.value,
        "rotation_policy": _optional(key.rotation_policy, attrs.asdict),
        "aes": _optional(key.aes, attrs.asdict),
    }


def _key_in(value: Mapping[str, Any]) -> Sobject:
    material = _optional(
        value["material"], lambda text: decode_base64(text, "material")
    )
    key = Sobject(
        **(
            _whole(Sobject, value)
            | {
                "material": material,
                "key_ops": tuple(KeyOp(op) for op in value["key_ops"]),
                "state": KeyState(value["state"]),
                "rotation_policy": _optional(
                    value["rotation_policy"], lambda policy: RotationPolicy(**policy)
                ),
                "aes": _optional(value["aes"], lambda aes: AesOptions(**aes)),
            }
        )
    )
    if material is not None and len(material) * 8 != key.key_size:
        raise ValueError("material and key_size don't agree")
    return key


def _session_out(session: Session) -> dict[str, Any]:
    return attrs.asdict(session) | {
        "certificate_der": _optional(session.certificate_der, encode_base64)
    }


def _session_in(value: Mapping[str, Any]) -> Session:
    der = _optional(
        value["certificate_der"], lambda text: decode_base64(text, "certificate_der")
    )
    return Session(**(_whole(Session, value) | {"certificate_der": der}))


def _whole(kind: type[attrs.AttrsInstance], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return *value* if it has each field of *kind*: no default fills a gap."""
    if value.keys() != {field.name for field in attrs.fields(kind)}:
        raise ValueError("a field is missing or unknown")
    return dict(value)


def _optional(value: Any, change: Callable[[Any], _T]) -> _T | None:
    return None if value is None else change(value)
