"""A rollout controller over fakes, for its tests: one rollout `shop` on a route of the same name."""

from __future__ import annotations

from datetime import timedelta

import pytest

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.rollout.aborts_by_hand import AbortNotes
from phoenix_orch.rollout.controller import RolloutController
from phoenix_orch.rollout.gate import Gate
from phoenix_orch.rollout.hands import GroupHands
from phoenix_orch.rollout.spec import Phase, Policy, RolloutSpec
from phoenix_orch.rollout.status import (
    Command,
    CommandKind,
    Revision,
    Rollout,
    State,
    Status,
    Verification,
    VerifyStep,
)
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.testing.fake_router import FakeRouter
from phoenix_orch.testing.fake_workload import FakeWorkload
from phoenix_orch.workload.spec import ServiceSpec, Template

SHOP = "shop"
MINUTE = timedelta(minutes=1)
SPEC = RolloutSpec(
    phases=(
        Phase(name="half", weight=50, duration=MINUTE),
        Phase(name="all", weight=100, duration=MINUTE),
    ),
    policy=Policy(bake=MINUTE),
)
FOREVER = 10**6


def service(version: str) -> ServiceSpec:
    return ServiceSpec(version=version, command=("serve", "{port}"), replicas=2)


def template(version: str) -> Template:
    return service(version).template()


def revision(version: str) -> str:
    return template(version).revision


def kept(version: str) -> Revision:
    shape = template(version)
    return Revision(
        revision=shape.revision,
        number=0,
        version=version,
        at=ManualClock().now(),
        template=shape.model_dump(mode="json", by_alias=True),
    )


class World:
    """Everything around one controller, in memory."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.router = FakeRouter()
        self.workload = FakeWorkload(self.clock)
        self.verified: list[str] = []
        self.publishes = True
        self.notes: AbortNotes | None = None
        self.controller = self.restarted()

    def restarted(self) -> RolloutController:
        """Another controller, as after a restart of Phoenix."""
        self.hands = GroupHands(self.store, self.router, self.workload)
        self.controller = RolloutController(
            self.store,
            self.router,
            self.workload,
            self.clock,
            self._verify,
            self.hands,
            notes=self.notes,
            gate=self.gate(),
        )
        return self.controller

    def gate(self) -> Gate | None:
        """When releases may begin: always."""
        return None

    async def _verify(self, rollout: Rollout, kind: str) -> None:
        self.verified.append(kind)
        if self.publishes:
            result = Verification(
                kind=kind,
                revision=rollout.status.stable or "",
                release=rollout.status.release,
                at=self.clock.now(),
                steps=(VerifyStep(name="health", ok=True, detail=""),),
            )
            await self.store.put_verification(rollout.name, result)

    async def create(self, name: str = SHOP, version: str = "1") -> None:
        await self.workload.declare(name, service(version))
        await self.store.add_revision(name, kept(version))
        await self.store.put(
            Rollout(name=name, service=name, route=name, spec=SPEC, target=revision(version))
        )

    async def want(self, version: str, *, name: str = SHOP, fast: bool = False) -> None:
        await self.store.add_revision(name, kept(version))
        rollout = await self.store.get(name)
        await self.store.put(rollout.model_copy(update={"target": revision(version), "fast": fast}))

    async def say(self, kind: CommandKind) -> None:
        command = Command(id=f"c-{kind.value}", kind=kind, actor="operator", at=self.clock.now())
        await self.store.command(SHOP, command)

    async def judge(self, kind: VerdictKind) -> None:
        """The health validator's word on whatever is judged now."""
        status = await self.status()
        judged = status.stable if status.state is State.BAKING else status.canary
        verdict = Verdict(
            kind=kind, revision=judged or "", step=status.step, at=self.clock.now(), reason=kind.value
        )
        await self.store.put_verdict(SHOP, verdict, "")

    async def status(self, name: str = SHOP) -> Status:
        return (await self.store.get(name)).status

    async def passes(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.advance(timedelta(seconds=1))
            await self.controller.reconcile_all()

    async def until(self, *states: State, advance: bool = False, limit: int = 400) -> Status:
        """Pass until the stored state is one of `states`; with `advance` every verdict is a yes."""
        for _ in range(limit):
            status = await self.status()
            if status.state in states:
                return status
            if advance and (status.canary or status.state is State.BAKING):
                await self.judge(VerdictKind.ADVANCE)
            await self.passes()
        pytest.fail(f"{states} did not come: {await self.status()}")

    async def serving(self) -> None:
        """Version 1 serves and nothing is on its way."""
        await self.create()
        await self.until(State.IDLE)

    async def progressing(self) -> None:
        """Version 2 carries half of the traffic."""
        await self.serving()
        await self.want("2")
        await self.until(State.PROGRESSING)
        while (await self.status()).step_clock is None:
            await self.passes()

    async def told(self, reason: str) -> list[str]:
        return [e.message for e in await self.store.events(SHOP, limit=10_000) if e.reason == reason]

    def weights(self) -> list[tuple[str, int]]:
        """(stable, weight) of every state the traffic object had."""
        return [(state.stable.revision, state.weight) for state in self.router.history]
