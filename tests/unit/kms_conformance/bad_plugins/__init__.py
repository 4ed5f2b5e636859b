"""Plugins with one fault each, and the checks that must catch it.

Each module is for one group of checks; ``every_bad_plugin`` finds them all.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen


if TYPE_CHECKING:
    from collections.abc import Callable

    from kms_conformance.reference import ReferencePlugin


@frozen
class Bad:
    """A plugin with one fault.

    Attributes:
        plugin: Its class; the name says the fault.
        caught_by: Ids of the checks that must fail.
        also: Ids, or letters of groups, that fail too since the same fault shows there.
        timeout_s: Seconds for each call; fewer for a plugin that hangs.
    """

    plugin: type[ReferencePlugin]
    caught_by: tuple[str, ...]
    also: tuple[str, ...]
    timeout_s: float

    @property
    def name(self) -> str:
        return self.plugin.__name__

    def explains(self, check_id: str) -> bool:
        """Return whether a failure of *check_id* is due to the fault."""
        return bool({check_id, check_id[0]} & {*self.caught_by, *self.also})


_FOUND: list[Bad] = []


def bad(
    *caught_by: str, also: tuple[str, ...] = (), timeout_s: float = 3.0
) -> Callable[[type[ReferencePlugin]], type[ReferencePlugin]]:
    """Enter the decorated plugin; see ``Bad`` for the arguments."""

    def entered(plugin: type[ReferencePlugin]) -> type[ReferencePlugin]:
        _FOUND.append(Bad(plugin, caught_by, also, timeout_s))
        return plugin

    return entered


def every_bad_plugin() -> tuple[Bad, ...]:
    for path in sorted(Path(__file__).parent.glob("of_*.py")):
        importlib.import_module(f"{__name__}.{path.stem}")
    return tuple(_FOUND)
