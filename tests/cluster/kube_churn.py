"""Objects that come, change and go, and a reader who looks only when a handler tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import AlreadyExists, Changed
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.reflector import Timing
from phoenix_orch.kube.resources import CONFIG_MAPS, Key, Object
from phoenix_orch.kube.snapshot import identities

LABELS = "churn=yes"
QUICK = Timing(watch=20.0, silence=1.0, proof=600.0, settle=0.5, steady=5.0)
PATIENCE = 20.0


class Reader:
    """What somebody knows of a cache who is told keys and nothing else."""

    def __init__(self, cache: Cache) -> None:
        self.knows: dict[Key, tuple[str, str]] = {}
        self._cache = cache
        self.stop = cache.subscribe(self._look)

    def _look(self, key: Key) -> None:
        found = self._cache.get(key.name, key.namespace)
        if found is None:
            self.knows.pop(key, None)
        else:
            self.knows |= identities([found])


def body(name: str, **data: str) -> Object:
    return {"metadata": {"name": name, "labels": {"churn": "yes"}}, "data": data}


async def churn(client: KubeClient, steps: int, seed: int = 0) -> None:
    """So many creations, changes and deletions, past any proxy."""
    chance = random.Random(seed)
    for step in range(steps):
        name = f"c{chance.randrange(12)}"
        try:
            found = await client.get(CONFIG_MAPS, name)
        except NotFound:
            with contextlib.suppress(AlreadyExists):  # another task was quicker
                await client.create(CONFIG_MAPS, body(name, step=str(step)))
            continue
        try:
            if chance.random() < 0.4:
                await client.delete(CONFIG_MAPS, name, uid=found["metadata"]["uid"])
            else:
                await client.patch(CONFIG_MAPS, name, merge_patch_of(found, {"data": {"step": str(step)}}))
        except (Changed, NotFound):
            continue


async def truth(client: KubeClient) -> dict[Key, tuple[str, str]]:
    return identities((await client.list(CONFIG_MAPS, labels=LABELS)).items)


async def agrees(client: KubeClient, cache: Cache, reader: Reader) -> None:
    """Wait until cache and reader know what there is; fails with what differs."""
    there = await truth(client)
    await until(
        lambda: identities(cache) == there == reader.knows,
        lambda: f"there {there}\ncache {identities(cache)}\nreader {reader.knows}",
    )


async def until(condition: Callable[[], bool], told: Callable[[], str] = lambda: "") -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE:g} s: {told()}") from None
