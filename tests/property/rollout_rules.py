"""The rules that never break, each as a check of one decision; and how long is searched for a breach."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings
from tests.property.world import World

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.rollout.facts import Decision, Observed
from phoenix_orch.rollout.machine import decide
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import ACTIVE, CommandKind, State, Status
from phoenix_orch.rollout.transitions import TRANSITIONS

REVISIONS = ("v1", "v2", "v3")
QUICK = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class WeightSeen:
    """Since when every look at the data plane showed the weight of the step: the witness of R1 and R3."""

    key: tuple[object, ...] = ()
    since: datetime | None = None

    def look(self, spec: RolloutSpec, status: Status, seen: Observed, now: datetime) -> None:
        """Take in what one pass sees, under the status it starts from."""
        traffic, steps = seen.traffic, spec.steps()
        baking = status.state is State.BAKING
        weight = 0 if baking else steps[min(status.step, len(steps) - 1)].weight
        key = (status.release, status.state) if baking else (status.release, status.step, weight)
        if key != self.key or (self.since is not None and self.since > now):
            self.key, self.since = key, None
        if traffic is None or traffic.seen is None:
            return
        right = traffic.seen == weight and (
            traffic.seen_stable in (None, status.stable)
            if baking
            else traffic.seen_canary in (None, status.canary)
        )
        self.since = (self.since or now) if right else None


@dataclass
class R1:
    """No evidence is never a pass."""

    witness: WeightSeen = field(default_factory=WeightSeen)

    def __call__(self, world: World, old: Status, seen: Observed, decision: Decision) -> None:
        self.witness.look(world.spec, old, seen, world.now)
        new, spec = decision.status, world.spec
        told = {c.kind for c in seen.commands if c.id not in old.handled}
        words = {CommandKind.PROMOTE, CommandKind.PROMOTE_FULL, CommandKind.END_BAKE}
        if told & words or new.release != old.release:
            return
        if old.state is State.PROGRESSING and (
            new.state is State.PROMOTING or (new.state is State.PROGRESSING and new.step > old.step)
        ):
            steps = spec.steps()
            self._proven(
                world, old, seen, min(old.step, len(steps) - 1), steps[min(old.step, len(steps) - 1)].duration
            )
        elif old.state is State.STARTING and new.state is State.PROMOTING:
            assert old.fast  # a person's return to an earlier revision
        elif old.state is State.PAUSED and new.state is not State.PAUSED:
            assert new.state in {State.ROLLING_BACK, State.CANCELLING} or CommandKind.RESUME in told
        elif old.state is State.BAKING and new.state is State.PROMOTED:
            verified = new.verification
            assert verified is not None
            assert verified.release == old.release
            if old.previous is not None and spec.policy.bake > timedelta(0):
                self._proven(world, old, seen, len(spec.steps()), spec.policy.bake)

    def _proven(self, world: World, old: Status, seen: Observed, step: int, duration: timedelta) -> None:
        verdict, since = seen.verdict, self.witness.since
        assert verdict is not None
        assert verdict.kind is VerdictKind.ADVANCE
        assert verdict.revision == (old.stable if old.state is State.BAKING else old.canary)
        assert verdict.step == step
        assert abs(world.now - verdict.at) <= world.spec.policy.stale_verdict
        assert since is not None
        assert since <= verdict.at
        assert world.now - since >= duration


def r2(world: World, old: Status, seen: Observed, decision: Decision) -> None:
    """When an abort is due it is asked for, whatever else is unknown."""
    judged = old.canary if old.state in ACTIVE else old.stable if baking(old) else None
    if old.state is State.ROLLING_BACK and decision.status.state is State.ROLLING_BACK:
        _asked(decision, seen, old.canary)
    if judged is None or any(
        c.id not in old.handled and c.kind is not CommandKind.ABORT for c in seen.commands
    ):
        return
    told = any(c.id not in old.handled for c in seen.commands)
    started = min(old.release_started or world.now, world.now)
    verdict, cause, traffic = seen.verdict, seen.cause, seen.traffic
    bad = (
        verdict is not None
        and verdict.kind is VerdictKind.ROLLBACK
        and verdict.revision == judged
        and verdict.at >= started
        and (world.spec.policy.on_failure == "rollback" or old.state is State.BAKING)
    )
    said = cause is not None and cause.revision == judged and cause.at > started
    latched = traffic is not None and judged in traffic.aborted and not old.clear_latch
    if told or bad or said or latched:
        assert decision.status.state in {State.ROLLING_BACK, State.ROLLED_BACK, State.PROMOTED}
        assert judged in {decision.status.canary, decision.status.stable}
        _asked(decision, seen, judged)


def baking(status: Status) -> bool:
    return status.state is State.BAKING and status.previous is not None


def _asked(decision: Decision, seen: Observed, revision: str | None) -> None:
    traffic = seen.traffic
    carries = traffic is None or (traffic.canary == revision and traffic.weight > 0)
    if traffic is None or revision not in traffic.aborted or carries:
        assert decision.abort == revision
        assert decision.traffic is None or seen.traffic_missing


def r3(world: World, old: Status, seen: Observed, decision: Decision) -> None:
    """The clock runs only while the step's weight is seen; never is more asked for than the step's weight."""
    new, traffic, wanted = decision.status, seen.traffic, decision.traffic
    steps = world.spec.steps()
    weight = steps[min(new.step, len(steps) - 1)].weight
    if wanted is not None and wanted.weight > 0:
        assert new.state in {State.PROGRESSING, State.PAUSED, State.PROMOTING}
        assert wanted.canary == new.canary
        assert wanted.weight <= (100 if new.state is State.PROMOTING else weight)
    if new.state is State.PROGRESSING and new.step_clock is not None:
        assert new.step_clock <= world.now
        assert new.weight == weight
        if traffic is not None and traffic.seen is not None:
            assert traffic.seen == weight
            assert traffic.seen_canary in (None, new.canary)
        else:
            assert new.step_clock == min(old.step_clock or world.now, world.now)
            assert old.step_clock is not None
    if old.state is State.STARTING and new.state is State.PROGRESSING and old.canary == new.canary:
        assert traffic is not None
        assert traffic.seen == 0 or traffic.seen_canary == new.canary


def r4(world: World, old: Status, seen: Observed, decision: Decision) -> None:
    """A latched revision is never asked to carry anything it does not carry already."""
    wanted, traffic = decision.traffic, seen.traffic
    assert not world.raised
    if wanted is not None and traffic is not None:
        assert wanted.weight == 0 or wanted.canary not in traffic.aborted
        assert wanted.stable == traffic.stable or wanted.stable not in traffic.aborted
    lifted = decision.clear_latch
    if lifted is not None and not old.clear_latch:
        asked = {c.kind for c in seen.commands if c.id not in old.handled}
        assert CommandKind.RETRY in asked
    if old.state is State.ROLLED_BACK and decision.status.canary == old.canary and old.canary == seen.target:
        retried = decision.status.clear_latch or decision.status.state in {
            State.ROLLED_BACK,
            State.ROLLING_BACK,
        }
        assert (
            retried
            or decision.status.state is State.IDLE
            or any(c.kind is CommandKind.RETRY for c in seen.commands)
        )


def r5(world: World, _old: Status, seen: Observed, decision: Decision) -> None:
    """Stable is wanted in full size; what serves keeps its instances; nobody takes over unready.

    Stable and the one before are as large as a person wants them, be that fewer than there are.
    """
    new, wanted, traffic = decision.status, decision.traffic, seen.traffic
    assert new.stable is not None
    if seen.workload is not None:
        assert decision.instances[new.stable] >= seen.replicas
    for revision, count in decision.instances.items():
        assert count > 0, revision
    for revision in world.serving():
        if seen.workload is not None:
            present = seen.group(revision).present
            sized = revision in (new.stable, new.previous)
            assert decision.instances.get(revision, 0) >= (min(present, seen.replicas) if sized else present)
        elif revision in decision.instances:
            assert decision.instances[revision] >= seen.replicas
    if wanted is not None and traffic is not None and wanted.stable != traffic.stable:
        promotion = new.state in {State.PROMOTING, State.INITIALIZING}
        assert seen.group(wanted.stable).ready >= (seen.replicas if promotion else 1)
    if world.object is not None:
        assert world.object.stable.backends


def r6(world: World, old: Status, seen: Observed, decision: Decision) -> None:
    """The same inputs give the same decision, also after the status went through the store."""
    stored = Status.model_validate_json(old.model_dump_json())
    assert stored == old
    assert decide(world.spec, stored, seen, world.now) == decision
    assert Status.model_validate_json(decision.status.model_dump_json()) == decision.status
    assert decision.status.state is old.state or _reachable(old.state, decision.status.state)


def _reachable(start: State, end: State) -> bool:
    """One turn makes at most one move of its own; commands may have made some before it."""
    found = {start}
    for _ in State:
        found |= {state for known in found for state in TRANSITIONS[known]}
    return end in found


def moves(_world: World, old: Status, seen: Observed, decision: Decision) -> None:
    """Without commands a turn follows one arrow of the diagram at most."""
    new = decision.status
    if old.state is not new.state and not any(c.id not in old.handled for c in seen.commands):
        assert new.state in TRANSITIONS[old.state]
