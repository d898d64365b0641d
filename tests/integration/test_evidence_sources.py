"""Evidence from a real Traefik and from real processes over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from phoenix_orch.health_validator.histogram import certainly_above, quantile, total
from phoenix_orch.health_validator.judge import JudgeConfig
from phoenix_orch.health_validator.observation import Observation, Quality, VerdictKind
from phoenix_orch.health_validator.replay import replay
from phoenix_orch.health_validator.service import HealthValidator
from phoenix_orch.health_validator.sources.process_metrics import ProcessMetrics
from phoenix_orch.health_validator.sources.router_metrics import RouterMetrics
from phoenix_orch.health_validator.sources.scrape import PROCESS, Scraper
from phoenix_orch.health_validator.sources.source import Context, EvidenceSource, SourceMemory
from phoenix_orch.kernel.clock import ScaledClock
from phoenix_orch.rollout.spec import BusinessMetric, Limits, Phase, RolloutSpec
from phoenix_orch.rollout.status import Rollout, State, Status
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.testing.loopback import Load, quiet_port, wait_until
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.router import Backend, Group, MetricsPage, TrafficState
from phoenix_orch.traffic.spec import RouterSpec
from phoenix_orch.traffic.traefik_process import TraefikProcess
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

ORDERS = BusinessMetric(name="orders", counter="orders_total", min_per_request=0.1)


@dataclass
class Program:
    """A variant that counts what it does, and does what a test tells it."""

    revision: str
    port: int = 0
    status: int = 200
    delay: float = 0.0
    page: str = ""
    """Instead of its metrics; `hang` does not answer at all."""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        ProcessCollector(registry=self.registry)
        self.requests = Counter("requests", "Requests.", ["code"], registry=self.registry)
        self.orders = Counter("orders", "Orders.", registry=self.registry)
        self.duration = Histogram(
            "request_duration_seconds", "Time.", buckets=(0.05, 0.1, 0.5), registry=self.registry
        )

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[Program]:
        tasks: set[asyncio.Task[None]] = set()

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.create_task(self._serve(reader, writer)))

        server = await asyncio.start_server(serve, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if head.startswith("GET /metrics"):
                await self._metrics(writer)
            else:
                await asyncio.sleep(self.delay)
                self.requests.labels(str(self.status)).inc()
                self.duration.observe(self.delay)
                self.orders.inc(0.5)
                _answer(writer, self.status, b"ok")
            await writer.drain()

    async def _metrics(self, writer: asyncio.StreamWriter) -> None:
        if self.page == "hang":
            await asyncio.sleep(30)
        _answer(writer, 200, self.page.encode() or generate_latest(self.registry))

    @property
    def served(self) -> int:
        """Requests that it answered, by its own count."""
        (family,) = self.requests.collect()
        return round(sum(sample.value for sample in family.samples if sample.name.endswith("_total")))

    def instance(self) -> Instance:
        return Instance(
            name=f"web-{self.revision}-0",
            revision=self.revision,
            state=InstanceState.READY,
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            port=self.port,
            metrics_path="/metrics",
        )

    def group(self) -> Group:
        url = f"http://127.0.0.1:{self.port}"
        return Group(revision=self.revision, backends=(Backend(instance=self.revision, url=url),))


def _answer(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    writer.write(
        b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    )


@dataclass
class Watcher:
    """Calls a source again and again, as the validator does."""

    source: EvidenceSource
    programs: tuple[Program, ...]
    memory: SourceMemory = field(default_factory=SourceMemory)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    backends: frozenset[str] = frozenset()

    async def observe(self, *, gone: Program | None = None) -> Observation:
        """`gone`: one whose instance has ended and waits for its next start."""
        before, self.now = self.now, self.now + timedelta(seconds=10)
        ended = {"state": InstanceState.BACKOFF, "pid": None, "started": None}
        instances = tuple(
            program.instance().model_copy(update=ended if program is gone else {})
            for program in self.programs
        )
        context = Context(
            rollout="web",
            route="web",
            revision="new",
            stable="old",
            step=0,
            weight=20,
            t0=before,
            t1=self.now,
            interval=timedelta(seconds=10),
            workload=WorkloadState(service="web", at=self.now, instances=instances),
            business=(ORDERS,),
            backends=self.backends,
        )
        reading = await self.source.observe(context, self.memory)
        self.memory = SourceMemory.model_validate_json(reading.memory.model_dump_json())
        return reading.observation


@dataclass
class World:
    router: EmbeddedRouter
    process: TraefikProcess
    port: int
    old: Program
    new: Program
    watcher: Watcher

    async def ask(self, count: int) -> list[int]:
        """So many requests through the router; gives their statuses."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            return [(await http.get(f"http://127.0.0.1:{self.port}/")).status_code for _ in range(count)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A router that sends one request of five to the new revision."""
    port = quiet_port()
    process = TraefikProcess(tmp_path, RouterSpec(listen=f"127.0.0.1:{port}"), edges=(0.03,))
    router = EmbeddedRouter(tmp_path)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(process.stop, grace=2.0)
        scraper = await stack.enter_async_context(Scraper())
        old = await stack.enter_async_context(Program("old").serving())
        new = await stack.enter_async_context(Program("new").serving(quiet_port()))
        await process.ensure()
        stable = await router.write(TrafficState(route="web", stable=old.group()))
        await router.write(stable.model_copy(update={"canary": new.group(), "weight": 20}))

        async def in_force() -> bool:
            return (await router.observe("web")).weight == 20

        await wait_until("weight 20", in_force)
        watcher = Watcher(RouterMetrics(router.metrics_page, scraper), (old, new))
        yield World(router, process, port, old, new, watcher)


