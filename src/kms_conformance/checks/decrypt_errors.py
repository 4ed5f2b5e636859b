"""What Decrypt says when it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kms_conformance.check import check
from kms_conformance.forgery import of_every_kind
from kms_conformance.key_material import opens_with_a_key_in
from kms_conformance.leaks import leaks
from kms_conformance.outcome import SHOULD, CallFailed, Failed


if TYPE_CHECKING:
    from kms_conformance.context import Context


@check("D18", SHOULD)
async def refusals_tell_nothing(kit: Context) -> None:
    """What Decrypt says when it refuses has a code, and tells no secret.

    Sends: forgeries of every kind: those of D04 to D14, a few of each.
    Expects: no error with the code UNKNOWN, or with plaintext, a key or a stack trace
        in its text; a warning if the text has several lines.
    Why: kube-apiserver passes the text on to API users and to logs; UNKNOWN is what
        gRPC makes of an exception that nobody foresaw.
    Source: `env` 320-363; `contract` 1.3
    """
    plugin, seed = kit.dial(), kit.seed()
    sealed, other = await plugin.encrypt(seed), await plugin.encrypt(kit.seed())
    for forgery in of_every_kind(sealed, other, kit.random):
        try:
            await plugin.decrypt(forgery.sealed)
        except CallFailed as failure:
            _demand_silence(kit, failure, seed, forgery.sent)
            if opens_with_a_key_in(failure.text, sealed, seed):
                told = f"{failure.code} with the key in its text"
                raise Failed(told, sent=forgery.sent) from None


def _demand_silence(kit: Context, failure: CallFailed, seed: bytes, sent: str) -> None:
    found = leaks(failure.text, seed)
    if found:
        raise Failed(
            f"{failure.code} with {' and '.join(found)} in its text", sent=sent
        )
    if failure.code == "UNKNOWN":
        raise Failed(str(failure), sent=sent)
    if len(failure.text.splitlines()) > 1:
        kit.warn(f"{sent}: the error's text has several lines")
