"""Rotating: looks at a plugin again and again while its remote key rotates."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kms_conformance.context import Context


T = TypeVar("T")

LOOKS_AFTERWARDS: Final = 100
"""Looks of a full run after Status has shown the rotation."""

_HOOK_S: Final = 90.0


async def while_rotating(kit: Context, look: Callable[[], Awaitable[T]]) -> list[T]:
    """Rotate the remote key, and *look* from before it until after Status shows it.

    A look that ends in CallFailed while the key rotates is left out; before and after
    that, it is a failure.

    Args:
        kit: The check's context.
        look: What is done again and again.

    Returns:
        What the looks gave, in order.

    Raises:
        Failed: The hook failed, Status did not show the rotation in time, or a look
            says so.
        CallFailed: A look failed before or after the rotation.
    """
    seen = [await look()]
    rotating = asyncio.ensure_future(kit.rotate(kit.dial()))

    async def rotated() -> bool:
        seen.append(await look())
        return rotating.done()

    try:
        # kit.rotate has a limit itself: this one is for a plugin whose looks all fail.
        await kit.until(
            rotated,
            within_s=kit.target.rotation_s + _HOOK_S,
            otherwise="no call was answered while the key rotated",
            every_s=0.01,
        )
        await rotating
    finally:
        rotating.cancel()
        await asyncio.gather(rotating, return_exceptions=True)
    count = kit.count(LOOKS_AFTERWARDS, least=20)
    return [*seen, *[await look() for _ in range(count)]]
