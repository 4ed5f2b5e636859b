"""The ways that a soak's calls go, and what is counted of them."""

from __future__ import annotations

import abc
import asyncio
import collections
import contextlib
import os
import signal
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import attrs
from bench.programs import rss_mib

from adapters_grpc.client import CallFailed, KmsClient
from k8s_sdkms_plugin.config.loading import load
from k8s_sdkms_plugin.wiring import assemble
from kms_core.errors import KmsError
from kms_core.ports import Event, Telemetry


if TYPE_CHECKING:
    from collections.abc import Awaitable

    from k8s_sdkms_plugin.wiring import Parts


T = TypeVar("T")

CALL_S: Final = 3.0
"""kube-apiserver's own deadline."""

LOOK_S: Final = 2.0
LAG_STEP_S: Final = 0.05


@attrs.define
class Tally:
    """What became of the calls."""

    problems: list[str] = attrs.field(factory=list)
    _codes: dict[str, collections.Counter[str]] = attrs.field(
        factory=lambda: collections.defaultdict(collections.Counter)
    )
    _took_ms: dict[str, list[float]] = attrs.field(
        factory=lambda: collections.defaultdict(list)
    )

    async def count(self, name: str, call: Awaitable[T]) -> T | None:
        """Return what *call* returns, or None if it fails."""
        began = time.perf_counter()
        result: T | None = None
        try:
            result = await call
            code = "OK"
        except KmsError as error:
            code = error.code
        except CallFailed as failure:
            code = failure.text.partition(":")[0]
            if not code.replace("-", "").isupper():
                # Not the daemon's words but gRPC's own.
                code = f"gRPC {failure.code_name}"
        except Exception as error:  # noqa: BLE001 - it is what we look for
            code = f"escaped {type(error).__name__}"
            self.problems.append(f"{name}: {code}")
        kind = "ok" if code == "OK" else "failed"
        self._codes[name][code] += 1
        self._took_ms[f"{name}, {kind}"].append((time.perf_counter() - began) * 1000)
        return result

    def outcomes(self) -> dict[str, dict[str, int]]:
        """Return the number of calls by name and code."""
        return {name: dict(counts) for name, counts in sorted(self._codes.items())}

    def latencies(self) -> dict[str, dict[str, float]]:
        """Return percentiles of the calls' times, in milliseconds."""
        return {name: percentiles(took) for name, took in sorted(self._took_ms.items())}


def percentiles(took_ms: list[float]) -> dict[str, float]:
    """Return the middle, the worst of a hundred, and the worst."""
    cuts = statistics.quantiles([*took_ms, took_ms[0]], n=100, method="inclusive")
    return {
        "p50": round(cuts[49], 1),
        "p99": round(cuts[98], 1),
        "max": round(max(took_ms), 1),
    }


