"""Whatever becomes of a watch, the cache knows what there is afterwards: also what went meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.cluster.kube_churn import LABELS, QUICK, Reader, agrees, body, churn, until
from tests.cluster.plane import ControlPlane

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.lanes import NORMAL
from phoenix_orch.kube.reflector import Reflector, Timing
from phoenix_orch.kube.resources import CONFIG_MAPS, Key, older
from phoenix_orch.testing.api_faults import (
    Answer,
    Breaks,
    Fault,
    Half,
    Hang,
    Reset,
    Slow,
    Swallow,
    WatchBreaks,
)
from phoenix_orch.testing.faulty_api_server import FaultyApiServer

pytestmark = pytest.mark.cluster


@asynccontextmanager
async def following(
    kube: KubeClient, timing: Timing = QUICK
) -> AsyncIterator[tuple[FaultyApiServer, Reflector, Reader]]:
    """A reflector behind a faulty API server; `kube` goes past it."""
    async with FaultyApiServer(kube.target) as server, KubeClient(server.target) as client:
        reflector = Reflector(client, client.selection(CONFIG_MAPS, labels=LABELS), timing=timing)
        running = asyncio.create_task(reflector.run())
        try:
            yield server, reflector, Reader(reflector.cache)
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.mark.parametrize("events", [0, 3])
@pytest.mark.parametrize("how", Breaks)
async def test_a_watch_that_breaks(kube: KubeClient, how: Breaks, events: int) -> None:
    async with following(kube) as (server, reflector, reader):
        server.inject(WatchBreaks(how, events), verb="watch", times=3)
        await kube.create(CONFIG_MAPS, body("goes"))
        await reflector.cache.synced()
        goes = await kube.get(CONFIG_MAPS, "goes")
        await asyncio.gather(churn(kube, 30), kube.delete(CONFIG_MAPS, "goes", uid=goes["metadata"]["uid"]))
        await until(lambda: server.count("watch") > 1)
        await agrees(kube, reflector.cache, reader)
        if how is Breaks.SILENCE:
            return  # what it kept to itself may have been found by a proof
        assert reflector.missed == 0
        if events:
            # a watch that worked goes on where it was; only what cannot go on is listed anew
            anew = how in {Breaks.GONE, Breaks.ERROR, Breaks.GARBAGE}
            assert (reflector.lists > 1) == anew


TROUBLES: list[Fault] = [
    Answer(410, "Expired"),
    Answer(429, "TooManyRequests", retry_after=1),
    Answer(500, "InternalError"),
    Answer(503, "ServiceUnavailable"),
    Answer(504, "Timeout"),
    Answer(403, "Forbidden"),
    Answer(404, "NotFound"),
    Reset(),
    Slow(0.5),
    Half(),
]


@pytest.mark.parametrize("fault", TROUBLES, ids=repr)
@pytest.mark.parametrize("verb", ["watch", "list"])
async def test_trouble_while_something_goes(kube: KubeClient, verb: str, fault: Fault) -> None:
    """The watch is broken, an object goes, and the next answers are no good."""
    async with following(kube) as (server, reflector, reader):
        goes = await kube.create(CONFIG_MAPS, body("goes"))
        await reflector.cache.synced()
        await agrees(kube, reflector.cache, reader)
        if verb == "list":
            server.inject(Answer(410, "Expired"), verb="watch")
        rule = server.inject(fault, verb=verb, times=4 if verb == "watch" else 2)
        await server.break_connections()
        await kube.delete(CONFIG_MAPS, "goes", uid=goes["metadata"]["uid"])
        await churn(kube, 10)
        await until(lambda: rule.hits > 0)
        await agrees(kube, reflector.cache, reader)
        assert Key(kube.namespace, "goes") not in reader.knows


async def test_an_api_server_that_is_away_for_a_while(kube: KubeClient) -> None:
    async with following(kube) as (server, reflector, reader):
        await churn(kube, 10)
        await agrees(kube, reflector.cache, reader)
        await server.refuse()
        await churn(kube, 20, seed=1)
        await until(lambda: reflector.cache.fault is not None)
        await server.listen()
        await agrees(kube, reflector.cache, reader)
        await until(lambda: reflector.cache.fault is None)


async def test_a_half_open_connection_is_noticed_by_its_silence(kube: KubeClient) -> None:
    async with following(kube) as (server, reflector, reader):
        server.inject(WatchBreaks(Breaks.SILENCE), verb="watch")
        await reflector.cache.synced()
        await churn(kube, 10)
        await agrees(kube, reflector.cache, reader)
        assert server.count("watch") > 1
        assert reflector.lists == 1  # it goes on from the version it had


async def test_a_list_that_hangs_ends(kube: KubeClient) -> None:
    async with FaultyApiServer(kube.target) as server:
        server.inject(Hang(), verb="list")
        impatient = replace(NORMAL, attempt=0.5)
        async with KubeClient(server.target, normal=impatient) as client:
            async with asyncio.timeout(10):
                await client.list(CONFIG_MAPS)
        assert server.count("list") == 2


async def test_a_page_that_has_expired_begins_the_list_anew(kube: KubeClient) -> None:
    """410 for the second page: the moment of the first is no longer kept."""
    async with FaultyApiServer(kube.target) as server, KubeClient(server.target) as client:
        for number in range(3):
            await kube.create(CONFIG_MAPS, body(f"c{number}"))

        reflector = Reflector(client, client.selection(CONFIG_MAPS, labels=LABELS), timing=QUICK, page=2)
        server.inject(Answer(410, "Expired"), verb="list", skip=1)
        running = asyncio.create_task(reflector.run())
        async with asyncio.timeout(20):
            await reflector.cache.synced()
        assert len(reflector.cache) == 3
        assert server.count("list") == 4
        running.cancel()
        await asyncio.wait([running])


async def test_what_a_watch_kept_to_itself_is_found_by_a_proof(kube: KubeClient) -> None:
    """No API server should do that; then neither should we believe it for ever."""
    async with following(kube, replace(QUICK, proof=1.0)) as (server, reflector, reader):
        server.inject(Swallow(2), verb="watch")
        goes = await kube.create(CONFIG_MAPS, body("goes"))
        await kube.create(CONFIG_MAPS, body("changes"))
        await reflector.cache.synced()
        await until(lambda: server.count("watch") == 1)
        await kube.delete(CONFIG_MAPS, "goes", uid=goes["metadata"]["uid"])
        await kube.create(CONFIG_MAPS, body("comes"))
        await agrees(kube, reflector.cache, reader)
        assert reflector.missed > 0
        assert reflector.lists == 2


@pytest.mark.slow
async def test_a_cluster_that_went_back_in_time(control_plane: ControlPlane) -> None:
    """Restored from a backup: versions are lower than those known, and a watch from them says nothing."""
    with ControlPlane.running(controllers=False) as backup:
        async with (
            KubeClient(load(control_plane.kubeconfig)) as now,
            KubeClient(load(backup.kubeconfig)) as before,
        ):
            await before.create(CONFIG_MAPS, body("there-before", step="old"))
            await churn(now, 150)
            await now.create(CONFIG_MAPS, body("there-before"))
            patient = replace(QUICK, silence=100.0)  # then only a proof can find it in time
            async with following(now, patient) as (server, reflector, reader):
                await agrees(now, reflector.cache, reader)
                known = reflector.cache.version
                server.lead_to(before.target)
                await server.break_connections()
                await agrees(before, reflector.cache, reader)
                assert older(reflector.cache.version, known)
                await churn(before, 10)
                await agrees(before, reflector.cache, reader)


async def test_a_proof_says_nothing_wrong_under_churn(kube: KubeClient) -> None:
    async with following(kube) as (_, reflector, reader):
        await reflector.cache.synced()
        writing = asyncio.create_task(churn(kube, 150))
        while not writing.done():
            assert await reflector.prove() == set()
        await writing
        await agrees(kube, reflector.cache, reader)
        assert (reflector.missed, reflector.lists) == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_a_day_of_churn_and_faults(kube: KubeClient, seed: int) -> None:
    """Thousands of changes by four writers while every kind of fault comes at random."""
    async with following(kube, replace(QUICK, proof=2.0)) as (server, reflector, reader):
        server._random.seed(seed)
        for how in Breaks:
            server.inject(WatchBreaks(how, events=5), verb="watch", share=0.1, times=10**6)
        for fault in TROUBLES:
            server.inject(fault, verb=frozenset({"watch", "list"}), share=0.05, times=10**6)
        async with asyncio.timeout(90):
            await asyncio.gather(*(churn(kube, 300, seed=4 * seed + writer) for writer in range(4)))
        server.heal()
        await agrees(kube, reflector.cache, reader)
        assert reflector.missed == 0
        assert reflector.watches > 5
