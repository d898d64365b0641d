"""What verdicts, silence and the clock do to the walk (R1, R3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.rollout_setting import (
    HOUR,
    LAST,
    MINUTE,
    NEW,
    NEXT,
    OLD,
    SECOND,
    STEPS,
    T0,
    command,
    policy,
    reasons,
    status_in,
    traffic_for,
    turn,
    verdict,
    verification,
    world,
)

from phoenix_orch.health_validator.observation import Category, Tier, VerdictKind
from phoenix_orch.rollout.facts import GroupFacts
from phoenix_orch.rollout.spec import Phase, RolloutSpec
from phoenix_orch.rollout.status import CommandKind, State, VerifyStep

TEN = T0 + 10 * MINUTE
ADVANCE, CONTINUE, EXTEND, HOLD, ROLLBACK = (
    VerdictKind.ADVANCE,
    VerdictKind.CONTINUE,
    VerdictKind.EXTEND,
    VerdictKind.HOLD,
    VerdictKind.ROLLBACK,
)


def test_r1_a_step_is_over_when_its_time_is_and_the_verdict_says_so() -> None:
    seen = turn(status_in(State.PROGRESSING), TEN, verdict=verdict(ADVANCE, TEN))
    assert (seen.status.step, seen.status.weight, seen.status.step_clock) == (1, 20, None)
    assert "Step" in reasons(seen)


@pytest.mark.parametrize("kind", [CONTINUE, EXTEND, HOLD])
def test_r1_no_other_verdict_is_a_pass(kind: VerdictKind) -> None:
    for at in (TEN, T0 + 59 * MINUTE):
        seen = turn(status_in(State.PROGRESSING), at, verdict=verdict(kind, at))
        assert (seen.status.state, seen.status.step) == (State.PROGRESSING, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": None},
        {"verdict": verdict(ADVANCE, TEN, step=1)},
        {"verdict": verdict(ADVANCE, TEN, revision=NEXT)},
        {"verdict": verdict(ADVANCE, TEN, revision=OLD)},
        {"verdict": verdict(ADVANCE, TEN - 3 * MINUTE)},  # stale
        {"verdict": verdict(ADVANCE, TEN + HOUR)},  # of a clock that was put back since
        {"verdict": verdict(ADVANCE, TEN), "traffic": None},
        {"verdict": verdict(ADVANCE, TEN), "traffic": traffic_for(status_in(State.PROGRESSING), seen=None)},
        {"verdict": verdict(ADVANCE, TEN), "traffic": traffic_for(status_in(State.PROGRESSING), seen=4)},
        {
            "verdict": verdict(ADVANCE, TEN),
            "traffic": traffic_for(status_in(State.PROGRESSING), seen_canary=NEXT),
        },
    ],
)
def test_r1_case_16_what_is_no_evidence_for_this_revision_and_step_is_never_a_pass(
    changes: dict[str, object],
) -> None:
    status = status_in(State.PROGRESSING)
    assert turn(status, TEN, seen=replace(world(status), **changes)).status.step == 0  # type: ignore[arg-type]


def test_r1_an_early_advance_waits_for_the_time() -> None:
    at = TEN - timedelta(milliseconds=1)
    assert turn(status_in(State.PROGRESSING), at, verdict=verdict(ADVANCE, at)).status.step == 0


def test_r1_a_verdict_from_before_the_clock_started_again_is_no_pass() -> None:
    spec = RolloutSpec(phases=(Phase(name="short", weight=50, duration=MINUTE),))
    status = status_in(State.PROGRESSING, weight=50, step_clock=T0 + MINUTE)
    old, at = verdict(ADVANCE, T0 + 55 * SECOND), T0 + 2 * MINUTE
    assert turn(status, at, spec=spec, verdict=old).status.state is State.PROGRESSING
    assert turn(status, at, spec=spec, verdict=verdict(ADVANCE, at)).status.state is State.PROMOTING


def test_r1_a_verdict_of_an_earlier_release_of_the_revision_does_not_count() -> None:
    status = status_in(State.PROGRESSING, release_started=T0 + MINUTE)
    for kind in (ADVANCE, ROLLBACK):
        seen = turn(status, TEN, verdict=verdict(kind, T0))
        assert (seen.status.state, seen.status.step) == (State.PROGRESSING, 0)


def test_the_last_step_leads_to_the_promotion() -> None:
    status = status_in(State.PROGRESSING, step=LAST, weight=100)
    at = T0 + 5 * MINUTE
    assert turn(status, at, verdict=verdict(ADVANCE, at, step=LAST)).status.state is State.PROMOTING


# -- the clock of a step (R3) ----------------------------------------------------------------------


def test_r3_the_clock_starts_when_the_weight_is_seen() -> None:
    status = status_in(State.PROGRESSING, step_clock=None)
    lagging = turn(status, traffic=traffic_for(status, seen=0, seen_canary=None))
    assert lagging.status.step_clock is None
    assert turn(status, T0 + MINUTE).status.step_clock == T0 + MINUTE


@pytest.mark.parametrize("seen", [0, 4, 6, 100])
def test_r3_the_clock_stops_when_another_weight_is_seen(seen: int) -> None:
    status = status_in(State.PROGRESSING)
    stopped = turn(status, traffic=traffic_for(status, seen=seen))
    assert stopped.status.step_clock is None
    assert "ClockStopped" in reasons(stopped)


def test_r3_a_canary_without_instances_gets_no_weight_and_its_clock_stops() -> None:
    status = status_in(State.PROGRESSING)
    crashed = turn(status, workload={OLD: GroupFacts(4, 4), NEW: GroupFacts(1, 0)})
    assert crashed.traffic is not None
    assert crashed.traffic.weight == 0
    stopped = turn(crashed.status, traffic=traffic_for(status, weight=0, seen=0))
    assert stopped.status.step_clock is None


def test_r3_the_weight_waits_for_enough_instances() -> None:
    status = status_in(State.PROGRESSING, step=4, weight=60, step_clock=None)
    small = turn(status, workload={OLD: GroupFacts(4, 4), NEW: GroupFacts(2, 2)})
    assert (small.status.weight, small.instances[NEW]) == (60, 4)
    assert turn(status).status.weight == STEPS[4].weight


@pytest.mark.parametrize("back", [SECOND, HOUR, 400 * 24 * HOUR])
def test_a_clock_put_back_never_shortens_a_step(back: timedelta) -> None:
    status, now = status_in(State.PROGRESSING), T0 - back
    seen = turn(status, now, verdict=verdict(ADVANCE, now))
    assert (seen.status.step, seen.status.step_clock) == (0, now)


def test_a_clock_put_back_does_not_hide_new_verdicts() -> None:
    """They would all seem older than the release (R2)."""
    now = T0 - HOUR
    first = turn(status_in(State.PROGRESSING), now).status
    seen = turn(first, now + SECOND, verdict=verdict(ROLLBACK, now + SECOND))
    assert seen.status.state is State.ROLLING_BACK


def test_a_clock_put_back_does_not_prolong_the_deadline() -> None:
    now = T0 - HOUR
    workload = {OLD: GroupFacts(4, 4), NEW: GroupFacts(1, 0)}
    first = turn(status_in(State.STARTING), now, workload=workload).status
    assert turn(first, now + 10 * MINUTE, workload=workload).status.state is State.ROLLING_BACK


def test_a_clock_put_forward_does_not_pass_without_a_fresh_verdict() -> None:
    seen = turn(status_in(State.PROGRESSING), T0 + 365 * 24 * HOUR, verdict=verdict(ADVANCE, T0 + SECOND))
    assert seen.status.step == 0


# -- holding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EXTEND, HOLD])
def test_holding_ends_by_policy_and_never_in_a_pass(kind: VerdictKind) -> None:
    at = T0 + 5 * MINUTE
    held = turn(status_in(State.PROGRESSING), at, verdict=verdict(kind, at)).status
    assert held.hold_since == at
    late = at + HOUR + SECOND
    taken = turn(held, late, verdict=verdict(kind, late))
    assert (taken.status.state, taken.abort) == (State.ROLLING_BACK, NEW)
    frozen = turn(held, late, verdict=verdict(kind, late), spec=policy(on_hold_timeout="pause")).status
    assert (frozen.state, frozen.pause_by, frozen.weight) == (State.PAUSED, "policy", 5)


def test_case_15_no_data_by_policy() -> None:
    spec, at = policy(no_data="rollback"), T0 + 5 * MINUTE
    held = turn(status_in(State.PROGRESSING), at, verdict=verdict(HOLD, at), spec=spec).status
    assert held.state is State.PROGRESSING
    late = at + 2 * MINUTE + SECOND
    taken = turn(held, late, verdict=verdict(HOLD, late), spec=spec).status
    assert taken.cause is not None
    assert (taken.state, taken.cause.trigger) == (State.ROLLING_BACK, "no-data")
    extended = turn(held, late, verdict=verdict(EXTEND, late), spec=spec).status
    assert extended.state is State.PROGRESSING  # too little is not nothing


@pytest.mark.parametrize(
    "category", [Category.ENVIRONMENT, Category.REGRESSION, Category.SAMPLE, Category.NO_DECISION]
)
def test_holding_for_another_reason_is_not_having_no_data(category: Category) -> None:
    spec, late = policy(no_data="rollback"), T0 + 10 * MINUTE
    held = status_in(State.PROGRESSING, hold_since=T0 + MINUTE)
    known = verdict(HOLD, late).model_copy(update={"category": category})
    assert turn(held, late, verdict=known, spec=spec).status.state is State.PROGRESSING
    assert turn(held, late, verdict=verdict(HOLD, late), spec=spec).status.state is State.ROLLING_BACK


def test_a_canary_that_answers_nobody_is_no_data_for_the_policy() -> None:
    spec, at = policy(no_data="rollback"), T0 + 5 * MINUTE
    silent = verdict(HOLD, at).model_copy(update={"category": Category.NO_ANSWERS})
    held = turn(status_in(State.PROGRESSING), at, verdict=silent, spec=spec).status
    assert held.state is State.PROGRESSING
    late = at + 2 * MINUTE + SECOND
    again = silent.model_copy(update={"at": late})
    assert turn(held, late, verdict=again).status.state is State.PROGRESSING
    assert turn(held, late, verdict=again, spec=spec).status.state is State.ROLLING_BACK


def test_a_phase_is_left_before_its_time_when_its_limits_are_proven_and_that_is_wanted() -> None:
    at = T0 + 3 * MINUTE
    proven = verdict(ADVANCE, at).model_copy(update={"tier": Tier.PROVEN})
    likely = verdict(ADVANCE, at).model_copy(update={"tier": Tier.LIKELY})
    early = policy(early_advance=True)
    assert turn(status_in(State.PROGRESSING), at, verdict=proven, spec=early).status.step == 1
    assert turn(status_in(State.PROGRESSING), at, verdict=likely, spec=early).status.step == 0
    assert turn(status_in(State.PROGRESSING), at, verdict=proven).status.step == 0
    patient = early.model_copy(
        update={"phases": tuple(phase.model_copy(update={"early_advance": False}) for phase in early.phases)}
    )
    assert turn(status_in(State.PROGRESSING), at, verdict=proven, spec=patient).status.step == 0


@pytest.mark.parametrize("kind", [CONTINUE, ADVANCE])
def test_good_news_ends_a_hold(kind: VerdictKind) -> None:
    status, at = status_in(State.PROGRESSING, hold_since=T0), T0 + 5 * MINUTE
    assert turn(status, at, verdict=verdict(kind, at)).status.hold_since is None


def test_case_14_a_silent_validator_holds_or_takes_back_by_policy() -> None:
    status, at = status_in(State.PROGRESSING), T0 + 2 * MINUTE + SECOND
    assert turn(status, T0 + 2 * MINUTE).status.hold_since is None  # a step begins without a verdict
    held = turn(status, at).status
    assert (held.state, held.hold_since) == (State.PROGRESSING, at)
    assert "no verdict" in held.message
    taken = turn(status, at, spec=policy(on_stale_verdict="rollback")).status
    assert taken.cause is not None
    assert taken.cause.trigger == "stale-verdict"


# -- freezing instead of rolling back --------------------------------------------------------------


@pytest.mark.parametrize("state", [State.PROGRESSING, State.PROMOTING])
def test_case_13_on_failure_pause_freezes(state: State) -> None:
    status = status_in(state)
    bad = verdict(ROLLBACK, T0 + SECOND, step=status.step)
    seen = turn(status, verdict=bad, spec=policy(on_failure="pause"))
    assert (seen.status.state, seen.status.weight, seen.abort) == (State.PAUSED, status.weight, None)
    assert bad.reason in seen.status.message


def test_on_failure_pause_does_not_hold_during_the_bake() -> None:
    bad = verdict(ROLLBACK, T0 + SECOND, step=len(STEPS))
    seen = turn(status_in(State.BAKING), verdict=bad, spec=policy(on_failure="pause"))
    assert seen.status.state is State.ROLLING_BACK


def test_a_person_who_resumes_overrules_the_verdict_that_froze_and_no_later_one() -> None:
    spec, bad = policy(on_failure="pause"), verdict(ROLLBACK, T0 + SECOND)
    frozen = turn(status_in(State.PROGRESSING), verdict=bad, spec=spec).status
    at = T0 + MINUTE
    resumed = turn(frozen, at, verdict=bad, spec=spec, commands=(command(CommandKind.RESUME),)).status
    assert resumed.state is State.PROGRESSING
    still = turn(resumed, at + SECOND, verdict=bad, spec=spec).status
    assert still.state is State.PROGRESSING
    again = verdict(ROLLBACK, at + 2 * SECOND)
    assert turn(still, at + 3 * SECOND, verdict=again, spec=spec).status.state is State.PAUSED


def test_frozen_and_another_revision_is_wanted() -> None:
    bad = verdict(ROLLBACK, T0 + SECOND)
    seen = turn(status_in(State.PAUSED), verdict=bad, spec=policy(on_failure="pause"), target=NEXT)
    assert (seen.status.state, seen.status.canary) == (State.STARTING, NEXT)


# -- the bake --------------------------------------------------------------------------------------

VERIFIED = verification("promotion")
BAKED = T0 + 30 * MINUTE


def test_the_bake_ends_when_its_time_is_over_and_the_verdict_says_so() -> None:
    status = status_in(State.BAKING, verification=VERIFIED)
    seen = turn(status, BAKED, verdict=verdict(ADVANCE, BAKED, step=len(STEPS)))
    assert (seen.status.state, seen.status.previous) == (State.PROMOTED, None)
    assert seen.release is not None
    assert seen.release.verification == VERIFIED
    assert seen.release.weight == 100  # what the version reached, not what a canary has now
    early = BAKED - SECOND
    assert turn(status, early, verdict=verdict(ADVANCE, early, step=len(STEPS))).status.state is State.BAKING


@pytest.mark.parametrize("kind", [CONTINUE, EXTEND, HOLD])
def test_r1_a_bake_without_evidence_goes_on_with_the_old_revision_warm(kind: VerdictKind) -> None:
    status, at = status_in(State.BAKING, verification=VERIFIED), T0 + 100 * HOUR
    seen = turn(status, at, verdict=verdict(kind, at, step=len(STEPS)))
    assert (seen.status.state, seen.instances) == (State.BAKING, {NEW: 4, OLD: 4})


def test_the_bake_waits_for_the_verification() -> None:
    seen = turn(status_in(State.BAKING), BAKED, verdict=verdict(ADVANCE, BAKED, step=len(STEPS)))
    assert (seen.status.state, seen.verify) == (State.BAKING, "promotion")


def test_an_unknown_verification_step_is_no_failure() -> None:
    found = verification("promotion", ok=False, unknown=True)
    assert turn(status_in(State.BAKING), verification=found).status.state is State.BAKING


def test_a_failed_verification_is_told_with_its_step_and_what_was_found() -> None:
    bad = VerifyStep(name="critical path login", ok=False, detail="/login: status 404, expected 200")
    found = VERIFIED.model_copy(update={"steps": (*VERIFIED.steps, bad)})
    seen = turn(status_in(State.BAKING), verification=found)
    words = "critical path login (/login: status 404, expected 200)"
    assert seen.status.cause is not None
    assert seen.status.cause.reason == f"verification after the promotion failed: {words}"
    told = next(event for event in seen.events if event.reason == "VerificationFailed")
    assert told.message == f"after the promotion: failed: {words}"


def test_no_bake_by_policy() -> None:
    seen = turn(status_in(State.BAKING), verification=VERIFIED, spec=policy(bake=timedelta(0)))
    assert seen.status.state is State.PROMOTED


def test_r3_the_clock_of_the_bake_stops_while_the_old_revision_is_seen() -> None:
    status = status_in(State.BAKING, verification=VERIFIED)
    stopped = turn(status, traffic=traffic_for(status, seen_stable=OLD)).status
    assert stopped.step_clock is None
    at = T0 + HOUR
    seen = turn(stopped, at, verdict=verdict(ADVANCE, at, step=len(STEPS))).status
    assert (seen.state, seen.step_clock) == (State.BAKING, at)


def test_the_bake_is_cut_short_by_another_revision() -> None:
    seen = turn(status_in(State.BAKING), target=NEXT)
    assert (seen.status.state, seen.status.canary, seen.status.stable) == (State.STARTING, NEXT, NEW)
    assert seen.release is not None
    assert (seen.release.number, seen.release.revision, seen.status.release) == (1, NEW, 2)


# -- the walk changes under way --------------------------------------------------------------------

SHORT = RolloutSpec(phases=(Phase(name="only", weight=10, duration=MINUTE),))


@pytest.mark.parametrize("state", [State.PROGRESSING, State.PAUSED, State.PROMOTING, State.BAKING])
def test_a_spec_with_fewer_steps_does_not_lose_the_rollout(state: State) -> None:
    status = status_in(state, step=len(STEPS) if state is State.BAKING else LAST, weight=100, step_clock=T0)
    seen = turn(status, spec=SHORT)
    assert seen.status.state is state
    aborted = turn(status, spec=SHORT, traffic=None, commands=(command(CommandKind.ABORT),))
    assert aborted.abort == NEW


def test_r3_a_spec_with_a_lower_weight_lowers_the_weight_at_once() -> None:
    status = status_in(State.PROGRESSING, step=LAST, weight=100)
    seen = turn(status, spec=SHORT, workload={OLD: GroupFacts(4, 4), NEW: GroupFacts(4, 0)})
    assert (seen.status.step, seen.status.weight, seen.status.step_clock) == (0, 10, None)
    ready = turn(status, spec=SHORT)
    assert ready.traffic is not None
    assert ready.traffic.weight == 10


def test_a_bake_goes_by_the_walk_as_it_is_now() -> None:
    status, at = status_in(State.BAKING, verification=VERIFIED), BAKED
    seen = turn(status, at, spec=SHORT, verdict=verdict(ADVANCE, at, step=1))
    assert seen.status.state is State.PROMOTED


def test_r3_a_higher_weight_applied_under_way_starts_clock_and_deadline_anew() -> None:
    status, at = status_in(State.PROGRESSING, weight=1), T0 + 30 * MINUTE
    blind = traffic_for(status, seen=None)
    small = {OLD: GroupFacts(4, 4), NEW: GroupFacts(1, 0)}
    waits = turn(status, at, workload=small, traffic=blind).status
    assert (waits.state, waits.step_clock, waits.weight) == (State.PROGRESSING, None, 1)
    assert turn(status, at, traffic=blind).status.step_clock is None


def test_why_the_traffic_object_does_not_say_the_weight_is_in_the_message() -> None:
    status = status_in(State.PROGRESSING, step=1, weight=20, step_clock=None)
    behind, why = traffic_for(status, weight=5, seen=5), "no more weight: stable is paused (resume it)"
    seen = turn(status, traffic=behind, steering=why)
    assert seen.status.message == f"waiting to see 20 % on the data plane: {why}"
    again = turn(seen.status, T0 + HOUR, traffic=behind, steering=why)
    assert "RouterLags" not in reasons(again), "nobody told the router"


def test_r3_a_router_that_sends_another_share_for_long_is_told_once_and_the_clock_does_not_start() -> None:
    status = status_in(State.PROGRESSING, step=1, weight=20, step_clock=None)
    told = []
    for seconds in (1, 20, 40, 60, 3600):
        seen = turn(status, T0 + seconds * SECOND, traffic=traffic_for(status, seen=5))
        status = seen.status
        assert status.step_clock is None
        told += [event.message for event in seen.events if event.reason == "RouterLags"]
    assert told == ["the data plane does not send 20 %, and the clock stands; it sends 5 %"]
    assert turn(status, T0 + HOUR + SECOND).status.step_clock == T0 + HOUR + SECOND
