"""What becomes of what Rollouts left that nobody saw go."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator.cluster.declared import Carrier
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
        self.faulty = ""
        """What alone fails; empty: everything does."""
        self.blind: Exception | None = None
        """Why what is steered cannot be seen."""
        self.found = Forsaken(Routes(self), Claims(self), clock=lambda: self.now)

    async def look(self, uids: Collection[str] = (), services: Collection[str] = ()) -> list[str]:
        """What was done by this look."""
        before = len(self.said)
        await self.found.look(uids, services)
        return self.said[before:]

    def say(self, what: str) -> None:
        self.said.append(what)
        if self.fault is not None and what.endswith(self.faulty):
            raise self.fault


class Routes:
    def __init__(self, left: Left) -> None:
        self._left = left

    async def forsaken(self) -> tuple[Carrier, ...]:
        if self._left.blind is not None:
            raise self._left.blind
        return tuple(Carrier("HTTPRoute", route, route) for route in self._left.routes)

    async def release(self, carrier: Carrier) -> None:
        self._left.say(f"release {carrier.name}")


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
        self._left.say(f"leave {service}")


async def test_traffic_goes_first_and_claims_once_no_router_sends_to_a_canary() -> None:
    left = Left()
    assert await left.look() == ["release web"]
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
    assert await left.look() == ["release web"]
    left.fault = None
    assert await left.look() == ["release web"]
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


FAULTS = [Retryable("the API server is away"), KeyError("metadata")]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_route_that_fails_keeps_no_other_from_being_given_back(fault: Exception) -> None:
    left = Left(routes=("api", "web"))
    left.fault, left.faulty = fault, "api"
    assert await left.look() == ["release api", "release web"]
    left.now += SETTLED
    left.fault = None
    assert await left.look() == ["release api", "release web"]
    left.now += SETTLED
    await left.look()
    assert left.found.done


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_claim_that_fails_keeps_no_other_from_being_given_up(fault: Exception) -> None:
    left = Left(routes=())
    await left.look()
    left.now += SETTLED
    left.fault, left.faulty = fault, "cart"
    assert "leave web" in await left.look()
    assert not left.found.done
    left.fault = None
    assert "leave cart" in await left.look()
    assert left.found.done


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_cannot_be_seen_is_looked_for_again(fault: Exception) -> None:
    left = Left()
    left.blind = fault
    assert await left.look() == []
    left.blind = None
    assert await left.look() == ["release web"]
