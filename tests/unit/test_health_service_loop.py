"""The loop of the health validator: which rollouts it finds, when it looks, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from tests.unit.validator_setting import SPEC, World

from phoenix_orch.health_validator import service
from phoenix_orch.health_validator.service import HealthValidator
from phoenix_orch.kernel.clock import ManualClock, ScaledClock
from phoenix_orch.rollout.status import State
from phoenix_orch.testing.fake_evidence import FakeEvidence


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.validator.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(what: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await what():
            await asyncio.sleep(0.01)


def compressed() -> World:
    return World(ScaledClock(100, ManualClock().now()))


async def test_the_loop_finds_rollouts_and_keeps_the_interval() -> None:
    world = compressed()
    async with running(world):
        await world.rollout("one")

        async def judged() -> bool:
            return len(await world.store.observations("one")) >= 3

        await until(judged)
        observations = await world.store.observations("one")
        # 200 ms of real time are 20 s on this clock: the floor, not the 10 s of the spec
        assert all(o.seconds >= 18 for o in observations)
        rollout = await world.store.get("one")
        await world.change(rollout, state=State.ROLLING_BACK)

        async def quiet() -> bool:
            return not world.validator._watches

        await until(quiet)


async def test_of_many_at_rest_those_that_were_released_last_are_observed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "RESTING_MOST", 2)
    world = compressed()
    for name, day in (("old", 1), ("newer", 2), ("newest", 3)):
        began = datetime(2026, 1, day, tzinfo=UTC)
        await world.rollout(name, State.IDLE, stable="old", canary=None, release_started=began)
    await world.rollout("released", State.PROGRESSING)
    async with running(world):

        async def asked_often() -> bool:
            return len(world.evidence.asked) > 8

        await until(asked_often)
    assert {one.rollout for one in world.evidence.asked} == {"newer", "newest", "released"}


async def test_one_slow_rollout_delays_no_other() -> None:
    world = compressed()
    slow, quick = FakeEvidence(), world.evidence
    slow.hang()
    world.validator = HealthValidator(
        world.store, world.router, world.workload, {"metrics": slow, "router": quick}, world.clock
    )
    rollout = await world.rollout("slow")
    spec = SPEC.model_copy(update={"evidence": SPEC.evidence.model_copy(update={"source": "metrics"})})
    await world.store.put(rollout.model_copy(update={"spec": spec}))
    await world.rollout("quick")
    async with running(world):

        async def judged() -> bool:
            return len(await world.store.observations("quick")) >= 3

        await until(judged)
        assert len(slow.asked) == 1
        slow.wake()


async def test_the_loop_survives_a_store_that_is_away() -> None:
    world = compressed()
    await world.rollout("one")
    world.store.away(10**6)
    async with running(world):

        async def tried() -> bool:
            return world.store._away < 10**6 - 3

        await until(tried)
        world.store.away(0)

        async def judged() -> bool:
            return bool(await world.store.observations("one"))

        await until(judged)


class WatchClock(ManualClock):
    """One whose time is that on a watch."""

    def real(self, duration: timedelta) -> timedelta:
        return duration


def told(logged: list[Any]) -> list[str]:
    return [line["event"] for line in logged if line["event"].startswith("observing")]


async def test_a_source_that_starts_is_no_hindrance_and_one_that_stays_silent_is() -> None:
    world = World(WatchClock())
    rollout = await world.rollout()
    world.evidence.silence("new")
    with structlog.testing.capture_logs() as logged:
        await world.validator.observe_once(rollout)
        world.evidence.serve("new", 100)
        await world.ticks(rollout, 2)
        assert told(logged) == []
        world.evidence.silence("new")
        await world.ticks(rollout, 2)
        assert told(logged) == ["observing is hindered"]
    world = World(WatchClock())
    rollout = await world.rollout()
    world.evidence.silence("new")
    with structlog.testing.capture_logs() as logged:
        await world.ticks(rollout, 3)
        assert told(logged) == ["observing is hindered"]
