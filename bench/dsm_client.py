"""How fast a client of DSM is: our adapter beside httpx, in one run, as ratios.

Each decrypts the same 32 bytes over TLS, against the emulator in another process, with
1, 16 and 64 calls in flight. The rounds of the clients take turns, so that whatever
else the machine does meets all of them, and the best round of each counts.

    python bench/dsm_client.py [--seconds 2] [--rounds 3]

prints JSON: for each client and number in flight the calls per second, the median of
their durations in milliseconds, our CPU time per call in microseconds, and the rate
relative to httpx' own AsyncClient.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import httpx
from attrs import define, field, frozen
from httpx_aiohttp import AiohttpTransport

from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.provider import DsmKeyProvider
from adapters_dsm.settings import DsmSettings, Endpoint, KeySelector, Secret
from dsm_emulator import Dsm, EmulatorServer
from kms_core.ports import Event, Telemetry
from kms_core.system import LoopClock, SystemRandomness


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from kms_core.provider import Ciphertext

    Call = Callable[[], Awaitable[bytes]]


IN_FLIGHT = (1, 16, 64)
REFERENCE = "httpx"
SEED = bytes(range(32))


@frozen
class Target:
    """The emulator and the sealed seed that everybody opens."""

    url: str
    ca_file: Path
    api_key: str
    kid: str


@frozen
class Round:
    """What one round of one client gave."""

    calls_per_s: float
    median_ms: float
    cpu_us_per_call: float


@define
class Deaf(Telemetry):
    """Telemetry that costs nothing."""

    count: int = field(default=0)

    def emit(self, _: Event) -> None:
        """Count."""
        self.count += 1


def serve() -> None:
    """Be the emulator until stdin ends."""
    demo = Dsm.with_demo_key()
    with EmulatorServer(demo.dsm) as server:
        facts = {
            "url": server.url,
            "ca_file": str(server.ca_file),
            "api_key": demo.app.api_key,
            "kid": demo.key.kid,
        }
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


@contextlib.asynccontextmanager
async def adapter(target: Target) -> AsyncIterator[DsmKeyProvider]:
    """Yield our provider."""
    provider = DsmKeyProvider(
        DsmSettings(
            endpoints=(Endpoint.parse(target.url),),
            selector=KeySelector(kid=target.kid),
            credential=CredentialSource(api_key=Secret(target.api_key)),
            ca_file=target.ca_file,
        ),
        clock=LoopClock(),
        randomness=SystemRandomness(),
        telemetry=Deaf(),
        environ={},
    )
    try:
        yield provider
    finally:
        await provider.aclose()


def our_call(provider: DsmKeyProvider, target: Target, sealed: Ciphertext) -> Call:
    """Return a call with everything that the adapter does around it."""
    loop = asyncio.get_running_loop()

    async def call() -> bytes:
        return await provider.decrypt(
            target.kid, sealed, None, deadline=loop.time() + 10
        )

    return call


async def plain_call(
    client: httpx.AsyncClient, target: Target, sealed: Ciphertext
) -> Call:
    """Return a call as one writes it down at first: no checks, no retries."""
    login = await client.post(
        f"{target.url}/sys/v1/session/auth",
        headers={"Authorization": f"Basic {target.api_key}"},
    )
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    body = {
        "key": {"kid": target.kid},
        "alg": "AES",
        "mode": "GCM",
        "cipher": base64.b64encode(sealed.cipher).decode(),
        "iv": base64.b64encode(sealed.iv).decode(),
        "tag": base64.b64encode(sealed.tag).decode(),
    }

    async def call() -> bytes:
        answer = await client.post(
            f"{target.url}/crypto/v1/decrypt", json=body, headers=headers
        )
        return base64.b64decode(answer.json()["plain"])

    return call


async def measure(call: Call, in_flight: int, seconds: float) -> Round:
    """Keep *in_flight* calls going for *seconds*."""
    durations: list[float] = []
    ends_at = time.perf_counter() + seconds

    async def keep_calling() -> None:
        while (started := time.perf_counter()) < ends_at:
            if await call() != SEED:
                raise AssertionError("the seed came back changed")
            durations.append(time.perf_counter() - started)

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*[keep_calling() for _ in range(in_flight)])
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Round(
        calls_per_s=len(durations) / took,
        median_ms=statistics.median(durations) * 1e3,
        cpu_us_per_call=cpu / len(durations) * 1e6,
    )


async def compare(target: Target, seconds: float, rounds: int) -> dict[str, object]:
    """Measure every client in turn and return the report."""
    context = ssl.create_default_context(cafile=target.ca_file)
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(adapter(target))
        deadline = asyncio.get_running_loop().time() + 10
        sealed = await provider.encrypt(target.kid, SEED, None, deadline=deadline)
        plain = await stack.enter_async_context(
            httpx.AsyncClient(verify=context, limits=limits, timeout=None)  # noqa: S113
        )
        connector = aiohttp.TCPConnector(ssl=context, limit=64)
        transport = AiohttpTransport(
            verify=context, client=aiohttp.ClientSession(connector=connector)
        )
        over_aiohttp = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport)
        )
        clients: dict[str, Call] = {
            "adapters_dsm": our_call(provider, target, sealed),
            REFERENCE: await plain_call(plain, target, sealed),
            "httpx over aiohttp": await plain_call(over_aiohttp, target, sealed),
        }
        best: dict[str, dict[int, Round]] = {name: {} for name in clients}
        for _ in range(rounds):
            for in_flight in IN_FLIGHT:
                for name, call in clients.items():
                    found = await measure(call, in_flight, seconds)
                    known = best[name].get(in_flight)
                    if known is None or found.calls_per_s > known.calls_per_s:
                        best[name][in_flight] = found
    return {name: _report(found, best[REFERENCE]) for name, found in best.items()}


def _report(found: dict[int, Round], reference: dict[int, Round]) -> dict[str, object]:
    return {
        f"{in_flight} in flight": {
            "calls_per_s": round(one.calls_per_s),
            "median_ms": round(one.median_ms, 2),
            "cpu_us_per_call": round(one.cpu_us_per_call),
            "rate_to_httpx": round(
                one.calls_per_s / reference[in_flight].calls_per_s, 2
            ),
        }
        for in_flight, one in found.items()
    }


def main() -> None:
    """Start the emulator, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as emulator:
        if emulator.stdout is None:
            raise AssertionError("stdout is a pipe")
        facts = json.loads(emulator.stdout.readline())
        facts["ca_file"] = Path(facts["ca_file"])
        report = asyncio.run(compare(Target(**facts), options.seconds, options.rounds))
        emulator.communicate()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
