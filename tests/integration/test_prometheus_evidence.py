"""Evidence by way of a real Prometheus that scrapes a router and pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from tests import debian
from tests.integration.real_prometheus import Job, RealPrometheus, page, running

from phoenix_orch.health_validator.observation import Observation, Quality
from phoenix_orch.health_validator.sources.prometheus import PrometheusMetrics
from phoenix_orch.health_validator.sources.prometheus_api import PrometheusApi
from phoenix_orch.health_validator.sources.prometheus_poller import Poller
from phoenix_orch.health_validator.sources.router_series import RouterSeries, Target, TraefikIngress
from phoenix_orch.health_validator.sources.source import Context, SourceMemory
from phoenix_orch.kernel.errors import Invalid, Retryable, Terminal
from phoenix_orch.rollout.spec import BusinessMetric, PlainValue
from phoenix_orch.testing.loopback import wait_until
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

pytestmark = pytest.mark.anyio

TARGET = Target("phoenix-orch", "web", "web", "web-canary", ("web", "web-canary"))
NAMES = {"old": "phoenix-orch-web-web-80", "new": "phoenix-orch-web-web-80-canary"}
PODS = {"old": "web-5d4f8c7b9-abcde", "new": "web-canary-7c9d6f5b8-fghij"}
ORDERS = BusinessMetric(name="orders", counter="orders_total", min_per_request=0.1)
QUEUE = PlainValue(name="queue", gauge="queue_length", maximum=10)


@dataclass
class Router:
    """The pages of a Traefik that splits one Ingress, of two pods, and of their kubelet."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    pods: dict[str, CollectorRegistry] = field(default_factory=dict)
    kubelet: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        labels = ("code", "method", "protocol", "service")
        self.requests = Counter("traefik_service_requests", "Requests.", labels, registry=self.registry)
        self.duration = Histogram(
            "traefik_service_request_duration_seconds",
            "Duration.",
            labels,
            buckets=(0.1, 0.2, 1.0),
            registry=self.registry,
        )
        Gauge("process_start_time_seconds", "Start.", registry=self.registry).set(1_000_000.0)
        of_container = ("namespace", "pod", "container")
        self.cpu = Counter("container_cpu_usage_seconds", "CPU.", of_container, registry=self.kubelet)
        memory = Gauge("container_memory_working_set_bytes", "Memory.", of_container, registry=self.kubelet)
        Gauge("machine_cpu_cores", "Cores.", registry=self.kubelet).set(4)
        self.orders, self.queue = {}, {}
        for revision, pod in PODS.items():
            registry = self.pods[pod] = CollectorRegistry()
            self.orders[revision] = Counter("orders", "Orders.", registry=registry)
            self.queue[revision] = Gauge("queue_length", "Queue.", registry=registry)
            memory.labels("phoenix-orch", pod, "app").set(64 * 1024**2)
            self.cpu.labels("phoenix-orch", pod, "app").inc(100)

    def serve(self, revision: str, number: int, *, code: str = "200", seconds: float = 0.05) -> None:
        labels = (code, "GET", "http", f"{NAMES[revision]}@kubernetesingressnginx")
        self.requests.labels(*labels).inc(number)
        for _ in range(number):
            self.duration.labels(*labels).observe(seconds)

    @property
    def total(self) -> float:
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "traefik_service_requests_total"
        )


@dataclass
class World:
    router: Router
    prometheus: RealPrometheus
    source: PrometheusMetrics
    memory: SourceMemory = field(default_factory=SourceMemory)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    revision: str = "new"
    stable: str | None = "old"

    async def scraped(self) -> None:
        """Prometheus knows what the router has counted."""
        wanted = self.router.total

        async def known() -> bool:
            return await self.prometheus.value("sum(traefik_service_requests_total)") == wanted

        await wait_until("Prometheus has scraped the router", known, 20)

    async def observe(self) -> Observation:
        since, self.at = self.at, self.at + timedelta(seconds=10)
        instances = tuple(
            Instance(
                name=pod,
                revision=revision,
                state=InstanceState.READY,
                port=80,
                started=1_000_000.0,
                ready_since=self.at,
            )
            for revision, pod in PODS.items()
        )
        context = Context(
            rollout="web",
            route="web",
            revision=self.revision,
            stable=self.stable,
            step=0,
            weight=20,
            t0=since,
            t1=self.at,
            interval=timedelta(seconds=10),
            workload=WorkloadState(service="web", at=self.at, instances=instances),
            business=(ORDERS,),
            values=(QUEUE,),
        )
        reading = await self.source.observe(context, self.memory)
        self.memory = SourceMemory.model_validate_json(reading.memory.model_dump_json())
        return reading.observation


async def locate(route: str) -> Target:
    assert route == "web"
    return TARGET


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Router, RealPrometheus]]:
    try:
        debian.program("prometheus", "prometheus")
    except Terminal as missing:
        pytest.skip(str(missing))
    router = Router()
    with ExitStack() as stack:
        router_port = stack.enter_context(page(lambda: generate_latest(router.registry)))
        kubelet_port = stack.enter_context(page(lambda: generate_latest(router.kubelet)))
        jobs = [Job("traefik", router_port, {"namespace": "traefik", "service": "traefik-metrics"})]
        jobs += [Job("kubelet", kubelet_port, {})]
        for pod, registry in router.pods.items():
            port = stack.enter_context(page(lambda registry=registry: generate_latest(registry)))  # type: ignore[misc]
            jobs.append(Job(f"pods-{pod}", port, {"namespace": "phoenix-orch", "pod": pod}))
        yield router, stack.enter_context(running(*jobs, pace=0.5))


