"""When the rollback controller takes a revision back by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.rollback_controller.triggers import CheckState, Trigger, evaluate, judged_revision
from phoenix_orch.rollout.spec import Check, CrashLoop, HttpCheck, Policy, RolloutSpec
from phoenix_orch.rollout.status import State, Status
from phoenix_orch.workload.workload import Exit, Instance, InstanceState, WorkloadState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = NOW - timedelta(minutes=4)
PROGRESSING = Status(
    state=State.PROGRESSING, stable="old", canary="new", release_started=START, step_clock=START
)
BAKING = Status(state=State.BAKING, stable="new", previous="old", release_started=START)
CHECK = Check(name="cart", http=HttpCheck(url="{canary}/cart"), threshold=3)


def exit_of(revision: str, *, ago: float, code: int | None = 1, reason: str = "exited") -> Exit:
    return Exit(
        instance=f"web-{revision}-1",
        revision=revision,
        at=NOW - timedelta(seconds=ago),
        code=code,
        reason=reason,
    )


def verdict(kind: VerdictKind, *, revision: str = "new", ago: float = 5) -> Verdict:
    return Verdict(kind=kind, revision=revision, step=0, at=NOW - timedelta(seconds=ago), reason="7 % errors")


def instances(revision: str, *states: InstanceState) -> tuple[Instance, ...]:
    return tuple(
        Instance(name=f"web-{revision}-{number}", revision=revision, state=state, port=20_000 + number)
        for number, state in enumerate(states)
    )


def trigger_of(
    status: Status = PROGRESSING,
    *,
    spec: RolloutSpec | None = None,
    found: Verdict | None = None,
    exits: tuple[Exit, ...] = (),
    running: tuple[Instance, ...] = (),
    checks: dict[str, CheckState] | None = None,
    started: datetime | None = START,
) -> Trigger | None:
    return evaluate(
        spec or RolloutSpec(),
        status,
        verdict=found,
        workload=WorkloadState(service="web", at=NOW, instances=running, exits=exits),
        checks=checks or {},
        now=NOW,
        wall_now=NOW,
        wall_started=started,
    )


def look(status: Status = PROGRESSING, **seen: Any) -> str | None:
    trigger = trigger_of(status, **seen)
    return trigger.name if trigger else None


def test_nothing_is_taken_back_without_a_reason() -> None:
    assert look(found=verdict(VerdictKind.CONTINUE)) is None


@pytest.mark.parametrize("state", [State.IDLE, State.PROMOTED, State.ROLLED_BACK, State.ROLLING_BACK])
def test_a_revision_that_is_not_under_judgement_is_left_alone(state: State) -> None:
    status = PROGRESSING.model_copy(update={"state": state})
    assert judged_revision(status) is None
    assert look(status, found=verdict(VerdictKind.ROLLBACK), exits=(exit_of("new", ago=1),) * 9) is None


def test_a_rollback_verdict_takes_back_the_canary_and_the_baking_revision() -> None:
    assert look(found=verdict(VerdictKind.ROLLBACK)) == "verdict"
    assert look(BAKING, found=verdict(VerdictKind.ROLLBACK)) == "verdict"


def test_a_verdict_on_another_revision_or_an_earlier_release_is_not_obeyed() -> None:
    assert look(found=verdict(VerdictKind.ROLLBACK, revision="other")) is None
    assert look(found=verdict(VerdictKind.ROLLBACK, ago=300)) is None


def test_on_failure_pause_leaves_a_bad_verdict_to_the_machine_but_not_while_baking() -> None:
    spec = RolloutSpec(policy=Policy(on_failure="pause"))
    assert look(spec=spec, found=verdict(VerdictKind.ROLLBACK)) is None
    assert look(BAKING, spec=spec, found=verdict(VerdictKind.ROLLBACK)) == "verdict"


def test_an_exit_in_the_second_in_which_the_release_began_is_one_of_it() -> None:
    """A cluster tells no more of its time than that second."""
    began = PROGRESSING.model_copy(update={"release_started": START + timedelta(milliseconds=300)})
    crashes = (exit_of("new", ago=240),) * 2
    assert look(began, exits=crashes, started=began.release_started) == "crash-loop"
    for ago in (241, 239.9):  # the second before; and a time that is told in full, before the start
        earlier = (exit_of("new", ago=ago),) * 2
        assert look(began, exits=earlier, started=began.release_started) is None


def test_two_exits_more_than_stable_are_a_crash_loop() -> None:
    assert look(exits=(exit_of("new", ago=9),)) is None
    assert look(exits=(exit_of("new", ago=9), exit_of("new", ago=2))) == "crash-loop"
    with_stable = (exit_of("old", ago=9), exit_of("new", ago=9), exit_of("new", ago=2))
    assert look(exits=with_stable) is None, "a machine that kills everything is not the canary's fault"


def test_exits_before_the_release_or_outside_the_window_do_not_count() -> None:
    spec = RolloutSpec(policy=Policy(crash_loop=CrashLoop(exits=1, within=timedelta(minutes=1))))
    assert look(exits=(exit_of("new", ago=241), exit_of("new", ago=242))) is None
    assert look(spec=spec, exits=(exit_of("new", ago=61),)) is None
    assert look(spec=spec, exits=(exit_of("new", ago=59),)) == "crash-loop"


def test_what_never_ran_is_no_crash_loop() -> None:
    missing = exit_of("new", ago=9, code=None, reason="cannot-start").model_copy(
        update={"detail": "there is no such image"}
    )
    assert look(exits=(missing,)) is None
    trigger = trigger_of(exits=(missing, missing))
    assert trigger is not None
    assert trigger.name == "cannot-start"
    assert trigger.reason == "it cannot start: there is no such image (2 attempts)"
    assert look(exits=(missing, exit_of("new", ago=2))) == "crash-loop"


def test_one_instance_above_its_memory_limit_is_enough() -> None:
    assert look(exits=(exit_of("new", ago=1, reason="oom"),)) == "memory"
    assert look(exits=(exit_of("old", ago=1, reason="oom"),)) is None


def test_what_phoenix_ended_itself_is_told_as_such() -> None:
    replaced = exit_of("new", ago=9, code=-15, reason="unhealthy").model_copy(
        update={"detail": "its health path failed 9 times in a row"}
    )
    trigger = trigger_of(exits=(replaced, exit_of("new", ago=2, code=-11)))
    assert trigger is not None
    assert "ended by Phoenix: its health path failed 9 times in a row" in trigger.reason
    assert "signal 15" not in trigger.reason
    assert "signal 11" in trigger.reason


READY, UNREADY = InstanceState.READY, InstanceState.UNREADY
BACKOFF, STARTING, DRAINING = InstanceState.BACKOFF, InstanceState.STARTING, InstanceState.DRAINING
CARRYING = PROGRESSING.model_copy(update={"weight": 20})
SERVES = instances("old", READY)


def test_a_baking_revision_with_nobody_ready_is_taken_back_while_the_one_before_is_ready() -> None:
    hangs = instances("new", UNREADY, UNREADY)
    trigger = trigger_of(BAKING, running=(*hangs, *SERVES))
    assert trigger is not None
    assert (trigger.name, trigger.reason) == (
        "unready",
        "no instance of it is ready any more (2 unready), while 1 of the revision before is",
    )
    assert look(BAKING, running=hangs) is None, "with nobody to go back to nothing is won"
    assert look(BAKING, running=(*hangs, *instances("old", UNREADY))) is None
    assert look(BAKING, running=(*instances("new", UNREADY, READY), *SERVES)) is None


def test_a_canary_that_carries_weight_with_nobody_ready_is_taken_back() -> None:
    hangs = instances("new", UNREADY)
    for state in (State.PROGRESSING, State.PAUSED, State.PROMOTING):
        status = CARRYING.model_copy(update={"state": state})
        assert look(status, running=(*hangs, *SERVES)) == "unready"
    assert look(PROGRESSING, running=(*hangs, *SERVES)) is None, "it carries no weight"
    assert look(CARRYING, running=(*instances("new", STARTING), *SERVES)) is None, "it was never ready"
    assert look(CARRYING, running=(*hangs, *instances("old", UNREADY))) is None
    assert look(CARRYING, running=(*hangs, *instances("new", READY), *SERVES)) is None


def test_one_exit_of_a_single_canary_is_left_to_the_rule_on_crash_loops() -> None:
    """It is started again at once, and until then its weight is taken off it."""
    for state in (BACKOFF, STARTING):
        seen = {"exits": (exit_of("new", ago=1),), "running": (*instances("new", state), *SERVES)}
        assert look(CARRYING, **seen) is None
        assert look(BAKING, **seen) == "unready", "everybody is sent to it, and the one before is warm"


def test_one_that_ended_and_that_nobody_starts_again_is_missed_in_the_bake() -> None:
    """Phoenix is dead: a standby sees the process gone, and nobody counts exits."""
    assert look(BAKING, running=(*instances("new", BACKOFF), *SERVES)) == "unready"


def test_instances_that_have_only_been_found_again_have_not_failed() -> None:
    """After a restart of the machine, or where what was known of them was lost, all begin as starting."""
    found = (*instances("new", STARTING, STARTING), *SERVES)
    assert look(BAKING, running=found) is None
    assert look(BAKING, running=found, exits=(exit_of("new", ago=301),)) is None, "long ago"


def test_those_that_leave_are_not_counted() -> None:
    assert look(BAKING, running=(*instances("new", UNREADY, DRAINING), *SERVES)) == "unready"
    assert look(BAKING, running=(*instances("new", DRAINING), *SERVES)) is None
    assert look(BAKING, running=(*instances("new", UNREADY), *instances("old", DRAINING))) is None


def test_a_check_has_to_fail_as_often_in_a_row_as_its_threshold() -> None:
    spec = RolloutSpec(checks=(CHECK,))
    assert look(spec=spec, checks={"cart": CheckState(2, "status 500")}) is None
    assert look(spec=spec, checks={"cart": CheckState(3, "status 500")}) == "check/cart"


def test_silence_takes_back_only_where_the_policy_says_so_and_the_clock_runs() -> None:
    patient = RolloutSpec()
    strict = RolloutSpec(policy=Policy(on_stale_verdict="rollback"))
    assert look(spec=patient) is None
    assert look(spec=strict) == "stale-verdict"
    assert look(spec=strict, found=verdict(VerdictKind.HOLD, ago=30)) is None
    assert look(PROGRESSING.model_copy(update={"step_clock": None}), spec=strict) is None
