"""Message classes of committed descriptors, in a descriptor pool of their own.

Modules that protoc generates register themselves in the process' one default pool,
where a second file of a package is an error, and they refuse other versions of
protobuf than the one that they were generated for. Classes made here live beside any
other plugin's, and work with every protobuf that we allow.

This module imports nothing of ours: the conformance kit uses it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


if TYPE_CHECKING:
    from typing import Any


def message_classes(committed: bytes) -> dict[str, Any]:
    """Return the class of each message in *committed*, by the message's bare name.

    Args:
        committed: A serialized FileDescriptorSet, each file after those that it
            imports, as protoc writes it; no two of its messages of one name.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(committed).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{file.package}.{message.name}")
        )
        for file in files
        for message in file.message_type
    }
