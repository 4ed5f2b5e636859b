"""What a scripted server does with a request, for tests that differ in nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.unit.adapters_dsm.support import describe_ok


if TYPE_CHECKING:
    from tests.unit.adapters_dsm.support import Asked, Script


async def answer_well(asked: Asked) -> None:
    asked.send(describe_ok())


def answers(*raw: bytes) -> Script:
    """Answer with each in turn, and with the last from then on."""
    left = list(raw)

    async def script(asked: Asked) -> None:
        asked.send(left.pop(0) if len(left) > 1 else left[0])

    return script


async def hang(_: Asked) -> None:
    await asyncio.Event().wait()
