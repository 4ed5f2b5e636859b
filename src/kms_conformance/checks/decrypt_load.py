"""Decrypt: many at once, and many in a row."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from kms_conformance.check import check
from kms_conformance.expect import quick_enough, same
from kms_conformance.outcome import MUST


if TYPE_CHECKING:
    from kms_conformance.context import Context


READERS: Final = 50


@check("D03", MUST)
async def one_seed_many_times_at_once(kit: Context) -> None:
    """Identical Decrypts at once are all answered.

    Sends: 50 Decrypts of one sealed seed at once, which differ in their uid only.
    Expects: the seed each time.
    Why: kube-apiserver does not join identical requests: a cold list of objects under
        one seed asks for it as often as there are readers.
    Source: `env`; `contract` 2.6
    """
    plugin, seed = kit.dial(), kit.seed()
    job = functools.partial(plugin.decrypt, await plugin.encrypt(seed))
    # As wide in a quick run, too: a limit shows only to who reaches it.
    count = min(READERS, kit.count(5 * READERS, least=10))
    for came in await kit.parallel([job] * count, width=count):
        same(came, seed)


@check("D16", MUST, limit_s=180)
async def many_in_a_row_are_quick(kit: Context) -> None:
    """Decrypts of distinct seeds in a row are all answered quickly.

    Sends: 1000 sealed seeds, one after another.
    Expects: the right seed each time, before the deadline; half of the calls within
        10 ms and 99 % within 100 ms, or a warning.
    Why: a kube-apiserver that starts opens its seeds in a row, and is not ready before.
    Source: `docs`
    """
    plugin = kit.dial()
    seeds = [kit.seed() for _ in range(kit.count(1000, least=20))]
    jobs = [functools.partial(plugin.encrypt, seed) for seed in seeds]
    sealed_seeds = await kit.parallel(jobs, width=10)
    for seed, sealed in zip(seeds, sealed_seeds, strict=True):
        same(await plugin.decrypt(sealed), seed)
    quick_enough(kit, "Decrypt", p50_ms=10, p99_ms=100)


@check("D17", MUST, limit_s=120)
async def many_at_once_are_opened(kit: Context) -> None:
    """Many Decrypts at once are all answered.

    Sends: 2000 distinct sealed seeds, in turns of 10, 50 and 100 calls at once.
    Expects: the right seed each time; no RESOURCE_EXHAUSTED, no deadline passed.
    Why: a restarted kube-apiserver opens every seed that it finds in etcd, from many
        requests at once, and a refused Decrypt is a failed read.
    Source: `docs`; `contract` 2.6
    """
    plugin = kit.dial()

    async def round_trip(seed: bytes) -> None:
        same(await plugin.decrypt(await plugin.encrypt(seed)), seed)

    seeds = [kit.seed() for _ in range(kit.count(2000, least=30))]
    for turn, width in enumerate((10, 50, 100)):
        jobs = [functools.partial(round_trip, seed) for seed in seeds[turn::3]]
        await kit.parallel(jobs, width=width)
