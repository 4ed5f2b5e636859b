"""Decrypt: genuine requests, and those that must be refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from kms_conformance.check import check
from kms_conformance.expect import exact_or_refused, refused, same
from kms_conformance.forgery import (
    inverted,
    lengthened,
    random_bytes,
    random_text,
    renamed,
    respelled,
    shortened,
)
from kms_conformance.outcome import MUST, SHOULD, CallFailed, Failed


if TYPE_CHECKING:
    from kms_conformance.context import Context


LONG_BYTES: Final = (1024, 1025, 1_000_000)
"""Lengths around kube-apiserver's limit for a ciphertext, and far beyond (D14)."""


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


@check("D02", MUST)
async def new_connection_opens_at_once(kit: Context) -> None:
    """Decrypt needs nothing but its own request.

    Sends: Encrypt; the connection is closed; on a new one Decrypt as the first call.
    Expects: the seed.
    Why: a kube-apiserver that has just started opens what another one has stored.
    Source: `contract` 4.2
    """
    first, seed = kit.dial(), kit.seed()
    sealed = await first.encrypt(seed)
    await first.aclose()
    same(await kit.dial().decrypt(sealed), seed)


@check("D04", MUST)
async def unknown_key_id_is_refused(kit: Context) -> None:
    """Decrypt refuses a key_id that it never issued.

    Sends: a genuine ciphertext and annotations with a key_id of the kit's own, and
        with its own key_id longer, shorter, and in the other case.
    Expects: an error each time.
    Why: a plugin must not try what it is not sure to have encrypted itself; a success
        hides that the stored key_id is wrong.
    Source: `docs`
    """
    plugin = kit.dial()
    sealed = await plugin.encrypt(kit.seed())
    await refused(plugin.decrypt(evolve(sealed, key_id=f"kit:{kit.uid()}")))
    for forgery in renamed(sealed):
        await refused(plugin.decrypt(forgery.sealed), sent=forgery.sent)


@check("D05", MUST)
async def empty_key_id_is_refused(kit: Context) -> None:
    """Decrypt refuses an empty key_id.

    Sends: a genuine ciphertext and annotations without a key_id.
    Expects: an error.
    Why: kube-apiserver never stores an object without one, so that such a request has
        lost it; a guess at the key hides that.
    Source: `docs`; `env` 477-488
    """
    plugin = kit.dial()
    sealed = await plugin.encrypt(kit.seed())
    await refused(plugin.decrypt(evolve(sealed, key_id="")))


@check("D06", MUST)
async def flipped_byte_is_refused(kit: Context) -> None:
    """Decrypt refuses a ciphertext of which one byte was changed.

    Sends: genuine ciphertexts with one byte inverted, at 32 positions, the first and
        the last among them; if they are text, also with another letter in its place.
    Expects: an error each time, or a warning if another spelling of the text gives the
        seed; never OK with other bytes.
    Why: kube-apiserver caches what Decrypt answers before it uses it, so that one wrong
        answer makes objects unreadable for a day.
    Source: `env` 231-243, 340; `contract` 1.3
    """
    plugin, seed = kit.dial(), kit.seed()
    sealed = await plugin.encrypt(seed)
    length = len(sealed.ciphertext)
    count = min(kit.count(32, least=8), length)
    # An end may be a version or the rest of a tag, which a plugin forgets to look at.
    ends = {0, length - 1} if length else set()
    for position in sorted({*kit.random.sample(range(length), count), *ends}):
        forgery = inverted(sealed, position)
        await refused(plugin.decrypt(forgery.sealed), sent=forgery.sent)
        for other in respelled(sealed, position, kit.random):
            call = plugin.decrypt(other.sealed)
            if await exact_or_refused(call, seed, sent=other.sent):
                kit.warn(f"{other.sent}: the seed came; an error is better")


@check("D07", MUST)
async def shortened_ciphertext_is_refused(kit: Context) -> None:
    """Decrypt refuses a ciphertext that has lost its end.

    Sends: a genuine ciphertext without its last byte, its first half, and none of it.
    Expects: an error each time.
    Why: what was cut must not open as a shorter seed, nor break the plugin.
    Source: `ref`; `contract` 1.3
    """
    plugin = kit.dial()
    for forgery in shortened(await plugin.encrypt(kit.seed())):
        await refused(plugin.decrypt(forgery.sealed), sent=forgery.sent)


@check("D08", MUST)
async def lengthened_ciphertext_is_refused(kit: Context) -> None:
    """Decrypt refuses a ciphertext with a byte more.

    Sends: a genuine ciphertext with 0x00, with a line's end, and with 0xa5 appended.
    Expects: an error each time.
    Why: a plugin that reads past changes does not check all that it opens.
    Source: `contract` 1.3
    """
    plugin = kit.dial()
    for forgery in lengthened(await plugin.encrypt(kit.seed())):
        await refused(plugin.decrypt(forgery.sealed), sent=forgery.sent)


@check("D09", MUST)
async def random_ciphertext_is_refused(kit: Context) -> None:
    """Decrypt refuses random bytes under the right key_id.

    Sends: as many random bytes as a genuine ciphertext has, 8 times; if that is text,
        also random text, 8 times.
    Expects: an error each time.
    Why: a plugin must not try what it is not sure to have encrypted itself.
    Source: `docs`; `contract` 1.3
    """
    plugin = kit.dial()
    sealed = await plugin.encrypt(kit.seed())
    for _ in range(kit.count(8)):
        noise = random_bytes(sealed, len(sealed.ciphertext), kit.random)
        for forgery in (noise, *random_text(sealed, kit.random)):
            await refused(plugin.decrypt(forgery.sealed), sent=forgery.sent)


@check("D14", SHOULD)
async def long_ciphertext_is_refused(kit: Context) -> None:
    """Decrypt refuses long ciphertexts at once, and goes on.

    Sends: 1024, 1025 and 1,000,000 random bytes, then a genuine Decrypt.
    Expects: an error to each before the deadline, and then the seed.
    Why: what stands in etcd may be damaged in any way, and one bad object must not
        delay the reading of all others.
    Source: `env` 78-88; `contract` 1.3
    """
    plugin, seed = kit.dial(), kit.seed()
    sealed = await plugin.encrypt(seed)
    for length in LONG_BYTES:
        forgery = random_bytes(sealed, length, kit.random)
        await refused(plugin.decrypt(forgery.sealed), sent=forgery.sent)
    same(await plugin.decrypt(sealed), seed, sent="a genuine Decrypt after them")


@check("D15", SHOULD)
async def empty_uid_is_understood(kit: Context) -> None:
    """Decrypt without a uid is answered, or refused as a wrong argument.

    Sends: a genuine Decrypt with an empty uid.
    Expects: the seed, or INVALID_ARGUMENT.
    Why: the uid is for logs; its absence must not look like a failure of the key.
    Source: `mock`; `proto`
    """
    plugin, seed = kit.dial(), kit.seed()
    sealed = await plugin.encrypt(seed)
    try:
        same(await plugin.decrypt(sealed, uid=""), seed)
    except CallFailed as failure:
        if failure.code != "INVALID_ARGUMENT":
            raise Failed(str(failure)) from None
