from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from tests.unit.kms_conformance.support import (
    Site,
    Watched,
    a_check,
    ids_of,
    report,
    what_failed,
)

from kms_conformance.outcome import (
    SHOULD,
    CallFailed,
    Failed,
    NotRun,
    Severity,
    Verdict,
)
from kms_conformance.runner import Plan, SelectionRefused, run, select
from kms_conformance.scale import TINY
from kms_conformance.target import Hook, Pulled


if TYPE_CHECKING:
    from kms_conformance.context import Context


async def passes(kit: Context) -> None:
    await kit.dial().status()


async def fails(kit: Context) -> None:
    await kit.dial().status()
    raise Failed("a surprise", sent="a thing", why="because")


async def warns(kit: Context) -> None:
    kit.warn("could be better")
    kit.measure("size", 3, "bytes")


async def does_not_apply(kit: Context) -> None:
    raise NotRun("it is not offered")


async def breaks(kit: Context) -> None:
    raise ValueError("a fault of the check")


async def hangs(kit: Context) -> None:
    await asyncio.Event().wait()


async def is_refused(kit: Context) -> None:
    raise CallFailed("Decrypt", "INTERNAL", "a\nb")


async def waits_in_vain(kit: Context) -> None:
    raise TimeoutError


async def test_each_end_of_a_check_has_its_verdict(site: Site) -> None:
    chosen = (
        a_check(passes, "T01"),
        a_check(fails, "T02"),
        a_check(warns, "T03"),
        a_check(does_not_apply, "T04"),
        a_check(breaks, "T05"),
        a_check(hangs, "T06", limit_s=0.01),
        a_check(is_refused, "T07"),
        a_check(waits_in_vain, "T08"),
    )
    found = await report(site.target, chosen)
    assert ids_of(found, Verdict.PASSED) == {"T01"}
    assert ids_of(found, Verdict.WARNED) == {"T03"}
    assert ids_of(found, Verdict.NOT_RUN) == {"T04"}
    assert what_failed(found) == {
        "T02": "a surprise",
        "T05": "the check broke: ValueError: a fault of the check",
        "T06": "the check had not ended after 0.01 s",
        "T07": "Decrypt: INTERNAL: a\\x0ab",
        "T08": "no answer in time",
    }
    failed = found.results[1]
    assert (failed.sent, failed.why) == ("a thing", "because")
    assert [one.method for one in failed.exchanges] == ["Status"]
    warned = found.results[2]
    assert warned.warnings == ("could be better",)
    assert warned.measurements[0].value == 3
    # What a check does not say of itself, its docstring says.
    assert (found.results[4].sent, found.results[4].why) == ("a thing", "so")


