"""Encrypt, continued: inputs at the edges of what kube-apiserver may send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kms_conformance.api_server.rules import sealed_problems
from kms_conformance.check import check
from kms_conformance.expect import exact_or_refused, same
from kms_conformance.leaks import leaks
from kms_conformance.outcome import MUST, SHOULD, CallFailed, Failed


if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kms_conformance.connection import Sealed
    from kms_conformance.context import Context


REFUSAL: Final = "INVALID_ARGUMENT"
LONG_BYTES: Final = 64 * 1024

_PATTERNS: Final = (
    ("32 bytes of 0x00", bytes(32)),
    ("32 bytes of 0xff", b"\xff" * 32),
    ("the bytes 0 to 31", bytes(range(32))),
)


@check("E08", MUST)
async def any_bytes_make_a_round_trip(kit: Context) -> None:
    """A seed may be any bytes.

    Sends: Encrypt and Decrypt of 32 bytes 0x00, 32 bytes 0xff, and the bytes 0 to 31.
    Expects: exactly these bytes.
    Why: a seed is random; what trips over a zero byte or over bytes that are no text
        loses every eighth seed, or a rarer one, and what was written under it.
    Source: `contract` E08
    """
    plugin = kit.dial()
    for name, seed in _PATTERNS:
        same(await plugin.decrypt(await plugin.encrypt(seed)), seed, sent=name)


@check("E09", SHOULD)
async def encrypt_without_a_uid_is_harmless(kit: Context) -> None:
    """Encrypt without a uid is answered, or refused in order.

    Sends: Encrypt of a seed with an empty uid; then with one.
    Expects: an answer that Decrypt opens, or INVALID_ARGUMENT; then OK.
    Why: the uid is for logs; upstream's mock refuses an empty one, and nothing worse
        may come of it.
    Source: `mock`
    """
    plugin, seed = kit.dial(), kit.seed()
    sealed = await _sealed_or_refused(plugin.encrypt(seed, uid=""))
    if sealed is not None:
        same(await plugin.decrypt(sealed), seed, sent="Encrypt with an empty uid")
    await plugin.encrypt(seed)


@check("E10", SHOULD)
async def uid_may_be_repeated(kit: Context) -> None:
    """Two Encrypts with one uid are two Encrypts.

    Sends: Encrypt of two seeds with the same uid, and Decrypt of both answers.
    Expects: each seed.
    Why: the uid is for logs and names no request; who takes an answer from memory by
        it hands out the wrong seed.
    Source: `KEP`; `contract` 4.4
    """
    plugin, uid = kit.dial(), kit.uid()
    seeds = kit.seed(), kit.seed()
    sealed_seeds = [await plugin.encrypt(seed, uid=uid) for seed in seeds]
    for seed, sealed in zip(seeds, sealed_seeds, strict=True):
        same(await plugin.decrypt(sealed), seed)


@check("E11", SHOULD)
async def nothing_stays_nothing(kit: Context) -> None:
    """An empty plaintext is sealed exactly, or refused in order.

    Sends: Encrypt of no bytes, and Decrypt if it is answered.
    Expects: no bytes again, or INVALID_ARGUMENT.
    Why: kube-apiserver never sends it; what comes of it shows whether lengths are kept
        or made up.
    Source: `contract` E11
    """
    plugin = kit.dial()
    sealed = await _sealed_or_refused(plugin.encrypt(b""))
    if sealed is not None:
        same(await plugin.decrypt(sealed), b"")


@check("E12", SHOULD)
async def long_plaintext_is_refused(kit: Context) -> None:
    """A plaintext that is too long is refused in order.

    Sends: Encrypt of 64 kB, Decrypt if it is answered, and then Encrypt of a seed.
    Expects: an error with a code other than UNKNOWN and without the plaintext; or an
        answer that Decrypt opens exactly or refuses, with a warning if it is beyond
        kube-apiserver's limits; then OK.
    Why: an answer within the limits can't hold 64 kB: it would be cut, without a word.
    Source: `env` 446-488
    """
    plugin, plaintext = kit.dial(), kit.random.randbytes(LONG_BYTES)
    try:
        sealed = await plugin.encrypt(plaintext)
    except CallFailed as failure:
        if failure.no_answer or failure.code in {"OK", "UNKNOWN"}:
            raise
        if found := leaks(failure.text, plaintext[:32]):
            raise Failed(f"{failure.code} with {' and '.join(found)}") from None
    else:
        if sealed_problems(sealed):
            kit.warn(f"64 kB were sealed in {len(sealed.ciphertext)} bytes, with OK")
        await exact_or_refused(plugin.decrypt(sealed), plaintext)
    await plugin.encrypt(kit.seed())


async def _sealed_or_refused(call: Awaitable[Sealed]) -> Sealed | None:
    """Return what Encrypt answered, or None if it refused as it should."""
    try:
        return await call
    except CallFailed as failure:
        if failure.code != REFUSAL:
            raise
        return None
