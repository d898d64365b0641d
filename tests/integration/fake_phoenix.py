"""The real API on a real unix socket, over operations that answer from fixed pictures."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.integration.fake_flow import fake_flow

from phoenix_orch.api.server import create_app, serve
from phoenix_orch.health_validator.observation import Arm, MetricEvidence, Observation, Verdict, VerdictKind
from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.kernel.errors import BadState, Latched, NotFound, Retryable
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.kept_answers import MemoryAnswers
from phoenix_orch.orchestrator.views import (
    Change,
    ChangeKind,
    LogLine,
    LogPage,
    Rates,
    RolloutEvent,
    RolloutView,
    ServiceView,
    of_rollout,
)
from phoenix_orch.rollout.commands import refusal, remedy
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import (
    Cause,
    Command,
    CommandKind,
    Event,
    Outcome,
    Release,
    Revision,
    Rollout,
    State,
    Status,
)
from phoenix_orch.traffic.router import Group, TrafficSeen, TrafficState
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = "1111111111", "2222222222"


def view(state: State = State.PROGRESSING, *, step: int = 0, name: str = "web", **status: Any) -> RolloutView:
    """A picture of one rollout in `state`, with everything around it filled in."""
    spec = RolloutSpec()
    steps = spec.steps()
    resting = state in (State.IDLE, State.PROMOTED)
    canary = None if resting else NEW
    weight = steps[step].weight if state in (State.PROGRESSING, State.PAUSED) else 0
    fields: dict[str, Any] = {
        "state": state,
        "since": NOW - timedelta(minutes=4),
        "message": f"{state.value} at step {step + 1}",
        "stable": NEW if state is State.PROMOTED else OLD,
        "canary": canary,
        "release": 3,
        "step": step,
        "weight": weight,
        "step_clock": NOW - timedelta(minutes=4),
    }
    if state is State.ROLLED_BACK:
        fields["cause"] = cause()
    rollout = Rollout(
        name=name,
        service=name,
        route=name,
        target=NEW,
        applied=NEW,
        status=Status(**(fields | status)),
        version=12,
    )
    instances = tuple(
        Instance(
            name=f"{name}-{revision}-{number}",
            revision=revision,
            state=InstanceState.READY,
            pid=4000 + number,
            port=20000 + number,
            log=f"/data/{name}-{number}.log",
        )
        for number, revision in ((1, OLD), (2, OLD), (3, NEW))
    )
    return RolloutView(
        at=NOW,
        rollout=rollout,
        steps=steps,
        versions={OLD: "1.4.0", NEW: "1.5.0"},
        traffic=TrafficState(
            route=name,
            version=7,
            stable=Group(revision=OLD),
            canary=Group(revision=NEW) if canary else None,
            weight=weight,
            aborted=(NEW,) if state is State.ROLLED_BACK else (),
        ),
        seen=TrafficSeen(weight=weight, canary_revision=canary, stable_revision=OLD),
        workload=WorkloadState(service=name, at=NOW, wanted={OLD: 2, NEW: 1}, instances=instances),
        verdict=verdict(VerdictKind.ROLLBACK if state is State.ROLLED_BACK else VerdictKind.CONTINUE),
        canary=Rates(
            requests_per_second=4.9, error_rate=0.0004, p95=0.0812, p99=0.12, requests=2940, errors=1
        ),
        stable=Rates(
            requests_per_second=93.3, error_rate=0.0, p95=0.0461, p99=0.0702, requests=55_900, errors=0
        ),
        time_left=timedelta(minutes=46) if state is State.PROGRESSING else None,
    )


def evidence(*, breached: bool) -> tuple[MetricEvidence, ...]:
    return (
        MetricEvidence(
            metric="errorRate",
            observed=0.031 if breached else 0.0004,
            limit=0.001,
            stable=0.0,
            samples=640,
            breached=breached,
            window=timedelta(minutes=1),
        ),
        MetricEvidence(
            metric="latencyP95",
            observed=0.0812,
            limit=0.1,
            stable=0.0461,
            samples=640,
            window=timedelta(minutes=1),
        ),
    )


def verdict(kind: VerdictKind) -> Verdict:
    bad = kind is VerdictKind.ROLLBACK
    return Verdict(
        kind=kind,
        revision=NEW,
        step=0,
        at=NOW,
        reason="errors 3.1% are above the limit of 0.1%" if bad else "all metrics within their limits",
        blame=("errorRate",) if bad else (),
        evidence=evidence(breached=bad),
        requests=2940,
        observed_for=timedelta(minutes=4),
    )


def cause() -> Cause:
    return Cause(
        revision=NEW,
        trigger="verdict",
        reason="errors 3.1% are above the limit of 0.1%",
        at=NOW - timedelta(minutes=1),
        step=0,
        weight=5,
        evidence=evidence(breached=True),
    )


APPLIED = {
    "services": {"web": {"command": "app {port}", "env": {"LEVEL": "debug"}}},
    "routes": {"web": {"service": "web"}},
}


class FakeOperations:
    """One rollout, `web`. What would change something is kept in `calls` instead."""

    def __init__(self, state: State = State.PROGRESSING) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.asked: list[tuple[Any, ...]] = []
        """The same of readings that take more than a name."""
        self.pictures: list[RolloutView] = [view(state)]
        """The views to give, one after another; the last one stays."""
        self.broken = False
        """Every reading raises something that nobody foresaw."""
        self.away = False
        self.refuses = ""
        """What becomes of every command, if it comes too late."""
        self.obeys = True
        """A command is handled as soon as it is given."""
        self.latched = False
        self.answers = MemoryAnswers()
        self.applied: PhoenixFile | None = PhoenixFile.model_validate(APPLIED)
        self.told: list[asyncio.Queue[str]] = []
        """Of each who follows the changes: names put here are told."""
        self.flow = fake_flow(self._rollouts, self.history, self.revisions, ManualClock(NOW))

    async def _rollouts(self) -> list[Rollout]:
        return [one.rollout for one in await self.views()]

    async def info(self) -> dict[str, Any]:
        return {
            "version": "0.1.0",
            "pid": 4711,
            "dataDir": "/data",
            "speed": 1.0,
            "components": [
                {"name": "store", "state": "ready"},
                {"name": "router", "state": "down", "detail": "exited with 1, starts again in 2 s"},
            ],
        }

    async def config(self) -> PhoenixFile | None:
        return self.applied

    async def views(self, *, after: str = "", limit: int | None = None) -> list[RolloutView]:
        return [view for view in [self._picture()] if view.rollout.name > after][:limit]

    async def view(self, name: str) -> RolloutView:
        self._known(name)
        return self._picture()

    def _picture(self) -> RolloutView:
        if self.broken:
            raise RuntimeError("nobody foresaw this")
        if self.away:
            raise Retryable("the store does not answer", remedy="it is started again; try once more")
        return self.pictures.pop(0) if len(self.pictures) > 1 else self.pictures[0]

    def _known(self, name: str) -> None:
        if name != "web":
            raise NotFound(f"there is no rollout {name!r}", remedy="rollouts: web")

    async def events(self, name: str, limit: int) -> list[Event]:
        self._known(name)
        events = [
            Event(
                at=NOW - timedelta(minutes=5),
                reason="Started",
                message="version 1.5.0 is released",
                release=3,
            ),
            Event(
                at=NOW - timedelta(minutes=4), reason="WeightSeen", message="5 % reach the canary", release=3
            ),
        ]
        if self.refuses:
            events.append(Event(at=NOW, reason="CommandRefused", message=self.refuses, release=3))
        return events[-limit:]

    async def all_events(self, limit: int) -> list[RolloutEvent]:
        return [of_rollout(event, "web") for event in await self.events("web", limit)]

    async def history(self, name: str, limit: int) -> list[Release]:
        self._known(name)
        releases = [
            Release(
                number=2,
                revision=NEW,
                version="1.5.0",
                replaced=OLD,
                started=NOW - timedelta(hours=1),
                ended=NOW - timedelta(minutes=50),
                outcome=Outcome.ROLLED_BACK,
                reason="errors 3.1% are above the limit of 0.1%",
                weight=5,
                cause=cause(),
                verdict=verdict(VerdictKind.ROLLBACK),
            ),
            Release(
                number=1,
                revision=OLD,
                version="1.4.0",
                started=NOW - timedelta(hours=3),
                ended=NOW - timedelta(hours=2),
                outcome=Outcome.PROMOTED,
                reason="all steps passed",
                step=5,
                weight=100,
            ),
        ]
        return releases[:limit]

    async def revisions(self, name: str) -> list[Revision]:
        self._known(name)
        return [
            Revision(
                revision=revision,
                number=number,
                version=version,
                at=NOW,
                change_cause="applied by root",
                template={"command": ["app", "{port}"]},
            )
            for number, (revision, version) in enumerate(((OLD, "1.4.0"), (NEW, "1.5.0")), start=1)
        ]

    async def observations(self, name: str, since: datetime | None, limit: int) -> list[Observation]:
        self._known(name)
        self.asked.append(("observations", since, limit))
        arm = Arm(revision=NEW, requests=5, buckets=((0.1, 4), (float("inf"), 1)))
        return [
            Observation(
                t0=NOW - timedelta(seconds=10), t1=NOW, revision=NEW, step=0, weight_applied=5, canary=arm
            )
        ]

    async def apply(
        self, config: PhoenixFile, *, actor: str, dry_run: bool, even_if_unattainable: bool = False
    ) -> list[Change]:
        if not dry_run:
            forced = ("even if unattainable",) if even_if_unattainable else ()
            self.calls.append(("apply", config, actor, *forced))
        return [
            Change(
                kind=ChangeKind.CREATE,
                target=f"rollout/{name}",
                detail="service web, 2 instances",
                revision=NEW,
            )
            for name in config.effective_rollouts()
        ]

    async def start(self, name: str, *, actor: str, dry_run: bool, **wanted: Any) -> Change:
        self._known(name)
        if self.latched:
            raise Latched(
                "revision 2222222222 of web was rolled back and is latched",
                remedy="phoenix rollout retry web",
            )
        if not dry_run:
            self.calls.append(("start", name, wanted, actor))
        return Change(
            kind=ChangeKind.RELEASE,
            target="rollout/web",
            detail="version 1.5.0 is released step by step",
            revision=NEW,
            version="1.5.0",
        )

    async def undo(
        self, name: str, *, to_revision: int | None, actor: str, reason: str, dry_run: bool
    ) -> Change:
        self._known(name)
        if to_revision not in (None, 1, 2):
            raise NotFound(f"web has no revision {to_revision}", remedy="revisions: 1, 2")
        if not dry_run:
            self.calls.append(("undo", name, to_revision, actor, reason))
        return Change(
            kind=ChangeKind.RELEASE, target="rollout/web", detail="back to revision 1", revision=OLD
        )

    async def command(
        self,
        name: str,
        kind: CommandKind,
        *,
        actor: str,
        reason: str,
        step: int | None = None,
        override_freeze: bool = False,
    ) -> Command:
        self._known(name)
        status = self.pictures[0].rollout.status
        why_not = refusal(status, kind, step)
        if why_not is not None:
            raise BadState(f"cannot {kind.value} web: {why_not}", remedy=remedy(status, kind, name))
        self.calls.append(("command", name, kind, actor, reason))
        command = Command(id="x", kind=kind, actor=actor, at=NOW, reason=reason, step=step, revision=NEW)
        if self.obeys:
            state = State.ROLLED_BACK if kind is CommandKind.ABORT else status.state
            self.pictures = [view(state, handled=("x",))]
        return command

    async def changes(self, *, timeout: timedelta) -> AsyncGenerator[str]:  # noqa: ASYNC109
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.told.append(queue)
        try:
            yield ""
            while True:
                try:
                    async with asyncio.timeout(timeout.total_seconds()):
                        name = await queue.get()
                except TimeoutError:
                    name = ""
                yield name
        finally:
            self.told.remove(queue)

    async def services(self) -> list[ServiceView]:
        return [await self.service("web")]

    async def service(self, name: str) -> ServiceView:
        if name != "web":
            raise NotFound(f"there is no service {name!r}", remedy="services: web")
        picture = self._picture()
        return ServiceView(
            name="web",
            version="1.4.0",
            revision=OLD,
            replicas=2,
            ready=2,
            route="http://127.0.0.1:8080",
            rollout="web",
            workload=picture.workload,
        )

    async def restart(self, name: str, *, actor: str, dry_run: bool = False) -> None:
        await self.service(name)
        if not dry_run:
            self.calls.append(("restart", name, actor))

    async def logs(self, name: str, *, instance: str | None, lines: int, after: dict[str, int]) -> LogPage:
        await self.service(name)
        known = f"web-{OLD}-1"
        if instance not in (None, known):
            raise NotFound(f"web has no instance {instance!r}", remedy=f"instances: {known}")
        if after:
            return LogPage(
                lines=(LogLine(instance=known, text="new line"),), offsets={known: after[known] + 9}
            )
        text = [LogLine(instance=known, text=f"line {number}") for number in range(1, 4)]
        return LogPage(lines=tuple(text[-lines:] if lines else ()), offsets={known: 21})


def text_of(http: httpx.Client, path: str) -> str:
    """What a GET of `path` gives, with status 200 or 503; of a stream its first message with data."""
    if not path.endswith("stream"):
        answer = http.get(path)
        assert answer.status_code == 200 or path.startswith("/healthz"), answer.text
        return answer.text
    with http.stream("GET", path) as answer:
        assert answer.status_code == 200
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if line.startswith("data:"):
                return "\n".join(lines)
    raise AssertionError(f"{path} ended without a message")


@contextlib.contextmanager
def serving(operations: FakeOperations, data_dir: Path) -> Iterator[FakeOperations]:
    """Serve `operations` on `<data_dir>/phoenix.sock` from a thread with a loop of its own."""
    socket_path = data_dir / "phoenix.sock"
    task: asyncio.Task[None] | None = None
    listening = threading.Event()

    async def run() -> None:
        nonlocal task
        task = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            server = group.create_task(serve(create_app(operations), socket_path))
            while not socket_path.exists() and not server.done():
                await asyncio.sleep(0.005)
            listening.set()

    def body() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(run())

    thread = threading.Thread(target=body)
    thread.start()
    try:
        assert listening.wait(20), "the API did not come up"
        yield operations
    finally:
        if task is not None:
            task.get_loop().call_soon_threadsafe(task.cancel)
        thread.join(20)
        assert not thread.is_alive()
