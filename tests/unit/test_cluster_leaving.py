"""What becomes of a Rollout that was deleted."""

from __future__ import annotations

from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.leaving import SETTLED, Leaving


def declared(uid: str = "1", name: str = "web", workload: str = "web") -> Declared:
    metadata = {
        "name": name,
        "namespace": "shops",
        "uid": uid,
        "resourceVersion": uid,
        "creationTimestamp": f"2026-01-0{uid}T00:00:00Z",
    }
    spec = {"workload": {"name": workload}, "traffic": {"ingress": workload}}
    return Rollouts([{"metadata": metadata, "spec": spec}]).named(name)


class World:
    """A router and a workload that note what they are told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.fault: Exception | None = None
        self.leaving = Leaving(self, self, clock=lambda: self.now)

    async def release(self, route: str) -> None:
        self._say(f"release {route}")

    async def leave(self, service: str) -> None:
        self._say(f"leave {service}")

    def _say(self, what: str) -> None:
        self.said.append(what)
        if self.fault is not None:
            raise self.fault

    async def look(self, *there: Declared) -> None:
        await self.leaving.look(there, frozenset(one.uid for one in there))


async def test_traffic_goes_first_and_what_phoenix_made_once_no_router_sends_to_it() -> None:
    world = World()
    await world.look(declared())
    assert world.said == []
    await world.look()
    await world.look()
    assert world.said == ["release web"]
    world.now += SETTLED
    await world.look()
    await world.look()
    assert world.said == ["release web", "leave web"]


async def test_what_fails_is_tried_again_and_what_is_gone_is_done() -> None:
    world = World()
    await world.look(declared())
    world.fault = Retryable("the API server is away")
    await world.look()
    await world.look()
    assert world.said == ["release web"] * 2
    world.fault = None
    await world.look()
    world.now += SETTLED
    world.fault = NotFound("there is no Deployment web")
    await world.look()
    await world.look()
    assert world.said == ["release web"] * 3 + ["leave web"]


async def test_one_that_cannot_be_read_any_more_is_not_gone() -> None:
    world = World()
    await world.look(declared())
    await world.leaving.look([], frozenset({"1"}))
    assert world.said == []


async def test_who_comes_after_it_is_left_alone() -> None:
    """Deleted and applied again: traffic and Deployment are the new one's."""
    world = World()
    await world.look(declared())
    await world.look(declared(uid="2"))
    world.now += SETTLED
    await world.look(declared(uid="2"))
    assert world.said == []
