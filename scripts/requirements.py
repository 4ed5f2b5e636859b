"""Prints the inputs of the lock files, taken from pyproject.toml.

``dev``: the dependency group of that name. ``oldest``: every lower bound of the
distribution as an exact version, and the tools that the tests need.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


ROOT = Path(__file__).parent.parent
TEST_TOOLS = {
    "editables",
    "hatchling",
    "hypothesis",
    "jsonschema",
    "pytest",
    "pytest-asyncio",
    "sdkms",
}


def dev(pyproject: dict[str, dict[str, object]]) -> list[str]:
    """Return the development tools, as they are named."""
    return _strings(pyproject["dependency-groups"]["dev"])


def oldest(pyproject: dict[str, dict[str, object]]) -> list[str]:
    """Return each dependency pinned to its lower bound, and the test tools."""
    project = pyproject["project"]
    wanted = list(_strings(project["dependencies"]))
    extras = project["optional-dependencies"]
    if isinstance(extras, dict):
        for names in extras.values():
            wanted += _strings(names)
    pins = [re.sub(r">=", "==", name) for name in wanted]
    return sorted({*pins, *TEST_TOOLS})


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


if __name__ == "__main__":
    loaded = tomllib.loads((ROOT / "pyproject.toml").read_text())
    print("\n".join(oldest(loaded) if sys.argv[1] == "oldest" else dev(loaded)))
