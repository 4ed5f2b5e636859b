"""The port to a key service: KeyProvider, and the values that cross it."""

from __future__ import annotations

import abc
import asyncio
import enum
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen

from kms_core.errors import (
    KeyCompromised,
    KeyDeactivated,
    KeyDestroyed,
    KeyDisabled,
    KeyNotActive,
    KeyNotFound,
    KeyUnsuitable,
    ProviderAnswerRefused,
    ProviderError,
    ProviderTimeout,
    SealedSeedNotAuthentic,
)
from kms_core.key_id import is_kid


if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Coroutine


T = TypeVar("T")


class KeyState(enum.Enum):
    """Life cycle of a key, in DSM's words (KMIP's)."""

    PRE_ACTIVE = "PreActive"
    ACTIVE = "Active"
    DEACTIVATED = "Deactivated"
    COMPROMISED = "Compromised"
    DESTROYED = "Destroyed"
    DELETED = "Deleted"


@frozen(kw_only=True)
class RotationPlan:
    """What the key service will do by itself.

    Attributes:
        at: When, in UTC; None if the service does not tell.
        deactivates_old: Whether it deactivates the key that it replaces.
    """

    at: dt.datetime | None = None
    deactivates_old: bool = False


@frozen(kw_only=True)
class KeyDescription:
    """What the key service says of the configured key, at one moment.

    From ``more_permissions`` on nothing decides whether the key may be used; it is what
    ``key_findings`` warns of. Texts among it are words in capitals, checked by the
    provider.

    Attributes:
        kid: Stable id of this key version; DSM: the UUID.
        name: The key's name, when it has one.
        state: Where it is in its life cycle.
        enabled: Whether cryptographic operations are enabled; independent of state.
        algorithm: ``AES`` for a key that we can use.
        size_bits: Key size in bits, when the service tells.
        can_encrypt: Whether key and caller may both encrypt, as far as is told.
        can_decrypt: The same for decrypt.
        replaced: kid of the key that this one took over from, when there is a link.
        replacement: kid of the key that took over from this one, likewise.
        more_permissions: Operations that key and caller both may beside encrypt and
            decrypt, as far as is told; without ``EXPORT``, which ``exportable`` tells.
        exportable: Whether the key's material may leave the service.
        audited: Whether the service logs each use of it.
        compliant: Whether it obeys the service's policies.
        deactivates_at: When it will be deactivated, in UTC.
        rotation: How it will be rotated by the service itself.
        unread: Names of fields that were filled in a way that nobody foresaw, and left
            out for that.
    """

    kid: str
    name: str | None = None
    state: KeyState = KeyState.ACTIVE
    enabled: bool = True
    algorithm: str = "AES"
    size_bits: int | None = None
    can_encrypt: bool = True
    can_decrypt: bool = True
    replaced: str | None = None
    replacement: str | None = None
    more_permissions: tuple[str, ...] = ()
    exportable: bool = False
    audited: bool = True
    compliant: bool = True
    deactivates_at: dt.datetime | None = None
    rotation: RotationPlan | None = None
    unread: tuple[str, ...] = ()

    def judge(self) -> None:
        """Return if the key may seal and open.

        Raises:
            ProviderError: The first of ``unfitness``.
        """
        for error in self.unfitness():
            raise error

    def unfitness(self) -> list[ProviderError]:
        """Return every reason why the key may not seal and open, the gravest first.

        A deactivated key counts as deactivated even if it is disabled as well: DSM
        accounts can disable a key when its deactivation date passes
        (``mark_key_disable_when_deactivated``), and a date must not work like an
        explicit word (design section 7).

        Returns:
            KeyDestroyed, KeyCompromised, KeyNotFound (it is deleted), KeyDeactivated,
            KeyDisabled, KeyNotActive; KeyUnsuitable if it is no AES key, or an
            operation is missing.
        """
        label = f"key {self.kid}"
        found: list[ProviderError] = []
        unfit = _UNFIT_STATES.get(self.state)
        if unfit is not None:
            found.append(unfit(f"{label} is {self.state.value.lower()}"))
        if not self.enabled:
            found.append(KeyDisabled(f"{label} is disabled"))
        if self.state is KeyState.PRE_ACTIVE:
            found.append(KeyNotActive(f"{label} is not active yet"))
        if self.algorithm != "AES":
            found.append(KeyUnsuitable(f"{label} is not an AES key"))
        missing = [
            operation
            for operation, allowed in (
                ("ENCRYPT", self.can_encrypt),
                ("DECRYPT", self.can_decrypt),
            )
            if not allowed
        ]
        if missing:
            words = " and ".join(missing)
            found.append(KeyUnsuitable(f"{label} does not allow {words}"))
        return found


