from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from adapters_grpc.private_pool import message_classes


FIELD = descriptor_pb2.FieldDescriptorProto


def committed(field_name: str) -> bytes:
    """Return a base file, and one that imports it, as protoc orders them."""
    files = descriptor_pb2.FileDescriptorSet()
    base = files.file.add(name="base.proto", package="base", syntax="proto3")
    base.message_type.add(name="Part").field.add(
        name=field_name,
        number=1,
        label=FIELD.LABEL_OPTIONAL,
        type=FIELD.TYPE_STRING,
    )
    whole = files.file.add(name="whole.proto", package="whole", syntax="proto3")
    whole.dependency.append("base.proto")
    whole.message_type.add(name="Whole").field.add(
        name="part",
        number=1,
        label=FIELD.LABEL_OPTIONAL,
        type=FIELD.TYPE_MESSAGE,
        type_name=".base.Part",
    )
    return files.SerializeToString()


def test_messages_of_every_file_are_returned_by_their_bare_names() -> None:
    classes = message_classes(committed("word"))
    assert classes.keys() == {"Part", "Whole"}
    whole = classes["Whole"](part=classes["Part"](word="w"))
    assert whole.SerializeToString() == b"\x0a\x03\x0a\x01w"


def test_files_of_one_name_that_differ_live_beside_each_other() -> None:
    one, other = message_classes(committed("a")), message_classes(committed("b"))
    assert one["Part"](a="x").SerializeToString() == b"\x0a\x01x"
    assert other["Part"].FromString(b"\x0a\x01x").b == "x"


def test_default_pool_is_left_alone() -> None:
    message_classes(committed("word"))
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("whole.Whole")
