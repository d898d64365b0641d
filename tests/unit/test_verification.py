"""The guide's verification steps, one by one: pass, fail, unknown; and what becomes of the result."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from tests.unit.controller_setting import SHOP, kept, revision, template

from phoenix_orch.health_validator.observation import Arm, Observation
from phoenix_orch.health_validator.sources.source import Context, Reading, SourceMemory
from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.kernel.errors import NotFound, Unavailable
from phoenix_orch.orchestrator.evidence import ArmReader
from phoenix_orch.orchestrator.verification import Verifier, judge_arm
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollout.spec import (
    CriticalPath,
    HttpCheck,
    Limits,
    LogPatterns,
    Phase,
    Policy,
    RolloutSpec,
    Verify,
)
from phoenix_orch.rollout.status import Rollout, State, Status, Verification, VerifyStep
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)
REVISION = revision("1")
LIMITS = Limits(error_rate="1%", latency_p95="100ms")


def arm(requests: int, errors: int = 0, slow: int = 0) -> Arm:
    buckets = ((0.05, requests - slow), (0.1, 0), (0.3, slow), (math.inf, 0))
    return Arm(revision=REVISION, requests=requests, errors=errors, buckets=buckets)


@asynccontextmanager
async def server(*statuses: int) -> AsyncIterator[tuple[int, list[str]]]:
    """Answers with each status once, then with the last one; gives the port and the heads of requests."""
    waiting, heads = list(statuses), list[str]()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        status = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1], heads
    finally:
        running.close()
        await running.wait_closed()


class Scene:
    """A verifier whose every source a test controls. Instances are addresses of `ports`."""

    def __init__(self, *ports: int) -> None:
        self.store = MemoryStore()
        self.ports = dict.fromkeys(ports, InstanceState.READY)
        self.arms: list[Arm | Exception | None] = [arm(100)]
        self.lines: list[str] = []
        self.marked: Mapping[str, int] | None = None
        self.route = Route()
        self.clock = ManualClock()

    async def state(self, service: str) -> WorkloadState:
        instances = tuple(
            Instance(name=f"{service}-{REVISION}-{port}", revision=REVISION, state=state, port=port)
            for port, state in self.ports.items()
        )
        return WorkloadState(service=service, at=self.clock.now(), instances=instances)

    async def mark(self, *_: str) -> dict[str, int]:
        return {"shop-1": 7}

    async def matches(
        self, _service: str, _revision: str, since: Mapping[str, int] | None, _patterns: Sequence[str]
    ) -> list[str]:
        self.marked = since
        return self.lines

    async def arm(self, _rollout: Rollout, _revision: str, window: timedelta) -> Arm | None:
        await self.clock.sleep(window)
        found = self.arms.pop(0) if len(self.arms) > 1 else self.arms[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def rollout(self, **verify: object) -> Rollout:
        await self.store.add_revision(SHOP, kept("1"))
        spec = RolloutSpec(
            phases=(Phase(name="all", weight=100, duration=MINUTE, limits=LIMITS),),
            policy=Policy(min_requests=10),
            verify=Verify.model_validate({"window": MINUTE, **verify}),
        )
        stored = await self.store.put(
            Rollout(name=SHOP, service=SHOP, route=SHOP, spec=spec, target=REVISION, replicas=len(self.ports))
        )
        return await self.store.save(stored, Status(state=State.BAKING, stable=REVISION, release=3))

    def verifier(self) -> Verifier:
        return Verifier(self.store, self, self.clock, self, self.arm, route=lambda _: self.route)

    async def verify(self, kind: str = "promotion", **verify: object) -> Verification:
        async with asyncio.timeout(20):
            await self.verifier()(await self.rollout(**verify), kind)
        found = await self.store.verification(SHOP)
        assert found is not None
        return found


def step(result: Verification, name: str) -> VerifyStep:
    (found,) = (step for step in result.steps if step.name == name)
    return found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEALTH_PATIENCE", "PATH_PATIENCE"):
        monkeypatch.setattr(f"phoenix_orch.orchestrator.verification.{name}", 0.2)
    monkeypatch.setattr("phoenix_orch.orchestrator.verification.RETRY_PAUSE", 0.01)


async def test_everything_in_order_passes_and_names_release_and_kind() -> None:
    async with server(200) as (port, _):
        result = await Scene(port).verify()
    assert (result.ok, result.kind, result.release, result.revision) == (True, "promotion", 3, REVISION)
    assert [s.name for s in result.steps] == ["health endpoints", "metrics", "log patterns"]


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (204, True), (301, False), (404, False), (503, False)]
)
async def test_any_2xx_is_healthy_as_for_readiness(status: int, ok: bool) -> None:
    async with server(status) as (port, _):
        found = step(await Scene(port).verify(), "health endpoints")
    assert found.ok is ok
    assert ok or f"status {status}" in found.detail


async def test_one_hiccup_of_a_health_path_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phoenix_orch.orchestrator.verification.HEALTH_PATIENCE", 30.0)
    async with server(503, 200) as (port, _):
        assert step(await Scene(port).verify(), "health endpoints").ok


async def test_no_instance_or_too_few_fail() -> None:
    scene = Scene()
    scene.ports = {1: InstanceState.DRAINING}
    found = step(await scene.verify(), "health endpoints")
    assert not found.ok
    assert not found.unknown


async def test_an_instance_that_leaves_is_not_asked() -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        rollout_with_one = await scene.rollout()
        scene.ports[1] = InstanceState.DRAINING  # nobody listens there
        await scene.verifier()(rollout_with_one, "promotion")
        result = await scene.store.verification(SHOP)
    assert result is not None
    assert step(result, "health endpoints").ok


async def test_metrics_above_a_limit_fail_and_say_which() -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        scene.arms = [arm(100, errors=5, slow=20)]
        result = await scene.verify()
    found = step(result, "metrics")
    assert not result.ok
    assert "errors 5% of 100 above 1%" in found.detail
    assert "p95 above 100ms" in found.detail


async def test_a_rollback_without_traffic_is_unknown_and_no_failure() -> None:
    async with server(200) as (port, _):
        for nothing in (None, arm(3), Unavailable("the source is away")):
            scene = Scene(port)
            scene.arms = [nothing]
            result = await scene.verify("rollback")
            found = step(result, "metrics")
            assert (found.ok, found.unknown) == (False, True)
            assert result.ok


async def test_a_promotion_waits_for_evidence_whatever_comes_between() -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        scene.arms = [
            None,
            Unavailable("the source is away"),
            NotFound("no service"),
            None,
            arm(50, errors=9),
        ]
        result = await scene.verify()
    assert "errors 18% of 50" in step(result, "metrics").detail


async def test_a_service_with_few_requests_is_verified_over_as_many_windows_as_it_takes() -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        scene.arms = [arm(4), None, arm(4, errors=1), arm(4, slow=2)]
        found = step(await scene.verify(), "metrics")
    assert "errors 8.3333% of 12 above 1%" in found.detail
    assert "p95 above 100ms" in found.detail


async def test_a_version_that_answers_nobody_fails_though_there_is_nothing_to_judge() -> None:
    """Clients gave up: that is evidence enough, and waiting for answers would never end."""
    async with server(200) as (port, _):
        scene = Scene(port)
        scene.arms = [Arm(revision=REVISION, abandoned=7), Arm(revision=REVISION, abandoned=9)]
        found = step(await scene.verify(), "metrics")
    assert (found.ok, found.unknown) == (False, False)
    assert found.detail == "no request was answered; clients gave up on 16 of 16"


async def test_answers_are_waited_for_though_some_gave_up() -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        scene.arms = [
            Arm(revision=REVISION, abandoned=3),
            arm(5),
            Arm(revision=REVISION, abandoned=90),
            arm(5),
        ]
        found = step(await scene.verify(), "metrics")
    assert found.detail == "errors 0% of 10; p95 within 100ms; clients gave up on 93 of 103"


async def test_bad_lines_fail_a_rollback_only_when_written_after_it() -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        scene.lines = ["shop-1: panic: no"]
        result = await scene.verify("rollback", logs=LogPatterns(bad=("panic",)))
        assert scene.marked == {"shop-1": 7}
        assert "1 line, first: shop-1: panic: no" in step(result, "log patterns").detail
        assert not result.ok
        scene.store = MemoryStore()
        await scene.verify("promotion", logs=LogPatterns(bad=("panic",)))
        assert scene.marked is None, "the new revision's log is searched from its beginning"


async def test_logs_that_cannot_be_marked_or_read_are_told_and_end_nothing() -> None:
    class NoLogs(Scene):
        async def mark(self, *_: str) -> dict[str, int]:
            raise PermissionError(13, "Permission denied")

        async def matches(self, *_: object) -> list[str]:
            raise PermissionError(13, "Permission denied")

    async with server(200) as (port, _):
        result = await NoLogs(port).verify("rollback", logs=LogPatterns(bad=("panic",)))
    assert "Permission denied" in step(result, "log patterns").detail


def path(url: str, **http: object) -> CriticalPath:
    return CriticalPath(name="checkout", http=HttpCheck.model_validate({"url": url, **http}))


async def test_critical_paths_are_called_through_the_route_with_its_prefix_and_host() -> None:
    async with server(200) as (port, heads):
        scene = Scene(port)
        scene.route = Route(f"http://127.0.0.1:{port}/shop", "shop.example.com")
        result = await scene.verify(critical_paths=(path("{route}/checkout", method="POST"),))
    assert step(result, "critical path checkout").ok
    (head,) = [head for head in heads if head.startswith("POST")]
    assert head.startswith("POST /shop/checkout HTTP/1.1\r\n")
    assert "host: shop.example.com" in head.lower()


async def test_a_critical_path_elsewhere_gets_its_own_host() -> None:
    async with server(200) as (port, heads):
        scene = Scene(port)
        scene.route = Route("http://127.0.0.1:1", "shop.example.com")
        await scene.verify(critical_paths=(path(f"http://127.0.0.1:{port}/other"),))
    (head,) = [head for head in heads if "/other" in head]
    assert f"host: 127.0.0.1:{port}" in head.lower()


async def test_a_critical_path_that_fails_fails_the_verification() -> None:
    async with server(200) as (healthy, _), server(500) as (port, _):
        scene = Scene(healthy)
        scene.route = Route(f"http://127.0.0.1:{port}")
        result = await scene.verify(critical_paths=(path("{route}/checkout"),))
    assert not result.ok
    assert "status 500, expected 200" in step(result, "critical path checkout").detail


async def test_the_result_is_published_when_the_store_is_back() -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        rollout = await scene.rollout()
        scene.store.away(20)
        async with asyncio.timeout(20):
            await scene.verifier()(rollout, "promotion")
        assert await scene.store.verification(SHOP) is not None


async def test_a_result_that_nobody_waits_for_ends_quietly() -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        rollout = await scene.rollout()
        await scene.store.remove(SHOP)
        await scene.store.add_revision(SHOP, kept("1"))
        async with asyncio.timeout(20):
            await scene.verifier()(rollout, "rollback")
    assert await scene.store.verification(SHOP) is None


def test_limits_that_are_not_set_are_not_judged() -> None:
    assert judge_arm(arm(10, errors=10, slow=10), Limits(), MINUTE).ok


def test_who_waited_longer_than_the_limit_and_gave_up_was_not_answered_within_it() -> None:
    late = arm(100).model_copy(
        update={"abandoned": 9, "waited": ((0.05, 0), (0.1, 0), (0.3, 9), (math.inf, 0))}
    )
    assert "p95 above 100ms" in judge_arm(late, LIMITS, MINUTE).detail
    soon = late.model_copy(update={"waited": ((0.05, 9), (0.1, 0), (0.3, 0), (math.inf, 0))})
    assert "p95 within 100ms" in judge_arm(soon, LIMITS, MINUTE).detail


def test_slow_requests_up_to_the_quantile_pass() -> None:
    limits = Limits(latency_p95="100ms", latency_p99="100ms")
    assert "p95 within 100ms; p99 above 100ms" in judge_arm(arm(100, slow=5), limits, MINUTE).detail


async def test_no_step_tells_what_is_secret() -> None:
    secret = "s3cr3tCanary"
    spoilt = template("1").model_copy(update={"env": {"API_KEY": secret}})
    async with server(200) as (port, _):
        scene = Scene(port)
        scene.lines = [f"shop-1: \x1b[31mpanic\x1b[0m: {secret} is refused, password=hunter2"]
        await scene.store.add_revision(
            SHOP, kept("1").model_copy(update={"template": spoilt.model_dump(mode="json", by_alias=True)})
        )
        login = f"http://u:{secret}@127.0.0.1:{port}/?t={secret}"
        result = await scene.verify(logs={"bad": ["panic"]}, critical_paths=(path(login),))
    detail = step(result, "log patterns").detail
    assert detail == "1 line, first: shop-1: panic: <masked> is refused, password=<masked>"
    shown = f"http://<masked>@127.0.0.1:{port}/?t=<masked>: 200"
    assert step(result, "critical path checkout").detail == shown


async def test_a_line_is_not_told_while_nobody_knows_what_is_secret_in_it() -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        scene.lines = ["shop-1: panic: s3cr3tCanary"]
        rollout = await scene.rollout(logs={"bad": ["panic"]})
        found = await scene.verifier()._log_patterns(rollout, "0000000000", None)
    assert (found.ok, found.detail) == (False, "1 line")


@pytest.mark.parametrize(("requests", "unknown"), [(100, False), (0, True)])
async def test_time_in_which_nobody_was_ready_is_told_and_not_judged(requests: int, unknown: bool) -> None:
    async with server(200) as (port, _):
        scene = Scene(port)
        scene.arms = [arm(requests).model_copy(update={"unserved": 12.4})]
        found = step(await scene.verify("rollback"), "metrics")
    assert (found.ok, found.unknown) == (not unknown, unknown)
    assert found.detail.endswith("; no instance was ready for 12s, which is not counted")


class Source:
    """Counts nothing but failures until the first instance is ready, and nothing but answers from then on."""

    def __init__(self, view: Awaiting) -> None:
        self.view = view
        self.seen: list[bool] = []

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        self.seen.append(self.view.ready)
        errors = 0 if all(self.seen) else 50
        observation = Observation(
            t0=context.t0,
            t1=context.t1,
            revision=context.revision,
            step=0,
            weight_applied=100,
            canary=Arm(revision=context.revision, requests=100, errors=errors),
        )
        return Reading(observation, memory)


class Awaiting:
    """A workload whose instance is ready at the `after`th look."""

    def __init__(self, clock: ManualClock, after: int) -> None:
        self.clock, self.looks, self.after = clock, 0, after

    @property
    def ready(self) -> bool:
        return self.looks >= self.after

    async def state(self, service: str) -> WorkloadState:
        self.looks += 1
        await self.clock.sleep(timedelta(seconds=1))
        state = InstanceState.READY if self.ready else InstanceState.STARTING
        instance = Instance(name="shop-1", revision=REVISION, state=state, port=20001)
        return WorkloadState(service=service, at=self.clock.now(), instances=(instance,))


@pytest.mark.parametrize(("after", "unserved"), [(1, 0.0), (3, 2.0)])
async def test_a_window_begins_when_an_instance_can_answer(
    after: int, unserved: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phoenix_orch.orchestrator.evidence._LOOK", 0)
    view = Awaiting(ManualClock(), after)
    source = Source(view)
    reader = ArmReader({"router": source}, view, view.clock)
    found = await reader(await Scene(1).rollout(), REVISION, MINUTE)
    assert found is not None
    assert (found.requests, found.errors, found.unserved) == (100, 0, unserved)
    assert len(source.seen) == 2


async def test_who_is_never_ready_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phoenix_orch.orchestrator.evidence._LOOK", 0)
    monkeypatch.setattr("phoenix_orch.orchestrator.evidence.READY_PATIENCE", 0.05)
    view = Awaiting(ManualClock(), 10**9)
    source = Source(view)
    found = await ArmReader({"router": source}, view, view.clock)(await Scene(1).rollout(), REVISION, MINUTE)
    assert found is not None
    assert (found.requests, source.seen) == (0, [])
    assert found.unserved >= 1
