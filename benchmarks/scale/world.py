"""Thousands of Rollouts at rest, as Phoenix leaves them: one is brought to rest by Phoenix, the others are
its copies under other names.

There is no controller manager: with it ten thousand Deployments would take an hour. What it and a kubelet
would write is written here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.cluster import rollouts
from tests.cluster.pods import stamp

from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.lanes import NORMAL
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    INGRESSES,
    PODS,
    REPLICA_SETS,
    ROLLOUTS,
    SERVICES,
    Object,
    Resource,
)
from phoenix_orch.workload.deployment.revision import revision, template_hash

NAMESPACE = "scale"
FIRST = "web-00000"
WRITERS = 16
SPEC: dict[str, Any] = {
    "phases": [
        {"name": "initial", "weight": 5, "duration": "30m", "limits": {"errorRate": "1%"}},
        {"name": "full", "step": 20, "every": "30m", "limits": {"errorRate": "1%"}},
    ],
    "evidence": {"interval": "5s", "window": "15s"},
}
"""Phases that do not end within the measurement: whoever is released stays so."""


def name_of(number: int) -> str:
    return f"web-{number:05}"


@asynccontextmanager
async def administrator(kubeconfig: Path) -> AsyncIterator[KubeClient]:
    limits = replace(NORMAL, rate=10_000, burst=10_000)
    async with KubeClient(load(kubeconfig, namespace=NAMESPACE), normal=limits, manager="bench") as client:
        yield client


async def everywhere(numbers: Iterable[int], what: Callable[[int], Awaitable[None]]) -> None:
    """Do it for each, some at a time."""
    left = iter(list(numbers))

    async def some() -> None:
        for number in left:
            await what(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(some())


# -- one service -----------------------------------------------------------------------------------


def template(name: str, image: str, variant: str = "stable") -> Object:
    return {
        "metadata": {"labels": {"app": name, "variant": variant}},
        "spec": {"containers": [{"name": "web", "image": image}]},
    }


def deployment(name: str, app: str, image: str, variant: str = "stable") -> Object:
    pods = template(app, image, variant)
    selector = {"matchLabels": pods["metadata"]["labels"]}
    return {"metadata": {"name": name}, "spec": {"replicas": 1, "selector": selector, "template": pods}}


async def make_first(client: KubeClient) -> None:
    """A service, and a Rollout that Phoenix does not know yet."""
    await running(client, deployment(FIRST, FIRST, "web:1"))
    ports = [{"port": 80, "targetPort": 8080}]
    selector = {"app": FIRST, "variant": "stable"}
    await client.create(
        SERVICES, {"metadata": {"name": FIRST}, "spec": {"selector": selector, "ports": ports}}
    )
    await client.create(ENDPOINT_SLICES, endpoints(FIRST))
    backend = {"service": {"name": FIRST, "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    rules = [{"host": f"{FIRST}.example.com", "http": {"paths": [path]}}]
    await client.create(
        INGRESSES, {"metadata": {"name": FIRST}, "spec": {"ingressClassName": "nginx", "rules": rules}}
    )
    spec = {**SPEC, "workload": {"name": FIRST}, "traffic": {"ingress": FIRST}}
    await client.create(ROLLOUTS, rollouts.manifest(spec, FIRST, NAMESPACE))


def endpoints(service: str) -> Object:
    return {
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
    }


async def running(client: KubeClient, wanted: Object) -> None:
    """A Deployment with its ReplicaSet and its pod, which is ready."""
    made = await client.create(DEPLOYMENTS, wanted)
    await with_pods(client, made)


async def with_pods(client: KubeClient, made: Object) -> None:
    """What the controller manager and a kubelet would add to a Deployment."""
    name, pods = made["metadata"]["name"], made["spec"]["template"]
    hashed = template_hash(pods)[:10]
    labels = {**pods["metadata"]["labels"], "pod-template-hash": hashed}
    own = {"metadata": {**pods["metadata"], "labels": labels}, "spec": pods["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": own}
    metadata = {
        "name": f"{name}-{hashed}",
        "labels": labels,
        "annotations": {"deployment.kubernetes.io/revision": "1"},
        "ownerReferences": [owner(made, "apps/v1", "Deployment")],
    }
    owned = await client.create(REPLICA_SETS, {"metadata": metadata, "spec": spec})
    metadata = {
        "name": f"{name}-{hashed}-0",
        "labels": labels,
        "ownerReferences": [owner(owned, "apps/v1", "ReplicaSet")],
    }
    pod = await client.create(PODS, {"metadata": metadata, "spec": own["spec"]})
    await status(client, PODS, pod, ready_pod(pod))
    counts = {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "updatedReplicas": 1}
    conditions = [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]
    seen = made["metadata"]["generation"]
    await status(client, DEPLOYMENTS, made, {**counts, "observedGeneration": seen, "conditions": conditions})


def owner(found: Object, version: str, kind: str) -> Object:
    of = found["metadata"]
    return {"apiVersion": version, "kind": kind, "name": of["name"], "uid": of["uid"], "controller": True}


def ready_pod(pod: Object) -> Object:
    container = pod["spec"]["containers"][0]
    said = {"name": container["name"], "image": container["image"], "imageID": "", "ready": True}
    return {
        "phase": "Running",
        "startTime": stamp(),
        "conditions": [
            {"type": one, "status": "True", "lastTransitionTime": stamp()}
            for one in ("Ready", "ContainersReady")
        ],
        "containerStatuses": [{**said, "restartCount": 0, "state": {"running": {"startedAt": stamp()}}}],
    }


async def status(client: KubeClient, resource: Resource, found: Object, said: Object) -> None:
    name = found["metadata"]["name"]
    while True:
        try:
            await client.patch(resource, name, merge_patch_of(found, {"status": said}), subresource="status")
        except Conflict:
            found = await client.get(resource, name)
        else:
            return


# -- its copies ------------------------------------------------------------------------------------


async def copies(client: KubeClient, numbers: Iterable[int], progress: Callable[[int], None]) -> None:
    """More of the first, at rest as it is."""
    first = {kind: await client.get(kind, FIRST) for kind in (ROLLOUTS, DEPLOYMENTS, SERVICES, INGRESSES)}
    carrier = await client.get(INGRESSES, f"{FIRST}-canary")
    before = revision(first[DEPLOYMENTS]["spec"]["template"], {})
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        name = name_of(number)
        after = revision(template(name, "web:1"), {})
        words = [(FIRST, name), (before.id, after.id), (before.template, after.template)]
        made = await client.create(ROLLOUTS, bare(renamed(first[ROLLOUTS], words)))
        made["status"] = renamed(first[ROLLOUTS]["status"], words)
        await client.replace(ROLLOUTS, made, subresource="status")
        words.append((first[ROLLOUTS]["metadata"]["uid"], made["metadata"]["uid"]))
        for kind in (SERVICES, INGRESSES):
            await client.create(kind, bare(renamed(first[kind], words)))
        await client.create(INGRESSES, bare(renamed(carrier, words)))
        await client.create(ENDPOINT_SLICES, endpoints(name))
        await running(client, bare(renamed(first[DEPLOYMENTS], words)))
        done += 1
        progress(done)

    await everywhere(numbers, one)


def renamed(found: Any, words: Iterable[tuple[str, str]]) -> Any:
    text = json.dumps(found)
    for before, after in words:
        text = text.replace(before, after)
    return json.loads(text)


def bare(found: Object) -> Object:
    """As it is created: without what the API server gives."""
    kept = {
        key: found["metadata"][key] for key in ("name", "labels", "annotations") if key in found["metadata"]
    }
    spec = {key: value for key, value in found["spec"].items() if key not in ("clusterIP", "clusterIPs")}
    return {"metadata": kept, "spec": spec}


async def release(client: KubeClient, number: int) -> None:
    """As `kubectl apply -f canary.yaml` does, of a version that is ready at once."""
    name = name_of(number)
    await running(client, deployment(f"{name}-canary", name, "web:2", "canary"))
