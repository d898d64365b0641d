"""When each rollout is passed over: nobody waits for another one, and many quiet ones cost little."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from phoenix_orch.rollout.passes import AT_ONCE, RESTING_TICK, TICK, Passes

SOON = timedelta(milliseconds=20)
FOR_EVER = timedelta(hours=1)


class World:
    """Rollouts that do nothing but take their time."""

    def __init__(self, *names: str, quiet: bool = False) -> None:
        self.names = list(names)
        self.quiet = set(names) if quiet else set()
        self.waits: dict[str, timedelta] = {}
        self.holds: dict[str, asyncio.Event] = {}
        self.store = asyncio.Event()
        self.store.set()
        self.count: Counter[str] = Counter()
        self.under_way: set[str] = set()
        self.most = 0
        self.passes = Passes(self.find, self.one, self.quiet.__contains__)

    async def find(self) -> list[str]:
        await self.store.wait()
        return list(self.names)

    async def one(self, name: str) -> timedelta:
        assert name not in self.under_way, "one pass over a rollout at a time"
        self.under_way.add(name)
        self.most = max(self.most, len(self.under_way))
        try:
            if name in self.holds:
                await self.holds[name].wait()
            await asyncio.sleep(0)
        finally:
            self.under_way.discard(name)
        self.count[name] += 1
        return self.waits.get(name, FOR_EVER)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.passes.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_one_that_hangs_keeps_no_other_waiting() -> None:
    world = World("a", "b")
    world.holds["a"] = asyncio.Event()
    world.waits = {"b": SOON}
    async with world.running():
        await until(lambda: world.count["b"] > 5)
        assert world.count["a"] == 0
        world.holds["a"].set()
        await until(lambda: world.count["a"] == 1)


async def test_a_store_that_hangs_keeps_no_rollout_waiting_that_is_known() -> None:
    world = World("a")
    world.waits = {"a": SOON}
    async with world.running():
        await until(lambda: world.count["a"])
        world.store.clear()
        world.passes.wake()
        before = world.count["a"]
        await until(lambda: world.count["a"] > before + 60)  # for longer than a tick


async def test_few_quiet_ones_at_once_and_any_number_of_others() -> None:
    names = tuple(f"r{number}" for number in range(3 * AT_ONCE))
    quiet, busy = World(*names, quiet=True), World(*names)
    for world in (quiet, busy):
        gate = asyncio.Event()
        world.holds = dict.fromkeys(names, gate)
        async with world.running():
            wanted = AT_ONCE if world is quiet else len(names)
            await until(lambda world=world, wanted=wanted: len(world.under_way) == wanted)  # type: ignore[misc]
            gate.set()
            await until(lambda world=world: len(world.count) == len(names))  # type: ignore[misc]
        assert world.most == wanted


async def test_one_on_its_way_waits_for_no_turn() -> None:
    world = World(*(f"r{number}" for number in range(AT_ONCE)), quiet=True)
    world.names.append("busy")
    world.holds = dict.fromkeys(world.quiet, asyncio.Event())
    async with world.running():
        await until(lambda: len(world.under_way) == AT_ONCE and world.count["busy"] == 1)


async def test_a_new_leader_of_many_quiet_ones_begins_with_those_on_their_way_and_those_woken() -> None:
    world = World(*(f"r{number}" for number in range(120)), quiet=True)
    world.names.append("busy")
    async with world.running():
        await until(lambda: world.count["busy"] == 1)
        assert len(world.count) < len(world.names) / 4
        world.passes.wake("r119")
        await until(lambda: world.count["r119"] == 1)
        assert len(world.count) < len(world.names) / 2
        await until(lambda: len(world.count) == len(world.names))
    assert set(world.count.values()) == {1}


async def test_a_wake_reaches_whom_it_names_and_one_during_a_pass_asks_for_another() -> None:
    world = World("a", "b")
    async with world.running():
        await until(lambda: world.count == {"a": 1, "b": 1})
        world.holds["a"] = asyncio.Event()
        world.passes.wake("a")
        await until(lambda: "a" in world.under_way)
        world.passes.wake("a")
        world.holds["a"].set()
        await until(lambda: world.count["a"] == 3)
        assert world.count["b"] == 1
        world.passes.wake()
        await until(lambda: world.count == {"a": 4, "b": 2})


async def test_who_comes_is_passed_over_and_who_goes_is_not() -> None:
    world = World("a")
    world.waits = {"a": SOON, "b": SOON}
    async with world.running():
        await until(lambda: world.count["a"])
        world.names = ["b"]
        world.passes.wake()
        await until(lambda: world.count["b"])
        await until(lambda: not world.under_way)
        gone = world.count["a"]
        before = world.count["b"]
        await until(lambda: world.count["b"] > before + 5)
        assert world.count["a"] == gone


@pytest.mark.parametrize(("number", "expected"), [(4, True), (120, False)])
async def test_the_more_quiet_ones_there_are_the_less_often_each_is_passed_over(
    number: int, expected: bool
) -> None:
    names = tuple(f"r{index}" for index in range(number))
    world = World(*names, quiet=True)
    world.waits = dict.fromkeys(names, TICK)
    async with world.running():
        await until(lambda: len(world.count) == number)
        passes = sum(world.count.values())
        await asyncio.sleep(2 * RESTING_TICK.total_seconds())
        per_second = (sum(world.count.values()) - passes) / 2 / RESTING_TICK.total_seconds()
        assert (per_second / number > 0.5) is expected
        before = world.count["r0"]
        world.passes.wake("r0")  # and none of them sleeps when something happens
        await until(lambda: world.count["r0"] > before)


async def test_of_many_on_their_way_none_is_passed_over_at_every_change() -> None:
    world = World(*(f"web-{number}" for number in range(100)))
    async with world.running():
        await until(lambda: len(world.count) == len(world.names))
        before = world.count["web-0"]
        end = asyncio.get_running_loop().time() + 1.0
        while asyncio.get_running_loop().time() < end:
            world.passes.wake("web-0")
            await asyncio.sleep(0.005)
    assert 1 <= world.count["web-0"] - before <= 4
