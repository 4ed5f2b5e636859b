"""ApiServer: the states of kube-apiserver's KMS v2 provider (contract 2.2 and 3.1).

Rules:

- A probe asks for Status. A gRPC error, or a key_id that is empty or too long, leaves
  the write state as it is, to expire.
- With a valid key_id the write state is renewed whatever healthz and version say
  (kubernetes#138950): under the same key_id only its expiry moves, to three minutes
  from now; under another one a new seed is sent to Encrypt.
- The answer of Encrypt is taken only if it is valid and has the key_id of the Status
  that triggered it; else the former state stays until it expires.
- The first valid version is pinned for the server's life.
- Health requests and the background loop share one result, which is remembered for
  20 s when it is good and for 3 s when it is bad.
- The loop's minutes are counted from the start: a turn that falls into the retries
  after a failure is left out, and moves no later one.
- A stored value of another provider, or one that breaks the rules of ``env`` 421-444,
  is refused before Decrypt is called.
- Writes need an unexpired state, and no call. Reads need a state, expired or not, and
  Decrypt once for each source that is not in the cache.
- An opened seed goes into the cache before the object is opened with it, so that wrong
  bytes from Decrypt stay (contract 1.3).

Its clock is its own: ``pass_time`` runs what falls due, and the calls that this makes
take no model time. A restart or a reload of the config is a new ApiServer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from kms_conformance.api_server.dek_cache import DekCache
from kms_conformance.api_server.rules import (
    key_id_problems,
    sealed_problems,
    status_problems,
    stored_problems,
    version_problems,
)
from kms_conformance.api_server.stored import (
    SEED,
    DataKey,
    EncryptedObject,
    Unreadable,
)
from kms_conformance.outcome import CallFailed


if TYPE_CHECKING:
    from collections.abc import Callable

    from kms_conformance.connection import Connection, Sealed


PROBE_S: Final = 60.0
"""Interval of the background loop while it succeeds (``cfg`` 91)."""

RETRY_S: Final = 10.0
"""Interval while it fails (``cfg`` 92)."""

WRITE_S: Final = 180.0
"""How long a seed may be written with after the last good Status (``cfg`` 93)."""

GOOD_S: Final = 20.0
"""How long a good result is remembered (``cfg`` 95)."""

BAD_S: Final = 3.0
"""How long a bad one is (``cfg`` 96)."""

NEVER: Final = float("inf")
"""A model time that does not come."""

_SEED_BYTES: Final = 32

Problems = tuple[str, ...]


class Refused(Exception):
    """The API server refuses a read or a write; the text says why."""


@frozen
class WriteState:
    """What new objects are encrypted with.

    Attributes:
        key: The opened seed.
        sealed: What Encrypt made of it.
        expires: Model time after which it must not be written with.
    """

    key: DataKey
    sealed: Sealed
    expires: float


@frozen
class Read:
    """An object that was read.

    Attributes:
        plaintext: The object.
        stale: It is not encrypted as a write now would: an update rewrites it.
    """

    plaintext: bytes
    stale: bool


@frozen
class Calls:
    """How many calls the API server has made, failed ones included."""

    status: int = 0
    encrypt: int = 0
    decrypt: int = 0


class ApiServer:
    """One KMS v2 provider of one kube-apiserver.

    Args:
        connection: The provider's connection to the plugin.
        random_bytes: Makes seeds, salts and the like.
        provider: Its name in the encryption config.
        pace: Seconds to wait for each second that the model lets pass.
    """

    def __init__(
        self,
        connection: Connection,
        random_bytes: Callable[[int], bytes],
        *,
        provider: str = "kit",
        pace: float = 0.0,
    ) -> None:
        self.now = 0.0
        self.state: WriteState | None = None
        self.pinned_version = ""
        self.cache = DekCache()
        self.calls = Calls()
        self._connection = connection
        self._random_bytes = random_bytes
        self._provider = provider
        self._pace = pace
        self._next_turn = PROBE_S
        self._next_retry = NEVER
        self._remembered_until = 0.0
        self._problems: Problems = ()

    async def start(self) -> Problems:
        """Probe once and set the background loop going, as a start or a reload does.

        Returns:
            As of ``probe``; a start goes on without a plugin.
        """
        problems = await self.probe()
        self._next_turn = self.now + PROBE_S
        self._next_retry = self.now + RETRY_S if problems else NEVER
        return problems

    async def health(self) -> Problems:
        """Return the health, remembered or from a new probe; see ``probe``."""
        if self.now < self._remembered_until:
            return self._problems
        return await self.probe()

    async def probe(self) -> Problems:
        """Ask for Status, and have a seed encrypted if the key_id has changed.

        Returns:
            Why the provider is unhealthy; nothing if it is healthy.
        """
        self._problems = await self._probe()
        self._remembered_until = self.now + (BAD_S if self._problems else GOOD_S)
        return self._problems

    async def pass_time(
        self, seconds: float, *, health_every_s: float = NEVER
    ) -> Problems:
        """Let model time pass, running what falls due.

        Args:
            seconds: How much.
            health_every_s: How often something asks for health meanwhile.

        Returns:
            The problems of every health request and turn of the loop.
        """
        end = self.now + seconds
        next_health = self.now + health_every_s
        problems: list[str] = []
        while (due := min(self._next_turn, self._next_retry, next_health)) <= end:
            await self._advance_to(due)
            found = await self.health()
            problems += found
            if due == next_health:
                next_health += health_every_s
            else:
                if due == self._next_turn:
                    self._next_turn += PROBE_S
                self._next_retry = due + RETRY_S if found else NEVER
        await self._advance_to(end)
        return tuple(problems)

    def write(self, plaintext: bytes, etcd_key: str, source_type: int = SEED) -> bytes:
        """Return what is stored for an object; no call is made.

        Args:
            plaintext: The object.
            etcd_key: Its place in etcd.
            source_type: ``AES_KEY`` writes as 1.27 did.

        Raises:
            Refused: There is no state, or it has expired.
        """
        state = self._state()
        if self.now > state.expires:
            raise Refused("the seed to write with has expired")
        key = evolve(state.key, source_type=source_type)
        salt = self._random_bytes(key.salt_bytes)
        data = key.encrypt(plaintext, etcd_key, salt)
        self.cache.set(key, state.sealed, self.now)
        stored = EncryptedObject(self._provider, data, state.sealed, source_type)
        return stored.to_etcd()

    async def read(self, value: bytes, etcd_key: str) -> Read:
        """Return the object of a stored value; Decrypt is called if need be.

        Raises:
            Refused: There is no state, the value is invalid, or it can't be opened.
        """
        try:
            stored = self._valid(value)
            current = self._state().sealed.key_id
            key = await self._opened(stored)
            plaintext = key.decrypt(stored.data, etcd_key)
        except (Unreadable, CallFailed) as failure:
            raise Refused(str(failure)) from failure
        stale = stored.sealed.key_id != current or stored.source_type != SEED
        return Read(plaintext, stale)

    async def _probe(self) -> Problems:
        self.calls = evolve(self.calls, status=self.calls.status + 1)
        try:
            status = await self._connection.status()
        except CallFailed as failure:
            return (str(failure),)
        problems = [*status_problems(status), *self._pin(status.version)]
        if not key_id_problems(status.key_id):
            problems += await self._renew(status.key_id)
        return tuple(problems)

    def _pin(self, version: str) -> Problems:
        if version_problems(version):
            return ()
        pinned = self.pinned_version = self.pinned_version or version
        if version == pinned:
            return ()
        return (f"version changed from {pinned} to {version}",)

    async def _renew(self, key_id: str) -> Problems:
        """Renew the write state under *key_id*; return why that failed, if it did."""
        expires = self.now + WRITE_S
        state = self.state
        if state is not None and state.sealed.key_id == key_id:
            self.state = evolve(state, expires=expires)
            return ()
        seed = self._random_bytes(_SEED_BYTES)
        self.calls = evolve(self.calls, encrypt=self.calls.encrypt + 1)
        try:
            sealed = await self._connection.encrypt(seed)
        except CallFailed as failure:
            return (str(failure),)
        if problems := sealed_problems(sealed):
            return problems
        if sealed.key_id != key_id:
            return ("Encrypt's key_id is not that of Status",)
        self.state = WriteState(DataKey(seed), sealed, expires)
        return ()

    async def _opened(self, stored: EncryptedObject) -> DataKey:
        cached = self.cache.get(stored.source_type, stored.sealed)
        if cached is not None:
            return cached
        self.calls = evolve(self.calls, decrypt=self.calls.decrypt + 1)
        secret = await self._connection.decrypt(stored.sealed)
        key = DataKey(secret, stored.source_type)
        self.cache.set(key, stored.sealed, self.now)
        return key

    def _valid(self, value: bytes) -> EncryptedObject:
        stored = EncryptedObject.from_etcd(value)
        if stored.provider != self._provider:
            raise Unreadable("it has the prefix of another provider")
        if problems := stored_problems(stored):
            raise Unreadable("; ".join(problems))
        return stored

    def _state(self) -> WriteState:
        if self.state is None:
            raise Refused("the provider has never been healthy")
        return self.state

    async def _advance_to(self, time: float) -> None:
        passed_s, self.now = time - self.now, time
        if self._pace:
            await asyncio.sleep(passed_s * self._pace)
