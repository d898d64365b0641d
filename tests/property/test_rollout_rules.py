"""The rules that never break, checked on every decision in a simulated world that misbehaves (R1 to R7).

Each rule is a function of one decision: what was remembered, what was seen, what was decided. A state
machine draws faults, commands, verdicts, targets and time; a watch checks its rule on every pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from tests.property.world import FIVE, LONG, MINUTE, SHORT, Crash, World, running, spec_of

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.rollout.facts import Decision, Observed
from phoenix_orch.rollout.machine import decide
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import ACTIVE, Cause, CommandKind, Outcome, State, Status
from phoenix_orch.rollout.transitions import TRANSITIONS

REVISIONS = ("v1", "v2", "v3")
QUICK = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
DEEP = settings(QUICK, max_examples=1000, stateful_step_count=80)

Check = Callable[[World, Status, Observed, Decision], None]

SPECS = st.builds(
    spec_of,
    phases=st.sampled_from([LONG, SHORT]),
    on_failure=st.sampled_from(["rollback", "rollback", "pause"]),
    on_hold_timeout=st.sampled_from(["rollback", "pause"]),
    no_data=st.sampled_from(["hold", "rollback"]),
    on_stale_verdict=st.sampled_from(["hold", "rollback"]),
    stale_verdict=st.sampled_from([2 * MINUTE, 3 * FIVE]),
    bake=st.sampled_from([2 * FIVE, timedelta(0)]),
)
LEAPS = st.sampled_from(
    [
        timedelta(0),
        timedelta(seconds=1),
        MINUTE,
        MINUTE,
        FIVE,
        FIVE,
        3 * FIVE,
        60 * MINUTE,
        -MINUTE,
        -60 * MINUTE,
    ]
)


# -- the rules -------------------------------------------------------------------------------------


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
    judged = old.canary if old.state in ACTIVE else old.stable if _baking(old) else None
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


def _baking(status: Status) -> bool:
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


# -- the state machine that looks for a decision that breaks one ------------------------------------


class Disturbed(RuleBasedStateMachine):
    """Random people, programs, machines and clocks around one rollout."""

    checks: tuple[Callable[[], Check], ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.world = running()
        self.judged = "v1"
        watches = [make() for make in self.checks]

        def watch(*facts: Any) -> None:
            for check in watches:
                check(*facts)

        self.world.watch = watch

    @rule(spec=SPECS)
    def somebody_applies_another_spec(self, spec: RolloutSpec) -> None:
        self.world.spec = spec

    @rule(revision=st.sampled_from(REVISIONS), fast=st.booleans())
    def another_revision_is_wanted(self, revision: str, fast: bool) -> None:
        self.world.target, self.world.fast = revision, fast

    @rule(replicas=st.integers(1, 5))
    def another_size_is_wanted(self, replicas: int) -> None:
        self.world.replicas = replicas

    @rule(kind=st.sampled_from(list(CommandKind)))
    def somebody_commands(self, kind: CommandKind) -> None:
        self.world.command(kind)

    @precondition(lambda self: self.world.commands)
    @rule()
    def a_command_arrives_twice(self) -> None:
        self.world.commands = (*self.world.commands, self.world.commands[0])

    @rule(kind=st.sampled_from([*VerdictKind, VerdictKind.ADVANCE, VerdictKind.ADVANCE]))
    def the_validator_speaks(self, kind: VerdictKind) -> None:
        self.world.judge(kind)

    @rule(
        kind=st.sampled_from(list(VerdictKind)),
        revision=st.sampled_from(REVISIONS),
        step=st.integers(0, 4),
        age=LEAPS,
    )
    def the_validator_is_confused(self, kind: VerdictKind, revision: str, step: int, age: timedelta) -> None:
        self.world.verdict = Verdict(
            kind=kind, revision=revision, step=step, at=self.world.now - age, reason="confused"
        )

    @rule(passes=st.integers(1, 8))
    def all_is_well_for_a_while(self, passes: int) -> None:
        for _ in range(passes):
            self.world.breathe(2 * MINUTE)
            self.world.judge()
            self.world.run_pass()

    @rule(leap=LEAPS)
    def time_passes(self, leap: timedelta) -> None:
        self.world.breathe(leap)
        self.world.run_pass()

    @rule(cut=st.integers(0, 6), how=st.sampled_from([Crash, Conflict]))
    def a_pass_is_cut_off(self, cut: int, how: type[Exception]) -> None:
        def meanwhile(number: int) -> None:
            if number == cut:
                raise how("cut off")

        self.world.run_pass(meanwhile=meanwhile)

    @rule(cut=st.integers(0, 6), weight=st.integers(0, 100))
    def somebody_edits_in_the_middle_of_a_pass(self, cut: int, weight: int) -> None:
        self.world.run_pass(meanwhile=lambda number: self.world.meddle(weight) if number == cut else None)

    @rule(cut=st.integers(0, 6), told=st.booleans())
    def somebody_latches_in_the_middle_of_a_pass(self, cut: int, told: bool) -> None:
        waiting = any(c.kind is CommandKind.RETRY for c in self.world.commands)

        def meanwhile(number: int) -> None:
            if number == cut and not waiting:
                self._latch(told=told)

        self.world.run_pass(meanwhile=meanwhile)

    @rule(told=st.booleans())
    def somebody_latches(self, told: bool) -> None:
        self._latch(told=told)

    def _latch(self, *, told: bool) -> None:
        """What is judged now, or was a moment ago; a rollback controller waits while a retry is under way."""
        status = self.world.stored
        if status.state in ACTIVE or _baking(status):
            self.judged = (status.canary if status.state in ACTIVE else status.stable) or self.judged
        if status.clear_latch or self.world.status().clear_latch:
            return
        self.world.abort(self.judged)
        if told:
            self.world.causes[self.judged] = Cause(
                revision=self.judged, trigger="crash-loop", reason="it crashes", at=self.world.now
            )

    @rule(weight=st.integers(0, 100))
    def somebody_edits_the_weight(self, weight: int) -> None:
        self.world.meddle(weight)

    @rule()
    def somebody_deletes_the_object(self) -> None:
        self.world.delete_object()

    @rule(revision=st.sampled_from(REVISIONS))
    def an_instance_crashes(self, revision: str) -> None:
        self.world.lose_instance(revision)

    @rule(revision=st.sampled_from(REVISIONS))
    def a_revision_goes_bad(self, revision: str) -> None:
        self.world.bad ^= {revision}

    @rule(kind=st.sampled_from(["promotion", "rollback"]))
    def verifications_fail(self, kind: str) -> None:
        self.world.failing ^= {kind}

    @rule(
        fault=st.sampled_from(
            ["store_away", "hide_traffic", "hide_workload", "hide_seen", "nameless", "frozen", "unwritable"]
        )
    )
    def something_breaks_or_comes_back(self, fault: str) -> None:
        setattr(self.world, fault, not getattr(self.world, fault))
        if not self.world.store_away:
            self.world.memory = None

    @rule()
    def everything_is_repaired(self) -> None:
        self.world.heal()

    def teardown(self) -> None:
        """With faults and people gone the rollout comes to rest, and everything is as it should be."""
        self.world.heal()
        self.world.settle()
        resting_as_it_should(self.world)


def resting_as_it_should(world: World) -> None:
    status, found = world.stored, world.object
    assert found is not None
    assert found.stable.revision == status.stable
    assert sum(one.ready for one in world.instances if one.revision == status.stable) >= world.replicas
    assert found == world.in_force
    if status.state is State.PAUSED:
        assert sorted(world.history) == list(range(1, status.release))
        return
    assert (found.canary, found.weight, found.previous) == (None, 0, None)
    assert {one.revision for one in world.instances} == {status.stable}
    assert sorted(world.history) == list(range(1, status.release + 1))
    if status.state is State.ROLLED_BACK:
        assert status.canary == world.target
        assert status.canary in found.aborted or status.canary not in world.latches
    else:
        assert status.stable == world.target


def search(*checks: Callable[[], Check], how: settings = QUICK) -> None:
    machine = type("Disturbed", (Disturbed,), {"checks": checks})
    run_state_machine_as_test(machine, settings=how)


def test_r1_no_evidence_is_never_a_pass() -> None:
    search(R1)


def test_r2_an_abort_that_is_due_depends_on_nothing_else() -> None:
    search(lambda: r2)


def test_r3_weight_is_observed_not_assumed() -> None:
    search(lambda: r3)


def test_r4_only_a_persons_retry_brings_a_latched_revision_back() -> None:
    search(lambda: r4)


def test_r5_stable_always_serves() -> None:
    search(lambda: r5)


def test_r6_decisions_are_pure_and_replayable() -> None:
    search(lambda: r6, lambda: moves)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_rules_together_for_long() -> None:
    search(R1, *(lambda check=check: check for check in (r2, r3, r4, r5, r6, moves)), how=DEEP)


# -- R7, and what must always come out -------------------------------------------------------------

STORIES = st.lists(
    st.one_of(
        st.tuples(st.just("target"), st.sampled_from(REVISIONS)),
        st.tuples(st.just("command"), st.sampled_from(list(CommandKind))),
        st.tuples(st.just("verdict"), st.sampled_from(list(VerdictKind))),
        st.tuples(st.just("pass"), st.integers(1, 12)),
        st.tuples(st.just("latch"), st.none()),
        st.tuples(st.just("bad"), st.sampled_from(REVISIONS)),
    ),
    min_size=1,
    max_size=12,
)
CRASHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 6)), max_size=6)


def tell(story: list[tuple[str, Any]], crashes: list[tuple[int, int]], how: type[Exception] = Crash) -> World:
    """Play a story; in the passes that `crashes` names the pass ends before that action and starts again."""
    world, number = running(), 0
    cuts = dict(crashes)

    def one_pass() -> None:
        nonlocal number
        number += 1
        if number in cuts:

            def meanwhile(action: int) -> None:
                if action == cuts[number]:
                    raise how("cut off")

            world.run_pass(meanwhile=meanwhile)
        world.run_pass()

    for what, detail in story:
        match what:
            case "target":
                world.target = detail
            case "command":
                world.command(detail)
            case "verdict":
                world.judge(detail)
            case "latch":
                status = world.stored
                if status.state in ACTIVE and status.canary is not None and not status.clear_latch:
                    world.abort(status.canary)
            case "bad":
                world.bad ^= {detail} - {"v1"}
            case _:
                for _ in range(detail):
                    world.breathe(2 * MINUTE)
                    world.judge()
                    one_pass()
    world.heal()
    for _ in range(30):  # those the crashes may still fall into
        world.breathe(2 * MINUTE)
        world.judge()
        one_pass()
    world.settle()
    return world


def outcome(world: World) -> object:
    """What has to be the same however often the process died; not the moments."""
    status, found = world.stored, world.object
    assert found is not None
    return (
        status.model_copy(
            update=dict.fromkeys(
                ("since", "release_started", "cause", "verification", "hold_since", "step_clock")
            )
        ),
        status.cause.trigger if status.cause else None,
        (found.stable.revision, found.weight, found.aborted),
        [
            (r.number, r.revision, r.replaced, r.outcome, r.cause.trigger if r.cause else "")
            for r in world.history.values()
        ],
        sorted(one.revision for one in world.instances),
    )


@settings(QUICK, max_examples=120)
@given(STORIES, CRASHES)
def test_r7_a_crash_anywhere_ends_in_the_same_state(
    story: list[tuple[str, Any]], crashes: list[tuple[int, int]]
) -> None:
    assert outcome(tell(story, crashes)) == outcome(tell(story, []))


WAYS: dict[str, list[tuple[str, Any]]] = {
    "a good release": [("target", "v2")],
    "a latched release": [("target", "v2"), ("pass", 6), ("latch", None), ("pass", 6)],
    "an abort, a retry, a promotion": [
        ("target", "v2"),
        ("pass", 3),
        ("command", CommandKind.ABORT),
        ("pass", 5),
        ("command", CommandKind.RETRY),
        ("pass", 2),
        ("command", CommandKind.PROMOTE_FULL),
    ],
    "a rollback while baking": [
        ("target", "v2"),
        ("pass", 2),
        ("command", CommandKind.PROMOTE_FULL),
        ("pass", 3),
        ("command", CommandKind.ABORT),
        ("pass", 8),
    ],
    "superseded, then back to stable": [
        ("target", "v2"),
        ("pass", 4),
        ("target", "v3"),
        ("pass", 4),
        ("target", "v1"),
    ],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", [Crash, Conflict])
def test_r7_case_25_and_26_cut_off_before_every_single_action(way: str, how: type[Exception]) -> None:
    """A restart at every boundary, and a conflict on every write, end as if nothing had happened."""
    whole = outcome(tell(WAYS[way], []))
    for number in range(1, 25):
        for action in range(6):
            assert outcome(tell(WAYS[way], [(number, action)], how=how)) == whole, (number, action)


@settings(QUICK, max_examples=25)
@given(SPECS, st.integers(1, 5))
def test_in_a_healthy_world_every_release_is_promoted(spec: RolloutSpec, replicas: int) -> None:
    world = running(spec=spec, replicas=replicas)
    for number, target in enumerate(("v2", "v3", "v1"), 1):
        world.target = target
        world.settle()
        assert (world.stored.state, world.stored.stable) == (State.PROMOTED, target)
        assert world.history[number].outcome is Outcome.PROMOTED
        resting_as_it_should(world)


@settings(QUICK, max_examples=60)
@given(
    SPECS,
    st.integers(0, 40),
    st.sampled_from(["verdict", "latch", "abort", "never ready", "verification"]),
)
def test_a_bad_release_is_always_rolled_back(spec: RolloutSpec, passes: int, how: str) -> None:
    world = running(spec=spec_of(**{**_policy(spec), "on_failure": "rollback", "bake": 2 * FIVE}))
    world.target = "v2"
    if how == "never ready":
        world.bad = {"v2"}
    if how == "verification":
        world.failing = {"promotion"}
    for _ in range(passes if how in {"verdict", "latch", "abort"} else 0):
        world.breathe(MINUTE)
        world.judge()
        world.run_pass()
    if world.stored.state not in ACTIVE | {State.BAKING} and how in {"verdict", "latch", "abort"}:
        return
    if how == "abort":
        world.command(CommandKind.ABORT)
    if how == "latch":
        world.abort("v2")
    world.settle(VerdictKind.ROLLBACK if how == "verdict" else VerdictKind.ADVANCE)
    assert (world.stored.state, world.stored.stable, world.stored.canary) == (State.ROLLED_BACK, "v1", "v2")
    assert world.object is not None
    assert "v2" in world.object.aborted
    assert [release.outcome for release in world.history.values()] == [Outcome.ROLLED_BACK]
    resting_as_it_should(world)


def _policy(spec: RolloutSpec) -> dict[str, Any]:
    names = ("on_hold_timeout", "no_data", "on_stale_verdict", "stale_verdict")
    return {name: getattr(spec.policy, name) for name in names} | {"phases": spec.phases}


@settings(QUICK, max_examples=60)
@given(SPECS, st.sampled_from([VerdictKind.HOLD, VerdictKind.EXTEND, VerdictKind.CONTINUE, None]))
def test_r1_without_a_good_verdict_nothing_is_ever_promoted(
    spec: RolloutSpec, kind: VerdictKind | None
) -> None:
    world = running(spec=spec)
    world.target = "v2"
    for _ in range(300):
        world.breathe(MINUTE)
        if kind is not None:
            world.judge(kind)
        world.run_pass()
        assert world.stored.stable == "v1"
        assert world.stored.step == 0
