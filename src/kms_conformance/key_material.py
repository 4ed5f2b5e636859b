"""Key material: tells a key_id that is the key from one that is a hash of it.

Both are 32 bytes in hexadecimal or Base64, so each is tried as a key.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


if TYPE_CHECKING:
    from collections.abc import Iterator

    from kms_conformance.connection import Sealed


_NONCE_BYTES: Final = 12
_LOOKED_AT_CHARS: Final = 8192
"""How much of a plugin's words is searched: more would keep us busy."""

# The lengths are those of 32, 24 and 16 bytes; Base64 may lack its padding, and what
# joins a key to the rest of a name may be a letter of Base64 itself, hence the
# lookahead, which finds overlapping ones.
_HEXADECIMAL: Final = re.compile(
    r"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{64}|[0-9A-Fa-f]{48}|[0-9A-Fa-f]{32})"
    r"(?![0-9A-Fa-f])"
)
_BASE64: Final = re.compile(
    r"(?<![0-9A-Za-z+])"
    r"(?=([0-9A-Za-z+/_-]{43}|[0-9A-Za-z+/_-]{32}|[0-9A-Za-z+/_-]{22})"
    r"(?![0-9A-Za-z+]))"
)


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
    words = words[:_LOOKED_AT_CHARS]
    for part in _HEXADECIMAL.findall(words):
        yield bytes.fromhex(part)
    for part in _BASE64.findall(words):
        standard = part.replace("-", "+").replace("_", "/")
        yield base64.b64decode(standard + "=" * (-len(part) % 4))
