"""Waiting, in a loop, for what another thread lets go."""

import asyncio
import contextlib
from concurrent.futures import Future


async def until_released(released: Future[None]) -> None:
    """Wait until *released* is done; giving up leaves it as it is."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Event()

    def let_go(_: Future[None]) -> None:
        # The server, and its loop, may have stopped in the meantime.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(gate.set)

    released.add_done_callback(let_go)
    await gate.wait()
