"""A world for tests of released Deployments: a namespace with a kubelet, kubectl, and a caller."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from tests.cluster.kubectl import Cluster
from tests.cluster.pods import Kubelet

from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.patches import Patch, merge_patch_of
from phoenix_orch.kube.resources import DEPLOYMENTS, Object, Resource
from phoenix_orch.testing.workload_contract import SERVICE
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.revision import template_hash
from phoenix_orch.workload.deployment.scene import PodTemplate
from phoenix_orch.workload.deployment.target import Holder
from phoenix_orch.workload.kubernetes import DeploymentSpec, KubernetesWorkload
from phoenix_orch.workload.kubernetes_objects import Watches

PATIENCE = 30.0


def shop(namespace: str, *, replicas: int = 3, image: str = "shop:1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "shop",
            "namespace": namespace,
            "annotations": {marks.CHANGE_CAUSE: "the first"},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "shop"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "shop", "image": image}]},
            },
            **spec,
        },
    }


def service(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop", "namespace": namespace},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "shop"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }


@dataclass
class World:
    """A namespace with a workload, a kubelet and kubectl."""

    cluster: Cluster
    namespace: str
    client: KubeClient
    watches: Watches
    kubelet: Kubelet
    workload: KubernetesWorkload

    @property
    def spec(self) -> DeploymentSpec:
        return DeploymentSpec(self.namespace, "shop", "shop-canary", Holder("shop", "uid-of-rollout"))

    async def kubectl(self, *words: str) -> str:
        """Beside the kubelet, for which some of them wait."""
        return await asyncio.to_thread(self.cluster.kubectl, *words, "--namespace", self.namespace)

    def get(self, *words: str) -> Any:
        return self.cluster.get(*words, "--namespace", self.namespace)

    async def apply(self, *objects: dict[str, Any]) -> None:
        """Apply, and wait until the watches show it."""
        await asyncio.to_thread(self.cluster.apply, *objects)
        for one in objects:
            if one["kind"] == "Deployment":
                name = one["metadata"]["name"]
                found = await self.client.get(DEPLOYMENTS, name, self.namespace)
                await self.watches.deployments.shows(found)

    async def current(self) -> None:
        """Wait until the watch of Deployments shows what kubectl did."""
        for found in (await self.client.list(DEPLOYMENTS, self.namespace)).items:
            await self.watches.deployments.shows(found)


async def until(what: Callable[[], Awaitable[Any]], *, why: str = "") -> Any:
    """The first answer that is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := await what()):
        assert time.monotonic() < deadline, f"did not come: {why}"
        await asyncio.sleep(0.05)
    return found


@contextlib.asynccontextmanager
async def a_world(cluster: Cluster, namespace: str, user: Path | None = None) -> AsyncIterator[World]:
    """`user`: the kubeconfig that the workload uses; the kubelet is the administrator."""
    admin = load(cluster.kubeconfig, namespace=namespace)
    target = load(user or cluster.kubeconfig, namespace=namespace)
    async with KubeClient(admin) as node, KubeClient(target) as client, Caches(client) as caches:
        watches = Watches.of(caches, namespace)
        await watches.synced()
        async with Kubelet(node, namespace).running() as kubelet:
            workload = KubernetesWorkload(client, watches)
            yield World(cluster, namespace, client, watches, kubelet, workload)


async def step(what: Callable[[], Awaitable[Any]]) -> Any:
    """One step of a caller that looks again after a conflict."""
    for _ in range(20):
        try:
            return await what()
        except Conflict:
            await asyncio.sleep(0.05)
    raise AssertionError("conflicts without end")


async def release(world: World, workload: KubernetesWorkload, template: PodTemplate, expected: str) -> None:
    """A whole release as a controller does it, from wherever it was left."""
    await step(lambda: workload.declare(SERVICE, world.spec))
    if (await workload.stable(SERVICE)).revision != template.revision:
        size = await workload.size(SERVICE, 40)
        await step(lambda: workload.scale(SERVICE, template, size.pods))
        await step(lambda: workload.ensure_service(SERVICE, "shop"))

        async def all_ready() -> bool:
            return len((await workload.state(SERVICE)).ready(template.revision)) >= size.pods

        await until(all_ready, why="a ready canary")

    async def promoted() -> bool:
        promotion = await step(lambda: workload.promote(SERVICE, template, expected=expected))
        assert promotion.refusal is None
        return bool(promotion.done)

    await until(promoted, why="a complete promotion")
    await step(lambda: workload.scale(SERVICE, template, 0))


async def begun(world: World) -> tuple[PodTemplate, str]:
    """Stable serves; the template of the next version, and the hash of the present one."""
    await world.apply(shop(world.namespace), service(world.namespace))
    await world.workload.declare(SERVICE, world.spec)

    async def serves() -> bool:
        state = await world.workload.state(SERVICE)
        return len(state.ready((await world.workload.stable(SERVICE)).revision)) == 3

    await until(serves, why="a ready stable")
    template = await world.workload.with_images(SERVICE, {"shop": "shop:2"})
    return template, template_hash((await world.workload.stable(SERVICE)).manifest)


def images(world: World) -> dict[str, tuple[str, int]]:
    """What each Deployment wants."""
    return {
        one["metadata"]["name"]: (
            one["spec"]["template"]["spec"]["containers"][0]["image"],
            one["spec"]["replicas"],
        )
        for one in world.get("deployments")["items"]
    }


class Crash(Exception):
    """The process ends here."""


class Meddling:
    """A client whose every write is met: by a write of somebody else before it, or by the end of the
    process before or after it."""

    def __init__(self, client: KubeClient, crash: Literal["before", "after"] | None = None) -> None:
        self._client = client
        self._crash = crash
        self.met: set[str] = set()

    async def list(self, *words: Any, **options: Any) -> Any:
        return await self._client.list(*words, **options)

    async def get(self, *words: Any) -> Object:
        return await self._client.get(*words)

    async def create(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        return cast("Object", await self._write(self._client.create(resource, body, namespace)))

    async def delete(self, resource: Resource, name: str, namespace: str, **options: Any) -> None:
        await self._write(self._client.delete(resource, name, namespace, **options))

    async def patch(self, resource: Resource, name: str, patch: Patch, namespace: str) -> Object:
        what = f"{name} {sorted(patch.body)} {patch.body.get('spec')}"
        if self._crash is None and what not in self.met:
            self.met.add(what)
            found = await self._client.get(resource, name, namespace)
            note = {"metadata": {"annotations": {"somebody": str(len(self.met))}}}
            await self._client.patch(resource, name, merge_patch_of(found, note), namespace)
        return cast("Object", await self._write(self._client.patch(resource, name, patch, namespace)))

    async def _write(self, call: Coroutine[Any, Any, Any]) -> Any:
        if self._crash == "before":
            call.close()
            raise Crash
        done = await call
        if self._crash == "after":
            raise Crash
        return done


def another(world: World, client: Meddling) -> KubernetesWorkload:
    """The workload of another process."""
    return KubernetesWorkload(cast("KubeClient", client), world.watches)
