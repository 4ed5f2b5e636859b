"""Status, continued: what it says while the key service is broken, and afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kms_conformance.api_server.rules import key_id_problems
from kms_conformance.check import check
from kms_conformance.leaks import leaks
from kms_conformance.outage import asked, says_ok, told, words_of
from kms_conformance.outcome import MUST, SHOULD, CallFailed, Failed
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from kms_conformance.context import Context


MAX_WORDS_BYTES: Final = 1024
ASKED_AGAIN: Final = 20
ASKED_AGAIN_S: Final = 10.0


@check("S13", MUST, needs=(Hook.BREAK, Hook.HEAL), limit_s=300)
async def outage_is_told(kit: Context) -> None:
    """Status tells that the key service is broken, and never hangs.

    Sends: --break, then Status five times a second until one tells.
    Expects: each within 3 s; an error, or a healthz other than ok, no later than
        --rotation-s after the break.
    Why: a Status that hangs says the same as none, but takes the whole timeout of each
        health request; one that says ok for ever hides the outage from everybody.
    Source: `cfg` 486-516; `contract` 2.1
    """
    await kit.pull(Hook.BREAK)
    await told(kit, kit.dial())


@check("S14", SHOULD, needs=(Hook.BREAK, Hook.HEAL), limit_s=300)
async def outage_is_told_by_an_error(kit: Context) -> None:
    """While its key can't be used, the plugin answers Status with an error, steadily.

    Sends: --break, Status until one tells, then 20 more in 10 s.
    Expects: an error each time, never ok again; a healthz other than ok earns a warning
        if a valid key_id is beside it.
    Why: a valid key_id renews the seed that kube-apiserver writes with, whatever
        healthz says: it goes on writing what nobody may ever read again.
    Source: `cfg` 503-510; `contract` 1.1, 8
    """
    plugin = kit.dial()
    await kit.pull(Hook.BREAK)
    said = await told(kit, plugin)
    for _ in range(ASKED_AGAIN):
        if not isinstance(said, CallFailed) and not key_id_problems(said.key_id):
            kit.warn("healthz is not ok beside a valid key_id (kubernetes#138950)")
            return
        await kit.idle(ASKED_AGAIN_S / ASKED_AGAIN)
        said = await asked(plugin)
        if says_ok(said):
            raise Failed("ok again, although nothing was healed")


@check("S15", SHOULD, needs=(Hook.BREAK, Hook.HEAL), limit_s=300)
async def outage_is_told_in_one_line(kit: Context) -> None:
    """What Status says of an outage is one short line without secrets.

    Sends: --break, then Status until one tells.
    Expects: a text (healthz, or that of the error) of one line, under 1024 bytes,
        without a password, token, key or stack trace.
    Why: kube-apiserver copies it into its health output and its log.
    Source: `proto`; `contract` 1.1
    """
    await kit.pull(Hook.BREAK)
    words = words_of(await told(kit, kit.dial()))
    length = len(words.encode())
    if found := leaks(words):
        raise Failed(f"the text tells {' and '.join(found)}")
    if len(words.splitlines()) > 1:
        raise Failed(f"{len(words.splitlines())} lines of text")
    if length >= MAX_WORDS_BYTES:
        raise Failed(f"{length} bytes of text")
    if not words:
        kit.warn("there is no text: an operator learns nothing from it")


@check("S16", SHOULD, needs=(Hook.BREAK, Hook.HEAL), limit_s=300)
async def outage_ends_by_itself(kit: Context) -> None:
    """When the key service is back, Status says ok again, with the same key_id.

    Sends: Status, --break, Status until one tells, --heal, Status until one is ok.
    Expects: ok within 60 s of the healing; version and key_id as before.
    Why: kube-apiserver asks again every 10 s, and nobody restarts plugins at night; a
        changed key_id makes every object stale.
    Source: `cfg` 92, 815-823
    """
    plugin = kit.dial()
    before = await plugin.status()
    await kit.pull(Hook.BREAK)
    await told(kit, plugin)
    await kit.pull(Hook.HEAL)
    kit.measure("from --heal to ok", round(await kit.serving(), 3), "s")
    after = await kit.dial().status()
    if after != before:
        raise Failed(f"{after} after {before}")
