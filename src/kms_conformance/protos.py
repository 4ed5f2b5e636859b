"""Message classes that nobody generated, each file in a descriptor pool of its own.

The messages of etcd and of KMS v1beta1 have the packages ``v2`` and ``v1beta1``, as
every plugin's own modules have, and one pool takes a package's file only once.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2

from adapters_grpc import private_pool


_FIELD: Final = descriptor_pb2.FieldDescriptorProto

_KINDS: Final = {
    "bytes": _FIELD.TYPE_BYTES,
    "string": _FIELD.TYPE_STRING,
    "int32": _FIELD.TYPE_INT32,
}
_MAP: Final = "map<string, bytes>"


def message_classes(package: str, source: str) -> dict[str, Any]:
    """Return the classes of the messages of *source*, by name.

    Args:
        package: The proto package.
        source: A line for each message: its name, a colon, and its fields, separated
            by semicolons, as in a .proto file: ``Pair: string a = 1; bytes b = 2``.
    """
    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name=f"{package}.proto", package=package, syntax="proto3")
    for line in source.strip().splitlines():
        name, _, fields = line.strip().partition(":")
        message = file.message_type.add(name=name)
        for one in filter(None, (part.strip() for part in fields.split(";"))):
            _add_field(package, message, one)
    return private_pool.message_classes(files.SerializeToString())


def _add_field(
    package: str, message: descriptor_pb2.DescriptorProto, declared: str
) -> None:
    left, _, number = declared.partition(" = ")
    kind, _, name = left.rpartition(" ")
    if kind != _MAP:
        message.field.add(
            name=name,
            number=int(number),
            label=_FIELD.LABEL_OPTIONAL,
            type=_KINDS[kind],
        )
        return
    # As protoc does it: a map is a repeated message of key and value.
    entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
    entry.options.map_entry = True
    _add_field(package, entry, "string key = 1")
    _add_field(package, entry, "bytes value = 2")
    message.field.add(
        name=name,
        number=int(number),
        label=_FIELD.LABEL_REPEATED,
        type=_FIELD.TYPE_MESSAGE,
        type_name=f".{package}.{message.name}.{entry.name}",
    )