async def test_the_router_counts_requests_errors_and_latency_of_both(world: World) -> None:
    first = await world.watcher.observe()
    assert first.canary.quality is Quality.GAP
    world.new.status, world.new.delay = 503, 0.04
    answers = await world.ask(50)
    bad = answers.count(503)
    assert 8 <= bad <= 12, "about one of five"
    seen = await world.watcher.observe()
    assert seen.stable is not None
    assert (seen.canary.requests, seen.canary.errors, seen.canary.quality) == (bad, bad, Quality.OK)
    assert (seen.stable.requests, seen.stable.errors, seen.stable.quality) == (50 - bad, 0, Quality.OK)
    assert total(seen.canary.buckets) == bad
    assert certainly_above(seen.canary.buckets, 0.03) == bad, "a limit asked for is an edge"
    assert (quantile(seen.canary.buckets, 0.95) or 0) > 0.03
    assert seen.canary.business == {"orders": bad / 2}
    assert seen.canary.memory is not None
    assert seen.canary.memory > 10**6
    assert seen.canary.cpu is not None
    assert 0 <= seen.canary.cpu <= 1
    nothing = await world.watcher.observe()
    assert (nothing.canary.requests, nothing.canary.quality) == (0, Quality.OK)


async def test_clients_that_give_up_were_not_answered(world: World) -> None:
    await world.ask(5)
    await world.watcher.observe()
    world.new.delay = 20.0
    left = 0
    async with httpx.AsyncClient(trust_env=False, timeout=0.2) as http:
        for _ in range(20):
            try:
                await http.get(f"http://127.0.0.1:{world.port}/")
            except httpx.ReadTimeout:
                left += 1
    assert left >= 2

    async def counted() -> bool:
        place = await world.router.metrics_page("web")
        assert place
        async with httpx.AsyncClient(trust_env=False) as http:
            page = (await http.get(place.url)).text
        found = [line for line in page.splitlines() if "requests_total" in line and 'code="499"' in line]
        return any("web.canary" in line and line.endswith(f" {left}") for line in found)

    await wait_until("the router has noticed", counted)
    seen = await world.watcher.observe()
    assert seen.stable is not None
    assert (seen.canary.requests, seen.canary.errors, seen.canary.abandoned) == (0, 0, left)
    assert (total(seen.canary.buckets), total(seen.canary.waited)) == (0, left)
    assert certainly_above(seen.canary.waited, 0.1) == left
    assert (seen.stable.requests, seen.stable.abandoned) == (20 - left, 0)
    assert (seen.canary.unanswered, seen.canary.quality) == (True, Quality.OK)


async def test_a_dead_canary_shows_although_no_user_meets_it(world: World) -> None:
    await world.ask(5)
    await world.watcher.observe()
    world.watcher.programs = (world.old,)
    async with AsyncExitStack() as dead:
        await dead.enter_async_context(world.new.serving())  # alive elsewhere; its old port is closed
        gone = Group(
            revision="new", backends=(Backend(instance="new", url=f"http://127.0.0.1:{quiet_port()}"),)
        )
        state = await world.router.read("web")
        await world.router.write(state.model_copy(update={"canary": gone}))

        async def moved() -> bool:
            backends = (await world.router.observe("web")).backends or ()
            return gone.backends[0].url in backends

        await wait_until("the dead backend in force", moved)
    assert set(await world.ask(50)) == {200}
    seen = await world.watcher.observe()
    assert seen.canary.errors >= 10
    assert seen.canary.errors == seen.canary.requests
    assert seen.canary.quality is Quality.OK


