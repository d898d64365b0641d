"""A release that has no chance is refused before it begins, with the figure."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit import recorded

from phoenix_orch.health_validator.resting import past
from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.kernel.errors import BadState
from phoenix_orch.orchestrator.applying import Applying
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.freeze_book import FileBook
from phoenix_orch.orchestrator.operations import OrchestratorOperations
from phoenix_orch.orchestrator.views import ChangeKind
from phoenix_orch.rollout.status import State, Status
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.testing.fake_router import FakeRouter
from phoenix_orch.testing.fake_workload import FakeWorkload


class Router(FakeRouter):
    async def declare_all(self, specs: Any) -> None: ...


def file(version: str) -> PhoenixFile:
    return PhoenixFile.model_validate(
        {
            "services": {"web": {"version": version, "command": ["app", "{port}"], "cwd": "/"}},
            "routes": {"web": {"service": "web"}},
        }
    )


class World:
    """A rollout at rest, whose stable revision has some hours behind it."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock, self.store = ManualClock(), MemoryStore()
        router, workload = Router(), FakeWorkload(self.clock)
        self.applying = Applying(
            store=self.store, router=router, workload=workload, clock=self.clock, kept=tmp_path / "kept.json"
        )

        async def info() -> dict[str, Any]:
            return {}

        self.operations = OrchestratorOperations(
            store=self.store,
            router=router,
            workload=workload,
            clock=self.clock,
            applying=self.applying,
            logs=None,  # type: ignore[arg-type]
            wake=lambda: None,
            info=info,
            book=FileBook(tmp_path / "freezes.json"),
            tasks=None,
        )

    async def at_rest(self, failing: float) -> None:
        await self.applying.apply(file("1"), actor="a", starting=True)
        rollout = await self.store.get("web")
        await self.store.save(rollout, Status(state=State.IDLE, stable=rollout.target))
        began = self.clock.now() - timedelta(minutes=30)
        record = recorded.release(
            walk=((0, timedelta(minutes=30)),), began=began, stable_failing=failing, rps=50
        )
        for o in past(record.observations):
            assert o.stable is not None
            mine = o.stable.model_copy(update={"revision": rollout.target})
            await self.store.append_observation("web", o.model_copy(update={"stable": mine}))

    async def start(self, **more: Any) -> Any:
        return await self.operations.start(
            "web", version="2", env=None, command=None, change_cause="", actor="a", **more
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_limits_that_stable_breaks_are_refused_at_start(world: World) -> None:
    await world.at_rest(failing=0.02)
    for dry_run in (True, False):
        with pytest.raises(BadState) as raised:
            await world.start(dry_run=dry_run)
        assert "web: limit not attainable: stable itself fails 1." in raised.value.message
        assert "phase initial allows 0.1 %" in raised.value.message
        assert "--even-if-unattainable" in raised.value.remedy
    assert (await world.store.get("web")).target == (await world.store.get("web")).status.stable
    change = await world.start(dry_run=False, even_if_unattainable=True)
    assert change.version == "2"
    assert (await world.store.get("web")).target == change.revision


async def test_limits_that_stable_keeps_are_no_obstacle(world: World) -> None:
    await world.at_rest(failing=0.0002)
    assert (await world.start(dry_run=False)).version == "2"


async def test_without_a_past_nothing_is_refused(world: World) -> None:
    await world.applying.apply(file("1"), actor="a", starting=True)
    rollout = await world.store.get("web")
    await world.store.save(rollout, Status(state=State.IDLE, stable=rollout.target))
    assert (await world.start(dry_run=False)).version == "2"


async def test_applying_another_version_is_refused_and_the_same_one_is_not(world: World) -> None:
    await world.at_rest(failing=0.02)
    with pytest.raises(BadState, match="not attainable"):
        await world.operations.apply(file("2"), actor="a", dry_run=False)
    (change,) = await world.operations.apply(file("1"), actor="a", dry_run=False)
    assert change.kind is ChangeKind.NONE
    (change,) = await world.operations.apply(file("2"), actor="a", dry_run=False, even_if_unattainable=True)
    assert change.kind is ChangeKind.RELEASE


async def test_phoenix_starts_whatever_the_limits_are(world: World) -> None:
    await world.at_rest(failing=0.02)
    (change,) = await world.applying.apply(file("2"), actor="a", starting=True)
    assert change.kind is ChangeKind.RELEASE
