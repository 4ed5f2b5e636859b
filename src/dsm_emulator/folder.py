"""The folder of an emulator process: what lies in it, and that it is private.

| file | mode | content |
|---|---|---|
| ca.pem | | the CA's certificate, with TLS only |
| api-key, admin-api-key | 0600 | the API keys of the plugin's app, of the admin |
| control-token | 0600 | opens the control API |
| api-key-ID | 0600 | the API key of another app that `ctl` made |
| NAME.pem, NAME-key.pem | 0600 | a client certificate that `ctl` made |
| state.json, ca-key.pem | 0600 | with --persist: the state, the CA's private key |
| emulator.json | 0600 | URLs, ca_file, key_name, kid, pid, ids; no secrets |

emulator.json is written last, once the emulator listens, and goes when it ends.
"""

import os
import stat
from pathlib import Path


API_KEY = "api-key"
ADMIN_API_KEY = "admin-api-key"
CONTROL_TOKEN = "control-token"  # noqa: S105 - the name of a file
DESCRIPTION = "emulator.json"


def make_private_folder(folder: Path) -> None:
    """Make *folder* with mode 0700, or accept it if others can't enter it.

    Raises:
        PermissionError: It is there and open to others; changing its mode is its
            owner's business.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(folder):
        raise PermissionError(f"{folder} is open to others; chmod 0700 it first")


def is_private(path: Path) -> bool:
    """Return whether nobody but its owner can do anything with *path*."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def write_private(path: Path, text: str, *, durable: bool = False) -> None:
    """Write *text* to *path* with mode 0600, at once as a whole.

    Args:
        path: The file.
        text: Its new content.
        durable: Return only when it would survive a loss of power.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    # What a crash of a process of this number left there.
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
