"""Whole releases while others have their hands on stable: an autoscaler, and a person who edits it."""

from __future__ import annotations

import pytest
from tests.cluster import story
from tests.cluster.node.images import SHOP
from tests.cluster.serving import Phoenix
from tests.cluster.stage import CANARY, INGRESS, NAME, ROUTE, Stage, WeightWatch

FULL = 4
"""Pods of stable before the release."""


def autoscaler(namespace: str) -> dict[str, object]:
    """There are no metrics in the cluster, so that it keeps to its bounds and the test has its hand."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "minReplicas": 1,
            "maxReplicas": FULL,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                }
            ],
        },
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [INGRESS], indirect=True)
def test_traffic_leaves_the_canary_no_faster_than_an_autoscaled_stable_grows(
    stage: Stage, phoenix: Phoenix
) -> None:
    """At 100 % stable has no load and is shrunk to one pod. That one gets what it can carry after the
    promotion, and the rest when the autoscaler has made the others."""

    def scale(replicas: int) -> None:
        stage.cluster.kubectl("scale", f"deployment/{NAME}", f"--replicas={replicas}", "-n", stage.namespace)

    scale(FULL)
    stage.cluster.rolled_out(stage.namespace, NAME)
    stage.cluster.apply(autoscaler(stage.namespace))
    with story.told(stage, phoenix, fewest=1) as told:
        stage.release("v2")
        told.until_served("v2")
        with WeightWatch(stage) as weights:
            told.until("it has all traffic", lambda: stage.weight() == "100", 240)
            scale(1)
            told.until("stable takes its part over", lambda: stage.weight() == "69", 240)
            assert stage.images() == [f"{SHOP}:v2"]
            assert stage.replicas(CANARY) == FULL
            scale(FULL)
            told.until("it is released", lambda: stage.state() == "Promoted", 240)
            told.until("the canary is gone", lambda: stage.replicas(CANARY) == 0, 60)
    down = weights.steps()[weights.steps().index(100) :]
    assert down[:2] == [100, 69]
    assert down == sorted(down, reverse=True)
    assert down[-1] == 0
    assert told.account.failures == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [ROUTE], indirect=True)
def test_an_edit_of_stable_during_a_release_ends_it_and_stands(stage: Stage, phoenix: Phoenix) -> None:
    with story.told(stage, phoenix) as told:
        stage.release("v2")
        told.until_served("v2")
        canary = stage.status()["canary"]
        stage.cluster.kubectl("set", "image", f"deployment/{NAME}", f"shop={SHOP}:v3", "-n", stage.namespace)
        told.until("the release has ended", lambda: stage.state() == "RolledBack", 120)
        stage.cluster.rolled_out(stage.namespace, NAME)
        told.until_served("v3")
    assert (stage.weight(), stage.images()) == ("0", [f"{SHOP}:v3"])
    assert stage.carrier()["annotations"]["phoenix-orch.io/abort"] == canary
    cause = stage.status()["cause"]
    assert cause["trigger"] == "person"
    assert "stable's pod template was changed" in cause["reason"]
    assert told.account.failures == []
