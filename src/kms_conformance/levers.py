"""Levers: the hooks of one check, and what they have left stopped or broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kms_conformance.outcome import Failed, NotRun, shown
from kms_conformance.target import Hook


if TYPE_CHECKING:
    from collections.abc import Mapping

    from kms_conformance.target import Pull, Pulled


class HookFailed(Failed):
    """The command of a hook did not do what it is for."""


class Levers:
    """Pulls hooks for one check, and afterwards undoes what is left.

    Args:
        pulls: What each hook does.
    """

    def __init__(self, pulls: Mapping[Hook, Pull]) -> None:
        self._pulls = pulls
        self._stopped = False
        self._broken = False

    async def pull(self, hook: Hook) -> Pulled:
        """Pull *hook*.

        Raises:
            HookFailed: Its command failed.
            NotRun: It was not given.
        """
        pulled = await self.attempt(hook)
        if pulled.exit_code != 0:
            raise HookFailed(
                f"its command exited with {pulled.exit_code}: {shown(pulled.output)}",
                sent=f"the hook {hook.value}",
                why="the check can't judge the plugin without it",
            )
        return pulled

    async def attempt(self, hook: Hook) -> Pulled:
        """Pull *hook*, which may fail.

        Raises:
            NotRun: It was not given.
        """
        if hook not in self._pulls:
            raise NotRun(f"needs {hook.value}")
        # Before the command: it may be cancelled half-way.
        if hook in (Hook.STOP, Hook.KILL):
            self._stopped = True
        if hook is Hook.BREAK:
            self._broken = True
        pulled = await self._pulls[hook]()
        if pulled.exit_code == 0:
            self._stopped = self._stopped and hook is not Hook.START
            self._broken = self._broken and hook is not Hook.HEAL
        return pulled

    async def restore(self) -> bool:
        """Heal what is broken and start what is stopped; return whether there was any.

        A key service that can't be healed is no reason to leave the plugin stopped.

        Raises:
            HookFailed: A command failed; both were tried.
            NotRun: The hook that would do it was not given.
        """
        left = [
            hook
            for hook, needed in (
                (Hook.HEAL, self._broken),
                (Hook.START, self._stopped),
            )
            if needed
        ]
        failed: list[HookFailed] = []
        for hook in left:
            try:
                await self.pull(hook)
            except HookFailed as failure:
                failed.append(failure)
        if failed:
            raise failed[0]
        return bool(left)