class Way(abc.ABC):
    """Where an encrypt or a decrypt may go."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abc.abstractmethod
    async def seal(self, seed: bytes) -> Any:
        """Return *seed* encrypted, in whatever form ``open`` wants it."""

    @abc.abstractmethod
    async def open(self, sealed: Any) -> bytes:
        """Return what ``seal`` was given."""

    @abc.abstractmethod
    def hurry(self) -> None:
        """Let it find out soon that everything works again."""


class AdapterWay(Way):
    """The adapter alone, in this process, with a timer that looks at the key."""

    def __init__(self, name: str, config: Path) -> None:
        super().__init__(name)
        loaded = load(config, os.environ)
        if loaded.config is None:
            raise ValueError("the config of the soak is wrong")
        self._parts: Parts = assemble(loaded, loaded.config, _Silence(), {})
        self._kid = ""
        self._looks: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at the key, and from then on every two seconds."""
        self._kid = (await self._parts.provider.describe(deadline=_deadline())).kid
        self._looks = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Close it."""
        if self._looks is not None:
            self._looks.cancel()
            await asyncio.gather(self._looks, return_exceptions=True)
        await self._parts.envelope.aclose()
        await self._parts.provider.aclose()

    async def seal(self, seed: bytes) -> Any:
        """Encrypt."""
        kid = self._kid
        provider = self._parts.provider
        return kid, await provider.encrypt(kid, seed, b"aad", deadline=_deadline())

    async def open(self, sealed: Any) -> bytes:
        """Decrypt."""
        kid, ciphertext = sealed
        return await self._parts.provider.decrypt(
            kid, ciphertext, b"aad", deadline=_deadline()
        )

    def hurry(self) -> None:
        """Nothing: it looks often."""

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(KmsError):
                found = await self._parts.provider.describe(deadline=_deadline())
                self._kid = found.kid


class DaemonWay(Way):
    """A daemon's socket; a context manager."""

    def __init__(self, name: str, socket: Path, pid: int) -> None:
        super().__init__(name)
        self.pid = pid
        self._client = KmsClient(socket, timeout_s=CALL_S)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__(None, None, None)

    async def seal(self, seed: bytes) -> Any:
        """Encrypt."""
        return await self._client.encrypt(seed)

    async def open(self, sealed: Any) -> bytes:
        """Decrypt."""
        return await self._client.decrypt(sealed.ciphertext, sealed.key_id)

    def hurry(self) -> None:
        """Let it look at once."""
        os.kill(self.pid, signal.SIGHUP)

    async def ask_status(self, tally: Tally) -> None:
        """Ask for Status once a second until cancelled."""
        while True:
            await tally.count(f"{self.name} status", self._client.status())
            await asyncio.sleep(1)


@attrs.frozen
class Figures:
    """What a process holds.

    Attributes:
        connections: Its TCP connections to DSM.
        descriptors: Its file descriptors.
        threads: Its threads.
        rss_mib: Its resident memory.
    """

    connections: int
    descriptors: int
    threads: int
    rss_mib: float

    def told(self) -> dict[str, float]:
        """Return them for the report."""
        return attrs.asdict(self)


@attrs.define
class Samples:
    """What is read again and again during a run.

    Attributes:
        pids: Processes by name.
        rss_mib: Their resident memory, sample by sample.
        lag_ms: How late this process' event loop was: no call can be measured better.
    """

    pids: dict[str, int]
    rss_mib: dict[str, list[float]] = attrs.field(
        factory=lambda: collections.defaultdict(list)
    )
    lag_ms: list[float] = attrs.field(factory=lambda: [0.0])

    async def take_memory(self, every_s: float) -> None:
        """Read the memory until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            for name, pid in self.pids.items():
                self.rss_mib[name].append(round(rss_mib(pid), 1))

    async def take_lag(self) -> None:
        """Measure the event loop's lag until cancelled."""
        while True:
            due = time.perf_counter() + LAG_STEP_S
            await asyncio.sleep(LAG_STEP_S)
            self.lag_ms.append((time.perf_counter() - due) * 1000)


def figures_of(pid: int | None, port: int) -> Figures:
    """Return the figures of a process, or of ours; *port* is DSM's."""
    place = Path("/proc") / ("self" if pid is None else str(pid))
    targets = []
    for descriptor in (place / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(descriptor.readlink()))
    sockets = {_inode(line) for line in _connections(port)}
    return Figures(
        connections=sum(f"socket:[{inode}]" in targets for inode in sockets),
        descriptors=len(targets),
        threads=len(list((place / "task").iterdir())),
        rss_mib=round(rss_mib(os.getpid() if pid is None else pid), 1),
    )


def _connections(port: int) -> list[list[str]]:
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[2].endswith(f":{port:04X}")]


def _inode(row: list[str]) -> str:
    return row[9]


def _deadline() -> float:
    return asyncio.get_running_loop().time() + CALL_S


class _Silence(Telemetry):
    def emit(self, event: Event) -> None:
        del event
