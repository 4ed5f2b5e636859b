"""Life cycle, continued: a plugin that runs for long."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from kms_conformance.check import check
from kms_conformance.expect import same
from kms_conformance.outcome import SHOULD, Failed, NotRun
from kms_conformance.scale import SOAK_S
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from kms_conformance.connection import Connection, Sealed
    from kms_conformance.context import Context


_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

BEAT_S: Final = 3.0
"""How often Status comes while kube-apiserver finds the provider failing."""

LEAST_BEATS: Final = 40
WARM_UP: Final = 0.1
ENCRYPT_EVERY: Final = 20
BURST_EVERY: Final = 10
BURST: Final = 50
BURST_WIDTH: Final = 10

MAX_GROWTH_BYTES: Final = 32 * _MIB
"""More than allocators and caches of one seed need; a leak outgrows any bound."""

MAX_NEW_FDS: Final = 16


@frozen
class _Use:
    """What the plugin's process uses."""

    pid: int
    resident_bytes: int
    fds: int


# A day: how long it takes is the user's wish, and each call has its own deadline.
@check("L09", SHOULD, needs=(Hook.PID,), slow=True, limit_s=86_400)
async def long_run_leaks_nothing(kit: Context) -> None:
    """A plugin that runs for long makes no errors and does not grow.

    Sends: for 2 minutes, or as long as --soak-s says: Status every 3 s, every minute a
        new seed, twice a minute a burst of 50 Decrypts.
    Expects: no error; after a tenth of the time no growth over 32 MiB of resident
        memory or 16 file descriptors; the same process all the time.
    Why: a plugin runs for months, and the node's memory is the control plane's.
    Source: `contract` L09
    """
    plugin, seed = kit.dial(), kit.seed()
    length_s = SOAK_S * kit.scale.soak
    beats = max(LEAST_BEATS, round(length_s / BEAT_S))
    warm = max(1, round(beats * WARM_UP))
    sealed = await plugin.encrypt(seed)
    before = _use(kit)
    for beat in range(1, beats + 1):
        await plugin.status()
        if beat % ENCRYPT_EVERY == 0:
            seed = kit.seed()
            sealed = await plugin.encrypt(seed)
        if beat % BURST_EVERY == 1:
            await _burst(kit, plugin, sealed, seed)
        await kit.beat(length_s / beats)
        if beat == warm:
            before = _use(kit)
    after = _use(kit)
    if after.pid != before.pid:
        raise Failed(f"process {after.pid} at the end, {before.pid} at the beginning")
    grown_bytes = after.resident_bytes - before.resident_bytes
    new_fds = after.fds - before.fds
    kit.measure("soak", length_s, "s")
    kit.measure("resident memory", round(after.resident_bytes / _MIB, 1), "MiB")
    kit.measure("its growth", round(grown_bytes / _MIB, 1), "MiB")
    kit.measure("growth of file descriptors", new_fds, "descriptors")
    if grown_bytes > MAX_GROWTH_BYTES:
        raise Failed(f"resident memory grew by {grown_bytes} bytes in {length_s:g} s")
    if new_fds > MAX_NEW_FDS:
        raise Failed(f"{new_fds} more file descriptors after {length_s:g} s")


async def _burst(kit: Context, plugin: Connection, sealed: Sealed, seed: bytes) -> None:
    jobs = [functools.partial(plugin.decrypt, sealed)] * kit.count(BURST)
    for came in await kit.parallel(jobs, width=BURST_WIDTH):
        same(came, seed)


def _use(kit: Context) -> _Use:
    """Return what the plugin uses now.

    Raises:
        NotRun: It can't be told.
    """
    if kit.target.pid is None:
        raise NotRun(f"needs {Hook.PID.value}")
    try:
        pid = kit.target.pid()
        where = Path("/proc") / str(pid)
        fds = sum(1 for _ in (where / "fd").iterdir())
        lines = (where / "status").read_text().splitlines()
        resident_kb = next(int(x.split()[1]) for x in lines if x.startswith("VmRSS:"))
    except (OSError, ValueError, StopIteration) as error:
        reason = f"what the plugin's process uses can't be read: {error}"
        raise NotRun(reason) from None
    return _Use(pid, resident_kb * _KIB, fds)
