"""What becomes of what Rollouts left that nobody saw go."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator.cluster.forsaken import Forsaken
from phoenix_orch.orchestrator.cluster.leaving import SETTLED
from phoenix_orch.workload.deployment.target import Holder
from phoenix_orch.workload.kubernetes import DeploymentSpec

pytestmark = pytest.mark.anyio


class Left:
    """What is left, and what is done about it."""

    def __init__(self, routes: tuple[str, ...] = ("web",)) -> None:
        self.now, self.routes = 0.0, routes
        self.said: list[str] = []
        self.fault: Exception | None = None
        self.found = Forsaken(Routes(self), Claims(self), clock=lambda: self.now)

    async def look(self, uids: Collection[str] = (), services: Collection[str] = ()) -> list[str]:
        """What was done by this look."""
        before = len(self.said)
        await self.found.look(uids, services)
        return self.said[before:]


class Routes:
    def __init__(self, left: Left) -> None:
        self._left = left

    async def forsaken(self) -> tuple[str, ...]:
        return self._left.routes

    async def forsake(self, route: str) -> None:
        self._left.said.append(f"forsake {route}")
        if self._left.fault is not None:
            raise self._left.fault


class Claims:
    """Two Deployments that a Rollout of uid 1 claims."""

    def __init__(self, left: Left) -> None:
        self._left = left

    def forsaken(self, uids: Collection[str]) -> Mapping[str, DeploymentSpec]:
        held = Holder("gone", "1")
        names = () if held.uid in uids else ("cart", "web")
        return {name: DeploymentSpec("shops", name, f"{name}-canary", held) for name in names}

    async def declare(self, service: str, spec: DeploymentSpec) -> None:
        self._left.said.append(f"declare {service} for {spec.rollout.uid}")

    async def leave(self, service: str) -> None:
        self._left.said.append(f"leave {service}")


async def test_traffic_goes_first_and_claims_once_no_router_sends_to_a_canary() -> None:
    left = Left()
    assert await left.look() == ["forsake web"]
    assert await left.look() == []
    left.now += SETTLED
    done = ["declare cart for 1", "leave cart", "declare web for 1", "leave web"]
    assert await left.look() == done
    assert left.found.done


async def test_while_a_route_cannot_be_given_back_nothing_is_taken_from_behind_it() -> None:
    left = Left()
    left.fault = Retryable("the API server is away")
    await left.look()
    left.now += 10 * SETTLED
    assert await left.look() == ["forsake web"]
    left.fault = None
    assert await left.look() == ["forsake web"]
    assert not left.found.done


async def test_what_somebody_releases_now_is_left_alone() -> None:
    left = Left(routes=())
    await left.look({"2"}, {"web"})
    left.now += SETTLED
    assert await left.look({"2"}, {"web"}) == ["declare cart for 1", "leave cart"]
    other = Left(routes=())
    await other.look({"1"})
    other.now += SETTLED
    assert await other.look({"1"}) == []
