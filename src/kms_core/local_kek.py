"""LocalKekEnvelope: seeds are sealed here, under a key that the key service wrapped.

A local KEK is 32 random bytes. The key service wraps it once; each seed is sealed under
a key derived from it and a fresh salt, so that there is no use counter and nothing to
lose in a crash. What is stored holds the wrapped local KEK, so that any node opens it.

Rules (design section 6):

- A local KEK is proven (wrapped, unwrapped by the key service, compared) before it
  seals; it belongs to one announced key, and is replaced after 90 days. What it seals
  is opened again before it leaves.
- Its wrapped form is kept by a ``StateStore`` and used again after a restart. What the
  store has lost or damaged costs one more local KEK, never data.
- Other local KEKs are unwrapped as they are met, and kept in a ``KekCache``.
- What was begun before a ``drop`` is not kept.
"""

from __future__ import annotations

import asyncio
import collections
import hmac
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kms_core.envelope import Envelope
from kms_core.errors import (
    CallError,
    InternalFault,
    ProviderAnswerRefused,
    ProviderFaulty,
    ProviderTimeout,
    RequestRefused,
    SealedSeedNotAuthentic,
    ShuttingDown,
)
from kms_core.kek_cache import KekCache, LocalKek, WrappedKek
from kms_core.sealed_seed import (
    SALT_BYTES,
    EnvelopedSeed,
    aad_for_enveloped_seed,
    aad_for_local_kek,
    aad_for_probe,
    encode,
)
from kms_core.seed_frame import Opening, read_enveloped
from kms_core.store import StoredKek


if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable

    from kms_core.key_id import AnnouncedKey
    from kms_core.ports import Clock, Randomness
    from kms_core.provider import Ciphertext, KeyProvider
    from kms_core.store import StateStore


T = TypeVar("T")


KEK_BYTES: Final = 32
MAX_AGE_S: Final = 90 * 24 * 3600.0
"""Age in seconds at which a local KEK is replaced; Kubernetes' advice for KEKs."""

UNWRAP_TIMEOUT_S: Final = 10.0
"""How long one unwrap may take, whoever waits for it."""

MAX_PART_BYTES: Final = 64
"""Longest cipher, iv or tag of a wrapped local KEK, in bytes: DSM's have 32, 12, 16."""

# What a key service may say to a wrapped local KEK that was damaged in the store.
_PERHAPS_DAMAGED: Final = (
    SealedSeedNotAuthentic,
    RequestRefused,
    ProviderAnswerRefused,
    ProviderFaulty,
)
_PINNED: Final = 2
_NONCE_BYTES: Final = 12
_INFO: Final = b"sdkms.v1 seed"


@frozen
class _InUse:
    """A local KEK that seals, pinned outside the cache."""

    kek: LocalKek
    made_at: dt.datetime


