"""The share of a canary as a router counts it, by way of a real Prometheus, against what the object says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from tests import debian
from tests.integration.real_prometheus import Job, RealPrometheus, page, running

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.orchestrator.cluster.share_witness import WitnessedRouter
from phoenix_orch.testing.fake_router import FakeRouter
from phoenix_orch.testing.loopback import wait_until
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.traffic.share_watch import PATIENCE

pytestmark = pytest.mark.anyio

OBJECT = {
    "metadata": {
        "name": "web",
        "namespace": "phoenix-orch",
        "uid": "uid-1",
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {"workload": {"name": "web"}, "traffic": {"ingress": "web"}},
}
SETTLING = 1.0
"""Seconds; Prometheus scrapes every half of one."""


class Router:
    """The page of a Traefik that counts both variants of one Ingress."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("code", "method", "protocol", "service")
        self.requests = Counter("traefik_service_requests", "Requests.", labels, registry=self.registry)
        Gauge("process_start_time_seconds", "Start.", registry=self.registry).set(1_000_000.0)
        self.serve(canary=1, stable=1)

    def serve(self, *, canary: int, stable: int) -> None:
        for number, end in ((canary, "-canary"), (stable, "")):
            name = f"phoenix-orch-web-web-80{end}@kubernetesingressnginx"
            self.requests.labels("200", "GET", "http", name).inc(number)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Router, RealPrometheus]]:
    try:
        debian.program("prometheus", "prometheus")
    except Terminal as missing:
        pytest.skip(str(missing))
    router = Router()
    with ExitStack() as stack:
        port = stack.enter_context(page(lambda: generate_latest(router.registry)))
        job = Job("traefik", port, {"namespace": "traefik", "service": "traefik-metrics"})
        yield router, stack.enter_context(running(job, pace=0.5))


@dataclass
class World:
    router: Router
    object: FakeRouter
    witnessed: WitnessedRouter
    time: float = 0.0

    async def put(self, weight: int) -> None:
        """Write the weight, which the status of the object vouches for at once."""
        try:
            version = (await self.object.read("web")).version
        except Exception:  # noqa: BLE001 - there is no object yet
            version = 0
        await self.object.write(
            TrafficState(
                route="web",
                version=version,
                stable=Group(revision="old", backends=(Backend(instance="web", url="http://web"),)),
                canary=Group(revision="new", backends=(Backend(instance="c", url="http://c"),)),
                weight=weight,
            )
        )

    async def share(self) -> int | None:
        return (await self.witnessed.observe("web")).weight

    async def counted(self, *, canary: int, stable: int, share: int | None) -> None:
        """Serve at this pace until that is the share seen."""

        async def there() -> bool:
            self.router.serve(canary=canary, stable=stable)
            await self.witnessed.look()
            return await self.share() == share

        await wait_until(f"{share} % is seen", there, 60)


@pytest.fixture
async def world(served: tuple[Router, RealPrometheus]) -> AsyncIterator[World]:
    router, prometheus = served
    endpoints = Endpoints({"default": [prometheus.url]})
    found = FakeRouter()
    rollouts = Rollouts([OBJECT])
    world = World(router, found, WitnessedRouter(found, rollouts, endpoints, settling=SETTLING))
    world.witnessed._clock = lambda: world.time

    async def known() -> bool:
        return await prometheus.value("count(traefik_service_requests_total)") == 2

    await wait_until("Prometheus has scraped the router", known, 30)
    try:
        yield world
    finally:
        await endpoints.aclose()


async def test_r3_a_share_counts_when_the_router_is_seen_to_send_it(world: World) -> None:
    await world.put(0)
    assert await world.share() == 0
    await world.put(20)
    assert await world.share() is None, "the object's word alone is not enough"
    await world.counted(canary=20, stable=80, share=20)


async def test_r3_a_router_that_goes_on_as_before_is_seen_whatever_the_object_says(world: World) -> None:
    await world.put(5)
    await world.share()
    await world.put(20)
    await world.counted(canary=5, stable=95, share=5)
    world.time += 10 * PATIENCE
    assert await world.share() == 5
    await world.counted(canary=20, stable=80, share=20)


async def test_without_requests_the_object_decides_after_a_while(world: World) -> None:
    await world.put(5)
    await world.share()
    await world.put(20)
    await world.witnessed.look()
    assert await world.share() is None
    world.time += PATIENCE
    assert await world.share() == 20


async def test_without_weight_nobody_is_counted_and_the_object_decides(world: World) -> None:
    await world.put(20)
    await world.share()
    await world.put(0)
    world.router.serve(canary=100, stable=0)
    await world.witnessed.look()
    assert await world.share() == 0


async def test_a_prometheus_that_is_away_delays_nothing(world: World) -> None:
    endpoints = Endpoints({"default": ["http://127.0.0.1:1"]})
    witnessed = WitnessedRouter(world.object, Rollouts([OBJECT]), endpoints)
    try:
        await world.put(5)
        await witnessed.observe("web")
        await world.put(20)
        await witnessed.observe("web")
        await witnessed.look()
        assert (await witnessed.observe("web")).weight == 20
    finally:
        await endpoints.aclose()


async def test_r2_an_answer_that_does_not_come_keeps_nobody_waiting(world: World) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    endpoints = Endpoints({"default": [url]})
    witnessed = WitnessedRouter(world.object, Rollouts([OBJECT]), endpoints)
    await world.put(20)
    await witnessed.observe("web")
    looking = asyncio.create_task(witnessed.look())
    try:
        await asyncio.wait_for(asked.wait(), 10)
        async with asyncio.timeout(2):
            await witnessed.observe("web")
            await witnessed.abort("web", "new")
            assert (await witnessed.observe("web")).weight == 0
        assert not looking.done()
    finally:
        over.set()
        await looking
        await endpoints.aclose()
        server.close()


async def test_without_a_prometheus_the_object_decides(world: World) -> None:
    witnessed = WitnessedRouter(world.object, Rollouts([OBJECT]), Endpoints({}))
    await world.put(5)
    assert (await witnessed.observe("web")).weight == 5
    await world.put(20)
    assert (await witnessed.observe("web")).weight == 20
