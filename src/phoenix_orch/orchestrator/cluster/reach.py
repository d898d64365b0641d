"""The way from a person's command to the objects of a cluster, and to the log where one is named."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import NotFound, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.resources import ROLLOUTS, Object
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.routing import ClusterRouter
from phoenix_orch.rollout.kubernetes_status import KubernetesStatus
from phoenix_orch.rollout.store import kubernetes_record as record
from phoenix_orch.rollout.store.kubernetes import KubernetesStore
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.runtime.users import name_of
from phoenix_orch.workload.deployment.scene import Scene
from phoenix_orch.workload.kubernetes_once import scene_now

if TYPE_CHECKING:
    from phoenix_orch.rollout.store.valkey import ValkeyStore


@dataclass(frozen=True, slots=True)
class Found:
    """One Rollout as it was read."""

    one: Declared
    status: KubernetesStatus
    router: ClusterRouter
    store: KubernetesStore
    """Of the object alone: what it reads and writes in a log is nobody's."""


class Sight(Protocol):
    """Where that is looked up which people are shown: the API server, or what a process knows of it."""

    @property
    def log(self) -> RolloutStore | None:
        """What the controllers keep beside the objects; only read here."""
        ...

    async def rollout(self, name: str) -> Found:
        """Raises NotFound, Terminal, Retryable."""
        ...

    async def rollouts(self) -> list[Found]:
        """All that can be read, by name."""
        ...

    async def scene(self, one: Declared) -> Scene:
        """Its Deployments. Raises NotFound, Forbidden, Retryable."""
        ...


def _user() -> str:
    return name_of(os.getuid())


@dataclass(frozen=True, slots=True)
class Reach:
    """One namespace of one cluster, as the API server has it now."""

    client: KubeClient
    log: RolloutStore | None
    """What the controllers keep beside the objects; only read here."""
    actor: str = field(default_factory=_user)
    """On whose behalf; what is done has this name."""

    async def rollout(self, name: str) -> Found:
        """Over the lane that nothing else can fill. Raises NotFound, Terminal, Retryable."""
        try:
            found = await self.client.urgent.get(ROLLOUTS, name)
        except NotFound:
            raise NotFound(
                f"there is no Rollout {name!r} in namespace {self.client.namespace}",
                remedy="kubectl get rollouts.phoenix-orch.io lists them",
            ) from None
        return self._found(found)

    async def rollouts(self) -> list[Found]:
        """All that can be read, by name."""
        page = await self.client.list(ROLLOUTS)
        readable = [one for item in page.items if (one := self._readable(item)) is not None]
        return sorted(readable, key=lambda one: one.one.name)

    def _readable(self, item: Object) -> Found | None:
        try:
            return self._found(item)
        except Terminal:
            return None

    def _found(self, found: Object) -> Found:
        namespace = self.client.namespace
        return Found(
            one=Declared(record.uid_of(found), namespace, record.spec_of(found), record.rollout_of(found)),
            status=record.status_of(found),
            router=ClusterRouter(self.client, namespace, Rollouts([found])),
            store=KubernetesStore(self.client, MemoryStore(), namespace=namespace, clock=RealClock()),
        )

    async def scene(self, one: Declared) -> Scene:
        """Its Deployments, now. Raises NotFound, Forbidden, Retryable."""
        return await scene_now(self.client, one.namespace, one.spec.workload.name, one.spec.canary_name)


@asynccontextmanager
async def reached(access: Access) -> AsyncIterator[Reach]:
    """Connects at the first question. Raises Invalid for what cannot be the way to a cluster."""
    target = load(access.kubeconfig, context=access.context, namespace=access.namespace)
    async with KubeClient(target, component="person") as client:
        log = _log(access.store, client.namespace) if access.store is not None else None
        try:
            yield Reach(client, log)
        finally:
            if log is not None:
                await log.close()


def _log(url: str, namespace: str) -> ValkeyStore:
    from phoenix_orch.rollout.store.valkey import ValkeyStore  # noqa: PLC0415 - slow, and an abort needs none

    return ValkeyStore(url, prefix=log_prefix(namespace))


def log_prefix(namespace: str) -> str:
    """Of all keys of the log of one namespace."""
    return f"phoenix:{namespace}:"
