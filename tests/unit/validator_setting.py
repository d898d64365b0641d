"""A health validator between fakes, and a clock that is moved by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.health_validator.service import HealthValidator
from phoenix_orch.kernel.clock import Clock, ManualClock
from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.rollout.spec import Limits, Phase, Policy, RolloutSpec
from phoenix_orch.rollout.status import Rollout, State, Status
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.testing.fake_evidence import FakeEvidence
from phoenix_orch.testing.fake_router import FakeRouter
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.workload.workload import WorkloadState

TICK = timedelta(seconds=10)
SPEC = RolloutSpec(
    phases=(
        Phase(name="first", weight=20, duration="1m", limits=Limits(error_rate="1%", latency_p95="100ms")),
        Phase(name="rest", step=40, every="1m", limits=Limits(error_rate="1%")),
    ),
    policy=Policy(bake="1m"),
)


class Workload:
    """A workload without instances, or none that can be read."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.away = clock, False

    async def state(self, service: str) -> WorkloadState:
        if self.away:
            raise Retryable("the workload is away")
        return WorkloadState(service=service, at=self.clock.now())


class World:
    """Everything around the validator."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.store, self.router = MemoryStore(), FakeRouter()
        self.workload, self.evidence = Workload(self.clock), FakeEvidence()
        self.evidence.serve("new", 100)
        self.evidence.serve("old", 400)
        self.validator = self.another_validator()

    def another_validator(self) -> HealthValidator:
        sources = {"router": self.evidence, "metrics": self.evidence}
        return HealthValidator(self.store, self.router, self.workload, sources, self.clock)

    async def rollout(self, name: str = "web", state: State = State.PROGRESSING, **status: Any) -> Rollout:
        """Store a rollout, and bring its weight to the data plane."""
        wanted = Rollout(name=name, service=name, route=name, spec=SPEC, target="new")
        stored = await self.store.put(wanted)
        defaults: dict[str, Any] = {"stable": "old", "canary": "new", "release": 1, "weight": 20}
        await self.change(stored, state=state, **{**defaults, **status})
        await self.traffic(name, 20)
        return await self.store.get(name)

    async def change(self, rollout: Rollout, **status: Any) -> Rollout:
        current = await self.store.get(rollout.name)
        fields = {name: getattr(current.status, name) for name in Status.model_fields}
        return await self.store.save(current, Status.model_validate({**fields, **status}))

    async def traffic(
        self, route: str, weight: int, *, stable: str = "old", canary: str | None = "new"
    ) -> None:
        def group(revision: str) -> Group:
            return Group(revision=revision, backends=(Backend(instance=revision, url="http://127.0.0.1:1"),))

        try:
            version = (await self.router.read(route)).version
        except NotFound:
            version = 0
        state = TrafficState(
            route=route,
            version=version,
            stable=group(stable),
            canary=group(canary) if canary else None,
            weight=weight,
        )
        await self.router.write(state)

    async def ticks(self, rollout: Rollout, number: int) -> None:
        assert isinstance(self.clock, ManualClock)
        for _ in range(number):
            await self.validator.observe_once(rollout)
            self.clock.advance(TICK)

    async def verdict(self, name: str = "web") -> Verdict:
        kept = await self.store.verdict(name)
        assert kept is not None
        return kept[0]
