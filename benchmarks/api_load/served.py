"""The API over a store with many rollouts, one of which is being released.

Store and API are the real ones, in one process as in `phoenix up`. Router and processes are those of the
tests: 2,000 services do not run on one machine. The release is played by what a health validator writes: an
observation and a verdict in every interval, an event and a status every ten.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from phoenix_orch.api.server import create_app, serve
from phoenix_orch.health_validator.observation import Arm, MetricEvidence, Observation, Verdict, VerdictKind
from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.kernel.masking import Masker
from phoenix_orch.orchestrator.kept_answers import MemoryAnswers
from phoenix_orch.orchestrator.reading import Reading
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import Event, Outcome, Release, Revision, Rollout, State, Status
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime.memory import set_aside_what_stays
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.testing.fake_router import FakeRouter
from phoenix_orch.testing.fake_workload import FakeWorkload

OLD, NEW = "1111111111", "2222222222"
RELEASED = "service-0000"
EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, float("inf"))


class _Addresses:
    def address(self, route: str) -> str:
        return f"http://127.0.0.1:8080/{route}"


class Filled(Reading):
    """Operations that are only read from."""

    flow: Any = None
    tasks: Any = None
    answers = MemoryAnswers()


async def fill(store: ValkeyStore, count: int, now: datetime) -> None:
    """`count` services that rest after a release, and one in the middle of one."""
    for number in range(count):
        name = f"service-{number:04}"
        moving = name == RELEASED
        for at, revision in enumerate((OLD, NEW), start=1):
            template = {"version": f"1.{at}.0", "command": ["app", "{port}"], "env": {"LEVEL": "info"}}
            kept = Revision(revision=revision, number=0, version=f"1.{at}.0", at=now, template=template)
            await store.add_revision(name, kept)
        rollout = await store.put(
            Rollout(name=name, service=name, route=name, spec=RolloutSpec(), target=NEW, applied=NEW)
        )
        status = Status(
            state=State.PROGRESSING if moving else State.PROMOTED,
            since=now,
            stable=OLD if moving else NEW,
            canary=NEW if moving else None,
            release=2,
            release_started=now,
            step_clock=now if moving else None,
            weight=5 if moving else 0,
        )
        events = [Event(at=now, reason=f"Step{one}", message="weight seen", release=2) for one in range(20)]
        ended = Release(number=1, revision=OLD, started=now, ended=now, outcome=Outcome.PROMOTED)
        await store.save(rollout, status, events=events, release=ended)
        await store.put_verdict(name, verdict(now), "{}")


def verdict(now: datetime) -> Verdict:
    evidence = tuple(
        MetricEvidence(metric=metric, observed=0.01, limit=0.1, stable=0.01, samples=600)
        for metric in ("errorRate", "latencyP95")
    )
    return Verdict(
        kind=VerdictKind.CONTINUE,
        revision=NEW,
        step=0,
        at=now,
        reason="all metrics within their limits",
        evidence=evidence,
        requests=600,
    )


async def judge(store: ValkeyStore, interval: float) -> None:
    """What a validator writes, each at its time."""
    loop = asyncio.get_running_loop()
    due, number = loop.time(), 0
    while True:
        due, number = due + interval, number + 1
        await asyncio.sleep(due - loop.time())
        with contextlib.suppress(Retryable):  # as a validator, which judges again in the next interval
            await _judge(store, number, due, interval)


async def _judge(store: ValkeyStore, number: int, due: float, interval: float) -> None:
    # The time of the verdict is when it was due: what this loop is late by is delay, too.
    now = datetime.now(UTC) - timedelta(seconds=asyncio.get_running_loop().time() - due)
    buckets = tuple((edge, 10) for edge in EDGES)
    arm = Arm(revision=NEW, requests=10 * len(EDGES), buckets=buckets)
    await store.append_observation(
        RELEASED,
        Observation(
            t0=now - timedelta(seconds=interval),
            t1=now,
            revision=NEW,
            step=0,
            weight_applied=5,
            canary=arm,
            stable=arm.model_copy(update={"revision": OLD}),
        ),
    )
    await store.put_verdict(RELEASED, verdict(now), "{}")
    if number % 10 == 0:
        rollout = await store.get(RELEASED)
        status = rollout.status.model_copy(update={"message": f"look {number}"})
        event = Event(at=now, reason="Looked", message=f"look {number}", release=2)
        await store.save(rollout, status, events=[event])


async def run(directory: Path, count: int, interval: float) -> None:
    server = ValkeyServer(directory / "valkey")
    store = ValkeyStore((await server.ensure()).url)
    clock = RealClock()

    async def info() -> dict[str, Any]:
        return {"components": [{"name": "store", "state": "ok"}]}

    try:
        await fill(store, count, clock.now())
        operations: Any = Filled(
            store=store,
            router=FakeRouter(),
            workload=FakeWorkload(clock),
            clock=clock,
            addresses=_Addresses(),
            logs=None,  # type: ignore[arg-type]
            info=info,
            speed=1.0,
        )
        await operations.views()
        set_aside_what_stays()  # as `phoenix up` does when all services serve
        async with asyncio.TaskGroup() as group:
            group.create_task(judge(store, interval))
            app = create_app(operations, Masker(b"k" * 32))
            await group.create_task(
                serve(app, directory / "phoenix.sock", lambda: print("ready", flush=True))
            )
    finally:
        await store.close()
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rollouts", type=int, default=2000)
    parser.add_argument("--interval", type=float, default=1.0)
    given = parser.parse_args()
    asyncio.run(run(given.directory, given.rollouts, given.interval))


if __name__ == "__main__":
    main()
