"""Decrypt of what was sealed before: earlier runs, restarts, outages."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from kms_conformance.check import check
from kms_conformance.corpus import Corpus, CorpusRefused, Entry
from kms_conformance.expect import exact_or_refused, opened, same
from kms_conformance.levers import HookFailed
from kms_conformance.outcome import MUST, SHOULD, NotRun
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from collections.abc import Sequence

    from kms_conformance.connection import Connection
    from kms_conformance.context import Context


ADDED_BY_EACH_RUN: Final = 8
"""Sealed seeds that a run leaves in the corpus."""

OPENED_OF_A_CORPUS: Final = 1000
"""Most sealed seeds of a corpus that a full run opens."""


@check("D19", MUST, needs=(Hook.CORPUS,), limit_s=180)
async def earlier_runs_are_opened(kit: Context) -> None:
    """What earlier runs had sealed is still opened.

    Sends: the sealed seeds in the corpus, or a sample of 1000 with the oldest; then new
        ones, which are added to it. All are random test bytes of the kit's own.
    Expects: the right seed each time. Not run, but for the adding, if there are none.
    Why: objects stay in etcd for years as they were written, and no upgrade of the
        plugin may lose them.
    Source: `contract` 3.2
    """
    if kit.target.corpus is None:
        raise NotRun(f"needs {Hook.CORPUS.value}")
    corpus, plugin = Corpus(kit.target.corpus), kit.dial()
    try:
        entries = corpus.entries()
        jobs = [
            functools.partial(_demand, plugin, entry) for entry in _sample(kit, entries)
        ]
        await kit.parallel(jobs, width=10)
        corpus.add([await _new(kit, plugin) for _ in range(ADDED_BY_EACH_RUN)])
    except CorpusRefused as refusal:
        raise HookFailed(
            str(refusal),
            sent=f"the file of {Hook.CORPUS.value}",
            why="the check can't judge the plugin without it",
        ) from None
    if not entries:
        raise NotRun("the corpus was empty; the next run will open this run's seeds")
    kit.measure("sealed seeds of earlier runs", len(jobs), "seeds")


@check("D20", MUST, needs=(Hook.STOP, Hook.START), limit_s=180)
async def seeds_outlive_a_restart(kit: Context) -> None:
    """What was sealed before a restart is opened after it.

    Sends: Encrypt, a stop, a start, and Decrypt of the answer on a new connection.
    Expects: the seed.
    Why: etcd outlives the plugin's process and all that stands in its memory.
    Source: `itest`
    """
    seed = kit.seed()
    sealed = await kit.dial().encrypt(seed)
    await kit.restart()
    same(await kit.dial().decrypt(sealed), seed)


@check("D21", SHOULD, needs=(Hook.BREAK, Hook.HEAL), limit_s=180)
async def outage_gives_the_seed_or_an_error(kit: Context) -> None:
    """While the key service is away, Decrypt gives the seed or an error, in time.

    Sends: Encrypt and Decrypt; the key service is broken; the same Decrypt 5 times.
    Expects: the seed, from a cache, or an error before the deadline; never other
        bytes, never a hang.
    Why: a call that hangs holds a reader until its timeout, and all that wait for it.
    Source: `contract` 1.3, 2.3
    """
    plugin, seed = kit.dial(), kit.seed()
    sealed = await plugin.encrypt(seed)
    same(await plugin.decrypt(sealed), seed)
    await kit.pull(Hook.BREAK)
    answered = [
        await exact_or_refused(plugin.decrypt(sealed), seed)
        for _ in range(kit.count(5))
    ]
    kit.measure("answered without the key service", sum(answered), "calls")


def _sample(kit: Context, entries: Sequence[Entry]) -> list[Entry]:
    """Return the oldest one, and some of the others."""
    others = list(entries[1:])
    count = min(kit.count(OPENED_OF_A_CORPUS) - 1, len(others))
    return [*entries[:1], *kit.random.sample(others, count)]


async def _demand(plugin: Connection, entry: Entry) -> None:
    sent = f"what was sealed at {entry.sealed_at:%Y-%m-%d %H:%M}"
    await opened(plugin.decrypt(entry.sealed), entry.seed, sent=sent)


async def _new(kit: Context, plugin: Connection) -> Entry:
    seed = kit.seed()
    sealed = await plugin.encrypt(seed)
    same(await plugin.decrypt(sealed), seed)
    return Entry(datetime.now(UTC), seed, sealed)
