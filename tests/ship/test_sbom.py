"""The bill of materials, against CycloneDX's schema, the lock and the image."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.e2e.harness.program import ROOT
from tests.ship.conftest import built


if TYPE_CHECKING:
    from pathlib import Path

LOCK = (ROOT / "requirements/run.txt").read_text()


@pytest.fixture(scope="module")
def text() -> str:
    return built(["make", "--silent", "--no-print-directory", "sbom"])


@pytest.fixture(scope="module")
def bill(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_it_keeps_the_schema(text: str) -> None:
    # Not its own text, which repeats the whole schema.
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert problem is None


def test_it_names_what_the_lock_pins(bill: dict[str, Any]) -> None:
    listed = {(found["name"], found["version"]) for found in bill["components"]}
    assert listed == set(re.findall(r"(?m)^([\w.-]+)==(\S+)", LOCK))


def test_every_hash_of_the_lock_is_in_it(bill: dict[str, Any]) -> None:
    hashes = [h["content"] for found in bill["components"] for h in found["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", LOCK))


def test_what_pyproject_asks_for_is_what_the_product_needs(
    bill: dict[str, Any],
) -> None:
    product = bill["metadata"]["component"]["bom-ref"]
    needs = {found["ref"]: found.get("dependsOn", []) for found in bill["dependencies"]}
    pyproject = (ROOT / "pyproject.toml").read_text()
    (asked,) = re.findall(r"(?ms)^dependencies = \[$(.*?)^\]$", pyproject)
    assert {re.sub(r".*/(.*)@.*", r"\1", ref) for ref in needs[product]} == set(
        re.findall(r'"([\w-]+)', asked)
    )


def test_nothing_in_it_is_needed_by_nobody(bill: dict[str, Any]) -> None:
    needed = {r for found in bill["dependencies"] for r in found.get("dependsOn", [])}
    assert {found["bom-ref"] for found in bill["components"]} == needed


def test_same_lock_gives_the_same_bytes(text: str) -> None:
    again = built(["make", "--silent", "--no-print-directory", "sbom"])
    assert again == text


def test_it_holds_neither_time_nor_address(bill: dict[str, Any]) -> None:
    assert "timestamp" not in bill["metadata"]
    addresses = re.findall(r"https?://[^\"]+", json.dumps(bill))
    assert addresses == [bill["$schema"]]


def test_image_holds_what_it_lists(bill: dict[str, Any], image_root: Path) -> None:
    packages = image_root.glob("opt/k8s-sdkms-plugin/lib/python3*/site-packages")
    installed = {
        re.sub(r"[-_.]+", "-", path.name.removesuffix(".dist-info")).lower()
        for folder in packages
        for path in folder.glob("*.dist-info")
    }
    listed = [*bill["components"], bill["metadata"]["component"]]
    expected = {
        re.sub(r"[-_.]+", "-", f"{found['name']}-{found['version']}").lower()
        for found in listed
    }
    assert installed == expected
