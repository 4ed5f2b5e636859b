"""Writes pip's settings of this machine as files, for the pip of an image's build.

``scripts/pip_settings.py FOLDER`` writes ``pip.conf`` and ``ca.pem`` there: where to
look for packages, and whom to trust. Empty files mean pip's own defaults.
"""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path


WANTED = {
    "default-timeout",
    "extra-index-url",
    "index-url",
    "proxy",
    "timeout",
    "trusted-host",
}
# Where the build sees ca.pem.
CA_IN_BUILD = "/run/pip-ca.pem"


def settings() -> dict[str, str]:
    """Return pip's settings by name; those of the environment win, as with pip."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    found = {}
    for line in listed.splitlines():
        # global.index-url='...', install.proxy='...', :env:.cert='...'
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    return found


def main(folder: Path) -> None:
    """Write the two files into *folder*."""
    found = settings()
    written = configparser.RawConfigParser()
    written["global"] = {name: found[name] for name in sorted(WANTED & found.keys())}
    certificates = b""
    if "cert" in found:
        written["global"]["cert"] = CA_IN_BUILD
        certificates = Path(found["cert"]).read_bytes()
    (folder / "ca.pem").write_bytes(certificates)
    with (folder / "pip.conf").open("w") as file:
        written.write(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
