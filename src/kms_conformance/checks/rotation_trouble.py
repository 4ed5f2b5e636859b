"""Rotation in trouble: old keys that return, outages, restarts, and two instances."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from kms_conformance.check import check
from kms_conformance.expect import opened
from kms_conformance.outcome import MUST, SHOULD, CallFailed, Failed
from kms_conformance.rotating import while_rotating
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from kms_conformance.connection import Connection, Sealed, StatusAnswer
    from kms_conformance.context import Context


RETRY_S: Final = 10.0
"""kube-apiserver's interval while a probe fails (contract 2.1)."""


@check("R08", MUST, needs=(Hook.ROTATE, Hook.BACK), limit_s=600)
async def key_that_returns_gets_another_key_id(kit: Context) -> None:
    """An old key that becomes the current one again gets a key_id of its own.

    Sends: a rotation, then the return of the key before it; Encrypt at each stage, and
        Decrypt of all three answers at the end.
    Expects: three key_ids, all different, and the three seeds.
    Why: kube-apiserver takes an object for up to date if it has the current key_id; a
        key_id that returns hides that objects are to be rewritten.
    Source: `docs`
    """
    plugin = kit.dial()
    stages = [await _stage(kit, plugin)]
    await kit.rotate(plugin)
    stages.append(await _stage(kit, plugin))
    _, second = stages[-1]
    await kit.pull(Hook.BACK)

    async def changed() -> bool:
        return (await plugin.status()).key_id != second.key_id

    await kit.until(
        changed,
        within_s=kit.target.rotation_s,
        otherwise="after --back Status showed no other key_id",
    )
    stages.append(await _stage(kit, plugin))
    key_ids = [sealed.key_id for _, sealed in stages]
    if len(set(key_ids)) != len(key_ids):
        raise Failed("Encrypt answered " + ", then ".join(map(repr, key_ids)))
    for seed, sealed in stages:
        await opened(plugin.decrypt(sealed), seed, sent=f"a seed of {sealed.key_id!r}")


@check("R09", SHOULD, needs=(Hook.ROTATE,), limit_s=300)
async def encrypt_goes_on_through_a_rotation(kit: Context) -> None:
    """While the key rotates, Encrypt neither hangs nor fails for long.

    Sends: Encrypt, again and again while the key rotates.
    Expects: no deadline passed; no errors for longer than 10 s.
    Why: kube-apiserver tries again after 10 s; what fails longer than that stops
        writes in the end.
    Source: `cfg` 92
    """
    plugin, loop = kit.dial(), asyncio.get_running_loop()
    limit_s = RETRY_S * kit.scale.idle
    failing_since: float | None = None

    async def sealed() -> bool:
        nonlocal failing_since
        try:
            await plugin.encrypt(kit.seed())
        except CallFailed as failure:
            if failure.no_answer:
                raise Failed(str(failure)) from None
            failing_since = failing_since or loop.time()
            if loop.time() - failing_since > limit_s:
                raise Failed(f"for more than {limit_s:g} s {failure}") from None
            return False
        failing_since = None
        return True

    looks = await while_rotating(kit, sealed)
    kit.measure("Encrypts that failed", looks.count(False), "calls")
    await kit.until(
        sealed, within_s=limit_s, otherwise="after the rotation Encrypt did not succeed"
    )


