from __future__ import annotations

import pytest

from kms_conformance.api_server.dek_cache import TTL_S, DekCache
from kms_conformance.api_server.stored import AES_KEY, SEED, DataKey
from kms_conformance.connection import Sealed


KEY = DataKey(bytes(32))
SEALED = Sealed(b"c", "k", (("a.b", b"v"),))


@pytest.mark.parametrize(
    ("source_type", "sealed"),
    [
        (AES_KEY, SEALED),
        (SEED, Sealed(b"d", "k", (("a.b", b"v"),))),
        (SEED, Sealed(b"c", "l", (("a.b", b"v"),))),
        (SEED, Sealed(b"c", "k", (("a.b", b"w"),))),
        (SEED, Sealed(b"c", "k")),
        (SEED, Sealed(b"ck", "", (("a.b", b"v"),))),
    ],
)
def test_entry_is_found_by_everything_that_was_stored(
    source_type: int, sealed: Sealed
) -> None:
    cache = DekCache()
    cache.set(KEY, SEALED, now=0)
    assert cache.get(SEED, SEALED) is KEY
    assert cache.get(source_type, sealed) is None


def test_expired_entry_serves_until_another_is_set() -> None:
    cache = DekCache()
    cache.set(KEY, SEALED, now=0)
    assert cache.get(SEED, SEALED) is KEY
    cache.set(KEY, Sealed(b"other", "k"), now=TTL_S - 1)
    assert len(cache) == 2
    cache.set(KEY, Sealed(b"third", "k"), now=TTL_S)
    assert cache.get(SEED, SEALED) is None
    assert len(cache) == 2


def test_entry_that_is_set_again_lives_longer() -> None:
    cache = DekCache()
    cache.set(KEY, SEALED, now=0)
    cache.set(KEY, SEALED, now=10)
    cache.set(KEY, Sealed(b"other", "k"), now=TTL_S)
    assert cache.get(SEED, SEALED) is KEY


def test_cache_can_be_dropped() -> None:
    cache = DekCache()
    cache.set(KEY, SEALED, now=0)
    cache.clear()
    assert len(cache) == 0
