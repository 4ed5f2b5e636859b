"""The adapter behind the daemon's gRPC layer, in this process, before any DSM."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from attrs import define, field
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.contract.daemon.support import one_line_problem
from tests.unit.adapters_dsm.support import (
    KID,
    Adapters,
    Asked,
    SkippingClock,
    http,
    login,
    sobject,
    until,
)

from adapters_grpc.client import CallFailed, KmsClient
from adapters_grpc.server import KmsServer
from kms_core.envelope import ProviderEnvelope
from kms_core.errors import KmsError, error_classes
from kms_core.fakes import RecordedTelemetry, SeededRandomness
from kms_core.key_id import DEFAULT_SCHEME, NativeNaming
from kms_core.sealed_seed import Version
from kms_core.service import ApiVersion, KmsService
from kms_core.standing import Phase
from kms_core.system import LoopClock
from kms_core.watcher import Surroundings, Watcher


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from adapters_dsm.provider import DsmKeyProvider
    from adapters_grpc.messages import EncryptResponse
    from kms_core.provider import Ciphertext


T = TypeVar("T")

CALL_S: Final = 20.0
"""Deadline of a call. No test waits for it: the adapter's clock skips its sleeps."""

WELL: Final = ""
"""Stands for the code of an error where there is none."""

CODES: Final = {cls.code: cls for cls in error_classes()}


@define(eq=False)
class Front:
    """A daemon's way from its socket to DSM, each call a call of DSM.

    The watcher runs until the key is proven, and no longer: nothing but the calls of a
    test asks DSM after that.

    Args:
        url: Where DSM is.
        ca_file: Whom to trust.
        socket: Where to serve.
        api_key: The credential.
        key_name: The key.
    """

    url: str
    ca_file: Path
    socket: Path
    api_key: str
    key_name: str
    secrets: list[str] = field(factory=list)
    clock: SkippingClock = field(factory=SkippingClock)
    provider: DsmKeyProvider = field(init=False)
    client: KmsClient = field(init=False)
    telemetry: RecordedTelemetry = field(factory=RecordedTelemetry)
    _stack: AsyncExitStack = field(factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        self.secrets.append(self.api_key)
        adapters = Adapters(self.ca_file, self.clock, self.telemetry)
        await self._stack.enter_async_context(adapters)
        self.provider = adapters.open(
            self.url, api_key=self.api_key, name=self.key_name
        )
        envelope = ProviderEnvelope(
            self.provider, Version.DIRECT, DEFAULT_SCHEME, frozenset()
        )
        watcher = Watcher(
            Surroundings(
                provider=self.provider,
                envelope=envelope,
                naming=NativeNaming(),
                clock=LoopClock(),
                randomness=SeededRandomness(),
                telemetry=self.telemetry,
            )
        )
        await _until_ready(watcher)
        service = KmsService(watcher, envelope, ApiVersion.V2)
        server = KmsServer(service, self.telemetry, self.socket)
        await server.start()
        self._stack.push_async_callback(server.stop, 0.0)
        client = KmsClient(self.socket, timeout_s=CALL_S)
        self.client = await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def seed(self) -> bytes:
        """Return a new seed, which no text may hold."""
        seed = secrets.token_bytes(32)
        encoded = base64.b64encode(seed).decode().rstrip("=")
        self.secrets += [encoded, seed.hex(), repr(seed)[2:-1]]
        return seed

    async def encrypt(self, seed: bytes) -> EncryptResponse:
        """Return *seed* sealed, as kube-apiserver would get it."""
        self.clock.ahead_s = 0.0
        return await self.client.encrypt(seed, uid="uid-1")

    async def decrypt(self, sealed: EncryptResponse) -> bytes:
        """Return what *sealed* holds, as kube-apiserver would get it."""
        self.clock.ahead_s = 0.0
        return await self.client.decrypt(sealed.ciphertext, sealed.key_id, uid="uid-2")

    async def adapter_encrypt(self, kid: str, seed: bytes) -> Ciphertext:
        """Ask the adapter alone."""
        return await self.provider.encrypt(kid, seed, b"aad", deadline=self._soon())

    async def adapter_decrypt(
        self, kid: str, sealed: Ciphertext, *, within_s: float = CALL_S
    ) -> bytes:
        """Ask the adapter alone."""
        deadline = self._soon(within_s)
        return await self.provider.decrypt(kid, sealed, b"aad", deadline=deadline)

    async def adapter_describe(self, kid: str | None) -> Any:
        """Ask the adapter alone."""
        return await self.provider.describe(kid, deadline=self._soon())

    async def outcome(self, call: Awaitable[object]) -> str:
        """Return the code of the error that *call* ends in; empty if it succeeds.

        The error is looked at. From the socket: one line of our words, with the gRPC
        code of its class. From the adapter: the class itself.
        """
        failure: CallFailed | KmsError
        try:
            await call
        except (CallFailed, KmsError) as raised:
            failure = raised
        else:
            return WELL
        if isinstance(failure, KmsError):
            assert type(failure) is CODES[failure.code]
            return self._checked(failure.text())
        code = self._checked(failure.text)
        assert CODES[code].rpc_code.value == failure.code_name
        return code

    def _checked(self, text: str) -> str:
        problem = one_line_problem(text)
        assert problem is None, f"{problem}: {text!r}"
        assert not [secret for secret in self.secrets if secret in text]
        return text.partition(":")[0]

    def _soon(self, within_s: float = CALL_S) -> float:
        self.clock.ahead_s = 0.0
        return asyncio.get_running_loop().time() + within_s


async def _until_ready(watcher: Watcher) -> None:
    task = asyncio.create_task(watcher.run())
    try:
        await until(lambda: watcher.standing.phase is Phase.READY)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TinyDsm:
    """What a RawServer answers as DSM would: one key, real AES-GCM, as bytes.

    Set ``spoil`` to have the answers at a path replaced: it gets the good one.
    """

    def __init__(self) -> None:
        self.path = ""
        self.spoil: Callable[[Asked, bytes], Awaitable[None]] | None = None
        self._cipher = AESGCM(AESGCM.generate_key(256))

    async def answer(self, asked: Asked) -> None:
        """Answer one request, well or not."""
        good = self._good(asked)
        if self.spoil is not None and asked.path.endswith(self.path):
            await self.spoil(asked, good)
        else:
            asked.send(good)

    def _good(self, asked: Asked) -> bytes:
        if asked.path.endswith("/session/auth"):
            return login("token-of-the-tiny-dsm")
        if "/keys/info" in asked.path:
            return http(body=sobject())
        body = json.loads(asked.body)
        aad = _bytes(body["ad"]) if "ad" in body else None
        if asked.path.endswith("/encrypt"):
            iv = secrets.token_bytes(12)
            sealed = self._cipher.encrypt(iv, _bytes(body["plain"]), aad)
            parts = {"cipher": sealed[:-16], "iv": iv, "tag": sealed[-16:]}
            return http(body={"kid": KID} | {n: _text(v) for n, v in parts.items()})
        sealed = _bytes(body["cipher"]) + _bytes(body["tag"])
        plain = self._cipher.decrypt(_bytes(body["iv"]), sealed, aad)
        return http(body={"kid": KID, "plain": _text(plain)})


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
