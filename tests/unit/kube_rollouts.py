"""As much of an API server as a KubernetesStore uses."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.client import Page
from phoenix_orch.kube.errors import AlreadyExists, Changed
from phoenix_orch.kube.resources import Object
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store.memory import MemoryStore


class RolloutsApi:
    """Objects by name; every write is conditional on the version."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self._version = 0

    async def get(self, _resource: Any, name: str, _namespace: str | None = None) -> Object:
        if name not in self.objects:
            raise NotFound(f"rollout {name} does not exist")
        return copy.deepcopy(self.objects[name])

    async def list(self, _resource: Any, _namespace: str | None = None) -> Page:
        return Page(copy.deepcopy(list(self.objects.values())), str(self._version))

    async def create(self, _resource: Any, body: Object, _namespace: str | None = None) -> Object:
        if body["metadata"]["name"] in self.objects:
            raise AlreadyExists("it exists")
        return self._put({**body, "metadata": {**body["metadata"], "uid": f"uid-{self._version}"}})

    async def replace(
        self,
        _resource: Any,
        body: Object,
        _namespace: str | None = None,
        *,
        subresource: str = "",
    ) -> Object:
        there = await self.get(None, body["metadata"]["name"])
        if there["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Changed("it was changed meanwhile")
        return self._put(body)

    def _put(self, body: Object) -> Object:
        self._version += 1
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.objects[stored["metadata"]["name"]] = stored
        return copy.deepcopy(stored)


class Log(MemoryStore):
    """A log that hangs while `hangs` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False
        self.asked = 0

    async def _answer(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()

    async def rollouts(self) -> list[Rollout]:
        await self._answer()
        return await super().rollouts()

    async def get(self, name: str) -> Rollout:
        await self._answer()
        return await super().get(name)

    async def put_verdict(self, name: str, *rest: Any, **more: Any) -> None:
        await self._answer()
        await super().put_verdict(name, *rest, **more)

    async def append_observation(self, name: str, *rest: Any) -> None:
        await self._answer()
        await super().append_observation(name, *rest)

    async def verdict(self, name: str) -> Any:
        await self._answer()
        return await super().verdict(name)

    async def cause(self, name: str, revision: str) -> Any:
        await self._answer()
        return await super().cause(name, revision)

    async def put_cause(self, name: str, *rest: Any) -> None:
        await self._answer()
        await super().put_cause(name, *rest)
