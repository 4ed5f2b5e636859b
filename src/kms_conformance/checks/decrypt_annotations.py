"""Decrypt with annotations that are not those which Encrypt gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from kms_conformance.check import check
from kms_conformance.expect import exact_or_refused
from kms_conformance.forgery import with_annotations_changed, with_foreign_annotation
from kms_conformance.outcome import MUST, SHOULD, NotRun


if TYPE_CHECKING:
    from kms_conformance.connection import Sealed
    from kms_conformance.context import Context


@check("D10", MUST)
async def missing_annotations_never_give_other_bytes(kit: Context) -> None:
    """Decrypt without the annotations that Encrypt gave is exact or refused.

    Sends: a genuine ciphertext and key_id without annotations.
    Expects: the seed, or an error; never other bytes. Not run if there are none.
    Why: kube-apiserver caches what Decrypt answers before it uses it, so that one wrong
        answer makes objects unreadable for a day.
    Source: `proto`; `contract` 1.3
    """
    plugin, seed = kit.dial(), kit.seed()
    bare = evolve(_annotated(await plugin.encrypt(seed)), annotations=())
    await exact_or_refused(plugin.decrypt(bare), seed)


@check("D11", MUST)
async def changed_annotation_never_gives_other_bytes(kit: Context) -> None:
    """Decrypt with an annotation that was changed is exact or refused.

    Sends: a genuine Decrypt once for each annotation, with that one's value changed.
    Expects: an error; the seed with a warning; never other bytes. Not run if there
        are none.
    Why: annotations stand in etcd unprotected; one that is not authenticated is a way
        to change what the plugin does.
    Source: `proto`; `contract` 1.3
    """
    plugin, seed = kit.dial(), kit.seed()
    sealed = _annotated(await plugin.encrypt(seed))
    for forgery in with_annotations_changed(sealed):
        call = plugin.decrypt(forgery.sealed)
        if await exact_or_refused(call, seed, sent=forgery.sent):
            kit.warn(f"{forgery.sent}: the seed came; an error is better")


@check("D12", SHOULD)
async def foreign_annotation_never_gives_other_bytes(kit: Context) -> None:
    """Decrypt with an annotation more is exact or refused.

    Sends: a genuine Decrypt with an annotation of the kit's own.
    Expects: the seed, or an error; never other bytes.
    Why: an annotation that the plugin did not make must not lead it to another key.
    Source: `ref`
    """
    plugin, seed = kit.dial(), kit.seed()
    forgery = with_foreign_annotation(await plugin.encrypt(seed))
    await exact_or_refused(plugin.decrypt(forgery.sealed), seed, sent=forgery.sent)


@check("D13", MUST)
async def anothers_annotations_never_give_other_bytes(kit: Context) -> None:
    """Decrypt with the annotations of another seed is exact or refused.

    Sends: the ciphertext of one Encrypt with the annotations of the next.
    Expects: the first seed, or an error; never other bytes. Not run if there are none.
    Why: ciphertext and annotations are stored apart; a mix-up must be noticed.
    Source: `proto`; `contract` 1.3
    """
    plugin, seed = kit.dial(), kit.seed()
    sealed = _annotated(await plugin.encrypt(seed))
    other = await plugin.encrypt(kit.seed())
    mixed = evolve(sealed, annotations=other.annotations)
    await exact_or_refused(plugin.decrypt(mixed), seed)


def _annotated(sealed: Sealed) -> Sealed:
    if not sealed.annotations:
        raise NotRun("Encrypt gave no annotations")
    return sealed
