"""What kube-apiserver keeps in etcd for one object, taken apart (kms-v2-contract 3.3).

An encrypted value begins with ``k8s:enc:``, the provider's kind and version, and its
name; what has no such beginning is not encrypted. Everything here may be hostile.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from attrs import field, frozen
from google.protobuf.message import DecodeError

from k8s_sdkms_plugin.verify.messages import EncryptedObject
from kms_core.errors import KmsError
from kms_core.key_id import DEFAULT_SCHEME, NativeKeyId, is_legacy, require_native
from kms_core.limits import MAX_KEY_ID_BYTES, MAX_SEALED_SEED_BYTES
from kms_core.sealed_seed import EnvelopedSeed, Version, decode


ENCRYPTED: Final = b"k8s:enc:"

_PREFIX: Final = re.compile(
    rb"k8s:enc:(aescbc|aesgcm|secretbox|kms):(v[0-9]{1,2}):([^:]{1,253}):"
)


class Source(enum.IntEnum):
    """What a sealed seed holds (Kubernetes' EncryptedDEKSourceType)."""

    AES_KEY = 0
    SEED = 1


@frozen
class Sealed:
    """An object that KMS v2 encrypted.

    Attributes:
        key_id: As stored beside it.
        sealed_seed: What the plugin answered to Encrypt.
        annotations: As stored, in order; ours never writes any.
        source: What is sealed.
        encrypted_data: The object itself.
        version: The version of our format; None if it is another plugin's.
        kid: The DSM key that opens it; empty if it is another plugin's.
        wrapped: The wrapped local KEK's bytes; empty without one.
    """

    key_id: str
    sealed_seed: bytes
    annotations: tuple[tuple[str, bytes], ...]
    source: Source
    encrypted_data: bytes
    version: Version | None
    kid: str
    wrapped: bytes

    @property
    def native(self) -> bool:
        """Return whether only this plugin, not the Go plugin, can open it."""
        return self.version in (Version.DIRECT, Version.LOCAL_KEK)


@frozen
class StoredObject:
    """One stored value.

    Attributes:
        key: Its key in etcd.
        provider: Kind of its provider, such as ``kms`` or ``aescbc``; ``identity`` if
            it is not encrypted, ``unknown`` if it says ``k8s:enc:`` and no more that
            is known.
        provider_version: Such as ``v2``; empty for ``identity``.
        provider_name: The kms provider's name, or the key's.
        sealed: What KMS v2 stored; None for all else.
        damage: What is wrong with it, one line; empty if nothing is.
    """

    key: bytes
    provider: str
    provider_version: str = ""
    provider_name: str = ""
    sealed: Sealed | None = field(default=None, repr=False)
    damage: str = ""


def take_apart(key: bytes, value: bytes) -> StoredObject:
    """Return what *value*, stored under *key*, is. Raises nothing."""
    if not value.startswith(ENCRYPTED):
        return StoredObject(key, "identity")
    prefix = _PREFIX.match(value)
    if prefix is None:
        damage = "it begins as encrypted data, and no provider that is known follows"
        return StoredObject(key, "unknown", damage=damage)
    kind, version, name = (part.decode("utf-8", "replace") for part in prefix.groups())
    if (kind, version) != ("kms", "v2"):
        return StoredObject(key, kind, version, name)
    try:
        sealed = _sealed(value[prefix.end() :])
        damage = _mismatch(sealed)
    except ValueError as problem:
        return StoredObject(key, kind, version, name, damage=str(problem))
    return StoredObject(key, kind, version, name, sealed, damage)


def _sealed(encoded: bytes) -> Sealed:
    """Read an EncryptedObject by the rules of kube-apiserver's own validation.

    Raises:
        ValueError: It is none; the text says why.
    """
    try:
        message = EncryptedObject.FromString(encoded)
    # The pure Python protobuf raises ValueError for strings that are not UTF-8.
    except (DecodeError, ValueError):
        raise ValueError("what follows the provider's name is no message") from None
    size = len(message.encryptedDEKSource)
    if not message.encryptedData:
        raise ValueError("it holds no encrypted data")
    if not 1 <= size <= MAX_SEALED_SEED_BYTES:
        raise ValueError(f"its sealed seed has {size} bytes")
    if not 1 <= len(message.keyID.encode()) <= MAX_KEY_ID_BYTES:
        raise ValueError(f"its key_id has {len(message.keyID.encode())} bytes")
    if message.encryptedDEKSourceType not in tuple(Source):
        raise ValueError("its seed is of a type that is not known")
    version, kid, wrapped = _opened_shell(message.encryptedDEKSource)
    return Sealed(
        key_id=message.keyID,
        sealed_seed=message.encryptedDEKSource,
        annotations=tuple(sorted(message.annotations.items())),
        source=Source(message.encryptedDEKSourceType),
        encrypted_data=message.encryptedData,
        version=version,
        kid=kid,
        wrapped=wrapped,
    )


def _opened_shell(sealed_seed: bytes) -> tuple[Version | None, str, bytes]:
    """Return version, kid and wrapped local KEK of a sealed seed, if it is ours."""
    try:
        found = decode(sealed_seed)
    except KmsError:
        return None, "", b""
    if isinstance(found, EnvelopedSeed):
        wrapped = found.wrapped
        together = wrapped.cipher + wrapped.iv + wrapped.tag
        return Version.LOCAL_KEK, found.kid, together
    return found.version, found.kid, b""


def _mismatch(sealed: Sealed) -> str:
    """Return why the plugin would refuse it unasked; empty if it would not."""
    if sealed.version is None:
        return ""
    if sealed.annotations:
        return "it has annotations, and this plugin never wrote any"
    if sealed.native:
        try:
            require_native(sealed.key_id, sealed.kid, DEFAULT_SCHEME)
        except KmsError as error:
            return error.cause
        return ""
    if not is_legacy(sealed.key_id):
        return "a Go plugin's sealed seed has a key_id that is no hash"
    return ""


def names_kid(key_id: str) -> str:
    """Return the kid that a native key_id names; empty for every other."""
    try:
        return NativeKeyId.parse(key_id).kid
    except KmsError:
        return ""
