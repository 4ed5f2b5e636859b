from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from attrs import evolve
from tests.unit.kms_conformance.support import Site, report, what_failed

from kms_conformance.checks import everything
from kms_conformance.outcome import Verdict
from kms_conformance.presence import answers, listens
from kms_conformance.scale import TINY
from kms_conformance.target import Endpoint, Target


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def silent_server(path: Path) -> Iterator[Endpoint]:
    """Let clients connect, and say nothing to any."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield Endpoint(str(path))


async def test_plugin_that_comes_late_is_waited_for(directory: Path) -> None:
    path = directory / "late.sock"
    waiting = asyncio.create_task(listens(Endpoint(str(path)), limit=1.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    with silent_server(path):
        assert await waiting


async def test_plugin_that_never_comes_is_waited_for_no_longer(directory: Path) -> None:
    assert not await listens(Endpoint(str(directory / "no.sock")), limit=0.0)


async def test_who_says_nothing_does_not_answer(directory: Path) -> None:
    with silent_server(directory / "silent.sock") as endpoint:
        assert await listens(endpoint, limit=1.0)
        assert not await answers(endpoint, limit=0.05)


async def test_plugin_answers(site: Site) -> None:
    assert await answers(site.target.endpoint, limit=1.0)


async def test_plugin_that_refuses_answers(site: Site) -> None:
    site.kms.broken = True
    assert await answers(site.target.endpoint, limit=1.0)


async def test_run_ends_at_a_plugin_that_says_nothing(directory: Path) -> None:
    with silent_server(directory / "silent.sock") as endpoint:
        scale = evolve(TINY, timeout_s=0.05, limit=0.05)
        found = await report(Target(endpoint), everything(), scale)
    *_, last = what_failed(found).values()
    assert "no call was answered any more" in last
    assert found.count(Verdict.FAILED) == 3
    assert found.count(Verdict.NOT_RUN) == len(everything()) - 3
    assert found.exit_code == 1


async def test_run_goes_on_where_refusals_come(site: Site) -> None:
    site.kms.broken = True
    chosen = tuple(one for one in everything() if one.group in "ED")[:5]
    found = await report(site.target, chosen)
    assert len(what_failed(found)) == 5


async def test_run_waits_for_a_plugin_that_is_starting(directory: Path) -> None:
    path = directory / "kms.sock"
    site = Site(directory)
    first = tuple(one for one in everything() if one.id == "S02")
    target = Target(Endpoint(str(path)))
    running = asyncio.create_task(report(target, first, evolve(TINY, timeout_s=5.0)))
    await asyncio.sleep(0)
    async with site:
        found = await running
    assert what_failed(found) == {}
    assert found.exit_code == 0
