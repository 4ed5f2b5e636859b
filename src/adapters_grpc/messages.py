"""The KMS v2 messages, in a descriptor pool of their own.

Modules that protoc generates register themselves in the process' one default pool,
where a second file of package ``v2`` is an error, and they refuse other versions of
protobuf than the one that they were generated for. These classes are built from a
committed FileDescriptorSet instead: they live beside any other plugin's, and work with
every protobuf that we allow. The types are in ``messages.pyi``.

This module imports nothing of ours: the conformance kit uses it alone.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


if TYPE_CHECKING:
    from google.protobuf.message import Message


SERVICE = "v2.KeyManagementService"
STATUS_METHOD = f"/{SERVICE}/Status"
ENCRYPT_METHOD = f"/{SERVICE}/Encrypt"
DECRYPT_METHOD = f"/{SERVICE}/Decrypt"


def _private_pool() -> descriptor_pool.DescriptorPool:
    committed = resources.files("adapters_grpc").joinpath("kms_v2.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(committed).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _private_pool()


def _message_class(name: str) -> type[Message]:
    descriptor = _POOL.FindMessageTypeByName(f"v2.{name}")
    return message_factory.GetMessageClass(descriptor)


StatusRequest = _message_class("StatusRequest")
StatusResponse = _message_class("StatusResponse")
EncryptRequest = _message_class("EncryptRequest")
EncryptResponse = _message_class("EncryptResponse")
DecryptRequest = _message_class("DecryptRequest")
DecryptResponse = _message_class("DecryptResponse")