@asynccontextmanager
async def api(*urls: str) -> AsyncIterator[PrometheusApi]:
    found = PrometheusApi(urls, timeout=2.0)
    try:
        yield found
    finally:
        await found.aclose()


@pytest.fixture
async def world(served: tuple[Router, RealPrometheus]) -> AsyncIterator[World]:
    router, prometheus = served
    router.serve("old", 1)
    router.serve("new", 1)
    async with api(prometheus.url) as asked:
        source = PrometheusMetrics(Poller(asked, fresh=0.0), locate, TraefikIngress())
        world = World(router, prometheus, source)
        await world.scraped()
        begun = await world.observe()
        assert begun.canary.quality is Quality.GAP, "counting begins with the first reading"
        yield world


async def test_requests_errors_and_latency_of_both_variants_are_counted(world: World) -> None:
    world.router.serve("old", 80)
    world.router.serve("new", 15)
    world.router.serve("new", 5, code="503", seconds=0.15)
    world.router.serve("new", 2, code="499", seconds=5.0)
    await world.scraped()
    seen = await world.observe()
    assert seen.stable is not None
    assert (seen.canary.requests, seen.canary.errors, seen.canary.abandoned) == (20, 5, 2)
    assert (seen.stable.requests, seen.stable.errors) == (80, 0)
    assert dict(seen.canary.buckets) == {0.1: 15, 0.2: 5, 1.0: 0, float("inf"): 0}
    assert dict(seen.canary.waited)[float("inf")] == 2
    assert seen.canary.quality is Quality.OK
    assert seen.notes == ()


async def test_asked_twice_between_scrapes_nothing_is_counted_twice(world: World) -> None:
    world.router.serve("new", 7)
    await world.scraped()
    seen = [await world.observe() for _ in range(5)]
    assert sum(one.canary.requests for one in seen) == 7
    assert all(one.canary.quality is Quality.OK for one in seen)


async def test_business_plain_values_and_resources_come_from_the_pods(world: World) -> None:
    await world.observe()
    world.router.orders["new"].inc(3)
    world.router.queue["new"].set(12)
    pod, orders = PODS["new"], world.router.orders["new"]._value.get()

    async def known() -> bool:
        told = [
            await world.prometheus.value(f'{name}{{pod="{pod}"}}')
            for name in ("orders_total", "queue_length")
        ]
        return told == [orders, 12]

    await wait_until("Prometheus has scraped the pods", known, 20)
    seen = await world.observe()
    assert seen.canary.business == {"orders": 3}
    assert seen.canary.values == {"queue": 12.0}
    assert seen.canary.memory == 64 * 1024**2
    assert seen.canary.cpu is not None
    assert 0 <= seen.canary.cpu < 0.1


async def test_a_promoted_revision_does_not_inherit_what_stables_service_had_counted(world: World) -> None:
    world.router.serve("old", 500)
    world.router.serve("new", 5)
    await world.scraped()
    await world.observe()
    world.stable = None  # the new revision is behind stable's service now
    first = await world.observe()
    assert first.canary.requests == 0
    world.router.serve("old", 9)
    await world.scraped()
    assert (await world.observe()).canary.requests == 9


async def test_without_an_answer_there_is_a_gap_and_afterwards_the_whole_increase(world: World) -> None:
    world.prometheus.pause()
    try:
        gap = await world.observe()
    finally:
        world.prometheus.go_on()
    assert (gap.canary.quality, gap.canary.requests) == (Quality.GAP, 0)
    assert "127.0.0.1" in gap.notes[0]
    world.router.serve("new", 11)
    await world.scraped()
    after = await world.observe()
    assert after.canary.requests == 11


async def test_the_second_server_answers_when_the_first_does_not(world: World) -> None:
    async with api("http://127.0.0.1:9", world.prometheus.url) as asked:
        world.source = PrometheusMetrics(Poller(asked, fresh=0.0), locate, TraefikIngress())
        world.router.serve("new", 4)
        await world.scraped()
        assert (await world.observe()).canary.requests == 4


async def test_a_query_that_is_refused_and_a_server_that_is_none_are_told(world: World) -> None:
    async with api(world.prometheus.url) as asked, api(f"{world.prometheus.url}/graph") as misled:
        with pytest.raises(Invalid, match="parse error"):
            await asked.ask("sum(")
        with pytest.raises(Retryable, match="nothing of Prometheus"):
            await misled.ask("up")


async def test_a_hundred_rollouts_share_one_question(world: World) -> None:
    questions: list[str] = []

    class Counting(PrometheusApi):
        async def ask(self, query: str):  # type: ignore[no-untyped-def]
            questions.append(query)
            return await super().ask(query)

    asked = Counting([world.prometheus.url])
    poller, router = Poller(asked, fresh=60.0), TraefikIngress()

    async def read(number: int) -> None:
        target = Target("phoenix-orch", f"web{number}", "web", "web-canary")
        await poller.read(router.families[0], (router.requests,), router.pattern(target))

    try:
        await asyncio.gather(*(read(number) for number in range(100)))
        assert len(questions) == 2, "the first one asked before the others were known"
        await asyncio.gather(*(read(number) for number in range(100)))
    finally:
        await asked.aclose()
    assert len(questions) == 2


async def test_a_route_that_nobody_counts_is_a_gap_with_the_reason(world: World) -> None:
    async def elsewhere(_: str) -> Target:
        return Target("phoenix-orch", "nowhere", "web", "web-canary")

    router: RouterSeries = TraefikIngress()
    async with api(world.prometheus.url) as asked:
        world.source = PrometheusMetrics(Poller(asked, fresh=0.0), elsewhere, router)
        world.memory = SourceMemory()
        seen = await world.observe()
    assert seen.canary.quality is Quality.GAP
    assert seen.notes == ("Prometheus has no traefik_service_requests_total of nowhere",)
