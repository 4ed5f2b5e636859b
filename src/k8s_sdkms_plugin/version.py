"""The distribution's name and version."""

from __future__ import annotations

from importlib import metadata
from typing import Final


NAME: Final = "k8s-sdkms-plugin"


def version() -> str:
    """Return the installed version."""
    return metadata.version(NAME)
