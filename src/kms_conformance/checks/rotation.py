"""Consistency and rotation: which key_id is answered, and what old data becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kms_conformance.check import check
from kms_conformance.expect import same
from kms_conformance.outcome import MUST, Failed
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from kms_conformance.context import Context


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
