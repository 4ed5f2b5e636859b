"""Status: what it answers, how steadily and how fast."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from typing import TYPE_CHECKING, Final

from kms_conformance.api_server.rules import (
    MAX_KEY_ID_BYTES,
    healthz_problems,
    key_id_problems,
    version_problems,
)
from kms_conformance.check import check
from kms_conformance.expect import quick_enough
from kms_conformance.key_material import opens_with_its_own_name
from kms_conformance.leaks import leaks
from kms_conformance.levers import HookFailed
from kms_conformance.outcome import MUST, SHOULD, CallFailed, Failed, shown
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from kms_conformance.connection import StatusAnswer
    from kms_conformance.context import Context


AT_ONCE: Final = 50
"""How many health requests come together (S08)."""

QUIET_S: Final = 30.0
POLLED_S: Final = 60.0
POLLS: Final = 20
"""Status each 3 s for a minute: what health requests of a failing provider make."""

_DIGEST: Final = re.compile(
    r"[0-9a-fA-F]{16,}"  # a hash, or a number of many digits
    r"|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-"  # a UUID
    r"|(?=[\w+/-]*[0-9])(?=[\w+/-]*[a-z])(?=[\w+/-]*[A-Z])[\w+/-]{22,}"  # base64
)


@check("S01", MUST)
async def status_may_come_first(kit: Context) -> None:
    """Status is answered as the very first call of a connection.

    Sends: Status, on ten new connections.
    Expects: OK each time.
    Why: it is kube-apiserver's first call, and until it is answered no other follows.
    Source: `cfg` 806-827
    """
    for _ in range(kit.count(10)):
        plugin = kit.dial()
        await plugin.status()
        await plugin.aclose()


@check("S02", MUST)
async def version_is_known(kit: Context) -> None:
    """Status names a version that kube-apiserver accepts.

    Sends: Status.
    Expects: version v2, or v2beta1 with a warning.
    Why: with any other version the provider is unhealthy, and so is /readyz.
    Source: `cfg` 491
    """
    version = (await kit.dial().status()).version
    for problem in version_problems(version):
        raise Failed(problem)
    if version == "v2beta1":
        kit.warn("version is v2beta1: right for 1.27 and 1.28 alone")


@check("S03", MUST)
async def healthz_is_ok(kit: Context) -> None:
    """Status of a plugin that works says ok, in these very bytes.

    Sends: Status.
    Expects: healthz is byte for byte ok.
    Why: kube-apiserver compares it exactly; anything else fails /readyz.
    Source: `cfg` 488
    """
    for problem in healthz_problems((await kit.dial().status()).healthz):
        raise Failed(problem)


@check("S04", MUST)
async def key_id_has_an_accepted_length(kit: Context) -> None:
    """The key_id of Status has 1 to 1024 bytes.

    Sends: Status.
    Expects: a key_id of 1 to 1024 bytes of UTF-8; 1024 exactly with a warning.
    Why: with any other length kube-apiserver makes no seed, and then can't write.
    Source: `env` 477-488
    """
    key_id = (await kit.dial().status()).key_id
    for problem in key_id_problems(key_id):
        raise Failed(problem)
    kit.measure("key_id", len(key_id.encode()), "bytes")
    if len(key_id.encode()) == MAX_KEY_ID_BYTES:
        kit.warn("the key_id has 1024 bytes, and the documentation asks for less")


@check("S05", MUST)
async def key_id_is_text(kit: Context) -> None:
    """The key_id of Status is UTF-8, without control characters.

    Sends: Status.
    Expects: a key_id of valid UTF-8; control characters in it earn a warning.
    Why: kube-apiserver can't read a message with a string that is not UTF-8, and a
        line break forges a line in whatever logs the key_id.
    Source: `proto`; `contract` 1.1
    """
    # What is not UTF-8 is no message, so that the call itself fails.
    key_id = (await kit.dial().status()).key_id
    if not key_id.isprintable():
        kit.warn(f"the key_id has characters that do not print: {shown(key_id)}")


@check("S06", MUST)
async def status_is_steady(kit: Context) -> None:
    """Version and key_id stay the same while nothing rotates.

    Sends: 200 Status, on two connections by turns.
    Expects: one version and one key_id.
    Why: a changed version is an error until kube-apiserver restarts; each change of
        key_id is taken for a rotation, and makes every object stale.
    Source: `cfg` 494-500; `docs`
    """
    connections = kit.dial(), kit.dial()
    first = await connections[0].status()
    for number in range(1, kit.count(200, least=20)):
        _demand_equal(first, await connections[number % 2].status())


@check("S07", MUST)
async def status_is_fast(kit: Context) -> None:
    """Status answers within the timeout, and should answer within 100 ms.

    Sends: 100 Status, one after another.
    Expects: each within 3 s; a 99th percentile of 100 ms at most, else a warning.
    Why: kube-apiserver asks every 20 s or more often, and a late answer is a failure.
    Source: `docs`; `cfg` 486-516
    """
    plugin = kit.dial()
    for _ in range(kit.count(100)):
        await plugin.status()
    quick_enough(kit, "Status", p99_ms=100)


@check("S08", MUST)
async def status_is_answered_in_parallel(kit: Context) -> None:
    """Many Status at once are all answered, and alike.

    Sends: 50 Status at once.
    Expects: the same answer each time.
    Why: health requests and the loop of several providers come when they come.
    Source: `cfg` 351-375
    """
    plugin = kit.dial()
    # As wide in a quick run, too: a limit shows only to who reaches it.
    count = min(AT_ONCE, kit.count(5 * AT_ONCE, least=10))
    answers = await kit.parallel([plugin.status] * count, width=count)
    for answer in answers[1:]:
        _demand_equal(answers[0], answer)


@check("S09", MUST)
async def status_does_not_queue_behind_decrypts(kit: Context) -> None:
    """Status is answered in time while many Decrypts run.

    Sends: Decrypts of distinct seeds, 100 at once, and Status on the same connection
        one after another until they have ended.
    Expects: each Status within 3 s.
    Why: a kube-apiserver that starts opens all its seeds at once; if Status times out
        meanwhile, it is unhealthy just when the cluster waits for it.
    Source: `cfg` 351-375; `contract` 2.6
    """
    plugin = kit.dial()
    seeds = [kit.seed() for _ in range(kit.count(500, least=20))]
    jobs = [functools.partial(plugin.encrypt, seed) for seed in seeds]
    sealed_seeds = await kit.parallel(jobs, width=10)

    async def opened(number: int) -> None:
        # What becomes of the Decrypts is for D17 to judge.
        with contextlib.suppress(CallFailed):
            await plugin.decrypt(sealed_seeds[number])

    numbers = [functools.partial(opened, number) for number in range(len(seeds))]
    load = asyncio.ensure_future(kit.parallel(numbers, width=100))
    try:
        await plugin.status()
        while not load.done():
            await plugin.status()
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    quick_enough(kit, "Status", p99_ms=1000)


@check("S10", SHOULD, needs=(Hook.KMS_CALLS,), slow=True, limit_s=150)
async def status_costs_no_remote_call(kit: Context) -> None:
    """Status does not call the remote key service each time.

    Sends: nothing for 30 s; then Status every 3 s for 60 s.
    Expects: fewer remote calls than there were Status, beyond those that the plugin
        makes by itself in the same time.
    Why: every API server asks three times a minute or more; a plugin that passes each
        on runs into rate limits and bills, and is down with every hiccup.
    Source: `contract` 2.2, S10
    """
    plugin = kit.dial()
    before = await _kms_calls(kit)
    await kit.idle(QUIET_S)
    quiet = await _kms_calls(kit)
    for _ in range(POLLS):
        await plugin.status()
        await kit.idle(POLLED_S / POLLS)
    polled = await _kms_calls(kit) - quiet
    caused = polled - (quiet - before) * POLLED_S / QUIET_S
    kit.measure("remote calls in 60 s of polling", polled, "calls")
    if caused >= POLLS:
        raise Failed(f"{POLLS} Status caused {caused:g} remote calls")


@check("S11", SHOULD)
async def key_id_is_public(kit: Context) -> None:
    """The key_id holds nothing secret.

    Sends: Status, and Encrypt of a new seed.
    Expects: no password of a URL, token, private key or seed in the key_id, and no key
        that opens the sealed seed; a warning if it looks like a name in clear.
    Why: the key_id stands in clear in each stored object, and in logs.
    Source: `docs`; `KEP`
    """
    plugin, seed = kit.dial(), kit.seed()
    key_id = (await plugin.status()).key_id
    found = leaks(key_id, seed)
    if found:
        raise Failed(f"the key_id tells {' and '.join(found)}")
    if opens_with_its_own_name(await plugin.encrypt(seed), seed):
        raise Failed("the key_id is the key: it opens the sealed seed")
    if not _DIGEST.search(key_id):
        kit.warn(f"the key_id looks like a name in clear: {shown(key_id)}")


@check("S12", MUST, needs=(Hook.STOP, Hook.START))
async def status_survives_a_restart(kit: Context) -> None:
    """A restart changes neither version nor key_id.

    Sends: Status, a restart of the plugin, Status on a new connection.
    Expects: the same version and the same key_id.
    Why: a changed version is an error until kube-apiserver restarts too; a changed
        key_id marks every object as stale.
    Source: `docs`; `cfg` 498
    """
    before = await kit.dial().status()
    await kit.restart()
    after = await kit.dial().status()
    _demand_equal(before, after)


def _demand_equal(first: StatusAnswer, answer: StatusAnswer) -> None:
    if answer != first:
        raise Failed(f"{answer} after {first}")


async def _kms_calls(kit: Context) -> int:
    """Return how many calls the remote key service has had.

    Raises:
        HookFailed: The command failed, or did not print a number.
    """
    printed = (await kit.pull(Hook.KMS_CALLS)).output
    try:
        return int(printed)
    except ValueError:
        raise HookFailed(
            f"its command printed no number: {shown(printed)}",
            sent=f"the hook {Hook.KMS_CALLS.value}",
            why="the check can't judge the plugin without it",
        ) from None
