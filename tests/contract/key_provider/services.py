"""Key services under the KeyProvider contract, and how a test changes their keys."""

from __future__ import annotations

import abc
import asyncio
import uuid
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.provider import DsmKeyProvider
from adapters_dsm.settings import DsmSettings, Endpoint, KeySelector, Secret
from dsm_emulator import Dsm, EmulatorServer
from dsm_emulator.sobject_request import SobjectRequest
from kms_core.fakes import InMemoryKeyProvider, RecordedTelemetry
from kms_core.provider import KeyProvider, KeyState
from kms_core.system import LoopClock, SystemRandomness


if TYPE_CHECKING:
    from dsm_emulator.sobject import Sobject


class KeyServiceControl(abc.ABC):
    """One key service with a provider on it, and the administrator's side of it.

    To add an implementation: subclass this, and name it in ``IMPLEMENTATIONS``.

    Attributes:
        provider: What is tested. ``aclose`` is called at the end of each test.
        configured: kid of the key that the configured name leads to at first.
    """

    provider: KeyProvider
    configured: str

    @property
    def unknown_kid(self) -> str:
        """A kid that no key has."""
        return str(uuid.uuid4())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.aclose()

    @abc.abstractmethod
    def make_key(self) -> str:
        """Make another active AES key and return its kid."""

    @abc.abstractmethod
    def rekey(self) -> str:
        """Rotate the configured key and return the new kid."""

    @abc.abstractmethod
    def disable(self, kid: str) -> None:
        """Forbid every use."""

    @abc.abstractmethod
    def deactivate(self, kid: str) -> None:
        """Let it open, but no longer seal."""

    @abc.abstractmethod
    def compromise(self, kid: str) -> None:
        """Mark it as compromised."""

    @abc.abstractmethod
    def destroy(self, kid: str) -> None:
        """Take its material away."""

    @abc.abstractmethod
    def delete(self, kid: str) -> None:
        """Make as if it had never been."""


class InMemory(KeyServiceControl):
    """The core's fake."""

    def __init__(self) -> None:
        self.provider: InMemoryKeyProvider = InMemoryKeyProvider()
        self.configured = self.provider.configured

    def make_key(self) -> str:
        return self.provider.make_key().kid

    def rekey(self) -> str:
        return self.provider.rekey().kid

    def disable(self, kid: str) -> None:
        self.provider.change(kid, enabled=False)

    def deactivate(self, kid: str) -> None:
        self.provider.change(kid, state=KeyState.DEACTIVATED)

    def compromise(self, kid: str) -> None:
        self.provider.change(kid, state=KeyState.COMPROMISED)

    def destroy(self, kid: str) -> None:
        self.provider.change(kid, state=KeyState.DESTROYED)

    def delete(self, kid: str) -> None:
        del self.provider.keys[kid]


class DsmOverEmulator(KeyServiceControl):
    """The adapter to DSM, over TLS, on our emulator."""

    def __init__(self) -> None:
        self._demo = Dsm.with_demo_key()
        self._dsm = self._demo.dsm
        self._server = EmulatorServer(self._dsm)
        self._stack = AsyncExitStack()
        self.configured = self._demo.key.kid

    async def __aenter__(self) -> Self:
        # Its start waits for a thread.
        await asyncio.to_thread(self._server.start)
        self._stack.callback(self._server.close)
        self.provider = DsmKeyProvider(
            DsmSettings(
                endpoints=(Endpoint.parse(self._server.url),),
                selector=KeySelector(name=self._demo.key.name),
                credential=CredentialSource(api_key=Secret(self._demo.app.api_key)),
                ca_file=self._server.ca_file,
            ),
            clock=LoopClock(),
            randomness=SystemRandomness(),
            telemetry=RecordedTelemetry(),
            environ={},
        )
        self._stack.push_async_callback(self.provider.aclose)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def make_key(self) -> str:
        return self._dsm.create_key(
            SobjectRequest(name=str(uuid.uuid4()), key_size=256),
            creator=self._demo.admin,
            group_id=self._demo.group.group_id,
        ).kid

    def rekey(self) -> str:
        return self._dsm.rekey(self._demo.key.name or "").kid

    def disable(self, kid: str) -> None:
        self._dsm.disable(self._key(kid))

    def deactivate(self, kid: str) -> None:
        self._dsm.deactivate(self._key(kid))

    def compromise(self, kid: str) -> None:
        self._dsm.compromise(self._key(kid))

    def destroy(self, kid: str) -> None:
        self._dsm.destroy(self._key(kid))

    def delete(self, kid: str) -> None:
        self._dsm.delete(self._key(kid))

    def _key(self, kid: str) -> Sobject:
        return self._dsm.key(kid=kid)


IMPLEMENTATIONS: dict[str, type[KeyServiceControl]] = {
    "in-memory": InMemory,
    "dsm": DsmOverEmulator,
}
