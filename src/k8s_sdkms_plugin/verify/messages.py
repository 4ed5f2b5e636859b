"""The messages that etcd answers and stores, in a descriptor pool of their own.

As ``adapters_grpc.messages`` does it, for the same reasons. The types are in
``messages.pyi``.
"""

from __future__ import annotations

from importlib import resources

from adapters_grpc.private_pool import message_classes


RANGE_METHOD = "/etcdserverpb.KV/Range"

_CLASSES = message_classes(
    resources.files("k8s_sdkms_plugin.verify").joinpath("stored.binpb").read_bytes()
)

KeyValue = _CLASSES["KeyValue"]
RangeRequest = _CLASSES["RangeRequest"]
RangeResponse = _CLASSES["RangeResponse"]
EncryptedObject = _CLASSES["EncryptedObject"]
