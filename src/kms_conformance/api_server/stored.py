"""What kube-apiserver stores in etcd for an encrypted object (contract 3.3).

``k8s:enc:kms:v2:<provider>:`` and then the protobuf message EncryptedObject.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from google.protobuf.message import DecodeError

from kms_conformance.connection import Sealed, sorted_pairs
from kms_conformance.protos import message_classes


AES_KEY: Final = 0
"""Source type AES_GCM_KEY of 1.27: the plaintext of the source is the data key."""

SEED: Final = 1
"""Source type HKDF_SHA256_XNONCE_AES_GCM_SEED, from 1.29 on the only one written."""

SOURCE_TYPES: Final = (AES_KEY, SEED)

INFO_BYTES: Final = 32
NONCE_BYTES: Final = 12

_PREFIX: Final = b"k8s:enc:kms:v2:"
_SEED_BYTES: Final = 32
_TAG_BYTES: Final = 16
_AES_KEY_BYTES: Final = (16, 24, 32)

_MESSAGE: Final[Any] = message_classes(
    "v2",
    # the last one is an enum upstream: on the wire, the same as its number
    "EncryptedObject: bytes encryptedData = 1; string keyID = 2; "
    "bytes encryptedDEKSource = 3; map<string, bytes> annotations = 4; "
    "int32 encryptedDEKSourceType = 5",
)["EncryptedObject"]


class Unreadable(Exception):
    """What is stored can't be read: another's, damaged, or under another key."""


@frozen
class EncryptedObject:
    """One stored value, taken apart.

    Attributes:
        provider: The name of the KMS provider in the encryption config.
        data: The object, encrypted.
        sealed: The source of its key, as the plugin sealed it.
        source_type: ``AES_KEY`` or ``SEED``.
    """

    provider: str
    data: bytes
    sealed: Sealed
    source_type: int = SEED

    @classmethod
    def from_etcd(cls, value: bytes) -> EncryptedObject:
        """Take a stored value apart.

        Raises:
            Unreadable: KMS v2 did not write it.
        """
        provider, colon, encoded = value.removeprefix(_PREFIX).partition(b":")
        if not value.startswith(_PREFIX) or not colon:
            raise Unreadable("it has not the prefix of KMS v2")
        try:
            message = _MESSAGE.FromString(encoded)
            name = provider.decode()
        except (DecodeError, ValueError):
            raise Unreadable("it is no EncryptedObject") from None
        annotations = sorted_pairs(message.annotations.items())
        sealed = Sealed(message.encryptedDEKSource, message.keyID, annotations)
        return cls(name, message.encryptedData, sealed, message.encryptedDEKSourceType)

    def to_etcd(self) -> bytes:
        """Return the value as kube-apiserver stores it."""
        message = _MESSAGE(
            encryptedData=self.data,
            keyID=self.sealed.key_id,
            encryptedDEKSource=self.sealed.ciphertext,
            annotations=dict(self.sealed.annotations),
            encryptedDEKSourceType=self.source_type,
        )
        encoded: bytes = message.SerializeToString(deterministic=True)
        return _PREFIX + self.provider.encode() + b":" + encoded


@frozen
class DataKey:
    """What opens and seals objects: a seed, or the AES key of 1.27.

    Attributes:
        secret: The seed or key.
        source_type: ``AES_KEY`` or ``SEED``.

    Raises:
        Unreadable: The secret has a wrong length, or the type is unknown.
    """

    secret: bytes = field(repr=False)
    source_type: int = SEED

    def __attrs_post_init__(self) -> None:
        length = len(self.secret)
        if self.source_type == SEED:
            if length < _SEED_BYTES:
                raise Unreadable(f"a seed of {length} bytes is too short")
        elif self.source_type != AES_KEY:
            raise Unreadable(f"source type {self.source_type} is unknown")
        elif length not in _AES_KEY_BYTES:
            raise Unreadable(f"{length} bytes are no AES key")

    @property
    def salt_bytes(self) -> int:
        """How many random bytes stand before the ciphertext."""
        return NONCE_BYTES + (INFO_BYTES if self.source_type == SEED else 0)

    def encrypt(self, plaintext: bytes, etcd_key: str, salt: bytes) -> bytes:
        """Return *plaintext* encrypted for the place *etcd_key*.

        Args:
            plaintext: The object.
            etcd_key: Its key in etcd, which is authenticated.
            salt: Random bytes, ``salt_bytes`` of them: the nonce, and for a seed
                before it the 32 bytes from which the object's key is derived.
        """
        cipher, nonce = self._cipher(salt)
        return salt + cipher.encrypt(nonce, plaintext, etcd_key.encode())

    def decrypt(self, data: bytes, etcd_key: str) -> bytes:
        """Return the plaintext of *data*.

        Raises:
            Unreadable: Another key made it, or for another place, or it is damaged.
        """
        salt, sealed = data[: self.salt_bytes], data[self.salt_bytes :]
        if len(sealed) < _TAG_BYTES:
            raise Unreadable("the encrypted data is too short")
        cipher, nonce = self._cipher(salt)
        try:
            return cipher.decrypt(nonce, sealed, etcd_key.encode())
        except InvalidTag:
            raise Unreadable("the data is not encrypted under this key") from None

    def _cipher(self, salt: bytes) -> tuple[AESGCM, bytes]:
        info, nonce = salt[:-NONCE_BYTES], salt[-NONCE_BYTES:]
        if self.source_type == AES_KEY:
            return AESGCM(self.secret), nonce
        derived = HKDFExpand(SHA256(), length=32, info=info).derive(self.secret)
        return AESGCM(derived), nonce
