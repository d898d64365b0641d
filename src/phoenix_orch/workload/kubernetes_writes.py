"""Writes that hold only for what was looked at, and the second look after one that met another."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import Changed
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import Object, Resource, version_of
from phoenix_orch.workload.deployment.manifest import Manifest, name_of, uid_of
from phoenix_orch.workload.kubernetes_objects import Watches

S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS = 5
"""Times that a change is decided, when others write meanwhile."""


def decided_again(
    call: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Decide anew when what was decided on has changed: the Deployment controller writes as often as pods
    change."""

    @wraps(call)
    async def wrapped(self: S, /, *words: P.args, **options: P.kwargs) -> T:
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(Changed):
                return await call(self, *words, **options)
        return await call(self, *words, **options)

    return wrapped


class Writes:
    """Each waits until the watches show what it wrote. Raises Changed, and has written nothing then."""

    def __init__(self, client: KubeClient, watches: Watches) -> None:
        self._client = client
        self._watches = watches

    async def patch(self, resource: Resource, found: Manifest, changes: Mapping[str, Any]) -> None:
        patch = merge_patch_of({**found}, changes)
        namespace = found["metadata"]["namespace"]
        async with self._or_caught_up(resource, name_of(found), namespace):
            written = await self._client.patch(resource, name_of(found), patch, namespace)
            await self._watches.show(resource, written)

    async def create(self, resource: Resource, made: Object) -> None:
        async with self._or_caught_up(resource, name_of(made), made["metadata"]["namespace"]):
            await self._watches.show(resource, await self._client.create(resource, made))

    async def delete(self, resource: Resource, found: Manifest) -> None:
        """One that is gone is deleted."""
        name, namespace = name_of(found), found["metadata"]["namespace"]
        async with self._or_caught_up(resource, name, namespace):
            with contextlib.suppress(NotFound):
                version = version_of({**found})
                await self._client.delete(resource, name, namespace, uid=uid_of(found), version=version)

    @contextlib.asynccontextmanager
    async def _or_caught_up(self, resource: Resource, name: str, namespace: str) -> AsyncIterator[None]:
        """After a conflict, wait until reads show what was met, so that the next decision is another."""
        try:
            yield
        except Changed:
            with contextlib.suppress(NotFound):
                await self._watches.show(resource, await self._client.get(resource, name, namespace))
            raise
