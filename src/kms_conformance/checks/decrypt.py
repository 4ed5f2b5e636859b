"""Decrypt: genuine requests, and those that must be refused."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from attrs import evolve

from kms_conformance.check import check
from kms_conformance.expect import refused, same
from kms_conformance.outcome import MUST


if TYPE_CHECKING:
    from kms_conformance.context import Context


@check("D01", MUST)
async def seed_comes_back(kit: Context) -> None:
    """Decrypt gives back the seed that Encrypt was given.

    Sends: what Encrypt answered to 32 random bytes, with a new uid.
    Expects: the same 32 bytes.
    Why: they are the only way to every object that was written with them.
    Source: `itest`
    """
    plugin, seed = kit.dial(), kit.seed()
    same(await plugin.decrypt(await plugin.encrypt(seed)), seed)


@check("D04", MUST)
async def unknown_key_id_is_refused(kit: Context) -> None:
    """Decrypt refuses a key_id that it never issued.

    Sends: a genuine ciphertext and annotations with a key_id of the kit's own.
    Expects: an error.
    Why: a plugin must not try what it is not sure to have encrypted itself; a success
        hides that the stored key_id is wrong.
    Source: `docs`
    """
    plugin = kit.dial()
    sealed = await plugin.encrypt(kit.seed())
    await refused(plugin.decrypt(evolve(sealed, key_id=f"kit:{kit.uid()}")))


@check("D06", MUST)
async def flipped_byte_is_refused(kit: Context) -> None:
    """Decrypt refuses a ciphertext of which one byte was changed.

    Sends: genuine ciphertexts with one byte inverted, at 32 positions.
    Expects: an error each time; never OK with other bytes.
    Why: kube-apiserver caches what Decrypt answers before it uses it, so that one wrong
        answer makes objects unreadable for a day.
    Source: `env` 231-243, 340; `contract` 1.3
    """
    plugin = kit.dial()
    sealed = await plugin.encrypt(kit.seed())
    length = len(sealed.ciphertext)
    count = min(kit.count(32, least=8), length)
    for position in sorted(kit.random.sample(range(length), count)):
        changed = bytearray(sealed.ciphertext)
        changed[position] ^= 0xFF
        forged = evolve(sealed, ciphertext=bytes(changed))
        sent = f"byte {position} of {length} inverted"
        await refused(plugin.decrypt(forged), sent=sent)


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
