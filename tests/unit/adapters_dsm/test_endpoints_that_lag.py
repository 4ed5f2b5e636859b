"""Two endpoints whose nodes know of a rotation at different times.

What a look says may then depend on which endpoint answered. The watcher's own rules
(two equal looks, no way back without a link) must hold over that as well.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import math
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.unit.adapters_dsm.support import (
    IV,
    Adapters,
    Asked,
    RawServer,
    SkippingClock,
    cancel,
    http,
    sobject,
    until,
)

from adapters_dsm.events import EndpointBack, EndpointLeft
from kms_core.envelope import ProviderEnvelope
from kms_core.events import StandingReported
from kms_core.fakes import SeededRandomness
from kms_core.key_id import DEFAULT_SCHEME, NativeNaming
from kms_core.sealed_seed import Version
from kms_core.watcher import Surroundings, Watcher


if TYPE_CHECKING:
    from collections.abc import Iterator

    import trustme


OLD = "00000000-0000-4000-8000-000000000001"
NEW = "00000000-0000-4000-8000-000000000002"
TAG_BYTES = 16
LAG_S = 55.0
"""Less than the 60 s for which looks must agree before a key comes back."""


@define(eq=False)
class Node:
    """One endpoint: which key the name leads to there, and when it answers looks."""

    clock: SkippingClock
    answers: Iterator[bool]
    knows_at: float = math.inf
    looks: int = 0

    async def __call__(self, asked: Asked) -> None:
        operation = asked.path.rpartition("/")[2].partition("?")[0]
        if operation in ("health", "refresh"):
            asked.send(http(204))
            return
        body: Any = asked.json
        if operation != "info":
            asked.send(http(body=crypt(operation, body)))
        elif next(self.answers):
            self.looks += 1
            newest = NEW if self.clock.monotonic() >= self.knows_at else OLD
            asked.send(http(body=self._key(body.get("kid", newest))))
        else:
            asked.reset()

    def _key(self, kid: str) -> dict[str, object]:
        links = {"replaced": OLD} if kid == NEW else {}
        return sobject(kid=kid, links=links)


def crypt(operation: str, body: dict[str, Any]) -> dict[str, str]:
    kid = body["key"]["kid"]
    key, aad = AESGCM(kid.encode()[:32]), base64.b64decode(body["ad"])
    if operation == "encrypt":
        made = key.encrypt(IV, base64.b64decode(body["plain"]), aad)
        parts = {"cipher": made[:-TAG_BYTES], "iv": IV, "tag": made[-TAG_BYTES:]}
    else:
        made = base64.b64decode(body["cipher"]) + base64.b64decode(body["tag"])
        parts = {"plain": key.decrypt(IV, made, aad)}
    coded = {name: base64.b64encode(part).decode() for name, part in parts.items()}
    return coded | {"kid": kid}


@pytest.mark.parametrize("pattern", ["an", "aan", "aann", "annn", "aaaannnn"])
async def test_a_look_that_changes_endpoints_announces_once_and_never_goes_back(
    authority: trustme.CA, adapters: Adapters, pattern: str
) -> None:
    # The first answers looks by the pattern, and then the second one is asked.
    clock = adapters.clock
    first = Node(clock, itertools.cycle(letter == "a" for letter in pattern))
    second = Node(clock, itertools.repeat(True))  # noqa: FBT003 - what it repeats
    async with RawServer(first, authority) as one, RawServer(second, authority) as two:
        provider = adapters.open(one.url, two.url)
        envelope = ProviderEnvelope(
            provider, Version.DIRECT, DEFAULT_SCHEME, frozenset()
        )
        watcher = Watcher(
            Surroundings(
                provider=provider,
                envelope=envelope,
                naming=NativeNaming(),
                clock=clock,
                randomness=SeededRandomness(),
                telemetry=adapters.telemetry,
            )
        )
        watching = asyncio.create_task(watcher.run())
        await until(lambda: first.looks >= 5)
        first.knows_at = clock.monotonic()
        second.knows_at = clock.monotonic() + LAG_S
        before = first.looks + second.looks
        await until(lambda: first.looks + second.looks >= before + 40)
        await cancel(watching)
        assert watcher.key_to_announce().kid == NEW
    events = adapters.telemetry.events
    reports = [event for event in events if isinstance(event, StandingReported)]
    turns = [key_id for key_id, _ in itertools.groupby(r.key_id for r in reports)]
    assert [t for t in turns if t] == [f"sdkms.v1:{OLD}", f"sdkms.v1:{NEW}:{OLD}"]
    assert {report.state for report in reports} <= {"starting", "ready"}
    # There was something to confuse it with.
    assert sum(isinstance(event, EndpointLeft) for event in events) > 1
    assert sum(isinstance(event, EndpointBack) for event in events) > 1
