"""What Phoenix did is seen by kubectl, and nothing waits for that."""

from __future__ import annotations

import asyncio
import json

from tests.cluster.kube_churn import until
from tests.cluster.kubectl import Cluster

from phoenix_orch.kube.aggregation import Reference
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.recorder import Recorder
from phoenix_orch.kube.resources import CONFIG_MAPS, EVENTS, PODS
from phoenix_orch.testing.api_faults import Hang
from phoenix_orch.testing.faulty_api_server import FaultyApiServer


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
