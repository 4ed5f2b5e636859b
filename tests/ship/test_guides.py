"""What the guides say of the image and of the bundle."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.program import ROOT
from tests.ship.conftest import built
from tests.unit.docs.support import Page


if TYPE_CHECKING:
    from pathlib import Path

IMAGE = Page.read(ROOT / "docs/image.md")
BUNDLE = Page.read(ROOT / "docs/host-bundle.md")
MARKS = {"run", "archive", "on the host"}


@pytest.mark.parametrize("page", [IMAGE, BUNDLE], ids=["image", "bundle"])
def test_every_block_says_what_is_done_with_it(page: Page) -> None:
    unknown = [
        block.line
        for block in page.blocks
        if block.mark not in MARKS and not block.mark.startswith("not run, ")
    ]
    assert not unknown


def test_image_is_called_as_its_guide_says(reference: str) -> None:
    named = set(re.findall(r"k8s-sdkms-plugin:[\w.]+", IMAGE.path.read_text()))
    assert named == {reference.removeprefix("localhost/")}


def test_image_is_written_for_an_engine(reference: str, tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    (block,) = (b for b in IMAGE.blocks if b.mark == "archive")
    built(["bash", "-ec", block.text.replace("dist/image.tar", str(target))])
    with tarfile.open(target) as packed:
        manifest = packed.extractfile("manifest.json")
        assert manifest is not None
        (described,) = json.load(manifest)
    # As Docker and kubelet complete a name without a registry.
    name = reference.removeprefix("localhost/")
    assert f"docker.io/library/{name}" in described["RepoTags"]


def test_bill_of_materials_is_written_as_the_guide_says(tmp_path: Path) -> None:
    (block,) = (b for b in IMAGE.blocks if b.mark == "run")
    target = tmp_path / "sbom.cdx.json"
    command = block.text.replace("dist/sbom.cdx.json", str(target))
    subprocess.run(["bash", "-ec", command], cwd=ROOT, check=True, timeout=120)
    assert json.loads(target.read_text())["bomFormat"] == "CycloneDX"


def test_build_arguments_are_those_of_the_dockerfile() -> None:
    stated = set(re.findall(r"(?m)^ARG (\w+)", (ROOT / "Dockerfile").read_text()))
    table = "".join(re.findall(r"(?m)^\| `[A-Z].*$", IMAGE.path.read_text()))
    assert set(re.findall(r"`([A-Z_]+)`", table)) == stated
