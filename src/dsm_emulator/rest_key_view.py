"""A key as a request names it, and as an answer shows it (section 2)."""

from typing import Any

from dsm_emulator import access, aes
from dsm_emulator.account import App
from dsm_emulator.dsm import Dsm
from dsm_emulator.errors import bad_request
from dsm_emulator.sobject import Sobject
from dsm_emulator.wire import optional_str


def described_key(dsm: Dsm, descriptor: object, connection: int) -> Sobject:
    """Return the key that a descriptor names, as the node of *connection* sees it.

    Raises:
        DsmError: 400, neither or both of kid and name; 404.
    """
    if not isinstance(descriptor, dict):
        raise bad_request("missing field `key`")
    kid = optional_str(descriptor, "kid")
    name = optional_str(descriptor, "name")
    if kid is not None and name is None:
        return dsm.keys.seen_by_kid(kid, connection)
    if name is not None and kid is None:
        return dsm.keys.seen_by_name(name, connection)
    raise bad_request("a key is described by exactly one of kid and name")


def shown_key(dsm: Dsm, app: App, key: Sobject, *, kcv: bool = False) -> dict[str, Any]:
    """Return what *app* sees of *key*.

    Args:
        dsm: The model, whose shape of answers matters.
        app: Who looks.
        key: At what.
        kcv: Whether the check values are asked for.
    """
    shown = key.as_json()
    if dsm.shape.effective_key_policy:
        shown["effective_key_policy"] = {"key_ops": access.effective_key_ops(app, key)}
    if (kcv or dsm.shape.kcv) and key.material is not None:
        shown["kcv"] = aes.kcv(key.material)
        shown["kcv_cmac"] = aes.kcv_cmac(key.material)
    if dsm.account.key_undo_window_s is not None:
        window_s = dsm.account.key_undo_window_s
        since_s = dsm.clock.now() - window_s
        shown["history"] = [
            change.as_json(expires_s=change.made_s + window_s)
            for change in dsm.keys.undos.changes(key.kid, since_s)
        ]
    return dsm.shape.of_key(shown)
