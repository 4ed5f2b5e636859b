"""The KMS v2 messages, in a descriptor pool of their own (``private_pool`` says why).

The classes are built from a committed FileDescriptorSet; their types are in
``messages.pyi``. The core is not imported here: the conformance kit uses these classes.
"""

from __future__ import annotations

from importlib import resources

from adapters_grpc.private_pool import message_classes


SERVICE = "v2.KeyManagementService"
STATUS_METHOD = f"/{SERVICE}/Status"
ENCRYPT_METHOD = f"/{SERVICE}/Encrypt"
DECRYPT_METHOD = f"/{SERVICE}/Decrypt"

_CLASSES = message_classes(
    resources.files("adapters_grpc").joinpath("kms_v2.binpb").read_bytes()
)

StatusRequest = _CLASSES["StatusRequest"]
StatusResponse = _CLASSES["StatusResponse"]
EncryptRequest = _CLASSES["EncryptRequest"]
EncryptResponse = _CLASSES["EncryptResponse"]
DecryptRequest = _CLASSES["DecryptRequest"]
DecryptResponse = _CLASSES["DecryptResponse"]
