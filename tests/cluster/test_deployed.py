"""Phoenix in the cluster itself, at work for a shop beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.cluster import deployed, rollouts
from tests.cluster.node import shop
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.images import SHOP
from tests.cluster.serving import until
from tests.cluster.stage import NAME, SPEC
from tests.faults.story_users import Users


@pytest.mark.timeout(1500)
def test_its_own_deployments_take_a_bad_version_back(
    node_cluster: NodeCluster, phoenix_namespace: str
) -> None:
    cluster, namespace, host = node_cluster, phoenix_namespace, f"web.{phoenix_namespace}"

    def status() -> dict[str, Any]:
        found: dict[str, Any] = cluster.get(rollouts.RESOURCE, NAME, "-n", namespace).get("status", {})
        return found

    def logs(app: str) -> str:
        return cluster.kubectl("logs", "-l", f"app={app}", "-n", namespace, "--tail=40")

    def told() -> str:
        return f"{json.dumps(status())}\n{deployed.logs(cluster)}"

    cluster.apply(
        deployed.restricted(shop.deployment(namespace, NAME)),
        shop.service(namespace, NAME),
        shop.ingress(namespace, NAME, host=host),
        rollouts.manifest({**SPEC, "traffic": {"ingress": NAME}}, NAME, namespace),
    )
    cluster.rolled_out(namespace, NAME)
    until("Phoenix knows it", lambda: status().get("state") == "Idle", 120, told)
    until("the shop is served", lambda: shop.answers(cluster.web_port, host) == "v1", 240, told)
    with Users(cluster.web_port, 40.0, host=host) as users:
        canary = shop.deployment(namespace, f"{NAME}-canary", image=f"{SHOP}:bad-errors")
        cluster.apply(deployed.restricted(canary))
        until("it is taken back", lambda: status().get("state") == "RolledBack", 300, told)
    assert {failure.version for failure in users.account.failures} == {"bad-errors"}
    lines = [json.loads(line) for line in logs("health-validator").splitlines()]
    assert "rollback" in [line.get("kind") for line in lines if line["event"] == "verdict"]
    shown = cluster.kubectl("get", "ingress", "-n", namespace, "-L", "phoenix-orch.io/weight")
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith(f"{NAME}-canary")] == ["0"]
    # deleting the Rollout takes away what Phoenix made, and nothing of the user's
    cluster.kubectl("delete", rollouts.RESOURCE, NAME, "-n", namespace)

    def ingresses() -> set[str]:
        found = cluster.get("ingress", "-n", namespace)["items"]
        return {one["metadata"]["name"] for one in found if one["metadata"]["name"].startswith(NAME)}

    until("its Ingress is gone", lambda: ingresses() == {NAME}, 240, lambda: logs(deployed.ORCHESTRATOR))
    cluster.kubectl("delete", f"deployment/{NAME}", f"deployment/{NAME}-canary", "-n", namespace)
