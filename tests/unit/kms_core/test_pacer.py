from __future__ import annotations

import asyncio
import itertools

from kms_core.pacer import Pacer


async def iterations(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Crowd:
    """Callers of one pacer, and the iterations in which they started."""

    def __init__(self, gap: int, callers: int) -> None:
        self.started: list[tuple[int, int]] = []
        self.now = 0
        self._pacer = Pacer(gap)
        self.tasks = [asyncio.create_task(self._call(n)) for n in range(callers)]

    async def _call(self, number: int) -> None:
        await self._pacer.turn()
        self.started.append((number, self.now))

    async def until_all_are_done(self) -> None:
        while not all(task.done() for task in self.tasks):
            self.now += 1
            await asyncio.sleep(0)

    def order(self) -> list[int]:
        return [number for number, _ in self.started]

    def gaps(self) -> list[int]:
        times = [time for _, time in self.started]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


async def test_lone_call_starts_at_once() -> None:
    await asyncio.wait_for(Pacer(1000).turn(), 1)


async def test_burst_starts_in_order_and_spread_over_the_iterations() -> None:
    crowd = Crowd(gap=3, callers=5)
    await crowd.until_all_are_done()
    assert crowd.order() == [0, 1, 2, 3, 4]
    assert crowd.gaps()[1:] == [3, 3, 3]


async def test_gap_of_zero_lets_everybody_in_at_once() -> None:
    crowd = Crowd(gap=0, callers=5)
    await crowd.until_all_are_done()
    assert crowd.gaps() == [0, 0, 0, 0]


async def test_cancelled_callers_leave_the_queue_without_costing_a_turn() -> None:
    crowd = Crowd(gap=3, callers=6)
    await iterations(1)
    for task in crowd.tasks[1:4]:
        task.cancel()
    await crowd.until_all_are_done()
    assert crowd.order() == [0, 4, 5]
    assert crowd.gaps()[1:] == [3]


async def test_queue_of_which_everybody_is_cancelled_lets_the_next_one_in() -> None:
    crowd = Crowd(gap=3, callers=3)
    await iterations(1)
    for task in crowd.tasks[1:]:
        task.cancel()
    await crowd.until_all_are_done()
    later = Crowd(gap=3, callers=1)
    later._pacer = crowd._pacer
    await asyncio.wait_for(later.until_all_are_done(), 1)
    assert later.order() == [0]