@check("R10", MUST, needs=(Hook.ROTATE, Hook.BREAK, Hook.HEAL), limit_s=600)
async def outage_does_not_part_status_and_encrypt(kit: Context) -> None:
    """A rotation in an outage never makes Status name a key that Encrypt doesn't use.

    Sends: Encrypt; a rotation, and at once an outage; 25 times Status, Encrypt, Status;
        the end of the outage; Decrypt of all that was sealed.
    Expects: as far as they are answered, Encrypt has the key_id of Status before or
        after it; afterwards Status shows the new key, and all seeds are opened.
    Why: with a key_id that Encrypt does not use, kube-apiserver can't take a new seed,
        and marks all objects as stale.
    Source: `hier`; `cfg` 411-452
    """
    plugin = kit.dial()
    kept = [await _stage(kit, plugin)]
    _, first = kept[0]
    await kit.pull(Hook.ROTATE)
    await kit.pull(Hook.BREAK)
    for _ in range(kit.count(25)):
        await kit.idle(0.2)
        before = await _key_id(plugin)
        seed = kit.seed()
        try:
            sealed = await plugin.encrypt(seed)
        except CallFailed:
            continue
        kept.append((seed, sealed))
        named = {before, await _key_id(plugin)} - {""}
        if named and sealed.key_id not in named:
            names = " and ".join(map(repr, sorted(named)))
            raise Failed(f"Status {names}, Encrypt {sealed.key_id!r}")
    await kit.pull(Hook.HEAL)
    await kit.serving()

    async def rotated() -> bool:
        return (await plugin.status()).key_id != first.key_id

    await kit.until(
        rotated,
        within_s=kit.target.rotation_s,
        otherwise="after the outage Status did not show the rotation",
    )
    for seed, sealed in kept:
        sent = "what was sealed before or in the outage"
        await opened(plugin.decrypt(sealed), seed, sent=sent)
    kit.measure("Encrypts answered in the outage", len(kept) - 1, "calls")


@check("R11", MUST, needs=(Hook.PEER, Hook.ROTATE), limit_s=600)
async def instances_open_each_others_seeds(kit: Context) -> None:
    """Two instances open each other's seeds before, while and after the key rotates.

    Sends: Encrypt to one and Decrypt to the other, both ways, again and again while the
        key rotates, until both show the new key.
    Expects: the seed each time.
    Why: each API server asks its own instance, and all read what any has written; the
        instances learn of a rotation at different times.
    Source: `contract` 4.2
    """
    ours, theirs = kit.dial(), kit.dial_peer()

    async def exchange() -> None:
        for giver, taker, sent in (
            (theirs, ours, "to --socket what --peer had sealed"),
            (ours, theirs, "to --peer what --socket had sealed"),
        ):
            seed, sealed = await _stage(kit, giver)
            await opened(taker.decrypt(sealed), seed, sent=sent)

    async def agreed() -> bool:
        await exchange()
        return (await ours.status()).key_id == (await theirs.status()).key_id

    await while_rotating(kit, exchange)
    await kit.until(
        agreed,
        within_s=kit.target.rotation_s,
        otherwise="the two instances did not show one key_id",
    )
    await exchange()


@check("R12", MUST, needs=(Hook.PEER,))
async def instances_agree_on_the_key_id(kit: Context) -> None:
    """Two instances with one remote key answer one key_id.

    Sends: Status to both.
    Expects: the same key_id.
    Why: each API server asks its own instance; with two names for one key, each marks
        as stale what the other has written.
    Source: `contract` 4.2
    """
    ours = (await kit.dial().status()).key_id
    theirs = (await kit.dial_peer().status()).key_id
    if ours != theirs:
        raise Failed(f"{ours!r} from one, {theirs!r} from the other")


@check("R13", MUST, needs=(Hook.ROTATE, Hook.STOP, Hook.START), limit_s=300)
async def version_never_changes(kit: Context) -> None:
    """The version is the same after a rotation and after a restart.

    Sends: Status before and after a rotation, and after a restart.
    Expects: the same version.
    Why: kube-apiserver holds on to the first version that it sees, and calls the plugin
        unhealthy when another one comes.
    Source: `cfg` 494-500
    """
    plugin = kit.dial()
    first = (await plugin.status()).version
    await kit.rotate(plugin)
    _demand_version(await plugin.status(), first, "Status after a rotation")
    await kit.restart()
    _demand_version(await kit.dial().status(), first, "Status after a restart")


async def _stage(kit: Context, plugin: Connection) -> tuple[bytes, Sealed]:
    seed = kit.seed()
    return seed, await plugin.encrypt(seed)


async def _key_id(plugin: Connection) -> str:
    """Return what Status names; empty if it is not answered."""
    try:
        return (await plugin.status()).key_id
    except CallFailed:
        return ""


def _demand_version(answer: StatusAnswer, version: str, sent: str) -> None:
    if answer.version != version:
        raise Failed(f"{answer.version!r} instead of {version!r}", sent=sent)
