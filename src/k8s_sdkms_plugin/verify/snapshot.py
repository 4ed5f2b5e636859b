"""Reads the objects of an etcd snapshot, or of a copy of a member's database.

In the bucket ``key`` each revision of each object is one item; the last one counts, and
may be a tombstone. A snapshot that ``etcdctl`` saved ends with a SHA-256 of the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from k8s_sdkms_plugin.verify.bolt import Bolt, BoltDamaged
from k8s_sdkms_plugin.verify.messages import KeyValue
from k8s_sdkms_plugin.verify.target import LookFailed


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from k8s_sdkms_plugin.verify.target import Target


_SHA256_BYTES: Final = 32
_SECTOR_BYTES: Final = 512
_CHUNK_BYTES: Final = 1 << 20
# Main and sub revision, eight bytes each; a t marks a tombstone.
_REVISION: Final = re.compile(rb".{8}_.{8}(t?)", re.DOTALL)


def objects_of(path: Path, target: Target) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each object that *target* names, as last written.

    Two passes: the first finds the last revision of each key, so that no value has to
    be kept.

    Raises:
        LookFailed: It can't be read, or is no whole snapshot.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb", opener=_open))
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise LookFailed(f"{path} is no file")
            size = _checked_size(file.fileno(), status.st_size)
            database = Bolt(file.fileno(), size)
            last: dict[bytes, bytes] = {}
            for revision, item in _revisions(database, target):
                last[item.key] = revision
            for revision, item in _revisions(database, target):
                if last[item.key] == revision and not revision.endswith(b"t"):
                    yield item.key, item.value
        except BoltDamaged as damage:
            raise LookFailed(f"{path} is no etcd snapshot: {damage}") from None
        except OSError as failure:
            why = failure.strerror or type(failure).__name__
            raise LookFailed(f"{path} can't be read ({why})") from None


def _open(path: str, flags: int) -> int:
    # Not blocking, so that a pipe without a writer is told, and not waited for.
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)


def _revisions(database: Bolt, target: Target) -> Iterator[tuple[bytes, KeyValue]]:
    for revision, encoded in database.bucket(b"key"):
        if _REVISION.fullmatch(revision) is None:
            raise BoltDamaged("an item is no revision of etcd")
        try:
            item = KeyValue.FromString(encoded)
        except DecodeError:
            raise BoltDamaged("a revision holds no object") from None
        if target.covers(item.key):
            yield revision, item


def _checked_size(descriptor: int, size_bytes: int) -> int:
    """Return the size without the hash at the end, which is checked if it is there."""
    if size_bytes % _SECTOR_BYTES != _SHA256_BYTES:
        return size_bytes
    size_bytes -= _SHA256_BYTES
    told = os.pread(descriptor, _SHA256_BYTES, size_bytes)
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(descriptor, min(_CHUNK_BYTES, size_bytes - offset), offset):
        digest.update(chunk)
        offset += len(chunk)
    if digest.digest() != told:
        raise BoltDamaged("its own hash does not fit it: it is damaged")
    return size_bytes
