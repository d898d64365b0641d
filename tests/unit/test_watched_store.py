"""Records are read from a watch, and at the API server where the watch is known to be behind."""

from __future__ import annotations

from typing import Any, cast

import pytest

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import KubeClient, Selection
from phoenix_orch.kube.errors import Changed
from phoenix_orch.kube.resources import ROLLOUTS, Object
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.store import WatchedStore
from phoenix_orch.rollout.status import State
from phoenix_orch.rollout.store.memory import MemoryStore


def rollout(version: int, state: State) -> Object:
    return {
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "u",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"workload": {"name": "web"}, "traffic": {"ingress": "web"}},
        "status": {"state": state.value, "wanted": {"target": "a"}},
    }


class SlowWatch:
    """It shows what was a while ago."""

    is_synced = True

    def get(self, _name: str, _namespace: str) -> Object:
        return rollout(1, State.IDLE)

    def age(self) -> float:
        return 0.0


class ApiServer:
    """Somebody else has written meanwhile."""

    def __init__(self) -> None:
        self.asked = 0

    async def get(self, *_: Any) -> Object:
        self.asked += 1
        return rollout(2, State.BAKING)

    async def replace(self, *_: Any, **__: Any) -> Object:
        raise Changed("it was changed meanwhile")


async def test_who_was_too_late_reads_at_the_api_server_and_decides_on_what_is() -> None:
    """Else a watch that is slow, where others write often, would make every decision too late."""
    server = ApiServer()
    store = WatchedStore(
        cast("KubeClient", server),
        MemoryStore(),
        cast("Cache", SlowWatch()),
        Rollouts([rollout(1, State.IDLE)]),
        namespace="shop",
        clock=RealClock(),
    )
    old = await store.get("web")
    assert (old.status.state, server.asked) == (State.IDLE, 0)
    with pytest.raises(Conflict):
        await store.save(old, old.status)
    now = await store.get("web")
    assert (now.status.state, now.version) == (State.BAKING, 2)
    asked = server.asked
    assert (await store.get("web")).version == 1
    assert server.asked == asked


async def test_the_list_is_the_very_same_until_something_changes() -> None:
    """Of ten thousand at rest nobody who looks every moment makes anything anew."""
    cache = Cache(Selection(ROLLOUTS, "shop"))
    rollouts = Rollouts.watching(cache)
    store = WatchedStore(
        cast("KubeClient", ApiServer()),
        MemoryStore(),
        cast("Cache", SlowWatch()),
        rollouts,
        namespace="shop",
        clock=RealClock(),
    )
    cache.put(rollout(1, State.IDLE))
    first = await store.rollouts()
    assert await store.rollouts() is first
    cache.put(rollout(2, State.BAKING))
    assert [one.status.state for one in await store.rollouts()] == [State.BAKING]
