"""What keeps a Rollout from going on is said in its status, once it lasts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.kernel.errors import BadState, Conflict, NotFound, PhoenixError, Retryable
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.stalls import LASTS, Stalls
from phoenix_orch.rollout.conditions import Condition
from phoenix_orch.workload.deployment.refusal import Refusal, Refused

CLAIMED = Refused(Refusal("ClaimedByAnother", "somebody has it", "ask them"))


def manifest(name: str, number: int, *conditions: Condition, workload: str, route: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "shops",
            "uid": str(number),
            "resourceVersion": str(number),
            "creationTimestamp": f"2026-01-0{number}T00:00:00Z",
            "generation": 7,
        },
        "spec": {"workload": {"name": workload}, "traffic": {"ingress": route}},
        "status": {"conditions": [one.model_dump(mode="json", by_alias=True) for one in conditions]},
    }


class World:
    """A store that keeps the conditions it is told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.faults: dict[str, Exception] = {}
        self.told: list[Condition] = []
        self.away = False
        self.stalls = Stalls(self, lambda _: self.faults, clock=self.clock)

    async def tell(self, name: str, condition: Condition) -> None:
        assert name == "web"
        if self.away:
            raise Retryable("away")
        self.told.append(condition)

    async def look(self, hindered: PhoenixError | None = None) -> None:
        one = Rollouts([manifest("web", 1, *self.told[-1:], workload="web", route="web")]).named("web")
        await self.stalls.tell(one, hindered)

    async def last(self, hindered: PhoenixError | None = None) -> list[tuple[str, str]]:
        await self.look(hindered)
        self.clock.advance(LASTS)
        await self.look(hindered)
        return [(one.status, one.reason) for one in self.told]


async def test_a_refusal_is_told_by_its_own_word_and_again_when_it_is_gone() -> None:
    world = World()
    assert await world.last(CLAIMED) == [("True", "ClaimedByAnother")]
    assert "somebody has it" in world.told[0].message
    assert "ask them" in world.told[0].message
    assert world.told[0].observed_generation == 7
    await world.look(CLAIMED)
    assert len(world.told) == 1
    await world.look()
    assert (world.told[-1].status, world.told[-1].message) == ("False", "")


async def test_what_is_over_soon_is_not_told() -> None:
    world = World()
    await world.look(CLAIMED)
    world.clock.advance(LASTS - timedelta(milliseconds=1))
    await world.look(CLAIMED)
    await world.look()
    await world.look(CLAIMED)
    assert world.told == []


@pytest.mark.parametrize("error", [Conflict("later"), Retryable("away"), ValueError("a defect")])
async def test_what_passes_by_itself_is_no_stall(error: Exception) -> None:
    world = World()
    world.faults = {"steering": error}
    assert await world.last() == []


@pytest.mark.parametrize(
    ("error", "reason"), [(NotFound("no Ingress"), "NotFound"), (BadState("not ours"), "Refused")]
)
async def test_what_the_controller_meets_is_told_as_well(error: Exception, reason: str) -> None:
    world = World()
    world.faults = {"verdict": Retryable("away"), "steering": error}
    assert await world.last() == [("True", reason)]


async def test_it_is_told_later_where_the_store_is_away() -> None:
    world = World()
    world.away = True
    assert await world.last(CLAIMED) == []
    world.away = False
    await world.look(CLAIMED)
    assert [one.reason for one in world.told] == ["ClaimedByAnother"]


def test_of_two_rollouts_of_one_route_the_older_one_has_it() -> None:
    rollouts = Rollouts(
        [
            manifest("late", 2, workload="other", route="web"),
            manifest("early", 1, workload="web", route="web"),
        ]
    )

    def reasons(name: str) -> list[str]:
        one: Declared = rollouts.named(name)
        return [refusal.reason for refusal in rollouts.refusals(one)]

    assert reasons("early") == []
    assert reasons("late") == ["RouteOfAnother"]
