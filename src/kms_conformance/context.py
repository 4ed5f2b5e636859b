"""Context: what a check is given to work with."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen

from kms_conformance.api_server.model import ApiServer
from kms_conformance.connection import Connection, Dial
from kms_conformance.http2 import RawHttp2
from kms_conformance.levers import Levers
from kms_conformance.outcome import CallFailed, Failed, NotRun
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kms_conformance.recorder import Recorder
    from kms_conformance.scale import Scale
    from kms_conformance.target import Endpoint, Pulled, Target


T = TypeVar("T")

SEED_BYTES: Final = 32
"""What kube-apiserver has encrypted: a seed, or an AES key (contract 1.2)."""

IMPATIENT: Final = Dial(backoff_s=0.1, max_backoff_s=0.5)
"""For watching a plugin come back; kube-apiserver is more patient."""

BACK_WITHIN_S: Final = 60.0
"""How long a plugin may take to serve again after it was healed or started."""


@frozen
class Measurement:
    """A figure for the report.

    Attributes:
        name: What was measured.
        value: The figure.
        unit: Its unit, such as ``s`` or ``bytes``.
    """

    name: str
    value: float
    unit: str


class Context:
    """Gives one check its connections, randomness and hooks, and takes its notes.

    Args:
        check_id: The check; each has randomness of its own.
        target: The plugin under test.
        scale: How much to do.
        random_seed: Repeats a run's randomness.
        recorder: Learns of each call.
    """

    def __init__(
        self,
        check_id: str,
        target: Target,
        scale: Scale,
        random_seed: int,
        recorder: Recorder,
    ) -> None:
        self.target = target
        self.scale = scale
        self.recorder = recorder
        # Test traffic, which a second run must be able to repeat.
        self.random = random.Random(f"{random_seed}/{check_id}")  # noqa: S311
        self.warnings: list[str] = []
        self.measurements: list[Measurement] = []
        self._levers = Levers(target.pulls)
        self._cleanup = contextlib.AsyncExitStack()

    # What is sent.

    def seed(self) -> bytes:
        """Return a new seed of 32 random bytes."""
        return self.random.randbytes(SEED_BYTES)

    def uid(self) -> str:
        """Return a new uid, as kube-apiserver makes them."""
        return str(uuid.UUID(bytes=self.random.randbytes(16), version=4))

    def count(self, full: int, *, least: int = 2) -> int:
        """Return how many requests this run sends where section 12 says *full*."""
        return self.scale.count(full, least=least)

    # Connections. All are closed when the check has ended.

    def dial(self, dial: Dial | None = None) -> Connection:
        """Return a new connection, which is made by its first call.

        Args:
            dial: How; None is kube-apiserver's way.
        """
        return self._dial(self.target.endpoint, dial or Dial())

    def dial_peer(self) -> Connection:
        """Return a new connection to the other instance; needs ``Hook.PEER``."""
        if self.target.peer is None:
            raise NotRun(f"needs {Hook.PEER.value}")
        return self._dial(self.target.peer, Dial())

    def api_server(self, connection: Connection | None = None) -> ApiServer:
        """Return the model of an API server that has not started yet.

        Args:
            connection: Its connection; None dials a new one.
        """
        connection = connection or self.dial()
        return ApiServer(connection, self.random.randbytes, pace=self.scale.pace)

    def socket_file(self) -> Path:
        """Return the path of the plugin's socket.

        Raises:
            NotRun: It is an abstract socket.
        """
        if self.target.endpoint.is_abstract:
            raise NotRun("an abstract socket has no file")
        return Path(self.target.endpoint.name)

    async def raw_http2(self) -> RawHttp2:
        """Return a new connection that speaks HTTP/2 by hand.

        Raises:
            ConnectionLost: The plugin closed it, or speaks no HTTP/2.
            OSError: Nobody listens.
            TimeoutError: No SETTINGS came in time.
        """
        raw = RawHttp2(self.target.endpoint, self.scale.timeout_s)
        return await self._cleanup.enter_async_context(raw)

    async def raw_socket(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a new connection that speaks nothing at all.

        Raises:
            OSError: Nobody listens.
        """
        address = self.target.endpoint.address
        reader, writer = await asyncio.open_unix_connection(address)
        self._cleanup.callback(writer.close)
        return reader, writer

    def _dial(self, endpoint: Endpoint, dial: Dial) -> Connection:
        timeout_s = self.scale.timeout_s
        connection = Connection(endpoint, dial, timeout_s, self.recorder, self.uid)
        self._cleanup.push_async_callback(connection.aclose)
        return connection

    # Many calls, and waiting.

    async def parallel(
        self, jobs: Sequence[Callable[[], Awaitable[T]]], *, width: int
    ) -> list[T]:
        """Run *jobs*, at most *width* at once, and return their results in order.

        The first exception ends the others, and is raised.
        """
        gate = asyncio.Semaphore(width)

        async def one(job: Callable[[], Awaitable[T]]) -> T:
            async with gate:
                return await job()

        tasks = [asyncio.ensure_future(one(job)) for job in jobs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until(
        self,
        condition: Callable[[], Awaitable[bool]],
        *,
        within_s: float,
        otherwise: str,
        every_s: float = 0.05,
    ) -> float:
        """Wait until *condition* holds, and return the seconds that it took.

        Args:
            condition: Asked again and again; a CallFailed from it counts as no.
            within_s: Seconds until it must hold.
            otherwise: What Failed says came if it doesn't.
            every_s: Seconds between two questions.

        Raises:
            Failed: It did not hold in time.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not await _holds(condition):
            if loop.time() - began > within_s:
                raise Failed(f"{otherwise} within {within_s:g} s")
            await asyncio.sleep(every_s)
        return loop.time() - began

    async def serving(self, *, within_s: float = BACK_WITHIN_S) -> float:
        """Wait until Status says ok, and return the seconds that it took.

        Args:
            within_s: Seconds in a full run until it must say so.

        Raises:
            Failed: It did not say so in time.
        """
        watch = self.dial(IMPATIENT)

        async def well() -> bool:
            return (await watch.status(timeout_s=1.0)).healthz == "ok"

        return await self.until(
            well,
            within_s=within_s * self.scale.limit,
            otherwise="Status did not say ok",
        )

    async def idle(self, full_s: float) -> None:
        """Let time pass, for a check that is about time: *full_s* in a full run."""
        await asyncio.sleep(full_s * self.scale.idle)

    async def beat(self, seconds: float) -> None:
        """Let *seconds* pass, for a soak: it has scaled its length itself."""
        await asyncio.sleep(seconds)

    # Hooks. What a check stops or breaks is started and healed when it has ended.

    async def pull(self, hook: Hook) -> Pulled:
        """Pull *hook*.

        Raises:
            HookFailed: Its command failed.
            NotRun: It was not given.
        """
        return await self._levers.pull(hook)

    async def attempt(self, hook: Hook) -> Pulled:
        """Pull *hook*, which may fail: its exit code tells.

        Raises:
            NotRun: It was not given.
        """
        return await self._levers.attempt(hook)

    async def restart(self) -> None:
        """Stop the plugin, start it, and wait until it serves.

        Raises:
            HookFailed: A command failed.
            Failed: It did not serve in time.
        """
        await self.pull(Hook.STOP)
        await self.pull(Hook.START)
        await self.serving()

    async def rotate(self, connection: Connection) -> float:
        """Rotate the remote key, and wait until Status on *connection* shows it.

        Returns:
            The seconds that this took.

        Raises:
            HookFailed: The command failed.
            Failed: Status did not show another key_id in time.
        """
        before = (await connection.status()).key_id
        await self.pull(Hook.ROTATE)

        async def shown() -> bool:
            return (await connection.status()).key_id != before

        return await self.until(
            shown,
            within_s=self.target.rotation_s,
            otherwise="Status showed no other key_id",
        )

    # Notes for the report.

    def warn(self, text: str) -> None:
        """Note something to improve that does not fail the check."""
        self.warnings.append(text)

    def measure(self, name: str, value: float, unit: str) -> None:
        """Note a figure."""
        self.measurements.append(Measurement(name, value, unit))

    # For the runner.

    async def restore(self) -> None:
        """Heal and start what the check broke and stopped, and wait until it serves.

        Raises:
            HookFailed: A command failed.
            Failed: The plugin does not serve again.
        """
        try:
            if await self._levers.restore():
                await self.serving()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close what was opened."""
        await self._cleanup.aclose()


async def _holds(condition: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await condition()
    except CallFailed:
        return False
