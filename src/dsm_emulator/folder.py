"""The folder of an emulator process: what lies in it, and that it is private.

| file | mode | content |
|---|---|---|
| ca.pem | | the CA's certificate, with TLS only |
| api-key, admin-api-key | 0600 | the API keys of the plugin's app, of the admin |
| control-token | 0600 | opens the control API |
| emulator.json | 0600 | url, ca_file, key_name, kid, pid, ids; no secrets |

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
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        raise PermissionError(f"{folder} is open to others; chmod 0700 it first")


def write_private(path: Path, text: str) -> None:
    """Write *text* to *path* with mode 0600, at once as a whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
