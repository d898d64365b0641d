"""Evidence from the pages of pods, without a Prometheus: real HTTP servers where the pods' addresses are."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from tests.integration.real_prometheus import page

from phoenix_orch.health_validator.observation import Observation, Quality
from phoenix_orch.health_validator.sources.scrape import Scraper
from phoenix_orch.health_validator.sources.sieve import Interest
from phoenix_orch.health_validator.sources.source import Context, SourceMemory
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.evidence import ClusterEvidence
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.rollout.spec import BusinessMetric, PlainValue
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

pytestmark = pytest.mark.anyio

PODS = {"old": "web-5d4f8c7b9-abcde", "new": "web-canary-7c9d6f5b8-fghij"}
ORDERS = BusinessMetric(name="orders", counter="orders_total", min_per_request=0.1)
QUEUE = PlainValue(name="queue", gauge="queue_length", maximum=10)
STARTED = 1_000_000.0


def rollout(source: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "web",
            "namespace": "shops",
            "uid": "uid-1",
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "workload": {"name": "web"},
            "traffic": {"ingress": "web"},
            "evidence": {"source": source},
        },
    }


class Program:
    """What runs in one pod."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("http_requests", "Requests.", ("status",), registry=self.registry)
        self.duration = Histogram(
            "http_request_duration_seconds", "Duration.", buckets=(0.1, 1.0), registry=self.registry
        )
        self.orders = Counter("orders", "Orders.", registry=self.registry)
        self.queue = Gauge("queue_length", "Queue.", registry=self.registry)
        Gauge("process_start_time_seconds", "Start.", registry=self.registry).set(STARTED)
        self.serve(1)

    def serve(self, number: int, status: str = "200") -> None:
        self.requests.labels(status).inc(number)
        for _ in range(number):
            self.duration.observe(0.05)


@dataclass
class World:
    programs: dict[str, Program]
    pods: list[dict[str, Any]]
    source: ClusterEvidence
    memory: SourceMemory = field(default_factory=SourceMemory)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    async def observe(self) -> Observation:
        since, self.at = self.at, self.at + timedelta(seconds=10)
        instances = tuple(
            Instance(name=name, revision=revision, state=InstanceState.READY, port=80, started=STARTED)
            for revision, name in PODS.items()
        )
        context = Context(
            rollout="web",
            route="web",
            revision="new",
            stable="old",
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


def pod(name: str, **annotations: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "annotations": {f"prometheus.io/{k}": v for k, v in annotations.items()}},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"podIP": "127.0.0.1"},
    }


@pytest.fixture
def served() -> Iterator[tuple[dict[str, Program], list[dict[str, Any]]]]:
    programs = {revision: Program() for revision in PODS}
    with ExitStack() as stack:
        pods = []
        for revision, program in programs.items():
            port = stack.enter_context(page(lambda program=program: generate_latest(program.registry)))  # type: ignore[misc]
            pods.append(pod(PODS[revision], port=str(port), path="/stats"))
        yield programs, pods


@pytest.fixture
async def world(served: tuple[dict[str, Program], list[dict[str, Any]]]) -> AsyncIterator[World]:
    programs, pods = served
    async with Scraper(timeout=5.0) as scraper:
        evidence = ClusterEvidence(Rollouts([rollout("pods")]), Endpoints({}), scraper, lambda _: pods)
        world = World(programs, pods, evidence)
        assert (await world.observe()).canary.quality is Quality.GAP, "counting begins with the first reading"
        yield world


async def test_both_variants_are_counted_by_their_pods(world: World) -> None:
    world.programs["old"].serve(80)
    world.programs["new"].serve(15)
    world.programs["new"].serve(5, "503")
    world.programs["new"].orders.inc(3)
    world.programs["new"].queue.set(12)
    seen = await world.observe()
    assert seen.stable is not None
    assert (seen.canary.requests, seen.canary.errors, seen.canary.quality) == (20, 5, Quality.OK)
    assert (seen.stable.requests, seen.stable.errors) == (80, 0)
    assert dict(seen.canary.buckets)[0.1] == 20
    assert (seen.canary.business, seen.canary.values) == ({"orders": 3}, {"queue": 12.0})
    assert seen.notes == ()


async def test_nothing_is_counted_twice(world: World) -> None:
    world.programs["new"].serve(7)
    seen = [await world.observe() for _ in range(3)]
    assert [one.canary.requests for one in seen] == [7, 0, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"port": "1"}, r"http://127\.0\.0\.1:1/"),
        ({"port": "http"}, "names no port"),
        ({"scrape": "false"}, "scrape: false"),
    ],
)
async def test_r1_a_pod_without_a_page_is_a_gap_and_says_why(
    world: World, changes: dict[str, str], said: str
) -> None:
    world.programs["new"].serve(7)
    world.pods[1] = pod(PODS["new"], **changes)
    seen = await world.observe()
    assert (seen.canary.quality, seen.canary.requests) == (Quality.GAP, 0)
    assert re.search(said, " ".join(seen.notes))


async def test_a_pod_that_went_between_two_looks_is_a_gap(world: World) -> None:
    del world.pods[1]
    seen = await world.observe()
    assert seen.canary.quality is Quality.GAP
    assert "is gone" in " ".join(seen.notes)


async def test_a_rollout_that_wants_a_prometheus_is_told_that_there_is_none(world: World) -> None:
    async with Scraper() as scraper:
        evidence = ClusterEvidence(Rollouts([rollout("prometheus")]), Endpoints({}), scraper, lambda _: ())
        world.source = evidence
        with pytest.raises(Invalid, match="names the Prometheus 'default'"):
            await world.observe()


class Slow:
    """A page that takes a moment, and how many of it were open at once."""

    def __init__(self) -> None:
        self.most = 0
        self._open = 0
        self._lock = threading.Lock()

    def text(self) -> bytes:
        with self._lock:
            self._open += 1
            self.most = max(self.most, self._open)
        threading.Event().wait(0.02)
        with self._lock:
            self._open -= 1
        return b"orders_total 1\n"


async def test_many_pods_are_not_asked_all_at_once() -> None:
    slow, answers = Slow(), []
    with page(slow.text) as port:
        async with Scraper(timeout=30.0, at_once=3) as scraper, anyio.create_task_group() as group:

            async def read() -> None:
                answers.append(await scraper.get(f"http://127.0.0.1:{port}/", Interest(("orders_total",))))

            for _ in range(30):
                group.start_soon(read)
    assert [one.text for one in answers] == ["orders_total 1\n"] * 30
    assert 1 < slow.most <= 3
