"""Prints the CycloneDX bill of materials of what the daemon runs on, as JSON.

It is made from ``requirements/run.txt`` alone: each package with its version, what asks
for it, and the SHA-256 of every file that the lock accepts for it (wheels for several
machines; which one was installed depends on the machine). The same lock gives the same
bytes: no time, no address, and a serial number that is made from the lock.
"""

from __future__ import annotations

import re
import sys
import tomllib
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Final

from attrs import frozen
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement


ROOT: Final = Path(__file__).parent.parent
LOCK: Final = ROOT / "requirements" / "run.txt"

# Any constant: it parts our serial numbers from others'.
_NAMESPACE: Final = uuid.UUID("5f0c37a5-9a1f-4b8e-8a57-0f4b3d2f4e11")


@frozen
class Locked:
    """A package of the lock.

    Attributes:
        name: Its name, as the lock spells it.
        version: Its one version.
        hashes: SHA-256 of each file that may be installed, in hex.
        asked_by: The names of those that need it.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    asked_by: tuple[str, ...]


def locked(text: str) -> list[Locked]:
    """Return the packages in the *text* of a lock that pip-compile wrote.

    Raises:
        ValueError: A package is not pinned to one version with its hashes.
    """
    return [_locked(entry) for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]]


def _locked(entry: str) -> Locked:
    asked, _, comments = entry.partition("\n    # via")
    words = asked.replace("\\\n", " ").split("--hash=")
    requirement = Requirement(words[0])
    pins = [s.version for s in requirement.specifier if s.operator == "=="]
    hashes = [word.strip().removeprefix("sha256:") for word in words[1:]]
    if len(pins) != 1 or not hashes or requirement.marker is not None:
        raise ValueError(f"{requirement.name} is not pinned to files")
    asked_by = re.findall(r"(?m)^(?: +#)? +(?!-)([\w.-]+)", comments)
    return Locked(requirement.name, pins[0], tuple(sorted(hashes)), tuple(asked_by))


def bill(lock: str, name: str, version: str) -> Bom:
    """Return the bill of *name* in *version*, which runs on what is in the *lock*."""
    packages = locked(lock)
    product = _component(ComponentType.APPLICATION, name, version, ())
    components = {name: product}
    for package in packages:
        components[package.name] = _component(
            ComponentType.LIBRARY, package.name, package.version, package.hashes
        )
    needs: dict[str, list[Component]] = defaultdict(list)
    for package in packages:
        for asking in package.asked_by:
            needs[asking].append(components[package.name])
    made = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, f"{name} {version}\n{lock}"),
        metadata=BomMetaData(component=product),
        components=[components[package.name] for package in packages],
    )
    for asking, component in components.items():
        made.register_dependency(component, needs[asking])
    return made


def _component(
    kind: ComponentType, name: str, version: str, hashes: tuple[str, ...]
) -> Component:
    address = PackageURL("pypi", None, name, version)
    return Component(
        type=kind,
        name=name,
        version=version,
        purl=address,
        bom_ref=address.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=h) for h in hashes],
    )


def main() -> None:
    """Print the bill of the distribution in this folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    made = bill(LOCK.read_text(), project["name"], project["version"])
    # The library dates a bill at the time that it is made.
    made.metadata.timestamp = None  # type: ignore[assignment]
    sys.stdout.write(JsonV1Dot6(made).output_as_string(indent=2) + "\n")


if __name__ == "__main__":
    main()
