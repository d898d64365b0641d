"""One release after the other by the same file, which leaves the replicas of the canary to Phoenix."""

from __future__ import annotations

import pytest
from tests.cluster.conformance import INGRESS, no_canary
from tests.cluster.release_world import NAME, World, deployment, service

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]


@pytest.mark.parametrize("world", [INGRESS], indirect=True)
async def test_a_canary_that_never_changed_its_size_is_released_again(world: World) -> None:
    """One pod of stable, so one of the canary at each weight: the file's own. It is zero afterwards, and a
    second apply leaves the zero where it is."""
    stable = deployment(NAME, "shop:1", replicas=1)
    await world.apply(stable, service(), world.way(), world.rollout())
    await world.state("Idle")
    for image in ("shop:2", "shop:3"):
        await world.release(image)

        async def serves(wanted: str = image) -> bool:
            return await world.image() == wanted

        await world.until(f"{image} is promoted", serves)
        await world.state("Promoted")
        await no_canary(world)
