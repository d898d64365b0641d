"""A freeze in a real cluster: a canary that was applied waits, is seen to wait, and begins by itself."""

from __future__ import annotations

import pytest
from tests.cluster.conformance import INGRESS
from tests.cluster.release_world import World

from phoenix_orch.kube.resources import CONFIG_MAPS
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.cluster.freezing import NAME as FREEZES
from phoenix_orch.orchestrator.cluster.freezing import flow_of
from phoenix_orch.orchestrator.cluster.reach import reached

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]
DECLARED = "freezes: [{name: peak, reason: stocktaking}]"


@pytest.mark.parametrize("world", [INGRESS], indirect=True)
async def test_a_canary_waits_for_the_end_of_a_freeze_and_then_is_released(world: World) -> None:
    await world.set_up()
    await world.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": FREEZES},
            "data": {"rules.yaml": DECLARED},
        }
    )
    await world.release("shop:2")

    async def waits() -> bool:
        found = await world.condition("Progressing")
        return found.get("reason") == "Frozen" and "stocktaking" in found.get("message", "")

    await world.until("the canary waits for the freeze", waits)
    assert (await world.status())["state"] == "Idle"
    assert world.plane.weights == [0]
    async with reached(Access(namespace=world.namespace, kubeconfig=world.cluster.kubeconfig)) as there:
        assert [(view.freeze.name, view.open) for view in await flow_of(there).freezes()] == [("peak", True)]
    await world.client.delete(CONFIG_MAPS, FREEZES, world.namespace)
    await world.state("Promoted")
    assert max(world.plane.weights) == 100
    assert await world.image() == "shop:2"
