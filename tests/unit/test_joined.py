"""One question for many: fresh for every asker, and never more than two in hand."""

from __future__ import annotations

import asyncio

import pytest

from phoenix_orch.runtime.joined import Joined


class World:
    """Something that changes, and takes its time to be looked at."""

    def __init__(self) -> None:
        self.value = 0
        self.looks = self.under_way = self.most = 0
        self.go_on = asyncio.Event()
        self.fails = False

    async def look(self) -> int:
        self.looks += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        seen = self.value
        await self.go_on.wait()
        self.under_way -= 1
        if self.fails:
            raise LookupError("not to be seen")
        return seen


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_comes_too_late_for_one_question_shares_the_next() -> None:
    world = World()
    joined = Joined(world.look)
    first = [asyncio.create_task(joined.ask()) for _ in range(3)]
    await settle()
    world.value = 1
    later = [asyncio.create_task(joined.ask()) for _ in range(50)]
    await settle()
    world.go_on.set()
    assert await asyncio.gather(*first) == [0] * 3
    assert await asyncio.gather(*later) == [1] * 50  # none of them is told of the past
    assert (world.looks, world.most) == (2, 1)
    world.value = 2
    assert await joined.ask() == 2


async def test_one_who_gives_up_takes_the_answer_from_nobody() -> None:
    world = World()
    joined = Joined(world.look)
    asking = [asyncio.create_task(joined.ask()) for _ in range(3)]
    await settle()
    asking[0].cancel()
    await settle()
    world.go_on.set()
    assert await asyncio.gather(*asking[1:]) == [0, 0]
    assert asking[0].cancelled()


async def test_an_error_is_told_to_all_who_asked_and_to_nobody_after() -> None:
    world = World()
    world.fails = True
    joined = Joined(world.look)
    asking = [asyncio.create_task(joined.ask()) for _ in range(3)]
    await settle()
    world.go_on.set()
    for task in asking:
        with pytest.raises(LookupError):
            await task
    world.fails = False
    assert await joined.ask() == 0


def test_a_question_that_was_left_in_a_loop_that_ended_stops_no_other() -> None:
    joined: Joined[int]

    async def for_ever() -> int:
        await asyncio.sleep(3600)
        return 1

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await joined.ask()

    joined = Joined(for_ever)
    asyncio.run(give_up())
    asyncio.run(give_up())
