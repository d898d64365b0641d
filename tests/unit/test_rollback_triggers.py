"""When the rollback controller takes a revision back by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.rollback_controller.triggers import CheckState, evaluate, judged_revision
from phoenix_orch.rollout.spec import Check, CrashLoop, HttpCheck, Policy, RolloutSpec
from phoenix_orch.rollout.status import State, Status
from phoenix_orch.workload.workload import Exit

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


def look(
    status: Status = PROGRESSING,
    *,
    spec: RolloutSpec | None = None,
    found: Verdict | None = None,
    exits: tuple[Exit, ...] = (),
    checks: dict[str, CheckState] | None = None,
) -> str | None:
    trigger = evaluate(
        spec or RolloutSpec(),
        status,
        verdict=found,
        exits=exits,
        checks=checks or {},
        now=NOW,
        wall_now=NOW,
        wall_started=START,
    )
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


def test_one_instance_above_its_memory_limit_is_enough() -> None:
    assert look(exits=(exit_of("new", ago=1, reason="oom"),)) == "memory"
    assert look(exits=(exit_of("old", ago=1, reason="oom"),)) is None


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
