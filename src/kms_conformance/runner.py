"""Runner: runs the selected checks one after another, whatever they do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from attrs import evolve, frozen

from kms_conformance.context import Context
from kms_conformance.http2 import ConnectionLost
from kms_conformance.outcome import CallFailed, Failed, NotRun, Verdict
from kms_conformance.presence import answers, listens
from kms_conformance.recorder import Recorder
from kms_conformance.report import Report, Result


if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence
    from typing import Any

    from kms_conformance.check import Check
    from kms_conformance.scale import Scale
    from kms_conformance.target import Target


UNANSWERED_CHECKS: Final = 3
"""After so many checks in a row without any answer it is asked whether any comes."""

RESTORE_S: Final = 150.0
"""How long healing and starting a plugin after a check may take in all."""

_END_S: Final = 5.0
"""How long a check that was cancelled may take to end."""


class Progress(Protocol):
    """Is told what happens while a run goes on."""

    def started(self, check: Check, number: int, total: int) -> None:
        """*check* begins, the *number*-th of *total*."""

    def finished(self, result: Result) -> None:
        """A check has ended."""


@frozen
class Plan:
    """What a run is to do.

    Attributes:
        target: The plugin under test.
        checks: The checks, in the order in which they run.
        scale: How much to do.
        random_seed: Repeats the randomness of an earlier run.
    """

    target: Target
    checks: tuple[Check, ...]
    scale: Scale
    random_seed: int


class SelectionRefused(ValueError):
    """A selection names what is no check, or leaves none."""


def select(
    checks: Iterable[Check],
    *,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    quick: bool = False,
) -> tuple[Check, ...]:
    """Return the wanted ones of *checks*, in the same order.

    Args:
        checks: All checks.
        only: Ids and letters of groups; nothing means all.
        skip: Ids and letters of groups that are left out.
        quick: Leave out what is slow or disruptive, unless *only* names its id.

    Raises:
        SelectionRefused: A word is neither an id nor a group, or no check is left.
    """
    everything = tuple(checks)
    known = {word for one in everything for word in (one.id, one.group)}
    for word in (*only, *skip):
        if word not in known:
            raise SelectionRefused(f"{word!r} is neither a check nor a group")
    wanted = []
    for one in everything:
        names = {one.id, one.group}
        if (only and not names & set(only)) or names & set(skip):
            continue
        if quick and (one.slow or one.disruption) and one.id not in only:
            continue
        wanted.append(one)
    if not wanted:
        raise SelectionRefused("the selection leaves no check")
    return tuple(wanted)


async def run(plan: Plan, progress: Progress) -> Report:
    """Run the checks of *plan* and report what they found.

    A check that hangs or breaks is ended and has failed; the run goes on. After a check
    that left nobody listening, or nobody who answers, no other is run.
    """
    going = Run(plan)
    for number, check in enumerate(plan.checks, start=1):
        progress.started(check, number, len(plan.checks))
        progress.finished(await going.one(check))
    return going.report()


class Run:
    """A run that goes on: one check after another, in the order of the plan.

    Args:
        plan: What it is to do; which checks it does is its caller's business.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._began = datetime.now(UTC)
        self._clock = time.monotonic()
        self._recorder = Recorder()
        self._results: list[Result] = []
        self._gone_since = ""
        self._unanswered = 0

    async def one(self, check: Check) -> Result:
        """Run *check* and return what became of it."""
        if self._gone_since:
            came = f"the plugin is gone since {self._gone_since}"
            result = Result(check, Verdict.NOT_RUN, came=came)
        else:
            if not self._results:
                # A plugin that was started a moment ago; the checks say if none comes.
                await listens(self.plan.target.endpoint, self.plan.scale.limit)
            result = await _result(check, self.plan, self._recorder)
            absence = await self._absence(result)
            if absence:
                self._gone_since = check.id
                result = _gone(result, absence)
        self._results.append(result)
        return result

    async def _absence(self, result: Result) -> str:
        """Return why nothing more can be asked after a check, or nothing."""
        endpoint, limit = self.plan.target.endpoint, self.plan.scale.limit
        if result.verdict is Verdict.NOT_RUN:
            return ""
        if not await listens(endpoint, limit):
            return "nobody listened on the socket any more"
        self._unanswered = self._unanswered + 1 if _is_unanswered(result) else 0
        # Asked as late as this, since it moves a plugin that counts its calls.
        if self._unanswered < UNANSWERED_CHECKS or await answers(endpoint, limit):
            return ""
        return "no call was answered any more"

    def report(self) -> Report:
        """Return what was found up to now."""
        return Report(
            endpoint=str(self.plan.target.endpoint),
            began=self._began,
            duration_s=time.monotonic() - self._clock,
            scale=self.plan.scale.name,
            random_seed=self.plan.random_seed,
            results=tuple(self._results),
            latencies=self._recorder.latencies(),
        )


