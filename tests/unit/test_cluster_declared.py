"""Rollouts as they are found: by name, by route, by Deployment, however they come and go."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import Selection
from phoenix_orch.kube.resources import ROLLOUTS, Object
from phoenix_orch.orchestrator.cluster.declared import AT_ONCE, Rollouts


def rollout(name: str, workload: str = "", *, version: int = 1, day: int = 1, uid: str = "") -> Object:
    return {
        "metadata": {
            "name": name,
            "namespace": "shops",
            "uid": uid or name,
            "resourceVersion": str(version),
            "creationTimestamp": f"2026-01-{day:02}T00:00:00Z",
        },
        "spec": {"workload": {"name": workload or name}, "traffic": {"ingress": workload or name}},
    }


class World:
    """A watch, and what is made of it."""

    def __init__(self, *found: Object) -> None:
        self.cache = Cache(Selection(ROLLOUTS, "shops"))
        for one in found:
            self.cache.put(one)
        self.rollouts = Rollouts.watching(self.cache)

    def names(self) -> list[str]:
        return [one.name for one in self.rollouts.all()]


def named(found: Iterable[Object]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


def test_of_two_with_the_same_route_the_oldest_counts() -> None:
    rollouts = Rollouts([rollout("b", "web", day=1), rollout("a", "web", day=2)])
    assert rollouts.of_route("web").name == "b"
    assert rollouts.of_service("web").name == "b"
    assert rollouts.of_deployment("web") == rollouts.of_deployment("web-canary") == ["a", "b"]


def test_when_the_oldest_goes_the_next_one_counts() -> None:
    first, second = rollout("b", "web", day=1), rollout("a", "web", day=2)
    world = World(first, second)
    assert world.names() == ["b", "a"]
    world.cache.removed(first)
    assert world.rollouts.of_route("web").name == "a"
    assert world.names() == ["a"]
    assert world.rollouts.uids() == {"a"}


def test_a_changed_one_is_found_by_what_it_says_now() -> None:
    world = World(rollout("web"))
    assert world.rollouts.of_route("web").name == "web"
    world.cache.put(rollout("web", "shop", version=2))
    assert world.rollouts.of_route("shop").name == "web"
    assert world.rollouts.of_deployment("web") == []
    with pytest.raises(NotFound):
        world.rollouts.of_route("web")


def test_one_that_cannot_be_read_is_not_gone() -> None:
    broken = rollout("web")
    broken["spec"]["phases"] = "many"
    world = World(broken)
    assert world.names() == []
    assert world.rollouts.uids() == {"web"}
    with pytest.raises(NotFound):
        world.rollouts.named("web")
    world.cache.put(rollout("web", version=2))
    assert world.names() == ["web"]


def test_a_namesake_is_another_one() -> None:
    world = World(rollout("web"))
    assert world.rollouts.named("web").uid == "web"
    world.cache.put(rollout("web", version=2, uid="second"))
    assert world.rollouts.uids() == {"second"}
    assert world.rollouts.named("web").uid == "second"


async def test_many_are_read_before_anybody_asks() -> None:
    world = World(*(rollout(f"web-{number}") for number in range(3 * AT_ONCE)))
    await world.rollouts.read()
    assert len(world.names()) == 3 * AT_ONCE
