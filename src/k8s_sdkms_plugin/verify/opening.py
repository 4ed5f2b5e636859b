"""Whether a plugin opens what is stored: asked by Decrypt, and proven on the object.

As kube-apiserver does it: the seed from the plugin, a key from the seed, AES-GCM with
the object's key in etcd as additional data. What comes out is let go at once.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Final

from attrs import field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from adapters_grpc.client import CallFailed
from k8s_sdkms_plugin.verify.stored import Source
from kms_core.errors import one_line


if TYPE_CHECKING:
    from adapters_grpc.client import KmsClient
    from k8s_sdkms_plugin.verify.stored import Sealed


_INFO_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_MIN_SEED_BYTES: Final = 32
_AES_KEY_BYTES: Final = (16, 24, 32)
_AT_ONCE: Final = 8
"""Decrypts under way: few beside the hundred that the daemon takes."""


@frozen
class _Answer:
    """What the plugin said to one Decrypt: a seed, or why not."""

    seed: bytes = field(repr=False)
    problem: str = ""


class Opener:
    """Opens objects by a plugin's socket, each seed once.

    Args:
        client: The plugin, as kube-apiserver sees it.
    """

    def __init__(self, client: KmsClient) -> None:
        self._client = client
        self._asked: dict[object, asyncio.Task[_Answer]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def problem(self, key: bytes, sealed: Sealed) -> str:
        """Return why the object does not open; empty if it does.

        Args:
            key: Its key in etcd.
            sealed: What is stored there.
        """
        same = (sealed.source, sealed.sealed_seed, sealed.key_id, sealed.annotations)
        if same not in self._asked:
            self._asked[same] = asyncio.create_task(self._ask(sealed))
        answer = await self._asked[same]
        return answer.problem or _prove(answer.seed, key, sealed)

    async def _ask(self, sealed: Sealed) -> _Answer:
        async with self._at_once:
            try:
                seed = await self._client.decrypt(
                    sealed.sealed_seed,
                    sealed.key_id,
                    uid=f"verify-{uuid.uuid4()}",
                    annotations=dict(sealed.annotations),
                )
            except CallFailed as failure:
                said = one_line(f"{failure.code_name}: {failure.text}")
                return _Answer(b"", f"the plugin refuses: {said}")
        return _Answer(seed)


def _prove(seed: bytes, key: bytes, sealed: Sealed) -> str:
    data = sealed.encrypted_data
    if sealed.source is Source.AES_KEY:
        # From Kubernetes 1.27 and 1.28: the key itself, and no info.
        well_sized, secret, rest = len(seed) in _AES_KEY_BYTES, seed, data
    else:
        well_sized, rest = len(seed) >= _MIN_SEED_BYTES, data[_INFO_BYTES:]
        info = data[:_INFO_BYTES]
        secret = HKDFExpand(SHA256(), 32, info).derive(seed) if well_sized else b""
    if not well_sized:
        return f"the plugin gave a seed of {len(seed)} bytes"
    if len(rest) < _NONCE_BYTES + _TAG_BYTES:
        return "the object itself is too short"
    try:
        AESGCM(secret).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], key)
    except InvalidTag:
        return (
            "its seed opens, and it does not: it is damaged, or stands under another "
            "key of etcd than it was written for"
        )
    return ""
