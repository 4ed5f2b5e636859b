"""Bytes that nobody asked for are never taken for the answer to a later call.

aiohttp goes on parsing what arrives on a connection that is back in its pool, and gives
it to the next request there (aio-libs/aiohttp#13656): a proxy that repeats an answer
would hand one call the plaintext of another.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from tests.unit.adapters_dsm.support import (
    IV,
    KID,
    SEED,
    TAG,
    Adapters,
    Asked,
    RawServer,
    http,
)

from kms_core.errors import ProviderError
from kms_core.fakes import settle
from kms_core.provider import Ciphertext


if TYPE_CHECKING:
    import trustme


OTHER = bytes(32)
SEALED = Ciphertext(bytes(reversed(range(32))), IV, TAG)


def opened(seed: bytes) -> bytes:
    return http(body={"kid": KID, "plain": base64.b64encode(seed).decode()})


@pytest.mark.parametrize("when", ["at once", "once it is idle", "and not read yet"])
@pytest.mark.parametrize(
    "unasked",
    [opened(OTHER), opened(OTHER)[:-10], b"HTTP/1.1 200 OK\r\n", b"\r\n", b"x"],
    ids=["an answer", "a part of one", "a status line", "an empty line", "noise"],
)
async def test_what_nobody_asked_for_answers_nobody(
    authority: trustme.CA, adapters: Adapters, unasked: bytes, when: str
) -> None:
    async def script(asked: Asked) -> None:
        asked.send(opened(SEED))
        if when == "at once":
            asked.send(unasked)

    async with RawServer(script, authority) as server:
        provider = adapters.open(server.url)
        for _ in range(3):
            deadline = adapters.clock.in_s(3)
            try:
                found = await provider.decrypt(KID, SEALED, None, deadline=deadline)
            except ProviderError:
                continue
            assert found == SEED
            if when != "at once":
                server.asked[-1].send(unasked)
            if when == "once it is idle":
                await settle()
