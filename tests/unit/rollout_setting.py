"""A rollout in any state and a healthy world around it, for the tests of the state machine.

Stable is `OLD`, the release takes `NEW` to everybody, four instances serve. The guide's phases.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.rollout.facts import Decision, GroupFacts, Observed, TrafficFacts
from phoenix_orch.rollout.machine import decide
from phoenix_orch.rollout.spec import Policy, RolloutSpec
from phoenix_orch.rollout.status import (
    ACTIVE,
    Cause,
    Command,
    CommandKind,
    State,
    Status,
    Verification,
    VerifyStep,
)

OLD, NEW, NEXT = "old", "new", "next"
REPLICAS = 4
T0 = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = RolloutSpec()
STEPS = SPEC.steps()
LAST = len(STEPS) - 1

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def policy(**changes: Any) -> RolloutSpec:
    """The default rollout with another policy."""
    return RolloutSpec(policy=Policy(**changes))


def status_in(state: State, **changes: Any) -> Status:
    """What a rollout of `NEW` over `OLD` remembers in `state`, everything having begun at T0."""
    fields: dict[str, Any] = {"state": state, "since": T0, "stable": OLD, "release": 1, "release_started": T0}
    if state in ACTIVE | {State.ROLLING_BACK, State.ROLLED_BACK, State.CANCELLING}:
        fields["canary"] = NEW
    match state:
        case State.INITIALIZING:
            fields |= {"release": 0, "release_started": None}
        case State.PROGRESSING:
            fields |= {"weight": 5, "step_clock": T0}
        case State.PAUSED:
            fields |= {"weight": 5, "pause_by": "operator", "resume_to": State.PROGRESSING}
        case State.PROMOTING:
            fields |= {"weight": 100, "step": len(STEPS) - 1}
        case State.BAKING:
            fields |= {"stable": NEW, "previous": OLD, "step": len(STEPS), "step_clock": T0}
        case State.ROLLING_BACK | State.ROLLED_BACK:
            fields["cause"] = cause()
        case State.PROMOTED:
            fields |= {"stable": NEW, "step": len(STEPS)}
    return Status(**(fields | changes))


def traffic_for(status: Status, **changes: Any) -> TrafficFacts:
    """The traffic object as `status` wants it, and a data plane that does what the object says."""
    carries = status.state in {State.PROGRESSING, State.PAUSED, State.PROMOTING}
    latched = status.state in {State.ROLLING_BACK, State.ROLLED_BACK} and status.canary is not None
    facts = TrafficFacts(
        stable=status.stable or OLD,
        canary=status.canary if carries else None,
        previous=status.previous,
        weight=status.weight if carries else 0,
        aborted=(status.canary,) if latched and status.canary else (),
        seen=status.weight if carries else 0,
        seen_canary=status.canary if carries else None,
        seen_stable=status.stable or OLD,
    )
    return replace(facts, **changes)


def world(status: Status, **changes: Any) -> Observed:
    """A healthy world in which everything `status` wants has come true."""
    workload = {r: GroupFacts(REPLICAS, REPLICAS) for r in (status.stable, status.previous) if r is not None}
    if status.state in ACTIVE and status.canary is not None:
        workload[status.canary] = GroupFacts(REPLICAS, REPLICAS)
    target = status.stable if status.state in {State.PROMOTED, State.BAKING, State.IDLE} else NEW
    if status.state in {State.CANCELLING, State.INITIALIZING}:
        target = OLD
    facts = Observed(target=target or NEW, replicas=REPLICAS, workload=workload, traffic=traffic_for(status))
    return replace(facts, **changes)


def verdict(kind: VerdictKind, at: datetime, *, step: int = 0, revision: str = NEW) -> Verdict:
    return Verdict(kind=kind, revision=revision, step=step, at=at, reason=f"{kind.value} says the test")


def cause(trigger: str = "crash-loop", *, revision: str = NEW, at: datetime = T0) -> Cause:
    return Cause(revision=revision, trigger=trigger, reason=f"{trigger} says the test", at=at)


def command(kind: CommandKind, name: str = "c1") -> Command:
    return Command(id=name, kind=kind, actor="operator", at=T0)


def verification(kind: str, *, ok: bool = True, release: int = 1, unknown: bool = False) -> Verification:
    step = VerifyStep(name="health", ok=ok, detail="", unknown=unknown)
    return Verification(kind=kind, revision=NEW, release=release, at=T0, steps=(step,))


def turn(
    status: Status,
    at: datetime = T0 + SECOND,
    *,
    spec: RolloutSpec = SPEC,
    seen: Observed | None = None,
    **changes: Any,
) -> Decision:
    """One decision in a healthy world that `changes` disturb."""
    return decide(spec, status, replace(seen or world(status), **changes), at)


def reasons(decision: Decision) -> list[str]:
    return [event.reason for event in decision.events]
