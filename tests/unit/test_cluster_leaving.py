"""What becomes of a Rollout that was deleted."""

from __future__ import annotations

import pytest

from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.orchestrator.cluster.declared import Carrier, Declared, Rollouts
from phoenix_orch.orchestrator.cluster.leaving import SETTLED, Leaving


def declared(uid: str = "1", name: str = "web", workload: str = "web", **traffic: object) -> Declared:
    metadata = {
        "name": name,
        "namespace": "shops",
        "uid": uid,
        "resourceVersion": uid,
        "creationTimestamp": f"2026-01-0{uid}T00:00:00Z",
    }
    spec = {"workload": {"name": workload}, "traffic": traffic or {"ingress": workload}}
    return Rollouts([{"metadata": metadata, "spec": spec}]).named(name)


class World:
    """A router and a workload that note what they are told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.fault: Exception | None = None
        self.faulty = ""
        """What alone fails; empty: everything does."""
        self.leaving = Leaving(self, self, clock=lambda: self.now)

    async def release(self, carrier: Carrier) -> None:
        self._say(f"release {carrier.kind} {carrier.name}")

    async def leave(self, service: str) -> None:
        self._say(f"leave {service}")

    def _say(self, what: str) -> None:
        self.said.append(what)
        if self.fault is not None and what.endswith(self.faulty):
            raise self.fault

    async def look(self, *there: Declared) -> None:
        await self.leaving.look(there, frozenset(one.uid for one in there))


async def test_traffic_goes_first_and_what_phoenix_made_once_no_router_sends_to_it() -> None:
    world = World()
    await world.look(declared())
    assert world.said == []
    await world.look()
    await world.look()
    assert world.said == ["release Ingress web"]
    world.now += SETTLED
    await world.look()
    await world.look()
    assert world.said == ["release Ingress web", "leave web"]


async def test_what_fails_is_tried_again_and_what_is_gone_is_done() -> None:
    world = World()
    await world.look(declared())
    world.fault = Retryable("the API server is away")
    await world.look()
    await world.look()
    assert world.said == ["release Ingress web"] * 2
    world.fault = None
    await world.look()
    world.now += SETTLED
    world.fault = NotFound("there is no Deployment web")
    await world.look()
    await world.look()
    assert world.said == ["release Ingress web"] * 3 + ["leave web"]


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


@pytest.mark.parametrize(
    ("before", "after", "released"),
    [
        ({"ingress": "web"}, {"httpRoute": "web"}, ["Ingress web"]),
        ({"httpRoute": "web"}, {"ingress": "web"}, ["HTTPRoute web"]),
        ({"ingress": "web"}, {"ingress": "other"}, ["Ingress web"]),
        ({"httpRoute": "web", "additional": ["api"]}, {"httpRoute": "web"}, ["HTTPRoute api"]),
        ({"httpRoute": "web"}, {"httpRoute": "web", "additional": ["api"]}, []),
        ({"ingress": "web"}, {"ingress": "web", "canaryService": "next"}, []),
    ],
)
async def test_what_carried_the_weight_before_a_change_is_given_back_once(
    before: dict[str, object], after: dict[str, object], released: list[str]
) -> None:
    world = World()
    await world.look(declared(**before))
    for _ in range(3):
        await world.look(declared(**after))
        world.now += SETTLED
    assert world.said == [f"release {one}" for one in released]


async def test_what_cannot_be_given_back_is_tried_again_unless_it_is_named_again() -> None:
    world = World()
    before, after = declared(ingress="web"), declared(httpRoute="web")
    await world.look(before)
    world.fault = Retryable("the API server is away")
    await world.look(after)
    await world.look(after)
    assert world.said == ["release Ingress web"] * 2
    world.fault = None
    await world.look(before)
    assert world.said == ["release Ingress web"] * 2 + ["release HTTPRoute web"]


async def test_what_another_rollout_names_now_is_its_own() -> None:
    world = World()
    await world.look(declared(ingress="web"), declared("2", "other", "other", ingress="other"))
    await world.look(declared(ingress="new"), declared("2", "other", "other", ingress="web"))
    assert world.said == ["release Ingress other"]


async def test_one_deleted_and_applied_again_with_another_route_leaves_the_first_route() -> None:
    world = World()
    await world.look(declared(ingress="web"))
    await world.look(declared("2", ingress="other"))
    world.now += SETTLED
    await world.look(declared("2", ingress="other"))
    assert world.said == ["release Ingress web"]


@pytest.mark.parametrize("fault", [Retryable("the API server is away"), KeyError("metadata")])
async def test_one_that_fails_keeps_no_other_waiting_and_ends_nothing(fault: Exception) -> None:
    world = World()
    await world.look(declared(), declared("2", "cart", "cart"))
    world.fault, world.faulty = fault, "web"
    await world.look()
    world.now += SETTLED
    await world.look()
    assert sorted(world.said) == ["leave cart", "release Ingress cart", *["release Ingress web"] * 2]
