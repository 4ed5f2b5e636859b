"""What a broken endpoint costs when there is another, as ratios within one run.

An adapter with one good endpoint, and adapters whose first endpoint refuses
connections, or takes them and never answers, each decrypt the same seed over TLS with
some calls in flight. Rounds take turns, and the best of each counts.

    python bench/endpoints.py [--seconds 2] [--rounds 3]

prints JSON: for each the calls that failed, how long the slowest of the first took (the
fail-over itself), and the median afterwards relative to the adapter without a broken
endpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import time
from typing import TYPE_CHECKING

from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.provider import DsmKeyProvider
from adapters_dsm.settings import DsmSettings, Endpoint, KeySelector, Secret
from dsm_emulator import Dsm, EmulatorServer
from kms_core.errors import KmsError
from kms_core.ports import Event, Telemetry
from kms_core.system import LoopClock, SystemRandomness


if TYPE_CHECKING:
    from dsm_emulator import DemoKey
    from kms_core.provider import Ciphertext


SEED = bytes(range(32))
IN_FLIGHT = 8
TIMEOUT_S = 3.0


class Deaf(Telemetry):
    """Telemetry that costs nothing."""

    def emit(self, _: Event) -> None:
        """Drop it."""


class Subject:
    """An adapter and what its calls took.

    Args:
        urls: Its endpoints.
        demo: The DSM behind them.
        server: Whose CA they are trusted by.
    """

    def __init__(self, urls: list[str], demo: DemoKey, server: EmulatorServer) -> None:
        self.failed = 0
        self.first_s = 0.0
        self.best_median_s = float("inf")
        self._kid = demo.key.kid
        self.provider = DsmKeyProvider(
            DsmSettings(
                endpoints=tuple(Endpoint.parse(url) for url in urls),
                selector=KeySelector(kid=demo.key.kid),
                credential=CredentialSource(api_key=Secret(demo.app.api_key)),
                ca_file=server.ca_file,
            ),
            clock=LoopClock(),
            randomness=SystemRandomness(),
            telemetry=Deaf(),
            environ={},
        )

    async def seal(self) -> Ciphertext:
        """Return the seed, sealed."""
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        return await self.provider.encrypt(self._kid, SEED, None, deadline=deadline)

    async def begin(self, sealed: Ciphertext) -> None:
        """Make the first calls, which find out that an endpoint is broken."""
        took = await asyncio.gather(*[self._call(sealed) for _ in range(IN_FLIGHT)])
        self.first_s = max(took)

    async def measure(self, sealed: Ciphertext, seconds: float) -> None:
        """Keep calls in flight for *seconds*."""
        ends_at = time.perf_counter() + seconds
        took: list[float] = []

        async def keep_calling() -> None:
            while time.perf_counter() < ends_at:
                took.append(await self._call(sealed))

        await asyncio.gather(*[keep_calling() for _ in range(IN_FLIGHT)])
        self.best_median_s = min(self.best_median_s, statistics.median(took))

    async def _call(self, sealed: Ciphertext) -> float:
        began = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        try:
            found = await self.provider.decrypt(
                self._kid, sealed, None, deadline=deadline
            )
            self.failed += found != SEED
        except KmsError:
            self.failed += 1
        return time.perf_counter() - began


async def compare(seconds: float, rounds: int) -> dict[str, object]:
    """Measure every adapter in turn and return the report."""
    demo = Dsm.with_demo_key()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmulatorServer(demo.dsm))
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        # The kernel takes connections to it, and nobody reads what they say.
        sockets[1].listen(512)
        dead, hanging = (f"https://127.0.0.1:{s.getsockname()[1]}" for s in sockets)
        subjects = {
            "one good": Subject([server.url], demo, server),
            "dead, good": Subject([dead, server.url], demo, server),
            "hanging, good": Subject([hanging, server.url], demo, server),
        }
        sealed = await subjects["one good"].seal()
        for subject in subjects.values():
            await subject.begin(sealed)
        for _ in range(rounds):
            for subject in subjects.values():
                await subject.measure(sealed, seconds)
        for subject in subjects.values():
            await subject.provider.aclose()
    reference_s = subjects["one good"].best_median_s
    return {
        name: {
            "failed": subject.failed,
            "slowest_first_call_s": round(subject.first_s, 2),
            "median_to_one_good": round(subject.best_median_s / reference_s, 2),
        }
        for name, subject in subjects.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(compare(options.seconds, options.rounds)), indent=2))


if __name__ == "__main__":
    main()
