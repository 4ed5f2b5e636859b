from __future__ import annotations

import ast
import subprocess
import sys
from importlib import resources
from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError, Message
from tests.unit.adapters_grpc.support import run_python

from adapters_grpc import messages


if TYPE_CHECKING:
    from pathlib import Path


PACKAGE = resources.files("adapters_grpc")
ROUND_TRIP = """
import {first}, {second}
ours = adapters_grpc.messages.EncryptResponse(
    ciphertext=b"c", key_id="k", annotations={{"a.b": b"v"}})
theirs = api_pb2.EncryptResponse.FromString(ours.SerializeToString())
assert (theirs.ciphertext, theirs.key_id) == (b"c", "k"), theirs
assert dict(theirs.annotations) == {{"a.b": b"v"}}, theirs
assert type(ours) is not type(theirs)
"""


def protoc(*arguments: str) -> None:
    pytest.importorskip("grpc_tools", reason="the oldest versions run without protoc")
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)


def test_committed_descriptor_set_is_what_protoc_makes_of_the_committed_proto(
    tmp_path: Path,
) -> None:
    with resources.as_file(PACKAGE.joinpath("kms_v2.proto")) as source:
        made = tmp_path / "made.binpb"
        protoc(f"-I{source.parent}", f"--descriptor_set_out={made}", source.name)
    parsed = descriptor_pb2.FileDescriptorSet.FromString
    committed = PACKAGE.joinpath("kms_v2.binpb").read_bytes()
    assert parsed(committed) == parsed(made.read_bytes())


def test_importing_the_messages_loads_neither_the_core_nor_grpcio() -> None:
    loaded = run_python(
        "import sys, adapters_grpc.messages\n"
        "print({name.partition('.')[0] for name in sys.modules})"
    )
    assert {"kms_core", "grpc", "attrs"}.isdisjoint(ast.literal_eval(loaded))


@pytest.mark.parametrize(
    ("first", "second"),
    [("adapters_grpc.messages", "api_pb2"), ("api_pb2", "adapters_grpc.messages")],
)
def test_messages_live_beside_a_foreign_v2_module_in_one_process(
    tmp_path: Path, first: str, second: str
) -> None:
    foreign = tmp_path / "api.proto"
    foreign.write_text(PACKAGE.joinpath("kms_v2.proto").read_text())
    protoc(f"-I{tmp_path}", f"--python_out={tmp_path}", "api.proto")
    run_python(ROUND_TRIP.format(first=first, second=second), path=tmp_path)


def test_messages_leave_the_default_pool_alone() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("v2.StatusRequest")


def test_stub_names_the_fields_of_the_descriptors() -> None:
    stub = ast.parse(PACKAGE.joinpath("messages.pyi").read_text())
    found = {
        node.name: {
            entry.target.id
            if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name)
            else getattr(entry, "name", "")
            for entry in node.body
        }
        - {"__init__"}
        for node in stub.body
        if isinstance(node, ast.ClassDef)
    }
    assert found == {
        name: {field.name for field in getattr(messages, name).DESCRIPTOR.fields}
        for name in found
    }
    assert len(found) == 6


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (messages.StatusRequest(), b""),
        (
            messages.StatusResponse(version="v2", healthz="ok", key_id="k"),
            b"\x0a\x02v2\x12\x02ok\x1a\x01k",
        ),
        (messages.EncryptRequest(plaintext=b"p", uid="u"), b"\x0a\x01p\x12\x01u"),
        (
            messages.EncryptResponse(
                ciphertext=b"c", key_id="k", annotations={"a.b": b"v"}
            ),
            b"\x0a\x01c\x12\x01k\x1a\x08\x0a\x03a.b\x12\x01v",
        ),
        (
            messages.DecryptRequest(
                ciphertext=b"c", uid="u", key_id="k", annotations={"a.b": b"v"}
            ),
            b"\x0a\x01c\x12\x01u\x1a\x01k\x22\x08\x0a\x03a.b\x12\x01v",
        ),
        (messages.DecryptResponse(plaintext=b"p"), b"\x0a\x01p"),
    ],
)
def test_field_numbers_are_those_of_the_contract(message: Message, wire: bytes) -> None:
    assert message.SerializeToString() == wire
    assert type(message).FromString(wire) == message


def test_method_paths_are_those_of_the_contract() -> None:
    assert messages.STATUS_METHOD == "/v2.KeyManagementService/Status"
    assert messages.ENCRYPT_METHOD == "/v2.KeyManagementService/Encrypt"
    assert messages.DECRYPT_METHOD == "/v2.KeyManagementService/Decrypt"


def test_string_that_is_not_utf8_is_refused() -> None:
    with pytest.raises((DecodeError, ValueError)):
        messages.DecryptRequest.FromString(b"\x1a\x02\xff\xfe")
