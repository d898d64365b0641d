"""What RBAC allows is known before it is needed; and what Phoenix did is seen by kubectl."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.cluster.kube_churn import until
from tests.cluster.kubectl import Cluster

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.kube.access import needs, reach
from phoenix_orch.kube.aggregation import Reference
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.recorder import Recorder
from phoenix_orch.kube.resources import ALL_NAMESPACES, CONFIG_MAPS, DEPLOYMENTS, EVENTS, PODS
from phoenix_orch.testing.api_faults import Hang
from phoenix_orch.testing.faulty_api_server import FaultyApiServer

NEEDED = [*needs(PODS, "list", "watch"), *needs(DEPLOYMENTS, "patch", subresource="status")]


def rules() -> list[dict[str, list[str]]]:
    return [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["deployments/status"], "verbs": ["patch"]},
    ]


def grant(cluster: Cluster, namespace: str, user: str, *, everywhere: bool, count: int = 2) -> None:
    """Give a service account the first `count` rules."""
    prefix = "Cluster" if everywhere else ""
    name = f"{namespace}-{user}"
    place = {} if everywhere else {"namespace": namespace}
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": user, "namespace": namespace}
    cluster.apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{prefix}Role",
            "metadata": {"name": name, **place},
            "rules": rules()[:count],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{prefix}RoleBinding",
            "metadata": {"name": name, **place},
            "roleRef": {"apiGroup": group, "kind": f"{prefix}Role", "name": name},
            "subjects": [subject],
        },
    )


async def test_rights_everywhere_in_one_namespace_or_lacking(cluster: Cluster, namespace: str) -> None:
    everywhere, here, half = (cluster.service_account(namespace, name) for name in ("all", "here", "half"))
    grant(cluster, namespace, "all", everywhere=True)
    grant(cluster, namespace, "here", everywhere=False)
    grant(cluster, namespace, "half", everywhere=False, count=1)
    try:
        async with KubeClient(load(everywhere, namespace=namespace)) as client:
            assert await reach(client, NEEDED) == (await reach(client, NEEDED, ALL_NAMESPACES))
            assert (await reach(client, NEEDED)).namespace == ALL_NAMESPACES
            assert (await reach(client, NEEDED, namespace)).namespace == namespace
        async with KubeClient(load(here, namespace=namespace)) as client:
            found = await reach(client, NEEDED)
            assert (found.namespace, found.missing) == (namespace, ())
            found.require()
        async with KubeClient(load(half, namespace=namespace)) as client:
            found = await reach(client, NEEDED)
            assert found.missing == (NEEDED[2],)
            with pytest.raises(
                Terminal, match=f"may not patch deployments.apps/status in namespace {namespace}"
            ) as e:
                found.require()
            assert 'resources: ["deployments/status"]\n  verbs: [patch]' in e.value.remedy
    finally:
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", f"{namespace}-all", "--ignore-not-found")


async def test_events_are_seen_by_kubectl(cluster: Cluster, kube: KubeClient) -> None:
    about = await kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}})
    recorder = Recorder(kube, component="phoenix-orch.io/rollout-controller", instance="one")
    running = asyncio.create_task(recorder.run())
    reference = Reference.of(about, api_version="v1", kind="ConfigMap")
    for _ in range(5):
        recorder.record(reference, "WeightChanged", "weight is 5 %", action="SetWeight")
    recorder.record(reference, "RolledBack", "errors above 0.1 %", action="Abort", type="Warning")

    async def told() -> dict[str, dict[str, object]]:
        return {event["reason"]: event for event in (await kube.list(EVENTS)).items}

    async with asyncio.timeout(20):
        while len(found := await told()) < 2 or "series" not in found["WeightChanged"]:
            await asyncio.sleep(0.05)
    assert recorder.dropped == 0
    described = cluster.kubectl("describe", "configmap", "a", "--namespace", kube.namespace)
    assert "WeightChanged" in described
    assert "errors above 0.1 %" in described
    events = cluster.get("events", "--namespace", kube.namespace)["items"]
    assert {event["type"] for event in events} == {"Normal", "Warning"}
    assert json.dumps(found["WeightChanged"]["regarding"]).count(about["metadata"]["uid"]) == 1
    running.cancel()
    await asyncio.wait([running])


async def test_nobody_waits_for_events_that_are_not_taken(kube: KubeClient) -> None:
    async with FaultyApiServer(kube.target) as server, KubeClient(server.target) as client:
        server.inject(Hang(), resource="events", times=10**6)
        recorder = Recorder(client, component="phoenix-orch.io/rollout-controller", instance="one")
        running = asyncio.create_task(recorder.run())
        for number in range(5000):
            recorder.record(Reference("v1", "Pod", kube.namespace, f"p{number}"), "Held", "…", action="Hold")
        await until(lambda: server.count("create", "events") > 0)
        await client.list(PODS)
        assert recorder.dropped >= 3999
        running.cancel()
        await asyncio.wait([running])
