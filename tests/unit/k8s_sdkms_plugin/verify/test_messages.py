from __future__ import annotations

import subprocess
import sys
from importlib import resources
from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pb2


if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = resources.files("k8s_sdkms_plugin.verify")


def test_committed_descriptor_set_is_what_protoc_makes_of_the_committed_proto(
    tmp_path: Path,
) -> None:
    pytest.importorskip("grpc_tools", reason="the oldest versions run without protoc")
    with resources.as_file(PACKAGE.joinpath("stored.proto")) as source:
        made = tmp_path / "made.binpb"
        words = [f"-I{source.parent}", f"--descriptor_set_out={made}", source.name]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *words], check=True)
    parsed = descriptor_pb2.FileDescriptorSet.FromString
    committed = PACKAGE.joinpath("stored.binpb").read_bytes()
    assert parsed(committed) == parsed(made.read_bytes())
