"""The rules that never break, checked on every decision in a simulated world that misbehaves (R1 to R7).

Each rule is a function of one decision: what was remembered, what was seen, what was decided. A state
machine draws faults, commands, verdicts, targets and time; a watch checks its rule on every pass.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from tests.property.rollout_rules import QUICK, R1, REVISIONS, baking, moves, r2, r3, r4, r5, r6
from tests.property.world import FIVE, LONG, MINUTE, SHORT, Crash, World, running, spec_of

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.rollout.facts import Decision, Observed
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import ACTIVE, Cause, CommandKind, Outcome, State, Status

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
        if status.state in ACTIVE or baking(status):
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
