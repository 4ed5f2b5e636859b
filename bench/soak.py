"""The adapter and two daemons under random faults: ``python -m bench.soak``.

For some minutes pairs of an encrypt and a decrypt go three ways at once: through the
adapter in this process, through a daemon that protects directly, and through one with a
local KEK. Meanwhile the emulator, a process of its own, does everything that
``bench.disturbances`` names. It prints one JSON object and exits 1 if ``problems`` in
it are any:

- a wrong answer: a decrypt that gives other bytes than were sealed, at the time or at
  the end, when everything works again and all that was kept is opened once more;
- an exception that is no error of ours;
- a leak of connections, tasks, file descriptors, threads or memory;
- a daemon that logs a defect, or does not end with 0.

``--calls`` bounds a run by calls instead of minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field
from bench.disturbances import API_KEY_FILE, Control, Troublemaker
from bench.programs import daemon, emulator, until_ready, write_config
from bench.ways import (
    AdapterWay,
    DaemonWay,
    Figures,
    Samples,
    Tally,
    Way,
    figures_of,
    percentiles,
)


if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


PAIR_CALLS: Final = 2
MAX_IN_FLIGHT: Final = 400
MAX_KEPT: Final = 1500
HEAL_S: Final = 90.0
WARM_UP_PAIRS: Final = 30
LAST_TRIES: Final = 5
QUIET_S: Final = 130.0
"""The daemons keep idle connections for 60 s, and look for old ones as often."""

SAMPLES: Final = 20
MAX_GROWTH_MIB: Final = 8.0
"""From the first third of a run to its last, when all faults have been met before."""
POOL: Final = 64


@define
class Soak:
    """One run.

    Attributes:
        ways: Where calls go.
        control: The emulator.
        dice: Chooses, by the seed.
        rate: Calls a second.
    """

    ways: list[Way]
    control: Control
    dice: random.Random
    rate: float
    tally: Tally = field(factory=Tally)
    kept: list[tuple[Way, Any, bytes]] = field(factory=list)
    skipped: int = 0
    _running: set[asyncio.Task[None]] = field(factory=set)

    async def go(self, *, pairs: int | None, seconds: float) -> None:
        """Make pairs of calls at the rate, so many or for so long."""
        began = time.monotonic()
        made = 0
        while (made < pairs) if pairs else (time.monotonic() - began < seconds):
            # An open loop: calls come when they come, however slow the others are.
            due = began + made * PAIR_CALLS / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            made += 1
            if len(self._running) >= MAX_IN_FLIGHT:
                self.skipped += 1
                continue
            task = asyncio.create_task(self._pair(self.dice.choice(self.ways)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await asyncio.gather(*self._running)

    async def heal(self) -> None:
        """Let everything work again, and wait until it does on every way."""
        await self.control.ask("clear-faults")
        await self.control.key("enable")
        for way in self.ways:
            way.hurry()
            async with asyncio.timeout(HEAL_S):
                while not await self._works(way):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.5)

    async def open_all(self) -> int:
        """Open everything that was kept; return how many there were."""
        for at in range(0, len(self.kept), 20):
            some = self.kept[at : at + 20]
            await asyncio.gather(*(self._open_at_last(*each) for each in some))
        return len(self.kept)

    async def _works(self, way: Way) -> bool:
        seed = random.randbytes(32)  # noqa: S311 - protects nothing
        with contextlib.suppress(Exception):
            return await way.open(await way.seal(seed)) == seed
        return False

    async def _pair(self, way: Way) -> None:
        seed = random.randbytes(32)  # noqa: S311 - protects nothing
        sealed = await self.tally.count(f"{way.name} encrypt", way.seal(seed))
        if sealed is not None:
            self._keep((way, sealed, seed))
            await self._open(way, sealed, seed)
        elif self.kept:
            await self._open(*self.dice.choice(self.kept))

    async def _open_at_last(self, way: Way, sealed: Any, seed: bytes) -> None:
        for _ in range(LAST_TRIES):
            # A machine that is busy may make a call late.
            if await self._open(way, sealed, seed):
                return
        self.tally.problems.append(f"{way.name}: what was sealed does not open")

    async def _open(self, way: Way, sealed: Any, seed: bytes) -> bool:
        where = f"{way.name} decrypt"
        opened = await self.tally.count(where, way.open(sealed))
        if opened is not None and opened != seed:
            self.tally.problems.append(f"{where}: a wrong answer")
        return opened is not None

    def _keep(self, entry: tuple[Way, Any, bytes]) -> None:
        if len(self.kept) < MAX_KEPT:
            self.kept.append(entry)
        else:
            self.kept[self.dice.randrange(MAX_KEPT)] = entry


async def soak(
    options: argparse.Namespace, described: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Run it all, and return the figures."""
    dice = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
    port = int(described["url"].rpartition(":")[2])
    ours = asyncio.all_tasks()
    async with contextlib.AsyncExitStack() as stack:
        control = await stack.enter_async_context(Control(described, folder, "bench"))
        adapter = AdapterWay("adapter", _config(folder, described, "adapter"))
        daemons = [
            await _daemon(stack, folder, described, protection)
            for protection in ("direct", "local-kek")
        ]
        run = Soak([adapter, *daemons], control, dice, options.rate)
        watch = {way.name: way.pid for way in daemons}
        await adapter.start()
        await run.go(pairs=WARM_UP_PAIRS, seconds=0)
        before = {name: figures_of(pid, port) for name, pid in watch.items()}
        trouble = Troublemaker(control, dice, options.longest_s)
        maker = asyncio.create_task(trouble.run())
        samples = Samples(watch)
        tasks = [
            maker,
            asyncio.create_task(samples.take_memory(options.minutes * 60 / SAMPLES)),
            asyncio.create_task(samples.take_lag()),
            *(asyncio.create_task(way.ask_status(run.tally)) for way in daemons),
        ]
        began = time.monotonic()
        await run.go(pairs=options.calls // PAIR_CALLS, seconds=options.minutes * 60)
        took_s = time.monotonic() - began
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(outcome, asyncio.CancelledError):
                run.tally.problems.append(f"the bench failed: {outcome!r}")
        await run.heal()
        opened = await run.open_all()
        in_use = figures_of(None, port)
        await adapter.stop()
        if not options.calls:
            await asyncio.sleep(QUIET_S)
        after = {name: figures_of(pid, port) for name, pid in watch.items()}
        await asyncio.sleep(0)
        closed = figures_of(None, port)
    # The clients of the daemons and of the emulator are closed by now.
    left = asyncio.all_tasks() - ours
    problems = [
        *run.tally.problems,
        *_leaks(before, after, quiet=not options.calls),
        *_growth(samples.rss_mib),
        *(f"a task is left: {task.get_coro()}" for task in left),
        *_complaints(folder),
    ]
    # The emulator's control connection is the one that may be left.
    if closed.connections > 1:
        problems.append(f"the adapter left {closed.connections - 1} connections")
    return {
        "seed": options.seed,
        "seconds": round(took_s, 1),
        "problems": problems,
        "calls": run.tally.outcomes(),
        "calls_skipped": run.skipped,
        "latency_ms": run.tally.latencies(),
        "opened_at_the_end": opened,
        "disturbances": dict(sorted(trouble.brought.items())),
        "lag_ms": percentiles(samples.lag_ms),
        "rss_mib": samples.rss_mib,
        "before": {name: figures.told() for name, figures in before.items()},
        "after": {name: figures.told() for name, figures in after.items()},
        "adapter": {"in_use": in_use.told(), "closed": closed.told()},
    }


async def _daemon(
    stack: contextlib.AsyncExitStack,
    folder: Path,
    described: dict[str, Any],
    protection: str,
) -> DaemonWay:
    config = _config(folder, described, protection)
    since = time.monotonic()
    log = stack.enter_context((folder / f"{protection}.log").open("wb"))
    process = stack.enter_context(_ending_well(config, log.fileno(), protection))
    await until_ready(config.with_name("kms.sock"), since)
    way = DaemonWay(f"daemon, {protection}", config.with_name("kms.sock"), process.pid)
    await stack.enter_async_context(way)
    return way


@contextlib.contextmanager
def _ending_well(
    config: Path, stderr: int, name: str
) -> Iterator[subprocess.Popen[bytes]]:
    with daemon(config, stderr) as process:
        yield process
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
        if code != 0:
            raise RuntimeError(f"the daemon, {name}, ended with {code}")


def _config(folder: Path, described: dict[str, Any], name: str) -> Path:
    place = folder / name
    place.mkdir()
    port = described["url"].rpartition(":")[2]
    return write_config(
        folder,
        described,
        place,
        protection="direct" if name == "adapter" else name,
        api_key=None,
        api_key_file=str(folder / API_KEY_FILE),
        # The same DSM under another name, and one where nobody is.
        sdkms_endpoints=[f"https://localhost:{port}", "https://127.0.0.1:1"],
    )


def _leaks(
    before: dict[str, Figures], after: dict[str, Figures], *, quiet: bool
) -> Iterator[str]:
    # A short run ends while connections wait for a second use.
    spare = 4 if quiet else POOL
    for name, was in before.items():
        now = after[name]
        for what in ("connections", "descriptors", "threads"):
            grown = getattr(now, what) - getattr(was, what)
            if grown > spare:
                yield f"{name}: {grown} more {what}"


def _growth(rss_mib: dict[str, list[float]]) -> Iterator[str]:
    # Not from the start: a burst leaves the allocator more than it gives back.
    for name, samples in rss_mib.items():
        third = len(samples) // 3
        if third:
            first, last = mean(samples[:third]), mean(samples[-third:])
            if last - first > MAX_GROWTH_MIB:
                yield f"{name}: memory grew from {first:.1f} to {last:.1f} MiB"


def _complaints(folder: Path) -> Iterator[str]:
    for log in folder.glob("*.log"):
        for line in log.read_text().splitlines():
            if json.loads(line)["event"] == "unexpected":
                yield f"{log.stem}: {line}"


def main() -> int:
    """Run a soak and print its figures; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--calls", type=int, default=0, help="instead of minutes")
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--longest-s", type=float, default=4.0, help="how long a disturbance may last"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, emulator(Path(name)) as described:
        figures = asyncio.run(soak(options, described, Path(name)))
    print(json.dumps(figures, indent=2))
    return 1 if figures["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
