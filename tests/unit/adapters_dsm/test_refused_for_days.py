"""A refused credential on a FIPS cluster: three days, three daemons, one key.

DSM replaces an app's secret after 100 failed authentications in 24 h (dsm-api.md, 1.3):
whoever offers a bad key too often destroys the good one as well.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define
from tests.unit.adapters_dsm.proofs import write
from tests.unit.adapters_dsm.support import (
    SEED,
    Adapters,
    Emulated,
    SkippingClock,
    until,
)

from adapters_dsm.credential_source import CredentialSource
from adapters_dsm.refusals import Refusals, RefusalStore
from adapters_dsm.settings import Secret
from dsm_emulator import Clock, Dsm, EmulatorServer
from kms_core.errors import CredentialRefused


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from adapters_dsm.provider import DsmKeyProvider
    from kms_core.provider import Ciphertext


DAY_S = 24 * 3600
FIPS_LIMIT = 100
DAEMONS = 3


class Kept(RefusalStore):
    """As the daemon keeps it in a file."""

    def __init__(self) -> None:
        self.refusals: Refusals | None = None

    async def load_refusals(self) -> Refusals | None:
        return self.refusals

    async def save_refusals(self, refusals: Refusals) -> None:
        self.refusals = refusals


class Calendar(SkippingClock):
    """Its date moves too, since what is kept bears dates."""

    def now(self) -> dt.datetime:
        return super().now() + dt.timedelta(seconds=self.ahead_s)


@define
class Cluster:
    """A FIPS cluster, a clock for it and for the daemons, and a sealed seed."""

    emulated: Emulated
    adapters: Adapters
    sealed: Ciphertext
    worst: int = 0

    def daemon(self, source: CredentialSource, **options: Any) -> DsmKeyProvider:
        return self.adapters.open_emulated(self.emulated, credential=source, **options)

    def wrong(self) -> CredentialSource:
        return CredentialSource(api_key=Secret(self.right[:-8] + "AAAAAAA="))

    @property
    def right(self) -> str:
        return self.emulated.demo.app.api_key

    @property
    def resets(self) -> int:
        return self.emulated.dsm.logins.fips_resets.total()

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and note what DSM counts within its 24 hours."""
        dsm = self.emulated.dsm
        app = self.emulated.demo.app.app_id
        count = dsm.logins.failed_keys.count(app, dsm.clock.now())
        self.worst = max(self.worst, count)
        self.adapters.clock.ahead_s += seconds
        dsm.clock.advance(seconds)

    async def look(self, provider: DsmKeyProvider) -> None:
        await provider.describe(deadline=self.adapters.clock.in_s(30))

    async def open(self, provider: DsmKeyProvider) -> bytes:
        return await provider.decrypt(
            self.emulated.kid, self.sealed, None, deadline=self.adapters.clock.in_s(30)
        )

    async def at_rest(self, provider: DsmKeyProvider) -> None:
        """Return once nothing goes on beside the looks."""
        await until(lambda: not provider._endpoints._aside)

    async def live(self, provider: DsmKeyProvider) -> None:
        """Be a daemon for a moment: a look of the watcher, and Decrypts."""
        with pytest.raises(CredentialRefused):
            await self.look(provider)
        for _ in range(2):
            with pytest.raises(CredentialRefused):
                await self.open(provider)


@pytest.fixture
async def cluster(adapters: Adapters) -> AsyncIterator[Cluster]:
    demo = Dsm.with_demo_key(clock=Clock(1_800_000_000.0))
    demo.dsm.logins.fips = True
    with EmulatorServer(demo.dsm) as server:
        emulated = Emulated(demo, server)
        adapters.clock = Calendar()
        good = adapters.open_emulated(emulated)
        deadline = adapters.clock.in_s(30)
        sealed = await good.encrypt(emulated.kid, SEED, None, deadline=deadline)
        await good.aclose()
        yield Cluster(emulated, adapters, sealed)


@pytest.mark.parametrize("signalled", [False, True], ids=["alone", "SIGHUP each hour"])
async def test_the_secret_is_never_reset_and_a_corrected_key_works_at_once(
    cluster: Cluster, tmp_path: Path, *, signalled: bool
) -> None:
    right = cluster.right
    path = write(tmp_path / "key", right[:-8] + "AAAAAAA=")
    source = CredentialSource(api_key_file=path)
    daemons = [cluster.daemon(source) for _ in range(DAEMONS)]
    for minutes in range(0, 3 * 24 * 60, 2):
        for provider in daemons:
            if signalled and minutes % 60 == 0:
                provider.retry_credential_now()
            await cluster.live(provider)
        cluster.pass_s(120)
    assert DAEMONS * 10 < cluster.worst < FIPS_LIMIT
    assert cluster.resets == 0
    assert cluster.right == right

    for provider in daemons:
        await cluster.at_rest(provider)
    write(path, right)
    for provider in daemons:
        with contextlib.suppress(CredentialRefused):
            # It may still say what is remembered; the file is read beside it.
            await cluster.look(provider)
        await cluster.at_rest(provider)
        assert await cluster.open(provider) == SEED


async def test_daemons_that_crash_and_start_again_do_not_reset_it_either(
    cluster: Cluster,
) -> None:
    stores = [Kept() for _ in range(DAEMONS)]
    for _ in range(0, DAY_S, 300):
        for store in stores:
            provider = cluster.daemon(cluster.wrong(), refusals=store)
            await cluster.live(provider)
            # No goodbye: what is open is closed at the test's end.
        cluster.pass_s(300)
    assert DAEMONS * 10 < cluster.worst < FIPS_LIMIT
    assert cluster.resets == 0


async def test_the_emulator_would_have_noticed(cluster: Cluster) -> None:
    """Without what a restart remembers, the secret is reset within the day."""
    for _ in range(FIPS_LIMIT):
        provider = cluster.daemon(cluster.wrong())
        with pytest.raises(CredentialRefused):
            await cluster.look(provider)
        await provider.aclose()
        cluster.pass_s(300)
    assert cluster.resets == 1


async def test_what_is_refused_everywhere_costs_one_failure_a_try(
    cluster: Cluster,
) -> None:
    """Two endpoints of one cluster: each try is at one of them alone."""
    with EmulatorServer(
        cluster.emulated.dsm, authority=cluster.emulated.server.authority
    ) as second:
        more = Emulated(cluster.emulated.demo, second)
        provider = cluster.adapters.open_emulated(
            cluster.emulated, more, credential=cluster.wrong()
        )
        for _ in range(0, DAY_S, 300):
            await cluster.live(provider)
            cluster.pass_s(300)
        assert 10 < cluster.worst <= 16
