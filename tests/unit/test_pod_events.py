"""Events about pods explain a trouble; nobody waits for them longer than a moment, and the well cost none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.workload import pod_events
from phoenix_orch.workload.pod_events import AGAIN, PAUSE, RECENT, PodEvents, troubles

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
EVENT = {"reason": "Killing"}


def pod(name: str = "a", *, waiting: str = "", restarts: int = 0, ended: datetime | None = None) -> Any:
    container: dict[str, Any] = {"name": "shop", "restartCount": restarts, "state": {"running": {}}}
    if waiting:
        container["state"] = {"waiting": {"reason": waiting}}
    if ended is not None:
        container["lastState"] = {"terminated": {"finishedAt": ended.isoformat()}}
    return {"metadata": {"name": name, "uid": name}, "status": {"containerStatuses": [container]}}


@dataclass
class Server:
    """The API server, as far as it is asked."""

    asked: int = 0
    fails: bool = False
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def list(self, *_: object, **__: object) -> Any:
        self.asked += 1
        if self.fails:
            raise Retryable("away")
        await self.answers.wait()
        return type("Page", (), {"items": [EVENT]})


@dataclass
class World:
    server: Server = field(default_factory=Server)
    now: float = 100.0

    def __post_init__(self) -> None:
        self.server.answers.set()
        self.events = PodEvents(self.server, lambda: self.now)  # type: ignore[arg-type]

    async def about(self, *pods: Any) -> tuple[Any, ...]:
        return await self.events.about("shop", pods, NOW)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(pod_events, "PATIENCE", 0.05)
    return World()


def test_a_restart_is_a_trouble_while_it_is_new() -> None:
    assert troubles([pod()], NOW) == frozenset()
    assert troubles([pod(restarts=1, ended=NOW - RECENT)], NOW) == frozenset()
    assert troubles([pod(restarts=1, ended=NOW - timedelta(seconds=1))], NOW)
    assert troubles([pod(waiting="ImagePullBackOff")], NOW)


async def test_pods_that_are_well_cost_no_request(world: World) -> None:
    assert await world.about(pod(), pod("b")) == ()
    assert world.server.asked == 0


async def test_one_trouble_is_asked_about_once_in_a_while_and_a_new_one_at_once(world: World) -> None:
    crash = pod(restarts=1, ended=NOW)
    for _ in range(3):
        assert await world.about(crash) == (EVENT,)
    assert world.server.asked == 1
    await world.about(crash, pod("b", waiting="ErrImagePull"))
    assert world.server.asked == 2
    await world.about(pod(restarts=2, ended=NOW))
    assert world.server.asked == 3
    world.now += AGAIN
    await world.about(pod(restarts=2, ended=NOW))
    assert world.server.asked == 4


async def test_a_list_that_hangs_is_waited_for_once_and_its_answer_comes_later(world: World) -> None:
    world.server.answers.clear()
    crash = pod(restarts=1, ended=NOW)
    assert await world.about(crash) == ()
    world.now += 0.05  # its patience is used up: who asks now does not wait at all
    assert await asyncio.wait_for(world.about(crash, pod("b", waiting="ErrImagePull")), 5) == ()
    assert world.server.asked == 1
    world.server.answers.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await world.about(crash) == (EVENT,)


async def test_a_list_that_fails_is_not_asked_for_again_at_once(world: World) -> None:
    world.server.fails = True
    crash = pod(restarts=1, ended=NOW)
    assert [await world.about(crash) for _ in range(3)] == [(), (), ()]
    assert world.server.asked == 1
    world.server.fails = False
    world.now += PAUSE
    assert await world.about(crash) == (EVENT,)
