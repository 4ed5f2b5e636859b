"""The image, under the name that the guides' manifests ask for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING

from tests.e2e.harness.program import ROOT
from tests.unit.docs.support import Page


if TYPE_CHECKING:
    from pathlib import Path


def test_archive_of_the_guide_has_the_name_that_the_pod_asks_for(
    reference: str, tmp_path: Path
) -> None:
    guide = Page.read(ROOT / "docs" / "guides" / "static-pod.md")
    pod = (ROOT / "deploy" / "static-pod" / "k8s-sdkms-plugin.yaml").read_text()
    (asked_for,) = re.findall(r"image: (\S+)", pod)
    text = guide.block("ship").text.replace("dist", str(tmp_path))
    assert reference in text

    done = subprocess.run(
        ["bash", "-euc", text],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "k8s-sdkms-plugin.tar") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (image,) = json.load(manifest)
    # As kubelet and Docker complete a name without a registry.
    assert f"docker.io/library/{asked_for}" in image["RepoTags"]
