"""Key material: tells a key_id that is the key from one that is a hash of it.

Both are 32 bytes in hexadecimal or Base64, so each is tried as a key.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


if TYPE_CHECKING:
    from collections.abc import Iterator

    from kms_conformance.connection import Sealed


_AES_KEY_BYTES: Final = (16, 24, 32)
_NONCE_BYTES: Final = 12
_PART: Final = re.compile(r"[0-9A-Za-z+/_=-]+")


def opens_with_a_key_in(words: str, sealed: Sealed, plaintext: bytes) -> bool:
    """Return whether a key that stands in *words* opens *sealed*, as with its name."""
    return any(_opens(key, sealed, plaintext) for key in _keys_in(words))


def opens_with_its_own_name(sealed: Sealed, plaintext: bytes) -> bool:
    """Return whether a key that stands in the key_id opens *sealed*.

    It is tried as an AES-GCM key, with the nonce before the ciphertext: what nearly
    all plugins do that seal by themselves.
    """
    return opens_with_a_key_in(sealed.key_id, sealed, plaintext)


def _opens(key: bytes, sealed: Sealed, plaintext: bytes) -> bool:
    nonce = sealed.ciphertext[:_NONCE_BYTES]
    body = sealed.ciphertext[_NONCE_BYTES:]
    for associated in (b"", sealed.key_id.encode()):
        try:
            if AESGCM(key).decrypt(nonce, body, associated) == plaintext:
                return True
        except (InvalidTag, ValueError):
            continue
    return False


def _keys_in(words: str) -> Iterator[bytes]:
    """Yield what may be a key: parts of *words* in hexadecimal or Base64."""
    for part in _PART.findall(words):
        for decode in (bytes.fromhex, base64.b64decode, base64.urlsafe_b64decode):
            try:
                decoded = decode(part)
            except (ValueError, binascii.Error):
                continue
            if len(decoded) in _AES_KEY_BYTES:
                yield decoded
