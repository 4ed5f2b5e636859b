"""The messages that etcd answers and stores, in a descriptor pool of their own.

As ``adapters_grpc.messages`` does it, for the same reasons. The types are in
``messages.pyi``.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


if TYPE_CHECKING:
    from google.protobuf.message import Message


RANGE_METHOD = "/etcdserverpb.KV/Range"


def _private_pool() -> descriptor_pool.DescriptorPool:
    folder = resources.files("k8s_sdkms_plugin.verify")
    committed = folder.joinpath("stored.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(committed).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _private_pool()


def _message_class(name: str) -> type[Message]:
    descriptor = _POOL.FindMessageTypeByName(f"k8s_sdkms_plugin.verify.{name}")
    return message_factory.GetMessageClass(descriptor)


KeyValue = _message_class("KeyValue")
RangeRequest = _message_class("RangeRequest")
RangeResponse = _message_class("RangeResponse")
EncryptedObject = _message_class("EncryptedObject")
