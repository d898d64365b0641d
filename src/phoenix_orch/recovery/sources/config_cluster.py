"""The configuration of namespaces of a cluster, page by page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import Resource
from phoenix_orch.recovery.sources.config_items import Document, Item, Tally
from phoenix_orch.recovery.sources.config_objects import (
    EVERYTHING,
    KINDS,
    Choice,
    left_out,
    normalised,
    owners,
    path_of,
)

PAGE = 100
"""Objects in memory at a time: each has at most 1.5 MB."""

Connect = Callable[[], AbstractAsyncContextManager[KubeClient]]
"""A client of the event loop it is called in."""


class ClusterItems:
    """Needs `list` on the kinds, in the namespaces, and nothing else."""

    def __init__(
        self,
        connect: Connect,
        namespaces: Sequence[str],
        *,
        kinds: Sequence[Resource] = KINDS,
        choice: Choice = EVERYTHING,
    ) -> None:
        self._connect = connect
        self._namespaces = tuple(namespaces)
        self._kinds = tuple(kinds)
        self._choice = choice
        self.source: dict[str, Any] = {"namespaces": list(self._namespaces)}

    @contextlib.contextmanager
    def read(self, tally: Tally) -> Iterator[Iterator[Item]]:
        """Not for an event loop: it runs one of its own. Each kind is read at one moment.

        Raises Forbidden for a kind that may not be listed, Retryable where the cluster does not answer.
        """
        with asyncio.Runner() as runner:
            pages = self._pages(tally)
            try:
                yield _drained(runner, pages)
            finally:
                runner.run(_closed(pages))

    async def _pages(self, tally: Tally) -> AsyncIterator[list[Item]]:
        async with self._connect() as client:
            for namespace in self._namespaces:
                for resource in self._kinds:
                    selection = client.selection(resource, namespace)
                    try:
                        async for page in client.pages(selection, limit=PAGE):
                            yield list(self._items(page.items, resource, namespace, tally))
                    except NotFound:
                        if str(resource) not in tally.not_served:
                            tally.not_served.append(str(resource))

    def _items(
        self, found: Sequence[dict[str, Any]], resource: Resource, namespace: str, tally: Tally
    ) -> Iterator[Item]:
        for one in found:
            reason = left_out(one, resource.kind, self._choice)
            if reason:
                tally.left_out[reason] += 1
                continue
            tally.kinds[resource.kind] += 1
            yield Document(
                path_of(one, resource, namespace),
                resource.kind,
                normalised(one, resource),
                sealed=resource.kind == "Secret",
                owners=tuple(owners(one)),
            )


def _drained(runner: asyncio.Runner, pages: AsyncIterator[list[Item]]) -> Iterator[Item]:
    while (page := runner.run(_next(pages))) is not None:
        yield from page


async def _next(pages: AsyncIterator[list[Item]]) -> list[Item] | None:
    return await anext(pages, None)


async def _closed(pages: Any) -> None:
    await pages.aclose()
