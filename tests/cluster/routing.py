"""A router in a namespace of a real API server, and hands that meddle with what it wrote."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.cluster.kubectl import Cluster
from tests.unit.kube_objects import endpoints

from phoenix_orch.kube.client import KubeClient, Page
from phoenix_orch.kube.config import load
from phoenix_orch.kube.patches import Patch, merge_patch_of
from phoenix_orch.kube.resources import ENDPOINT_SLICES, Object, Resource


@contextlib.asynccontextmanager
async def client_of(
    cluster: Cluster, namespace: str, manager: str = "phoenix-orch"
) -> AsyncIterator[KubeClient]:
    async with KubeClient(load(cluster.kubeconfig, namespace=namespace), manager=manager) as client:
        yield client


async def serving(client: KubeClient, *services: str) -> None:
    """Services with a ready endpoint, as far as the API server knows."""
    for service in services:
        await client.create(ENDPOINT_SLICES, endpoints(service))


async def edit(client: KubeClient, resource: Resource, name: str, changes: dict[str, Any]) -> Object:
    """Somebody else's change."""
    found = await client.get(resource, name)
    return await client.patch(resource, name, merge_patch_of(found, changes))


class Overtaken:
    """A client before whose writes somebody is always quicker: a label of the object changes each time.

    Every `honest`-th patch gets through undisturbed.
    """

    def __init__(self, client: KubeClient, other: KubeClient, honest: int = 3) -> None:
        self.manager = client.manager
        self.conflicts = 0
        self._client = client
        self._other = other
        self._honest = honest
        self._patches = 0

    @property
    def urgent(self) -> Overtaken:
        return self

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return await self._client.get(resource, name, namespace)

    async def list(self, resource: Resource, namespace: str | None = None, *, labels: str = "") -> Page:
        return await self._client.list(resource, namespace, labels=labels)

    async def create(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        return await self._client.create(resource, body, namespace)

    async def patch(
        self, resource: Resource, name: str, patch: Patch, namespace: str | None = None
    ) -> Object:
        self._patches += 1
        if self._patches % self._honest:
            touched = {"metadata": {"labels": {"touched": str(self._patches)}}}
            await edit(self._other, resource, name, touched)
            self.conflicts += 1
        return await self._client.patch(resource, name, patch, namespace)
