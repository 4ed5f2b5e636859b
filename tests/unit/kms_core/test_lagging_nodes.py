"""Nodes of the key service that contradict each other for a while after a rotation."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from kms_core.fakes import InMemoryKeyProvider
from kms_core.standing import Phase


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.kms_core.conftest import Scene

    from kms_core.provider import KeyDescription


class LaggingProvider(InMemoryKeyProvider):
    """While ``nodes`` has an answer, a look by name goes to the node it names."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: Iterator[str] = iter(())

    async def _describe(self, kid: str | None, deadline: float) -> KeyDescription:
        found = await super()._describe(kid, deadline)
        return found if kid else self._key(next(self.nodes, found.kid))


PATTERNS = {
    "one-by-one": "on",
    "mostly-old": "ooon",
    "mostly-new": "nno",
    "pairs": "oonn",
}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
async def test_two_daemons_agree_in_the_end_and_never_go_back(
    make_scene: Callable[..., Scene], pattern: str
) -> None:
    provider = LaggingProvider()
    scenes = [await make_scene(provider=provider).start() for _ in range(2)]
    old = scenes[0].announced
    new = provider.rekey()
    kids = {"o": old.kid, "n": new.kid}
    provider.nodes = itertools.cycle(kids[letter] for letter in pattern)
    seen: list[list[str]] = [[scene.key_id()] for scene in scenes]
    for _ in range(40):
        for scene, key_ids in zip(scenes, seen, strict=True):
            await scene.after(15.0)
            assert scene.phase() is Phase.READY
            assert await scene.encrypt() == scene.key_id()
            key_ids.append(scene.key_id())
    provider.nodes = iter(())
    for scene, key_ids in zip(scenes, seen, strict=True):
        await scene.after(60.0)
        key_ids.append(scene.key_id())
    for key_ids in seen:
        turns = [key_id for key_id, _ in itertools.groupby(key_ids)]
        assert turns == [old.key_id, f"sdkms.v1:{new.kid}:{old.kid}"]
