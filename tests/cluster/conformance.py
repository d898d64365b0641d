"""What the conformance cases have in common: for which router they are, and how a release ends."""

from __future__ import annotations

import pytest
from tests.cluster.release_world import CANARY, NAME, World

from phoenix_orch.kube.resources import DEPLOYMENTS

INGRESS = "ingress"
both_routers = pytest.mark.parametrize("world", [INGRESS, "httpRoute"], indirect=True)
"""A case that is about every kind of object that carries a weight."""
only_ingress = pytest.mark.parametrize("world", [INGRESS], indirect=True)
only_route = pytest.mark.parametrize("world", ["httpRoute"], indirect=True)


async def promoted(world: World, image: str) -> None:
    """A release that went through, and nothing of it left over."""
    await world.state("Promoted")
    await no_canary(world)
    assert await world.image() == image
    assert await world.replicas(NAME) == 2
    assert world.plane.share() == 0
    assert await world.latch() == ""


async def rolled_back(world: World) -> None:
    """Weight 0 first, then no pods; the revision is latched, and stable was never touched."""
    await world.state("RolledBack")
    status = await world.status()
    assert world.plane.share() == 0
    assert await world.replicas(CANARY) == 0
    assert await world.latch() == status["cause"]["revision"] == status["canary"]
    assert (await world.get(DEPLOYMENTS, NAME))["spec"] == world.stable


async def no_canary(world: World) -> None:
    """Wait until it wants no pods."""

    async def none() -> bool:
        return await world.replicas(CANARY) == 0

    await world.until("the canary is gone", none)