_UNFIT_STATES: Final[dict[KeyState, type[ProviderError]]] = {
    KeyState.DESTROYED: KeyDestroyed,
    KeyState.COMPROMISED: KeyCompromised,
    KeyState.DELETED: KeyNotFound,
    KeyState.DEACTIVATED: KeyDeactivated,
}


@frozen
class Ciphertext:
    """What the key service made of a plaintext under one kid.

    Attributes:
        cipher: The ciphertext proper.
        iv: The nonce that the service chose; may be empty for services without one.
        tag: The authentication tag; likewise.
    """

    cipher: bytes
    iv: bytes
    tag: bytes


class KeyProvider(abc.ABC):
    """A key service that keeps the KEK and uses it for us.

    Callers use ``describe``, ``encrypt`` and ``decrypt``; implementers write
    ``_describe``, ``_encrypt`` and ``_decrypt``. The public methods end every call at
    its deadline and turn whatever else escapes into the core's error family, so that
    callers see ProviderError and SealedSeedNotAuthentic only. Cancellation passes.

    A deadline is an absolute time of the running event loop, in seconds. Methods may
    be called concurrently, from one event loop.
    """

    async def describe(
        self, kid: str | None = None, *, deadline: float
    ) -> KeyDescription:
        """Return what the service says of a key; it need not be fit for use.

        Args:
            kid: The key to describe; None resolves the configured name or id.
            deadline: Loop time at which to give up.

        Raises:
            ProviderError: KeyNotFound if there is none; outages; refusals.
        """
        found = await _guarded("describe", self._describe(kid, deadline), deadline)
        # Before anything quotes them: they go into error texts and key_ids.
        if not all(is_kid(k) for k in (found.kid, found.replaced) if k is not None):
            raise ProviderAnswerRefused("the key service gave an id of unknown form")
        return found

    async def encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, *, deadline: float
    ) -> Ciphertext:
        """Return *plaintext* encrypted under exactly *kid*, bound to *aad*.

        Args:
            kid: The key version to use; never a name.
            plaintext: 1 to 512 bytes.
            aad: Additional authenticated data, or None for none at all.
            deadline: Loop time at which to give up.

        Raises:
            ProviderError: Outages, refusals and denials.
        """
        return await _guarded(
            "encrypt", self._encrypt(kid, plaintext, aad, deadline), deadline
        )

    async def decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, *, deadline: float
    ) -> bytes:
        """Return the plaintext of *ciphertext*, or raise: never doubtful bytes.

        Args:
            kid: The key version that made it.
            ciphertext: As ``encrypt`` returned it.
            aad: The same as for ``encrypt``.
            deadline: Loop time at which to give up.

        Raises:
            SealedSeedNotAuthentic: It, its aad or its kid was changed.
            ProviderError: Outages, refusals and denials.
        """
        return await _guarded(
            "decrypt", self._decrypt(kid, ciphertext, aad, deadline), deadline
        )

    async def renew(self) -> None:  # noqa: B027 - optional, says its docstring
        """Make the next call use a fresh session and connection, if there are any.

        The watcher asks for it before it looks a second time at bad news, since a
        session or one node of the service may be what is wrong. Calls in flight go on.
        Raises nothing; a provider without sessions inherits this, which does nothing.
        """

    @abc.abstractmethod
    async def aclose(self) -> None:
        """End sessions and connections; bounded in time; raises nothing."""

    @abc.abstractmethod
    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        """Implement ``describe``."""

    @abc.abstractmethod
    async def _encrypt(
        self, kid: str, plaintext: bytes, aad: bytes | None, deadline: float
    ) -> Ciphertext:
        """Implement ``encrypt``."""

    @abc.abstractmethod
    async def _decrypt(
        self, kid: str, ciphertext: Ciphertext, aad: bytes | None, deadline: float
    ) -> bytes:
        """Implement ``decrypt``."""


async def _guarded(what: str, call: Coroutine[None, None, T], deadline: float) -> T:
    try:
        async with asyncio.timeout_at(deadline):
            return await call
    except (ProviderError, SealedSeedNotAuthentic):
        raise
    except TimeoutError as error:
        raise ProviderTimeout(f"no answer to {what} before the deadline") from error
    except Exception as error:
        # The type's name alone: an exception's text may quote a secret.
        raise ProviderAnswerRefused(
            f"{what} failed in the adapter ({type(error).__name__})"
        ) from error