class LocalKekEnvelope(Envelope):
    """Seals and opens Version 3.

    Args:
        provider: The key service.
        scheme: First part of the native key_ids that are ours.
        clock: Time.
        randomness: Local KEKs and salts.
        store: Where the wrapped local KEK survives a restart.
        cache_size: How many unwrapped local KEKs are kept beside the one in use.
    """

    def __init__(  # noqa: PLR0913 - its ports, by name
        self,
        provider: KeyProvider,
        scheme: str,
        *,
        clock: Clock,
        randomness: Randomness,
        store: StateStore,
        cache_size: int = 1000,
    ) -> None:
        self._provider = provider
        self._scheme = scheme
        self._clock = clock
        self._randomness = randomness
        self._store = store
        self._cache = KekCache(cache_size, self._unwrap)
        # The announced key's, and while a rotation is under way the next one's.
        self._in_use: dict[AnnouncedKey, _InUse] = {}
        self._making = asyncio.Lock()
        self._epochs: collections.Counter[str] = collections.Counter()
        self._closed = False

    @property
    def sealing_proves(self) -> bool:
        """Whether sealing asks the key service: not once there is a local KEK."""
        return False

    @property
    def kept(self) -> int:
        """How many unwrapped local KEKs are in memory."""
        return len(self._cache) + len(self._in_use)

    async def seal(self, seed: bytes, key: AnnouncedKey, *, deadline: float) -> bytes:
        """Seal *seed* here; asks the key service only if there is no local KEK yet."""
        in_use = self._in_use.get(key)
        if in_use is None:
            in_use = await _in_time(self._obtain(key, deadline), deadline)
        return self._seal_here(seed, in_use.kek)

    async def open(self, stored: bytes, key_id: str, *, deadline: float) -> bytes:
        """Open here if the local KEK is in memory; else have it unwrapped first."""
        opening = read_enveloped(stored, key_id, self._scheme)
        kek = self._in_memory(opening.wrapped)
        if kek is None:
            kek = await _in_time(self._cache.get(opening.wrapped), deadline)
        return _open_here(opening, kek)

    async def prove(self, key: AnnouncedKey, probe: bytes, *, deadline: float) -> None:
        """Have the key service encrypt and decrypt; then a local KEK is ready.

        A new local KEK is a proof in itself. One from the store is not: the key
        service may still decrypt when it no longer encrypts.
        """
        await _in_time(self._prove(key, probe, deadline), deadline)

    def drop(self, kid: str) -> int:
        """Forget every local KEK that *kid* wrapped."""
        self._epochs[kid] += 1
        pinned = [key for key in self._in_use if key.kid == kid]
        for key in pinned:
            del self._in_use[key]
        return self._cache.drop(kid) + len(pinned)

    async def aclose(self) -> None:
        """Forget everything, and end what is under way."""
        self._closed = True
        self._in_use.clear()
        await self._cache.aclose()

    async def _obtain(self, key: AnnouncedKey, deadline: float) -> _InUse:
        """Return a local KEK for *key*, whatever its age: the next proof sees to it."""
        async with self._making:
            epoch = self._epochs[key.kid]
            in_use = await self._known(key, deadline)
            if in_use is None:
                in_use = await self._make(key, deadline)
            self._pin(key, in_use, epoch)
            return in_use

    async def _prove(self, key: AnnouncedKey, probe: bytes, deadline: float) -> None:
        async with self._making:
            epoch = self._epochs[key.kid]
            in_use = await self._known(key, deadline)
            if in_use is not None and self._age_s(in_use.made_at) < MAX_AGE_S:
                aad = aad_for_probe(key.key_id)
                await self._wrap_and_check(key, probe, aad, deadline)
                made = None
            else:
                made = await self._make(key, deadline)
            # Nothing is awaited from here on: what is pinned has been proven, so that
            # a key which fails its proof again and again displaces no announced one.
            for proven in (in_use, made):
                if proven is not None:
                    self._pin(key, proven, epoch)

    async def _known(self, key: AnnouncedKey, deadline: float) -> _InUse | None:
        if self._closed:
            raise ShuttingDown("no local KEK is made any more")
        return self._in_use.get(key) or await self._restore(key, deadline)

    async def _restore(self, key: AnnouncedKey, deadline: float) -> _InUse | None:
        stored = await self._store.load_kek()
        if stored is None:
            return None
        wrapped = stored.wrapped
        if (wrapped.kid, wrapped.key_id) != (key.kid, key.key_id):
            return None
        try:
            return _InUse(await self._unwrap_by(wrapped, deadline), stored.made_at)
        except _PERHAPS_DAMAGED:
            # It costs one more local KEK. If the key service is what fails, then making
            # that one says so.
            return None

    async def _make(self, key: AnnouncedKey, deadline: float) -> _InUse:
        secret = self._randomness.token(KEK_BYTES)
        aad = aad_for_local_kek(key.key_id)
        ciphertext = await self._wrap_and_check(key, secret, aad, deadline)
        wrapped = WrappedKek(key.kid, key.key_id, ciphertext)
        made = _InUse(LocalKek(wrapped, secret), self._clock.now())
        await self._store.save_kek(StoredKek(wrapped, made.made_at))
        return made

    def _pin(self, key: AnnouncedKey, in_use: _InUse, epoch: int) -> None:
        if self._closed or epoch != self._epochs[key.kid]:
            return
        replaced = self._in_use.pop(key, None)
        if replaced is not None and replaced.kek.wrapped != in_use.kek.wrapped:
            self._cache.keep(replaced.kek)
        self._in_use[key] = in_use
        while len(self._in_use) > _PINNED:
            oldest = next(iter(self._in_use))
            self._cache.keep(self._in_use.pop(oldest).kek)

    async def _wrap_and_check(
        self, key: AnnouncedKey, secret: bytes, aad: bytes, deadline: float
    ) -> Ciphertext:
        """Have *secret* encrypted, and see that it decrypts to the same bytes."""
        ciphertext = await self._provider.encrypt(
            key.kid, secret, aad, deadline=deadline
        )
        if not _fits(ciphertext):
            raise ProviderAnswerRefused("the wrapped local KEK is of unfit size")
        try:
            back = await self._provider.decrypt(
                key.kid, ciphertext, aad, deadline=deadline
            )
        except SealedSeedNotAuthentic as error:
            raise ProviderAnswerRefused("a fresh ciphertext does not open") from error
        if not hmac.compare_digest(back, secret):
            raise ProviderAnswerRefused("a fresh ciphertext opens to other bytes")
        return ciphertext

    async def _unwrap(self, wrapped: WrappedKek) -> LocalKek:
        deadline = self._clock.monotonic() + UNWRAP_TIMEOUT_S
        return await self._unwrap_by(wrapped, deadline)

    async def _unwrap_by(self, wrapped: WrappedKek, deadline: float) -> LocalKek:
        secret = await self._provider.decrypt(
            wrapped.kid,
            wrapped.ciphertext,
            aad_for_local_kek(wrapped.key_id),
            deadline=deadline,
        )
        if len(secret) != KEK_BYTES:
            raise SealedSeedNotAuthentic("the wrapped local KEK is no local KEK")
        return LocalKek(wrapped, secret)

    def _in_memory(self, wrapped: WrappedKek) -> LocalKek | None:
        for in_use in self._in_use.values():
            if in_use.kek.wrapped == wrapped:
                return in_use.kek
        return self._cache.peek(wrapped)

    def _seal_here(self, seed: bytes, kek: LocalKek) -> bytes:
        wrapped = kek.wrapped
        salt = self._randomness.token(SALT_BYTES)
        cipher, nonce = _derived(kek, salt)
        aad = aad_for_enveloped_seed(wrapped.key_id, wrapped.kid, wrapped.ciphertext)
        sealed = cipher.encrypt(nonce, seed, aad)
        stored = encode(EnvelopedSeed(wrapped.kid, wrapped.ciphertext, salt, sealed))
        _require_opens(stored, kek, seed, self._scheme)
        return stored

    def _age_s(self, made_at: dt.datetime) -> float:
        # A clock that was set back must not make a local KEK young for ever.
        return abs((self._clock.now() - made_at).total_seconds())


