"""The configuration: the Go plugin's JSON file, and what we added to it.

``model`` has the settings, ``loading`` reads and checks them, ``schema`` and ``docs``
are generated from the same classes. Importing this package loads none of them: the
command line knows the default path before it knows its command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final


DEFAULT_PATH: Final = Path("/etc/fortanix/k8s-sdkms-plugin.json")
"""Where the config is unless ``--config`` says otherwise: the Go plugin's place."""