async def test_what_the_router_answers_while_nobody_of_stable_is_there_is_not_stables(world: World) -> None:
    """Its last address is in the table, and nobody listens there until the instance is started again."""
    async with AsyncExitStack() as stack:
        again = Program("old", port=quiet_port())
        state = await world.router.read("web")
        dead = await world.router.write(
            state.model_copy(update={"stable": again.group(), "canary": None, "weight": 0})
        )

        async def alone() -> bool:
            seen = await world.router.observe("web")
            return seen.backends == {dead.stable.backends[0].url}

        await wait_until("only the dead address is in force", alone)
        watcher = Watcher(world.watcher.source, (again,))
        watcher.backends = (await world.router.observe("web")).backends or frozenset()
        await watcher.observe(gone=again)
        assert set(await world.ask(5)) == {502}
        away = await watcher.observe(gone=again)
        assert set(await world.ask(5)) == {502}
        await stack.enter_async_context(again.serving(again.port))
        assert set(await world.ask(5)) == {200}
        back = await watcher.observe()
        for seen in (away, back):
            assert seen.stable is not None
            assert (seen.stable.requests, seen.stable.errors, seen.stable.quality) == (0, 0, Quality.GAP)
            assert seen.stable.unserved > 0
        again.status = 500
        await world.ask(3)
        after = (await watcher.observe()).stable
        assert after is not None
        assert (after.requests, after.errors, after.quality) == (3, 3, Quality.OK)


async def test_a_router_started_anew_loses_nothing_and_counts_nothing_twice(world: World) -> None:
    await world.ask(5)
    await world.watcher.observe()
    begun = world.new.served
    await world.ask(10)
    first = await world.watcher.observe()
    stopped = world.new.served
    await world.process.stop(grace=2.0)
    gap = await world.watcher.observe()
    assert (gap.canary.quality, gap.canary.requests) == (Quality.GAP, 0)
    assert gap.notes == ("no router runs",)
    await world.process.ensure()
    await world.ask(20)
    after = await world.watcher.observe()
    assert first.stable is not None
    assert after.stable is not None
    assert (first.canary.requests, after.canary.requests) == (stopped - begun, world.new.served - stopped)
    assert first.canary.requests + first.stable.requests == 10
    assert after.canary.requests + after.stable.requests == 20
    assert after.canary.requests > 0
    assert after.canary.quality is Quality.MERGED


async def test_a_router_started_a_second_after_the_other_is_told_by_its_pid() -> None:
    """A start exactly a second later may be a corrected boot time; another pid is another process."""

    def page(started: float, count: int) -> str:
        labels = 'code="200",method="GET",protocol="http",service="web.canary.new@file"'
        return (
            f"# HELP a page\nprocess_start_time_seconds {started}\n"
            f"traefik_service_requests_total{{{labels}}} {count}\n"
        )

    async with Program("new").serving() as program, Scraper() as scraper:
        place, now = MetricsPage(f"http://127.0.0.1:{program.port}/metrics", pid=7), 1000.4

        async def locate(_: str) -> MetricsPage:
            return place

        watcher = Watcher(RouterMetrics(locate, scraper, wall=lambda: now), ())
        program.page = page(1000.0, 40)
        await watcher.observe()
        program.page, now = page(1001.0, 42), 1010.0
        assert (await watcher.observe()).canary.requests == 2
        program.page, place, now = page(1002.0, 5), place._replace(pid=8), 1020.0
        assert (await watcher.observe()).canary.quality is Quality.GAP, "it ran before the last reading"
        program.page, place, now = page(1020.0, 9), place._replace(pid=9), 1030.0
        assert (await watcher.observe()).canary.requests == 9


class Workload:
    """The programs of the world as a workload."""

    def __init__(self, *programs: Program) -> None:
        self.programs = programs

    async def state(self, service: str) -> WorkloadState:
        instances = tuple(program.instance() for program in self.programs)
        return WorkloadState(service=service, at=datetime.now(UTC), instances=instances)


