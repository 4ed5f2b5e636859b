"""Commands: apps, groups, permissions and sessions."""

import ssl
from typing import Any

from dsm_emulator.account import App, Permission, Role
from dsm_emulator.command import (
    Arguments,
    Command,
    Default,
    Kind,
    Parameter,
    Steered,
    positional,
)
from dsm_emulator.credentials import AuthType, Credential
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.named import app_named, group_named


_APP = Parameter("app", Kind.TEXT, "the app, by name or id", default=Default.APP)
_GROUP = Parameter(
    "group", Kind.TEXT, "the group, by name or id", default=Default.GROUP
)
_PERMISSIONS = Parameter(
    "permissions", Kind.TEXTS, f"of {', '.join(Permission)}; all of them if absent"
)


def _app(steered: Steered, given: Arguments) -> App:
    if "app" not in given:
        raise bad_request("missing field `app`")
    return app_named(steered.dsm, given["app"])


def _permissions(given: Arguments) -> frozenset[Permission] | None:
    if "permissions" not in given:
        return None
    try:
        return frozenset(Permission(text.upper()) for text in given["permissions"])
    except ValueError:
        raise bad_request("an unknown permission") from None


def _shown(app: App) -> dict[str, Any]:
    return {
        "app_id": app.app_id,
        "name": app.name,
        "role": app.role,
        "enabled": app.enabled,
        "auth_type": app.credential.auth_type,
        "groups": {group: sorted(held) for group, held in app.groups.items()},
    }


def _apps(steered: Steered, _: Arguments) -> Any:
    return [_shown(app) for app in steered.dsm.logins.apps.values()]


def _groups(steered: Steered, _: Arguments) -> Any:
    return [
        {"group_id": group.group_id, "name": group.name}
        for group in steered.dsm.groups.values()
    ]


def _create_app(steered: Steered, given: Arguments) -> Any:
    role = given.get("role", Role.CRYPTO)
    if role not in set(Role):
        raise bad_request("role is admin or crypto")
    app = steered.dsm.add_app(
        given["name"], role=Role(role), credential=_credential(given)
    )
    shown = _shown(app)
    if app.credential.auth_type in {AuthType.SECRET, AuthType.ALL}:
        shown["api_key"] = app.api_key
    return shown


def _credential(given: Arguments) -> Credential:
    pem = given.get("certificate")
    if pem is None:
        return Credential()
    try:
        der = ssl.PEM_cert_to_DER_cert(pem.strip())
        kind = AuthType.ALL if given.get("and_secret") else AuthType.CERTIFICATE
        return Credential(kind, certificate_der=der)
    except ValueError:
        raise bad_request("not a certificate in PEM") from None


def _set_enabled(*, enabled: bool) -> Any:
    def run(steered: Steered, given: Arguments) -> Any:
        app = _app(steered, given)
        steered.dsm.set_app_enabled(app, enabled=enabled)
        return _shown(app)

    return run


def _delete_app(steered: Steered, given: Arguments) -> Any:
    app = _app(steered, given)
    steered.dsm.delete_app(app)
    return {"deleted": app.app_id}


def _create_group(steered: Steered, given: Arguments) -> Any:
    group = steered.dsm.add_group(given["name"])
    return {"group_id": group.group_id, "name": group.name}


def _delete_group(steered: Steered, given: Arguments) -> Any:
    group = group_named(steered.dsm, given["group"])
    steered.dsm.delete_group(group)
    return {"deleted": group.group_id}


def _protect(*, protects: bool) -> Any:
    def run(steered: Steered, given: Arguments) -> Any:
        with steered.dsm.lock:
            group = group_named(steered.dsm, given.get("group"))
            group.protect_crypto_operations = protects
            steered.dsm.touch()
        return {"group_id": group.group_id, "protected": protects}

    return run


def _grant(steered: Steered, given: Arguments) -> Any:
    app, group = _app(steered, given), group_named(steered.dsm, given.get("group"))
    permissions = _permissions(given)
    steered.dsm.grant(
        app, group, frozenset(Permission) if permissions is None else permissions
    )
    return _shown(app)


def _withdraw(steered: Steered, given: Arguments) -> Any:
    app, group = _app(steered, given), group_named(steered.dsm, given.get("group"))
    steered.dsm.withdraw(app, group, _permissions(given))
    return _shown(app)


def _kill_sessions(steered: Steered, given: Arguments) -> Any:
    if "app" not in given:
        return {"killed": steered.dsm.kill_sessions()}
    app = app_named(steered.dsm, given["app"])
    return {"killed": steered.dsm.sessions.end_all(app.app_id)}


def _reset_secret(steered: Steered, given: Arguments) -> Any:
    app = _app(steered, given)
    migration_s = given.get("migration_seconds")
    if migration_s is not None and migration_s < 0:
        raise DsmError(400, "migration_seconds is at least 0")
    api_key = steered.dsm.reset_secret(app, migration_s)
    return {"app_id": app.app_id, "api_key": api_key}


VIEWS = (
    Command("apps", "show all apps", _apps, is_view=True),
    Command("groups", "show all groups", _groups, is_view=True),
)
COMMANDS = (
    Command(
        "create-app",
        "make an app; its API key goes into a file",
        _create_app,
        (
            positional("name", Kind.TEXT, "its name"),
            Parameter("role", Kind.TEXT, "admin or crypto; crypto if absent"),
            Parameter(
                "certificate",
                Kind.TEXT,
                "a client certificate (PEM) that logs it in instead of an API key",
                is_file=True,
            ),
            Parameter("and_secret", Kind.FLAG, "the certificate and the API key, both"),
        ),
    ),
    Command("disable-app", "disable an app", _set_enabled(enabled=False), (_APP,)),
    Command("enable-app", "enable an app", _set_enabled(enabled=True), (_APP,)),
    Command("delete-app", "delete an app and its sessions", _delete_app, (_APP,)),
    Command(
        "create-group",
        "make a group of keys",
        _create_group,
        (positional("name", Kind.TEXT, "its name"),),
    ),
    Command(
        "delete-group",
        "delete a group; its keys are out of reach",
        _delete_group,
        (positional("group", Kind.TEXT, "by name or id"),),
    ),
    Command(
        "protect-group",
        "let each encrypt and decrypt in a group need an approval (quorum)",
        _protect(protects=True),
        (_GROUP,),
    ),
    Command(
        "unprotect-group", "undo protect-group", _protect(protects=False), (_GROUP,)
    ),
    Command(
        "grant",
        "give an app permissions in a group",
        _grant,
        (_APP, _GROUP, _PERMISSIONS),
    ),
    Command(
        "withdraw",
        "take permissions in a group from an app; its membership without any",
        _withdraw,
        (_APP, _GROUP, _PERMISSIONS),
    ),
    Command(
        "kill-sessions",
        "end all sessions",
        _kill_sessions,
        (Parameter("app", Kind.TEXT, "only those of this app, by name or id"),),
    ),
    Command(
        "reset-secret",
        "make a new API key, which goes into its file",
        _reset_secret,
        (
            _APP,
            Parameter(
                "migration_seconds",
                Kind.NUMBER,
                "how long the old key stays good; not at all if absent",
            ),
        ),
    ),
)
