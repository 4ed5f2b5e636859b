"""In-memory implementations of the ports, for tests and for trying things out.

They are real in what they promise: ``InMemoryKeyProvider`` encrypts with AES-256-GCM
and passes the same contract tests as the adapter to DSM.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import random
import uuid
from typing import TYPE_CHECKING

from attrs import evolve
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core.errors import (
    KeyDeactivated,
    KeyNotFound,
    PermissionRefused,
    ProviderTimeout,
    SealedSeedNotAuthentic,
)
from kms_core.ports import Clock, Event, Randomness, Telemetry
from kms_core.provider import Ciphertext, KeyDescription, KeyProvider, KeyState
from kms_core.store import StateStore


if TYPE_CHECKING:
    from kms_core.errors import KmsError
    from kms_core.store import StoredKek, StoredProof


_TAG_BYTES = 16
_IV_BYTES = 12


class ManualClock(Clock):
    """A clock that moves only when it is told to.

    ``monotonic`` starts at the running loop's time, so that deadlines made from it are
    loop times that lie in the future; rounded up to a whole second, so that sums and
    differences of simple numbers come out the same in every run.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._epoch = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._start: float | None = None
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        """Return the time of the start plus what it was moved by."""
        if self._start is None:
            self._start = float(math.ceil(asyncio.get_running_loop().time()))
        return self._start + self._ahead_s

    def now(self) -> dt.datetime:
        """Return a date in 2026 plus what the clock was moved by."""
        return self._epoch + dt.timedelta(seconds=self._ahead_s)

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was moved by *seconds*."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sleeper = (self._ahead_s + seconds, future)
        self._sleepers.append(sleeper)
        try:
            await future
        finally:
            self._sleepers.remove(sleeper)

    async def advance(self, seconds: float) -> None:
        """Move the clock, waking sleepers in order, and let their tasks run."""
        target = self._ahead_s + seconds
        await settle()
        while due := [when for when, _ in self._sleepers if when <= target]:
            self._ahead_s = max(self._ahead_s, min(due))
            for when, future in list(self._sleepers):
                if when <= self._ahead_s and not future.done():
                    future.set_result(None)
            await settle()
        self._ahead_s = target


async def settle() -> None:
    """Let every task run until it waits for something that is not ready."""
    for _ in range(50):
        await asyncio.sleep(0)


class SeededRandomness(Randomness):
    """Repeatable bytes and numbers. Not for keys that protect anything."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def token(self, size: int) -> bytes:
        """Return *size* repeatable bytes."""
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        """Return a repeatable number."""
        return self._random.uniform(low, high)


class RecordedTelemetry(Telemetry):
    """Keeps every event in ``events``, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep *event*."""
        self.events.append(event)


class InMemoryStore(StateStore):
    """Keeps what it is given while it lives; hand it on to play a restart."""

    def __init__(self) -> None:
        self.kek: StoredKek | None = None
        self.proof: StoredProof | None = None
        self.calls: list[str] = []

    async def load_kek(self) -> StoredKek | None:
        """Return the local KEK that was kept."""
        self.calls.append("load_kek")
        return self.kek

    async def save_kek(self, stored: StoredKek) -> None:
        """Keep *stored*."""
        self.calls.append("save_kek")
        self.kek = stored

    async def load_proof(self) -> StoredProof | None:
        """Return the proof that was kept."""
        self.calls.append("load_proof")
        return self.proof

    async def save_proof(self, stored: StoredProof) -> None:
        """Keep *stored*."""
        self.calls.append("save_proof")
        self.proof = stored

    async def forget_proof(self) -> None:
        """Keep no proof any more."""
        self.calls.append("forget_proof")
        self.proof = None


class InMemoryKeyProvider(KeyProvider):
    """A key service in memory, with real AES-256-GCM and faults on demand.

    ``configured`` is the kid that the configured name leads to. Change ``keys`` to
    change what is said of a key; set ``outage`` to make every call raise it.
    """

    def __init__(self) -> None:
        self.keys: dict[str, KeyDescription] = {}
        self.outage: KmsError | None = None
        self.calls: list[str] = []
        self.closed = False
        self.renewed = 0
        self._material: dict[str, AESGCM] = {}
        self.configured = self.make_key().kid

    def make_key(self, *, replaced: str | None = None) -> KeyDescription:
        """Make an active key with a new UUID; it is not the configured one yet."""
        key = KeyDescription(kid=str(uuid.uuid4()), size_bits=256, replaced=replaced)
        self.keys[key.kid] = key
        self._material[key.kid] = AESGCM(AESGCM.generate_key(256))
        return key

    def rekey(self, *, deactivate: bool = False) -> KeyDescription:
        """Rotate as DSM's rekey does: a new key takes the name, links both ways."""
        old = self.configured
        new = self.make_key(replaced=old)
        self.change(old, replacement=new.kid)
        if deactivate:
            self.change(old, state=KeyState.DEACTIVATED)
        self.configured = new.kid
        return new

    def change(
        self,
        kid: str,
        *,
        state: KeyState | None = None,
        enabled: bool | None = None,
        replacement: str | None = None,
    ) -> None:
        """Change what is said of a key; None leaves it."""
        key = self.keys[kid]
        if state is not None:
            key = evolve(key, state=state)
        if enabled is not None:
            key = evolve(key, enabled=enabled)
        if replacement is not None:
            key = evolve(key, replacement=replacement)
        self.keys[kid] = key

    async def renew(self) -> None:
        """Count."""
        self.renewed += 1

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True

    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        await self._called("describe", deadline)
        return self._key(self.configured if kid is None else kid)

    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        await self._called("encrypt", deadline)
        key = self._key(kid)
        if key.state is KeyState.DEACTIVATED:
            raise KeyDeactivated(f"key {kid} is deactivated")
        _require_usable(key)
        if key.state is KeyState.COMPROMISED or not key.can_encrypt:
            raise PermissionRefused(f"key {kid} may not encrypt")
        iv = random.randbytes(_IV_BYTES)  # noqa: S311 - protects nothing
        sealed = self._material[kid].encrypt(iv, plaintext, aad)
        return Ciphertext(sealed[:-_TAG_BYTES], iv, sealed[-_TAG_BYTES:])

    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        await self._called("decrypt", deadline)
        key = self._key(kid)
        _require_usable(key)
        if not key.can_decrypt:
            raise PermissionRefused(f"key {kid} may not decrypt")
        # Cipher and tag are joined below: bytes must not move from one to the other.
        if len(ciphertext.iv) != _IV_BYTES or len(ciphertext.tag) != _TAG_BYTES:
            raise SealedSeedNotAuthentic("iv or tag has another length")
        try:
            return self._material[kid].decrypt(
                ciphertext.iv, ciphertext.cipher + ciphertext.tag, aad
            )
        except InvalidTag as error:
            raise SealedSeedNotAuthentic("the ciphertext was changed") from error

    async def _called(self, what: str, deadline: float) -> None:
        self.calls.append(what)
        await asyncio.sleep(0)
        if asyncio.get_running_loop().time() >= deadline:
            raise ProviderTimeout(f"no time left for {what}")
        if self.outage is not None:
            raise self.outage.without_traceback()

    def _key(self, kid: str) -> KeyDescription:
        key = self.keys.get(kid)
        if key is None:
            raise KeyNotFound(f"there is no key {kid}")
        return key


def _require_usable(key: KeyDescription) -> None:
    unusable = (KeyState.DESTROYED, KeyState.DELETED, KeyState.PRE_ACTIVE)
    if not key.enabled or key.state in unusable:
        raise PermissionRefused(f"key {key.kid} can't be used")
