"""Consistency and rotation: which key_id is answered, and what old data becomes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from kms_conformance.check import check
from kms_conformance.expect import opened, refused, same
from kms_conformance.outcome import MUST, SHOULD, Failed
from kms_conformance.rotating import while_rotating
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from kms_conformance.connection import Connection
    from kms_conformance.context import Context


@frozen
class Look:
    """The key_ids of an Encrypt, and of Status before and after it."""

    before: str
    sealed: str
    after: str

    @classmethod
    async def at(cls, plugin: Connection, seed: bytes) -> Look:
        """Ask *plugin* for Status, Encrypt and Status."""
        before = (await plugin.status()).key_id
        sealed = (await plugin.encrypt(seed)).key_id
        return cls(before, sealed, (await plugin.status()).key_id)

    def __str__(self) -> str:
        return f"Status {self.before!r}, Encrypt {self.sealed!r}, Status {self.after!r}"


@check("R01", MUST, limit_s=120)
async def key_id_stands_still(kit: Context) -> None:
    """Status and Encrypt answer one key_id while nobody rotates.

    Sends: 500 times Status, Encrypt, Status.
    Expects: the same key_id each time.
    Why: kube-apiserver throws an Encrypt away whose key_id Status did not name, and
        each change of the key_id marks all stored objects as stale.
    Source: `cfg` 419
    """
    plugin = kit.dial()
    first = (await plugin.status()).key_id
    for _ in range(kit.count(500, least=10)):
        look = await Look.at(plugin, kit.seed())
        if {look.before, look.sealed, look.after} != {first}:
            raise Failed(f"{look}, and {first!r} at first")


@check("R02", MUST, needs=(Hook.ROTATE,), limit_s=300)
async def encrypt_follows_status_through_a_rotation(kit: Context) -> None:
    """While the key rotates, Encrypt never answers a key_id that Status doesn't.

    Sends: Status, Encrypt, Status, again and again while the key rotates.
    Expects: the key_id of Encrypt is that of Status before it, or of Status after it.
    Why: kube-apiserver throws an Encrypt away whose key_id is not the one that Status
        had named; a plugin that runs ahead of its Status can't be written with.
    Source: `docs`; `cfg` 411-452
    """
    plugin = kit.dial()
    looks = await while_rotating(kit, lambda: Look.at(plugin, kit.seed()))
    for look in looks:
        if look.sealed not in {look.before, look.after}:
            raise Failed(str(look))
    kit.measure("looks while the key rotated", len(looks), "looks")


@check("R03", MUST, needs=(Hook.ROTATE,), limit_s=300)
async def key_id_changes_once(kit: Context) -> None:
    """A rotation changes the key_id once, and never back.

    Sends: Status, again and again while the key rotates, and for 10 s more.
    Expects: the old key_id, then the new one, and no other.
    Why: each change makes kube-apiserver seal a new seed and mark all objects as
        stale; one that returns hides which key protects what.
    Source: `docs`
    """
    plugin = kit.dial()

    async def key_id() -> str:
        return (await plugin.status()).key_id

    seen = await while_rotating(kit, key_id)
    for _ in range(20):
        await kit.idle(0.5)
        seen.append(await key_id())
    changes = [name for name, _ in itertools.groupby(seen)]
    if len(changes) != 2:  # noqa: PLR2004 - the old one and the new one
        shown = ", then ".join(repr(name) for name in changes[:5])
        raise Failed(f"{len(changes) - 1} changes: {shown}")


@check("R04", SHOULD, needs=(Hook.ROTATE,), limit_s=600)
async def rotation_is_noticed(kit: Context) -> None:
    """Status shows a rotation in time.

    Sends: a rotation, then Status until it shows another key_id.
    Expects: it does within --rotation-s; the seconds are reported.
    Why: only when they are known, it is known how long to wait before objects are
        rewritten, and the old key is put away.
    Source: `docs`
    """
    took_s = await kit.rotate(kit.dial())
    kit.measure("from the rotation to the new key_id", round(took_s, 3), "s")


@check("R05", MUST, needs=(Hook.ROTATE,), limit_s=300)
async def old_seeds_outlive_a_rotation(kit: Context) -> None:
    """What was sealed before a rotation is opened after it.

    Sends: Encrypt, a rotation, and once Status shows it Decrypt of the old answer.
    Expects: the seed.
    Why: objects keep the old key_id until they are rewritten, which nobody forces.
    Source: `docs`
    """
    plugin, seed = kit.dial(), kit.seed()
    sealed = await plugin.encrypt(seed)
    await kit.rotate(plugin)
    same(await plugin.decrypt(sealed), seed)


@check("R06", MUST, needs=(Hook.ROTATE, Hook.STOP, Hook.START), limit_s=600)
async def seeds_outlive_two_rotations_and_a_restart(kit: Context) -> None:
    """What was sealed two rotations ago is opened after a restart.

    Sends: Encrypt, a rotation, Encrypt, a rotation, a restart; Decrypt of both answers.
    Expects: both seeds.
    Why: a plugin that knows old keys from its own memory has lost them now.
    Source: `contract` 3.2
    """
    plugin = kit.dial()
    sealed = []
    for ago in (2, 1):
        seed = kit.seed()
        sealed.append((ago, seed, await plugin.encrypt(seed)))
        await kit.rotate(plugin)
    await kit.restart()
    plugin = kit.dial()
    for ago, seed, one in sealed:
        sent = f"a seed of {ago} rotations ago, after a restart"
        await opened(plugin.decrypt(one), seed, sent=sent)


@check("R07", MUST, needs=(Hook.ROTATE,), limit_s=300)
async def key_ids_are_not_exchanged(kit: Context) -> None:
    """A ciphertext is opened under its own key_id only.

    Sends: an old ciphertext with the new key_id, and a new one with the old key_id.
    Expects: an error each time.
    Why: the key_id tells which objects an old key still protects; a plugin that opens
        under a wrong one makes that untrue.
    Source: `docs`
    """
    plugin = kit.dial()
    old = await plugin.encrypt(kit.seed())
    await kit.rotate(plugin)
    new = await plugin.encrypt(kit.seed())
    if new.key_id == old.key_id:
        raise Failed(f"Status shows a new key_id, and Encrypt answers {old.key_id!r}")
    for sent, forged in (
        ("an old ciphertext with the new key_id", evolve(old, key_id=new.key_id)),
        ("a new ciphertext with the old key_id", evolve(new, key_id=old.key_id)),
    ):
        await refused(plugin.decrypt(forged), sent=sent)
