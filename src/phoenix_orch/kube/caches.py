"""One cache for each selection, however many read it."""

from __future__ import annotations

import asyncio
from typing import NoReturn, Self

from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import PAGE, KubeClient, Selection
from phoenix_orch.kube.pruning import Prune, without_bookkeeping
from phoenix_orch.kube.reflector import Reflector, Timing
from phoenix_orch.kube.resources import Resource


class Caches:
    """Watches what is asked for, from the first time on and until the block ends.

    async with Caches(client) as caches:
        deployments = caches.of(DEPLOYMENTS)
        await deployments.synced()
    """

    def __init__(self, client: KubeClient, *, timing: Timing = Timing()) -> None:  # noqa: B008 - a frozen value
        self._client = client
        self._timing = timing
        self._known: dict[Selection, tuple[Reflector, Prune]] = {}
        self._running: list[asyncio.Task[NoReturn]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def of(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        prune: Prune = without_bookkeeping,
        page: int = PAGE,
    ) -> Cache:
        """The cache of this selection; `namespace=None` is the client's. `page`: how many objects are
        listed at a time, which the first who asks says.

        Raises ValueError where it is kept already with fields left out by another `prune`.
        """
        selection = self._client.selection(resource, namespace, labels=labels, fields=fields)
        if selection not in self._known:
            reflector = Reflector(self._client, selection, prune=prune, timing=self._timing, page=page)
            self._known[selection] = reflector, prune
            self._running.append(asyncio.create_task(reflector.run(), name=f"watch {resource}"))
        reflector, kept = self._known[selection]
        if kept is not prune:
            raise ValueError(f"{resource} is kept already, with other fields left out")
        return reflector.cache

    def reflectors(self) -> list[Reflector]:
        """What runs, for metrics: lists, watches, what was missed, and the age of each cache."""
        return [reflector for reflector, _ in self._known.values()]
