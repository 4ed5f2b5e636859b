"""Stored objects as kube-apiserver writes them, and bbolt files as etcd does.

Both are written from the formats' descriptions, by nothing that reads them here.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, Final

import attrs
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from k8s_sdkms_plugin.verify.messages import EncryptedObject, KeyValue
from kms_core.provider import Ciphertext
from kms_core.sealed_seed import EnvelopedSeed, SealedSeed, Version, encode


if TYPE_CHECKING:
    from collections.abc import Sequence

KID: Final = "4b3d13a8-2c3a-47dc-8779-311dad6843a2"
OTHER_KID: Final = "9c1f7e02-5d3b-4a86-b0c4-7f2ad91e6b35"
KEY_ID: Final = f"sdkms.v1:{KID}"
HASH: Final = "b9626df6ee008b246363fa1a9c32af1926b8fbbae8772af30383367aac70a57a"
KEY: Final = b"/registry/secrets/default/example"
PLAINTEXT: Final = b'{"kind":"Secret","data":"do not print me"}'
PAGE: Final = 4096

DIRECT = encode(
    SealedSeed(Version.DIRECT, KID, Ciphertext(b"c" * 32, b"i" * 12, b"t" * 16))
)
GO_PLUGIN = encode(
    SealedSeed(Version.GO_PLUGIN, KID, Ciphertext(b"c" * 32, b"i" * 12, b"t" * 16))
)
ENVELOPED = encode(
    EnvelopedSeed(
        KID, Ciphertext(b"c" * 32, b"i" * 12, b"t" * 16), b"s" * 32, b"e" * 48
    )
)


def value(
    sealed_seed: bytes = DIRECT,
    key_id: str = KEY_ID,
    *,
    data: bytes = b"data",
    source: int = 1,
    provider: str = "dsm",
    annotations: dict[str, bytes] | None = None,
) -> bytes:
    """Return what KMS v2 stores."""
    message = EncryptedObject(
        encryptedData=data,
        keyID=key_id,
        encryptedDEKSource=sealed_seed,
        annotations=annotations or {},
        encryptedDEKSourceType=source,
    )
    return f"k8s:enc:kms:v2:{provider}:".encode() + message.SerializeToString()


def encrypted(seed: bytes, key: bytes = KEY) -> bytes:
    """Encrypt an object under a seed, as kube-apiserver does from 1.29."""
    info, nonce = os.urandom(32), os.urandom(12)
    secret = HKDFExpand(SHA256(), 32, info).derive(seed)
    return info + nonce + AESGCM(secret).encrypt(nonce, PLAINTEXT, key)


@attrs.frozen
class Written:
    """One revision of an object in etcd."""

    key: bytes
    value: bytes
    tombstone: bool = False


def bolt_file(
    revisions: Sequence[Written],
    *,
    order: str = "<",
    page_size: int = PAGE,
    per_leaf: int = 3,
    hashed: bool = False,
    inline: bool = False,
) -> bytes:
    """Return an etcd database: a root, and the bucket ``key`` as a tree of pages."""
    items = [
        (
            struct.pack(">Q1sQ", i + 2, b"_", 0) + (b"t" if each.tombstone else b""),
            KeyValue(key=each.key, value=each.value).SerializeToString(),
        )
        for i, each in enumerate(revisions)
    ]
    pages: list[bytes] = []

    def add(flags: int, count: int, body: bytes) -> int:
        number = 3 + sum(len(page) // page_size for page in pages)
        size = -(-(16 + len(body)) // page_size)
        header = struct.pack(f"{order}QHHI", number, flags, count, size - 1)
        pages.append((header + body).ljust(size * page_size, b"\0"))
        return number

    def leaf(content: Sequence[tuple[bytes, bytes]], flags: int = 0) -> bytes:
        heads, data, offset = b"", b"", 16 * len(content)
        for i, (key, val) in enumerate(content):
            position = offset - 16 * i + len(data)
            heads += struct.pack(f"{order}IIII", flags, position, len(key), len(val))
            data += key + val
        return heads + data

    if inline:
        body = leaf(items)
        page = struct.pack(f"{order}QHHI", 0, 2, len(items), 0) + body
        header = struct.pack(f"{order}QQ", 0, 0) + page
    else:
        leaves = []
        for start in range(0, max(len(items), 1), per_leaf):
            part = items[start : start + per_leaf]
            first = part[0][0] if part else b""
            leaves.append((first, add(2, len(part), leaf(part))))
        heads, names = b"", b""
        for i, (first, number) in enumerate(leaves):
            position = 16 * len(leaves) - 16 * i + len(names)
            heads += struct.pack(f"{order}IIQ", position, len(first), number)
            names += first
        top = add(1, len(leaves), heads + names)
        header = struct.pack(f"{order}QQ", top, 0)
    root = add(2, 1, leaf([(b"key", header)], flags=1))
    total = 3 + sum(len(page) // page_size for page in pages)

    def meta(number: int, transaction: int) -> bytes:
        body = struct.pack(
            f"{order}IIIIQQQQQ",
            *(0xED0CDAED, 2, page_size, 0, root, 0, 2, total, transaction),
        )
        fnv = 0xCBF29CE484222325
        for byte in body:
            fnv = ((fnv ^ byte) * 0x100000001B3) % 2**64
        head = struct.pack(f"{order}QHHI", number, 4, 0, 0)
        return (head + body + struct.pack(f"{order}Q", fnv)).ljust(page_size, b"\0")

    freelist = struct.pack(f"{order}QHHI", 2, 0x10, 0, 0).ljust(page_size, b"\0")
    content = meta(0, 7) + meta(1, 6) + freelist + b"".join(pages)
    return content + (hashlib.sha256(content).digest() if hashed else b"")
