"""Watched caches on a real API server."""

from __future__ import annotations

import asyncio

import pytest
from tests.cluster.kube_churn import LABELS, QUICK, Reader, agrees, body, churn, until
from tests.cluster.plane import ControlPlane

from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.pruning import without
from phoenix_orch.kube.resources import ALL_NAMESPACES, CONFIG_MAPS, PODS, Key


async def test_a_cache_follows_and_its_readers_with_it(kube: KubeClient) -> None:
    await kube.create(CONFIG_MAPS, body("before"))
    async with Caches(kube, timing=QUICK) as caches:
        cache = caches.of(CONFIG_MAPS, labels=LABELS)
        assert not cache.is_synced
        assert cache.age() is None
        early = Reader(cache)
        await cache.synced()
        late = Reader(cache)
        assert early.knows == late.knows
        assert set(late.knows) == {Key(kube.namespace, "before")}
        await asyncio.gather(*(churn(kube, 40, seed) for seed in range(3)))
        await agrees(kube, cache, early)
        late.stop()
        written = await kube.create(CONFIG_MAPS, body("after"))
        async with asyncio.timeout(10):
            await cache.shows(written)
        assert cache.get("after", kube.namespace) is not None
        assert Key(kube.namespace, "after") in early.knows
        assert Key(kube.namespace, "after") not in late.knows
        age = cache.age()
        assert age is not None
        assert age < 10
        (reflector,) = caches.reflectors()
        assert await reflector.prove() == set()
        assert (reflector.lists, reflector.missed) == (1, 0)


async def test_one_selection_is_watched_once(kube: KubeClient) -> None:
    async with Caches(kube, timing=QUICK) as caches:
        one = caches.of(CONFIG_MAPS, labels=LABELS)
        assert caches.of(CONFIG_MAPS, kube.namespace, labels=LABELS) is one
        assert caches.of(CONFIG_MAPS) is not one
        assert caches.of(CONFIG_MAPS, ALL_NAMESPACES, labels=LABELS) is not one
        assert len(caches.reflectors()) == 3
        with pytest.raises(ValueError, match="kept already"):
            caches.of(CONFIG_MAPS, labels=LABELS, prune=without("data"))


async def test_only_what_is_wanted_is_kept(kube: KubeClient) -> None:
    await kube.apply(CONFIG_MAPS, body("a", large="x" * 1000), force=False)
    async with Caches(kube, timing=QUICK) as caches:
        cache = caches.of(CONFIG_MAPS, labels=LABELS, prune=without("data"))
        await cache.synced()
        written = await kube.apply(CONFIG_MAPS, body("b", large="x" * 1000), force=False)
        await cache.shows(written)
        for found in cache:
            assert "data" not in found
            assert "managedFields" not in found["metadata"]
        assert len(cache) == 2


async def test_a_selection_that_an_object_leaves_loses_it(kube: KubeClient) -> None:
    made = await kube.create(CONFIG_MAPS, body("a"))
    async with Caches(kube, timing=QUICK) as caches:
        cache = caches.of(CONFIG_MAPS, labels=LABELS)
        await cache.synced()
        made["metadata"]["labels"] = {}
        await kube.replace(CONFIG_MAPS, made)
        await until(lambda: len(cache) == 0)


async def test_a_handler_that_fails_takes_nothing_from_the_others(kube: KubeClient) -> None:
    async with Caches(kube, timing=QUICK) as caches:
        cache = caches.of(CONFIG_MAPS, labels=LABELS)

        def broken(key: Key) -> None:
            raise RuntimeError(str(key))

        cache.subscribe(broken)
        reader = Reader(cache)
        await kube.create(CONFIG_MAPS, body("a"))
        await agrees(kube, cache, reader)


async def test_a_prune_that_fails_does_not_end_the_watch(kube: KubeClient) -> None:
    fails = True

    def prune(found: dict[str, object]) -> dict[str, object]:
        if fails:
            raise KeyError("a defect")
        return found

    await kube.create(CONFIG_MAPS, body("a"))
    async with Caches(kube, timing=QUICK) as caches:
        cache = caches.of(CONFIG_MAPS, labels=LABELS, prune=prune)
        (reflector,) = caches.reflectors()
        await until(lambda: reflector.lists > 2)
        assert not cache.is_synced
        fails = False
        await cache.synced()
        assert len(cache) == 1


async def test_it_waits_for_rights_that_come_later(control_plane: ControlPlane) -> None:
    async with (
        KubeClient(load(control_plane.user("watcher"))) as client,
        Caches(client, timing=QUICK) as caches,
    ):
        cache = caches.of(PODS)
        await until(lambda: cache.fault is not None)
        assert "may not list pods in namespace default" in str(cache.fault)
        control_plane.kubectl("create", "role", "watch", "--verb=list,watch", "--resource=pods")
        control_plane.kubectl("create", "rolebinding", "watch", "--role=watch", "--user=watcher")
        async with asyncio.timeout(30):
            await cache.synced()
        await until(lambda: cache.fault is None)


@pytest.mark.parametrize("kill", [False, True], ids=["in order", "killed"])
async def test_it_survives_a_restart_of_the_api_server(control_plane: ControlPlane, kill: bool) -> None:
    async with (
        KubeClient(load(control_plane.kubeconfig)) as client,
        Caches(client, timing=QUICK) as caches,
    ):
        await client.create(CONFIG_MAPS, body("goes"))
        await client.create(CONFIG_MAPS, body("stays"))
        cache = caches.of(CONFIG_MAPS, labels=LABELS)
        await cache.synced()
        reader = Reader(cache)
        await asyncio.to_thread(control_plane.stop_api_server, kill=kill)
        await until(lambda: cache.fault is not None)
        assert len(cache) == 2  # what was known is still there to read
        await asyncio.to_thread(control_plane.start_api_server)
        await client.delete(CONFIG_MAPS, "goes")
        await churn(client, 10)
        await agrees(client, cache, reader)
        await until(lambda: cache.fault is None)
