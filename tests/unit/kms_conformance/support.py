"""What the kit's tests share: plugins that serve in this process, with every hook."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Self

from kms_conformance.check import Check, Words
from kms_conformance.checks import everything
from kms_conformance.context import Context
from kms_conformance.outcome import MUST, Verdict
from kms_conformance.recorder import Recorder
from kms_conformance.reference import ReferencePlugin, RemoteKms, SocketTaken
from kms_conformance.runner import Plan, run
from kms_conformance.scale import TINY
from kms_conformance.target import Endpoint, Hook, Pulled, Target


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Any

    from kms_conformance.check import Run
    from kms_conformance.outcome import Severity
    from kms_conformance.report import Report, Result
    from kms_conformance.scale import Scale
    from kms_conformance.target import Pull


WORDS = Words("It holds.", "a thing", "another", "so", "`contract` 1")


class Site:
    """A plugin and its peer, with one key service and hooks that move them.

    Args:
        directory: Where the sockets are to be; short.
        plugin_class: The plugin under test; its peer is always a correct one.
    """

    def __init__(
        self, directory: Path, plugin_class: type[ReferencePlugin] = ReferencePlugin
    ) -> None:
        self.kms = RemoteKms()
        self.plugin = plugin_class(self.kms, directory / "kms.sock")
        self.peer = ReferencePlugin(self.kms, directory / "peer.sock")
        self.corpus = directory / "corpus.jsonl"

    async def __aenter__(self) -> Self:
        await self.peer.start()
        await self.plugin.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.plugin.stop(0)
        await self.peer.stop(0)

    @property
    def bare(self) -> Target:
        """The plugin without any hook."""
        return Target(Endpoint(str(self.plugin.path)))

    @property
    def target(self) -> Target:
        """The plugin with all hooks."""
        return Target(
            Endpoint(str(self.plugin.path)),
            peer=Endpoint(str(self.peer.path)),
            pulls={
                Hook.ROTATE: _at_once(self.kms.rotate),
                Hook.BACK: _at_once(self.kms.back),
                Hook.BREAK: _at_once(lambda: self._break(broken=True)),
                Hook.HEAL: _at_once(lambda: self._break(broken=False)),
                Hook.STOP: self._stop,
                Hook.START: self._start,
                Hook.KILL: self._kill,
                Hook.KMS_CALLS: self._kms_calls,
            },
            pid=os.getpid,
            corpus=self.corpus,
            rotation_s=5,
        )

    def context(self, scale: Scale = TINY) -> Context:
        return Context("T01", self.target, scale, 1, Recorder())

    def _break(self, *, broken: bool) -> None:
        self.kms.broken = broken

    async def _stop(self) -> Pulled:
        await self.plugin.stop()
        return Pulled(0)

    async def _start(self) -> Pulled:
        try:
            await self.plugin.start()
        except SocketTaken as taken:
            return Pulled(1, str(taken))
        return Pulled(0)

    async def _kill(self) -> Pulled:
        await self.plugin.stop(0)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(self.plugin.path))
        return Pulled(0)

    async def _kms_calls(self) -> Pulled:
        return Pulled(0, str(self.kms.calls))


def _at_once(move: Callable[[], None]) -> Pull:
    async def pulled() -> Pulled:
        move()
        return Pulled(0)

    return pulled


def checks(ids: Iterable[str]) -> tuple[Check, ...]:
    """Return the checks of these ids, in the order in which they run."""
    wanted = set(ids)
    return tuple(one for one in everything() if one.id in wanted)


def a_check(
    run: Run, check_id: str = "T01", severity: Severity = MUST, **more: Any
) -> Check:
    return Check(check_id, severity, WORDS, run, **more)


class Watched:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int, int]] = []
        self.ended: list[str] = []

    def started(self, check: Check, number: int, total: int) -> None:
        self.begun.append((check.id, number, total))

    def finished(self, result: Result) -> None:
        self.ended.append(result.check.id)


async def report(
    target: Target, chosen: tuple[Check, ...], scale: Scale = TINY
) -> Report:
    return await run(Plan(target, chosen, scale, 1), Watched())


def ids_of(found: Report, verdict: Verdict) -> set[str]:
    return {one.check.id for one in found.of(verdict)}


def what_failed(found: Report) -> dict[str, str]:
    """Return what came, by the id of each check that failed."""
    return {one.check.id: one.came for one in found.of(Verdict.FAILED)}