async def test_check_that_will_not_end_is_left_behind(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kms_conformance.runner._END_S", 0.01)
    let_go = asyncio.Event()
    ended = asyncio.Event()

    async def refuses_to_end(kit: Context) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await let_go.wait()
        ended.set()

    stubborn = a_check(refuses_to_end, "T01", limit_s=0.01)
    found = await report(site.target, (stubborn, a_check(passes, "T02")))
    assert set(what_failed(found)) == {"T01"}
    let_go.set()
    await ended.wait()


@pytest.mark.parametrize(("severity_is_must", "exit_code"), [(True, 1), (False, 0)])
async def test_only_a_broken_must_makes_the_run_fail(
    site: Site, exit_code: int, *, severity_is_must: bool
) -> None:
    check = a_check(fails)
    if not severity_is_must:
        check = evolve(check, severity=SHOULD)
    found = await report(site.target, (check,))
    assert found.exit_code == exit_code


async def test_what_a_check_left_broken_and_stopped_is_mended(site: Site) -> None:
    async def leaves_a_mess(kit: Context) -> None:
        await kit.pull(Hook.BREAK)
        await kit.pull(Hook.STOP)
        raise Failed("half-way")

    needs = (Hook.BREAK, Hook.HEAL, Hook.STOP, Hook.START)
    chosen = (a_check(leaves_a_mess, "L01", needs=needs), a_check(passes, "T01"))
    found = await report(site.target, chosen)
    assert what_failed(found) == {"L01": "half-way"}
    assert not site.kms.broken


async def test_check_after_which_the_plugin_does_not_come_back_has_failed(
    site: Site,
) -> None:
    async def stops(kit: Context) -> None:
        await kit.pull(Hook.STOP)

    target = site.target
    pulls = {**target.pulls, Hook.START: target.pulls[Hook.KMS_CALLS]}
    target = evolve(target, pulls=pulls)
    chosen = (
        a_check(stops, "L01", needs=(Hook.STOP, Hook.START)),
        a_check(passes, "L02"),
    )
    found = await report(target, chosen, evolve(TINY, limit=0.01))
    assert "Status did not say ok" in what_failed(found)["L01"]
    assert "nobody listened" in what_failed(found)["L01"]
    assert ids_of(found, Verdict.NOT_RUN) == {"L02"}
    assert found.results[1].came == "the plugin is gone since L01"


@pytest.mark.parametrize("severity", Severity)
async def test_plugin_that_a_check_killed_is_blamed_on_it(
    site: Site, severity: Severity
) -> None:
    async def kills(kit: Context) -> None:
        await site.plugin.stop(0)

    chosen = (a_check(kills, "T01", severity), a_check(passes, "T02"))
    found = await report(site.target, chosen, evolve(TINY, limit=0.01))
    assert set(what_failed(found)) == {"T01"}
    assert found.exit_code == 1


@pytest.mark.parametrize("ends", [None, Failed("x"), NotRun("half-way")])
async def test_what_could_not_be_mended_is_said(
    site: Site, ends: Exception | None
) -> None:
    async def leaves_a_mess(kit: Context) -> None:
        await kit.pull(Hook.BREAK)
        await kit.pull(Hook.STOP)
        if ends is not None:
            raise ends

    async def refuses() -> Pulled:
        return Pulled(7, "no")

    target = evolve(site.target, pulls={**site.target.pulls, Hook.HEAL: refuses})
    needs = (Hook.BREAK, Hook.HEAL, Hook.STOP, Hook.START)
    found = await report(target, (a_check(leaves_a_mess, needs=needs),))
    came = what_failed(found)["T01"]
    assert came.startswith(str(ends or ""))
    assert "after the check: its command exited with 7: no" in came
    # The plugin was started all the same.
    assert "nobody listened" not in came


async def test_progress_is_told_of_every_check(site: Site) -> None:
    watched = Watched()
    chosen = (a_check(passes, "T01"), a_check(passes, "T02", needs=(Hook.PEER,)))
    await run(Plan(site.bare, chosen, TINY, 1), watched)
    assert watched.begun == [("T01", 1, 2), ("T02", 2, 2)]
    assert watched.ended == ["T01", "T02"]


async def test_cancelled_run_ends_the_check_that_it_is_in(site: Site) -> None:
    ended = asyncio.Event()
    began = asyncio.Event()

    async def waits(kit: Context) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    running = asyncio.ensure_future(report(site.target, (a_check(waits),)))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()


async def test_cancelled_run_mends_what_its_check_broke(site: Site) -> None:
    began = asyncio.Event()

    async def breaks_and_waits(kit: Context) -> None:
        await kit.pull(Hook.BREAK)
        began.set()
        await asyncio.Event().wait()

    check = a_check(breaks_and_waits, needs=(Hook.BREAK, Hook.HEAL))
    running = asyncio.ensure_future(report(site.target, (check,)))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not site.kms.broken


async def test_seed_repeats_what_is_sent(site: Site) -> None:
    sent: list[bytes] = []

    async def seals(kit: Context) -> None:
        sent.append(kit.seed())

    for number, check_id in ((1, "T01"), (1, "T01"), (2, "T01"), (1, "T02")):
        plan = Plan(site.target, (a_check(seals, check_id),), TINY, number)
        await run(plan, Watched())
    assert sent[0] == sent[1]
    assert len(set(sent)) == 3


MANY = (
    a_check(passes, "T01"),
    a_check(passes, "T02", slow=True),
    a_check(passes, "S01"),
    a_check(passes, "S12", needs=(Hook.STOP, Hook.START)),
    a_check(passes, "R12", needs=(Hook.PEER,)),
)


@pytest.mark.parametrize(
    ("only", "skip", "quick", "expected"),
    [
        ((), (), False, "T01 T02 S01 S12 R12"),
        ((), (), True, "T01 S01 R12"),
        (("T",), (), False, "T01 T02"),
        (("T", "S01"), ("T02",), False, "T01 S01"),
        ((), ("S",), False, "T01 T02 R12"),
        (("T02",), (), True, "T02"),
        (("T",), (), True, "T01"),
    ],
)
def test_selection(
    only: tuple[str, ...], skip: tuple[str, ...], expected: str, *, quick: bool
) -> None:
    chosen = select(MANY, only=only, skip=skip, quick=quick)
    assert " ".join(one.id for one in chosen) == expected


def test_selection_of_what_does_not_exist_is_refused() -> None:
    with pytest.raises(SelectionRefused, match="X99"):
        select(MANY, only=("X99",))
    with pytest.raises(SelectionRefused, match="leaves no check"):
        select(MANY, only=("T02",), skip=("T",))
    with pytest.raises(SelectionRefused, match="Q"):
        select(MANY, skip=("Q",))
