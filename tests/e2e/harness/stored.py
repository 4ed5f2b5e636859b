"""What kube-apiserver keeps in etcd for an object encrypted through KMS v2.

``k8s:enc:kms:v2:<provider>:`` and then the protobuf message EncryptedObject
(kms-v2-contract.md 3.3). A hand-made descriptor in a pool of its own: the message has
the package ``v2``, as the KMS messages do.
"""

from __future__ import annotations

import os
from typing import Any

import attrs
import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


PREFIX = b"k8s:enc:kms:v2:"
SEED = 1  # HKDF_SHA256_XNONCE_AES_GCM_SEED
INFO_BYTES = 32
NONCE_BYTES = 12


@attrs.frozen
class EncryptedObject:
    """One stored value, taken apart."""

    provider: str
    encrypted_data: bytes
    key_id: str
    sealed_seed: bytes
    annotations: dict[str, bytes]
    source_type: int

    @classmethod
    def from_etcd(cls, value: bytes) -> EncryptedObject:
        """Take a stored value apart; fail when KMS v2 did not write it."""
        assert value.startswith(PREFIX), f"not of KMS v2: {value[:40]!r}"
        provider, _, encoded = value.removeprefix(PREFIX).partition(b":")
        message = _MESSAGE.FromString(encoded)
        return cls(
            provider=provider.decode(),
            encrypted_data=message.encryptedData,
            key_id=message.keyID,
            sealed_seed=message.encryptedDEKSource,
            annotations=dict(message.annotations),
            source_type=message.encryptedDEKSourceType,
        )

    @property
    def seed_version(self) -> int:
        """The Version of our format that the sealed seed has (design section 5)."""
        version: int = cbor2.loads(self.sealed_seed)["Version"]
        return version

    def to_etcd(self) -> bytes:
        """Return the value as kube-apiserver would store it."""
        message = _MESSAGE(
            encryptedData=self.encrypted_data,
            keyID=self.key_id,
            encryptedDEKSource=self.sealed_seed,
            annotations=self.annotations,
            encryptedDEKSourceType=self.source_type,
        )
        encoded: bytes = message.SerializeToString()
        return PREFIX + self.provider.encode() + b":" + encoded


def encrypt(plaintext: bytes, seed: bytes, etcd_key: str) -> bytes:
    """Encrypt an object under a seed, as kube-apiserver does from 1.29."""
    info, nonce = os.urandom(INFO_BYTES), os.urandom(NONCE_BYTES)
    sealed = _cipher(seed, info).encrypt(nonce, plaintext, etcd_key.encode())
    return info + nonce + sealed


def decrypt(encrypted_data: bytes, seed: bytes, etcd_key: str) -> bytes:
    """Decrypt what ``encrypt`` or kube-apiserver made."""
    info, rest = encrypted_data[:INFO_BYTES], encrypted_data[INFO_BYTES:]
    nonce, sealed = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
    return _cipher(seed, info).decrypt(nonce, sealed, etcd_key.encode())


def _cipher(seed: bytes, info: bytes) -> AESGCM:
    return AESGCM(HKDFExpand(SHA256(), length=32, info=info).derive(seed))


def _message() -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="encrypted_object.proto", package="v2", syntax="proto3"
    )
    message = file.message_type.add(name="EncryptedObject")
    entry = message.nested_type.add(name="AnnotationsEntry")
    entry.options.map_entry = True
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    add, add_to_entry = message.field.add, entry.field.add
    add_to_entry(name="key", number=1, label=one, type=kinds.TYPE_STRING)
    add_to_entry(name="value", number=2, label=one, type=kinds.TYPE_BYTES)
    add(name="encryptedData", number=1, label=one, type=kinds.TYPE_BYTES)
    add(name="keyID", number=2, label=one, type=kinds.TYPE_STRING)
    add(name="encryptedDEKSource", number=3, label=one, type=kinds.TYPE_BYTES)
    add(
        name="annotations",
        number=4,
        label=many,
        type=kinds.TYPE_MESSAGE,
        type_name=".v2.EncryptedObject.AnnotationsEntry",
    )
    # An enum upstream; on the wire, the same as its number.
    add(name="encryptedDEKSourceType", number=5, label=one, type=kinds.TYPE_INT32)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("v2.EncryptedObject")
    return message_factory.GetMessageClass(found)


_MESSAGE = _message()
