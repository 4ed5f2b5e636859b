"""bbolt files: read whole, and refused when anything in them does not fit."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.k8s_sdkms_plugin.verify.support import PAGE, Written, bolt_file

from k8s_sdkms_plugin.verify.bolt import Bolt, BoltDamaged
from k8s_sdkms_plugin.verify.snapshot import objects_of
from k8s_sdkms_plugin.verify.target import LookFailed, Target


if TYPE_CHECKING:
    from pathlib import Path

ALL = Target(b"/registry/", exact=False)
SEVERAL = [Written(f"/registry/s/{i:03}".encode(), b"v" * i) for i in range(10)]
FILE = bolt_file(SEVERAL)


def read(path: Path, content: bytes, target: Target = ALL) -> dict[bytes, bytes]:
    path.write_bytes(content)
    return dict(objects_of(path, target))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.db"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("page_size", [1024, 4096, 16384, 65536])
def test_objects_come_out_whatever_the_machine_it_was_written_on(
    order: str, page_size: int, path: Path
) -> None:
    content = bolt_file(SEVERAL, order=order, page_size=page_size)
    assert read(path, content) == {each.key: each.value for each in SEVERAL}


def test_object_that_spans_pages_comes_out(path: Path) -> None:
    big = Written(b"/registry/big", os.urandom(5 * PAGE))
    assert read(path, bolt_file([big, *SEVERAL]))[b"/registry/big"] == big.value


def test_small_bucket_stands_in_its_parent(path: Path) -> None:
    assert read(path, bolt_file(SEVERAL[:3], inline=True)) == {
        each.key: each.value for each in SEVERAL[:3]
    }


def test_last_revision_counts_and_deleted_objects_do_not(path: Path) -> None:
    history = [
        Written(b"/registry/a", b"old"),
        Written(b"/registry/b", b"gone"),
        Written(b"/registry/a", b"new"),
        Written(b"/registry/b", b"", tombstone=True),
        Written(b"/registry/c", b"", tombstone=True),
        Written(b"/registry/c", b"back"),
        Written(b"/other/d", b"not asked for"),
    ]
    assert read(path, bolt_file(history)) == {
        b"/registry/a": b"new",
        b"/registry/c": b"back",
    }


def test_one_key_is_not_the_beginning_of_another(path: Path) -> None:
    content = bolt_file([Written(b"/a", b"1"), Written(b"/ab", b"2")])
    assert read(path, content, Target(b"/a", exact=True)) == {b"/a": b"1"}


def test_hash_at_the_end_is_checked(path: Path) -> None:
    content = bolt_file(SEVERAL, hashed=True)
    assert len(read(path, content)) == 10
    flipped = bytearray(content)
    flipped[-100] ^= 1
    with pytest.raises(LookFailed, match="hash"):
        read(path, bytes(flipped))


def test_head_that_is_damaged_gives_way_to_the_other(path: Path) -> None:
    content = bytearray(FILE)
    content[16:80] = bytes(64)
    assert len(read(path, bytes(content))) == 10
    content[PAGE + 16 : PAGE + 80] = bytes(64)
    with pytest.raises(LookFailed, match="both its heads"):
        read(path, bytes(content))


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\0" * 70000, b"SQLite" * 2000])
def test_other_file_is_refused(content: bytes, path: Path) -> None:
    with pytest.raises(LookFailed, match="no bbolt database"):
        read(path, content)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LookFailed, match="can't be read"):
        list(objects_of(tmp_path / "none", ALL))
    with pytest.raises(LookFailed, match="can't be read"):
        list(objects_of(tmp_path, ALL))
    # Without somebody who writes into it, it would be waited for.
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LookFailed, match="is no file"):
        list(objects_of(tmp_path / "pipe", ALL))


@pytest.mark.parametrize("pages", range(3, len(FILE) // PAGE))
def test_file_cut_short_is_refused(pages: int, path: Path) -> None:
    with pytest.raises(LookFailed, match="no etcd snapshot"):
        read(path, FILE[: pages * PAGE])


ROOT = len(FILE) - PAGE
TREE = ROOT - PAGE


def changed(offset: int, form: str, number: int) -> bytes:
    content = bytearray(FILE)
    struct.pack_into(form, content, offset, number)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (changed(TREE + 16 + 8, "<Q", TREE // PAGE), "in a circle"),
        (changed(TREE + 16 + 8, "<Q", 4), "in a circle"),
        (changed(TREE + 16 + 8, "<Q", 1), "outside of the file"),
        (changed(TREE + 16 + 8, "<Q", 1 << 60), "outside of the file"),
        (changed(TREE + 10, "<H", 60000), "more items"),
        (changed(TREE + 8, "<H", 0x10), "holds no keys"),
        (changed(TREE, "<Q", 99), "is another"),
        (changed(TREE + 12, "<I", 1 << 31), "ends behind the file"),
        (changed(3 * PAGE + 16 + 4, "<I", 1 << 31), "behind its page"),
        (changed(3 * PAGE + 16 + 8, "<I", (1 << 32) - 1), "behind its page"),
        (changed(3 * PAGE + 16 + 8, "<I", 16), "no revision"),
        (changed(3 * PAGE + 16 + 12, "<I", 3), "holds no object"),
        (changed(ROOT + 16 + 16 + 1, "<H", 0), "no bucket key"),
        (changed(ROOT + 16, "<I", 0), "no bucket key"),
        (changed(ROOT + 16 + 12, "<I", 3), "no header"),
        (changed(ROOT + 16 + 16 + 3, "<Q", 0), "too short"),
    ],
)
def test_file_that_does_not_fit_together_is_refused(
    content: bytes, says: str, path: Path
) -> None:
    with pytest.raises(LookFailed, match=says):
        read(path, content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damage=st.lists(
        st.tuples(st.integers(0, len(FILE) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
def test_damage_anywhere_ends_in_our_words_or_in_objects(
    damage: list[tuple[int, int]], path: Path
) -> None:
    content = bytearray(FILE)
    for offset, byte in damage:
        content[offset] = byte
    with contextlib.suppress(LookFailed):
        read(path, bytes(content))


def test_file_that_shrinks_while_it_is_read_ends_in_our_words(path: Path) -> None:
    path.write_bytes(FILE)
    with path.open("r+b") as file:
        items = Bolt(file.fileno(), len(FILE)).bucket(b"key")
        next(items)
        file.truncate(4 * PAGE)
        with pytest.raises(BoltDamaged, match="too early"):
            list(items)


WIDE = bolt_file([Written(b"/registry/big", bytes(63 * PAGE))])
DEEP = bolt_file(SEVERAL * 20, per_leaf=3)


def test_items_that_overlap_are_refused(path: Path) -> None:
    content = bytearray(WIDE)
    leaf = 3 * PAGE
    flags, position, key_size, value_size = struct.unpack_from(
        "<IIII", content, leaf + 16
    )
    struct.pack_into("<H", content, leaf + 10, 2)
    second = (flags, position - 16, key_size, value_size)
    struct.pack_into("<IIII", content, leaf + 32, *second)
    path.write_bytes(content)
    with path.open("rb") as file:
        items = Bolt(file.fileno(), len(content)).bucket(b"key")
        with pytest.raises(BoltDamaged, match="items overlap"):
            list(items)


def test_pages_that_overlap_are_refused(path: Path) -> None:
    content = bytearray(DEEP)
    pages = len(content) // PAGE
    # Each leaf says that it goes on to the end of the file.
    for number in range(3, 3 + 67):
        assert struct.unpack_from("<QH", content, number * PAGE) == (number, 2)
        struct.pack_into("<I", content, number * PAGE + 12, pages - number - 1)
    with pytest.raises(LookFailed, match="pages overlap"):
        read(path, bytes(content))


def test_page_without_end_is_not_read(path: Path) -> None:
    overflow = (1 << 40) // PAGE
    path.write_bytes(changed(3 * PAGE + 12, "<I", overflow))
    # As large as the page says, of which nothing is on the disk.
    os.truncate(path, (1 << 40) + 8 * PAGE)
    with pytest.raises(LookFailed, match="larger than any object"):
        list(objects_of(path, ALL))
