"""Reads a bbolt database: what an etcd snapshot is. Nothing is ever written.

Only what reading needs, from the file format (go.etcd.io/bbolt, ``internal/common``): a
file of pages; two meta pages, of which the valid one with the higher transaction
counts; B+ trees of branch and leaf pages. The file is hostile until checked: each
offset and length is, no page is visited twice, trees have a depth, and neither pages
nor items overlap, so that a small file costs little. It is read by ``pread``, since a
file that shrinks while it is mapped would end the process.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from attrs import frozen


if TYPE_CHECKING:
    from collections.abc import Iterator


class BoltDamaged(Exception):
    """The file is no bbolt database, or not a whole one. The text says why."""


_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
_BRANCH, _LEAF, _META = 0x01, 0x02, 0x04
_IN_BUCKET: Final = 0x01
_MAX_DEPTH: Final = 64
_MAX_PAGE_BYTES: Final = 512 << 20
"""Far more than etcd takes for an object (1.5 MiB by default), on a page of its own."""
_PAGE_SIZES: Final = tuple(1 << n for n in range(9, 17))
_FNV_BASIS, _FNV_PRIME, _U64 = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1

_PAGE_HEADER: Final = "QHHI"  # id, flags, count, overflow
_META_BODY: Final = "IIIIQQQQQQ"
_META_SUM_BYTES: Final = 56
_BRANCH_ITEM: Final = "IIQ"  # position, key size, page
_LEAF_ITEM: Final = "IIII"  # flags, position, key size, value size
_BUCKET_BYTES: Final = 16
_HEADER_BYTES: Final = 16
_ITEM_BYTES: Final = 16


@frozen
class _Meta:
    order: str
    page_size: int
    root: int
    pages: int
    transaction: int


@frozen
class _Page:
    flags: int
    count: int
    body: bytes
    """All of the page, its header included."""


class Bolt:
    """A database that is open for reading.

    Args:
        descriptor: Of the file; it must stay open.
        size_bytes: How much of the file is the database.

    Raises:
        BoltDamaged: It is none.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._meta = self._newest_meta()

    def bucket(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values of a top-level bucket, in the order of the keys.

        Raises:
            BoltDamaged: The file has no such bucket, or is damaged on the way.
        """
        header = self._header_of(name)
        (root,) = struct.unpack_from(f"{self._meta.order}Q", header)
        if root:
            items = self._tree(root)
        else:
            # A small one stands in its parent.
            items = self._leaf(self._page_of(header[_BUCKET_BYTES:]))
        for key, value, flags in items:
            if not flags & _IN_BUCKET:
                yield key, value

    def _header_of(self, name: bytes) -> bytes:
        for key, value, flags in self._tree(self._meta.root):
            if key == name and flags & _IN_BUCKET:
                if len(value) < _BUCKET_BYTES:
                    raise BoltDamaged("a bucket has no header")
                return value
        raise BoltDamaged(f"there is no bucket {name.decode()}")

    def _newest_meta(self) -> _Meta:
        found = []
        # The second one stands at the page size, which the first one says, if it can.
        for offset in (0, *_PAGE_SIZES):
            meta = self._read_meta(offset)
            if meta is not None and offset in (0, meta.page_size):
                found.append(meta)
        if not found:
            raise BoltDamaged("it is no bbolt database, or both its heads are damaged")
        return max(found, key=lambda meta: meta.transaction)

    def _read_meta(self, offset: int) -> _Meta | None:
        raw = os.pread(self._descriptor, _HEADER_BYTES + 64, offset)
        if len(raw) < _HEADER_BYTES + 64:
            return None
        for order in "<>":
            _, flags, _, _ = struct.unpack_from(f"{order}{_PAGE_HEADER}", raw)
            body = raw[_HEADER_BYTES:]
            values = struct.unpack_from(f"{order}{_META_BODY}", body)
            magic, version, page_size, _, root, _, _, pages, transaction, total = values
            well_formed = (
                flags & _META
                and magic == _MAGIC
                and version == _VERSION
                and page_size in _PAGE_SIZES
                and total == _fnv64a(body[:_META_SUM_BYTES])
            )
            if well_formed:
                return _Meta(order, page_size, root, pages, transaction)
        return None

    def _tree(self, root: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield key, value and flags of every leaf item below *root*."""
        visited: set[int] = set()
        read_bytes = 0
        waiting = [(root, 0)]
        while waiting:
            number, depth = waiting.pop()
            if number in visited or depth > _MAX_DEPTH:
                raise BoltDamaged("its pages refer to each other in a circle")
            visited.add(number)
            page = self._read_page(number)
            read_bytes += len(page.body)
            if read_bytes > self._size_bytes:
                raise BoltDamaged("its pages overlap")
            if page.flags & _LEAF:
                yield from self._leaf(page)
            elif page.flags & _BRANCH:
                children = self._children(page)
                waiting += [(child, depth + 1) for child in reversed(children)]
            else:
                raise BoltDamaged(f"page {number} is of a kind that holds no keys")

    def _read_page(self, number: int) -> _Page:
        meta = self._meta
        offset = number * meta.page_size
        if not 2 <= number < meta.pages or offset >= self._size_bytes:  # noqa: PLR2004 - behind the metas
            raise BoltDamaged(f"page {number} lies outside of the file")
        head = self._pread(_HEADER_BYTES, offset)
        own, _, _, overflow = struct.unpack(f"{meta.order}{_PAGE_HEADER}", head)
        length = (overflow + 1) * meta.page_size
        if own != number or offset + length > self._size_bytes:
            raise BoltDamaged(f"page {number} is another, or ends behind the file")
        if length > _MAX_PAGE_BYTES:
            raise BoltDamaged(f"page {number} is larger than any object")
        return self._page_of(self._pread(length, offset))

    def _pread(self, length: int, offset: int) -> bytes:
        raw = os.pread(self._descriptor, length, offset)
        if len(raw) != length:
            raise BoltDamaged("the file ends too early")
        return raw

    def _page_of(self, body: bytes) -> _Page:
        if len(body) < _HEADER_BYTES:
            raise BoltDamaged("a page is too short")
        _, flags, count, _ = struct.unpack_from(
            f"{self._meta.order}{_PAGE_HEADER}", body
        )
        if _HEADER_BYTES + count * _ITEM_BYTES > len(body):
            raise BoltDamaged("a page has more items than room for them")
        return _Page(flags, count, body)

    def _children(self, page: _Page) -> list[int]:
        items = struct.iter_unpack(f"{self._meta.order}{_BRANCH_ITEM}", _items(page))
        return [child for _, _, child in items]

    def _leaf(self, page: _Page) -> Iterator[tuple[bytes, bytes, int]]:
        if not page.flags & _LEAF:
            raise BoltDamaged("a bucket's own page is no leaf")
        items = struct.iter_unpack(f"{self._meta.order}{_LEAF_ITEM}", _items(page))
        taken_bytes = 0
        for index, (flags, position, key_size, value_size) in enumerate(items):
            # Positions count from the item itself.
            start = _HEADER_BYTES + index * _ITEM_BYTES + position
            middle = start + key_size
            end = middle + value_size
            if end > len(page.body):
                raise BoltDamaged("an item ends behind its page")
            taken_bytes += key_size + value_size
            if taken_bytes > len(page.body):
                raise BoltDamaged("its items overlap")
            yield page.body[start:middle], page.body[middle:end], flags


def _items(page: _Page) -> bytes:
    return page.body[_HEADER_BYTES : _HEADER_BYTES + page.count * _ITEM_BYTES]


def _fnv64a(content: bytes) -> int:
    total = _FNV_BASIS
    for byte in content:
        total = ((total ^ byte) * _FNV_PRIME) & _U64
    return total
