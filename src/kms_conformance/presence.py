"""Whether there is a plugin at all: somebody who listens, and who answers."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Final

from kms_conformance.connection import Connection, Dial, Sealed
from kms_conformance.outcome import CallFailed
from kms_conformance.recorder import Recorder


if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from kms_conformance.target import Endpoint


GONE_AFTER_S: Final = 10.0
"""How long nobody may listen before the plugin counts as gone."""

SILENT_AFTER_S: Final = 5.0
"""How long a Status, an Encrypt and a Decrypt at once may all stay unanswered."""


async def listens(endpoint: Endpoint, limit: float) -> bool:
    """Return whether somebody accepts connections, now or soon.

    Args:
        endpoint: The plugin's socket.
        limit: Factor of ``GONE_AFTER_S``.
    """
    give_up = time.monotonic() + GONE_AFTER_S * limit
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(endpoint.address)
        except OSError:
            if time.monotonic() > give_up:
                return False
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return True


async def answers(endpoint: Endpoint, limit: float) -> bool:
    """Return whether any call is answered, a refusal included.

    Args:
        endpoint: The plugin's socket.
        limit: Factor of ``SILENT_AFTER_S``.
    """
    timeout_s = SILENT_AFTER_S * limit
    plugin = Connection(
        endpoint, Dial(), timeout_s, Recorder(), lambda: str(uuid.uuid4())
    )
    calls = [
        asyncio.ensure_future(_is_answered(call))
        for call in (
            plugin.status(),
            plugin.encrypt(bytes(32)),
            plugin.decrypt(Sealed(b"?", "?", ())),
        )
    ]
    try:
        for call in asyncio.as_completed(calls):
            if await call:
                return True
        return False
    finally:
        for one in calls:
            one.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await plugin.aclose()


async def _is_answered(call: Coroutine[Any, Any, Any]) -> bool:
    try:
        await call
    except CallFailed as failure:
        return not failure.no_answer
    return True