def _open_here(opening: Opening, kek: LocalKek) -> bytes:
    cipher, nonce = _derived(kek, opening.salt)
    try:
        return cipher.decrypt(nonce, opening.seed, opening.aad)
    except InvalidTag as error:
        raise SealedSeedNotAuthentic("the sealed seed was changed") from error


def _require_opens(stored: bytes, kek: LocalKek, seed: bytes, scheme: str) -> None:
    """Check that what is about to leave opens again, by the path of a later open."""
    try:
        opening = read_enveloped(stored, kek.wrapped.key_id, scheme)
        opens = opening.wrapped == kek.wrapped and hmac.compare_digest(
            _open_here(opening, kek), seed
        )
    except CallError as error:
        raise InternalFault("a fresh sealed seed does not open") from error
    if not opens:
        raise InternalFault("a fresh sealed seed opens to other bytes")


def _derived(kek: LocalKek, salt: bytes) -> tuple[AESGCM, bytes]:
    """Return the cipher and the nonce of one seed: both belong to its salt alone."""
    hkdf = HKDF(SHA256(), KEK_BYTES + _NONCE_BYTES, salt, _INFO)
    derived = hkdf.derive(kek.secret)
    return AESGCM(derived[:KEK_BYTES]), derived[KEK_BYTES:]


def _fits(wrapped: Ciphertext) -> bool:
    """Return whether a sealed seed can hold *wrapped*, and a reader will take it."""
    longest = max(map(len, (wrapped.cipher, wrapped.iv, wrapped.tag)))
    return bool(wrapped.cipher) and longest <= MAX_PART_BYTES


async def _in_time(call: Awaitable[T], deadline: float) -> T:
    try:
        async with asyncio.timeout_at(deadline):
            return await call
    except TimeoutError as error:
        raise ProviderTimeout("no local KEK before the deadline") from error
