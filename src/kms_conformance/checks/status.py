"""Status: what it answers, how steadily and how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kms_conformance.api_server.rules import healthz_problems, version_problems
from kms_conformance.check import check
from kms_conformance.expect import quick_enough
from kms_conformance.outcome import MUST, Failed
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from kms_conformance.context import Context


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
    if after != before:
        raise Failed(f"{after} after {before}")