async def _result(check: Check, plan: Plan, recorder: Recorder) -> Result:
    missing = [hook.value for hook in check.needs if not plan.target.offers(hook)]
    if missing:
        came = f"needs {' '.join(missing)}"
        return Result(check, Verdict.NOT_RUN, came=came)
    recorder.begin()
    context = Context(check.id, plan.target, plan.scale, plan.random_seed, recorder)
    began = time.monotonic()
    limit_s = check.limit_s * plan.scale.limit
    try:
        result = await _ended(check, _work(check, context), limit_s)
        # What a check broke is mended before the next one, also when it has failed.
        restored = await _ended(check, context.restore(), RESTORE_S)
    except asyncio.CancelledError:
        # Whoever ends the run early gets the plugin back as it was, too.
        await _ended(check, context.restore(), RESTORE_S)
        raise
    if restored.verdict is Verdict.FAILED:
        came = f"after the check: {restored.came}"
        if result.came:
            came = f"{result.came}; {came}"
        known = result if result.verdict is Verdict.FAILED else restored
        result = evolve(known, came=came)
    if result.verdict is Verdict.PASSED and context.warnings:
        result = evolve(result, verdict=Verdict.WARNED)
    failed = result.verdict is Verdict.FAILED
    return evolve(
        result,
        duration_s=time.monotonic() - began,
        warnings=tuple(context.warnings),
        measurements=tuple(context.measurements),
        exchanges=recorder.last() if failed else (),
    )


async def _work(check: Check, context: Context) -> None:
    try:
        await check.run(context)
    finally:
        await context.aclose()


async def _ended(
    check: Check, work: Coroutine[Any, Any, None], limit_s: float
) -> Result:
    """Return how *work* ended. It is a task of its own, left behind if it won't end."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=limit_s)
    except asyncio.CancelledError:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
        raise
    if not done:
        task.cancel()
        await asyncio.wait([task], timeout=_END_S)
        return _failed(check, Failed(f"the check had not ended after {limit_s:g} s"))
    return _verdict(check, task.exception())


def _verdict(check: Check, error: BaseException | None) -> Result:
    match error:
        case None:
            return Result(check, Verdict.PASSED)
        case NotRun():
            return Result(check, Verdict.NOT_RUN, came=error.reason)
        case Failed():
            return _failed(check, error)
        case CallFailed() | ConnectionLost():
            return _failed(check, Failed(str(error)))
        case TimeoutError():
            return _failed(check, Failed("no answer in time"))
        case _:
            # A fault of the plugin that the check did not foresee, or of the check.
            came = f"the check broke: {type(error).__name__}: {error}"
            return _failed(check, Failed(came))


def _failed(check: Check, failure: Failed) -> Result:
    return Result(
        check,
        Verdict.FAILED,
        sent=failure.sent or check.words.sends,
        came=failure.came,
        why=failure.why or check.words.why,
    )


def _is_unanswered(result: Result) -> bool:
    """Return whether a check failed, and no call of its last ones was answered."""
    unanswered = (one.code == "DEADLINE_EXCEEDED" for one in result.exchanges)
    return result.verdict is Verdict.FAILED and all(unanswered)


def _gone(result: Result, absence: str) -> Result:
    came = f"after the check {absence}"
    if result.came:
        came = f"{result.came}; {came}"
    check = result.check
    return evolve(
        result,
        verdict=Verdict.FAILED,
        sent=result.sent or check.words.sends,
        came=came,
        why=result.why or check.words.why,
        is_gone=True,
    )