async def test_the_validator_passes_a_good_canary_and_convicts_a_bad_one(world: World) -> None:
    """Everything real but the store, sixty times as fast."""
    store, clock = MemoryStore(), ScaledClock(60, datetime.now(UTC))
    sources = {"router": world.watcher.source}
    workload = Workload(world.old, world.new)
    validator = HealthValidator(store, world.router, workload, sources, clock)
    phase = Phase(name="first", weight=20, duration="1m", limits=Limits(error_rate="1%", latency_p95="5s"))
    spec = RolloutSpec(phases=(phase,))
    stored = await store.put(Rollout(name="web", service="web", route="web", spec=spec, target="new"))
    await store.save(
        stored, Status(state=State.PROGRESSING, stable="old", canary="new", release=1, weight=20)
    )

    async def says(kind: VerdictKind) -> bool:
        kept = await store.verdict("web")
        return kept is not None and kept[0].kind is kind

    running = asyncio.create_task(validator.run())
    try:
        async with Load(world.port, users=2).running():
            await wait_until("advance", lambda: says(VerdictKind.ADVANCE), within=20)
            world.new.status = 500
            took = await wait_until("rollback", lambda: says(VerdictKind.ROLLBACK), within=20)
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert took < 2
    kept = await store.verdict("web")
    assert kept is not None
    assert kept[0].blame == ("errorRate",)
    assert "canary failed" in kept[0].reason
    *_, last = replay(JudgeConfig.of(spec, interval=timedelta(seconds=12)), await store.observations("web"))
    assert (last.kind, last.reason) == (kept[0].kind, kept[0].reason)


# -- processes -------------------------------------------------------------------------------------


@pytest.fixture
async def programs() -> AsyncIterator[tuple[Program, Program, Watcher]]:
    async with (
        Scraper(timeout=0.5) as scraper,
        Program("old").serving() as old,
        Program("new").serving() as new,
    ):
        yield old, new, Watcher(ProcessMetrics(scraper), (old, new))


def serve(program: Program, count: int, code: str = "200", seconds: float = 0.01) -> None:
    program.requests.labels(code).inc(count)
    for _ in range(count):
        program.duration.observe(seconds)


async def test_processes_count_for_themselves(programs: tuple[Program, Program, Watcher]) -> None:
    old, new, watcher = programs
    await watcher.observe()
    serve(old, 40)
    serve(new, 8)
    serve(new, 2, "500", 0.3)
    new.orders.inc(3)
    seen = await watcher.observe()
    assert seen.stable is not None
    assert (seen.canary.requests, seen.canary.errors) == (10, 2)
    assert certainly_above(seen.canary.buckets, 0.1) == 2
    assert seen.canary.business == {"orders": 3}
    assert (seen.stable.requests, seen.canary.quality, seen.canary.processes) == (40, Quality.OK, 1)


@pytest.mark.parametrize(
    "page", ["hang", "<html>login</html>", "not metrics", "x" * (PROCESS.most_bytes + 1)]
)
async def test_no_usable_answer_is_a_gap_and_nothing_is_lost(
    programs: tuple[Program, Program, Watcher], page: str
) -> None:
    old, new, watcher = programs
    await watcher.observe()
    serve(new, 5)
    new.page = page
    began = time.monotonic()
    gap = await watcher.observe()
    assert time.monotonic() - began < 3
    assert gap.stable is not None
    assert (gap.canary.quality, gap.canary.requests) == (Quality.GAP, 0)
    assert gap.canary.business == {}
    assert gap.stable.quality is Quality.OK
    assert len(gap.notes) == 1
    new.page = ""
    serve(new, 7)
    serve(old, 1)
    after = await watcher.observe()
    assert (after.canary.requests, after.canary.quality) == (12, Quality.MERGED)


async def test_a_closed_port_is_a_gap(programs: tuple[Program, Program, Watcher]) -> None:
    _, new, watcher = programs
    await watcher.observe()
    new.port = quiet_port()
    gap = await watcher.observe()
    assert gap.canary.quality is Quality.GAP
    assert f"127.0.0.1:{new.port}/metrics" in gap.notes[0]


async def test_a_dead_pid_has_no_memory(programs: tuple[Program, Program, Watcher]) -> None:
    _, new, watcher = programs

    def gone() -> Instance:
        return Instance(
            name="web-new-0", revision="new", state=InstanceState.READY, pid=2**22 - 1, port=new.port
        )

    new.instance = gone  # type: ignore[method-assign]
    seen = await watcher.observe()
    assert (seen.canary.memory, seen.canary.cpu) == (None, None)
    assert seen.notes == ("web-new-0 has no metrics path",)
