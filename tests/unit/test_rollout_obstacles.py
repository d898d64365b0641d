"""A release that waits for something else than its health gets no weight, says why, and goes on by itself."""

from __future__ import annotations

from tests.unit.rollout_setting import (
    HOUR,
    MINUTE,
    SECOND,
    STEPS,
    T0,
    reasons,
    status_in,
    turn,
    verdict,
)

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.rollout.conditions import conditions
from phoenix_orch.rollout.status import Obstacle, State

UNKNOWN = Obstacle(reason="MetricUnknown", message="Prometheus knows nothing of counter orders")
OTHER = Obstacle(reason="NotSupported", message="check smoke is not done here")


def test_r1_what_is_not_looked_at_gets_no_weight_however_long_it_takes() -> None:
    for at in (T0 + SECOND, T0 + 100 * HOUR):
        seen = turn(status_in(State.STARTING), at, obstacle=UNKNOWN)
        assert (seen.status.state, seen.status.weight, seen.status.obstacle) == (State.STARTING, 0, UNKNOWN)
        assert seen.status.message == UNKNOWN.message


def test_it_is_told_once_for_each_reason() -> None:
    first = turn(status_in(State.STARTING), obstacle=UNKNOWN)
    assert "Blocked" in reasons(first)
    again = turn(first.status, T0 + MINUTE, obstacle=UNKNOWN.model_copy(update={"message": "still so"}))
    assert reasons(again) == []
    assert again.status.message == "still so"
    assert "Blocked" in reasons(turn(again.status, T0 + MINUTE, obstacle=OTHER))


def test_it_starts_when_that_is_over_with_all_the_time_there_is_for_a_start() -> None:
    blocked = turn(status_in(State.STARTING), T0 + HOUR, obstacle=UNKNOWN).status
    seen = turn(blocked, T0 + 2 * HOUR)
    assert (seen.status.state, seen.status.obstacle) == (State.PROGRESSING, None)
    assert seen.status.weight == STEPS[0].weight
    assert "Unblocked" in reasons(seen)


def test_a_step_is_not_left_while_something_is_not_looked_at_and_a_bad_verdict_still_counts() -> None:
    over = T0 + 10 * MINUTE
    good, bad = (verdict(kind, over) for kind in (VerdictKind.ADVANCE, VerdictKind.ROLLBACK))
    seen = turn(status_in(State.PROGRESSING), over, verdict=good, obstacle=OTHER)
    assert (seen.status.step, seen.status.weight, seen.status.obstacle) == (0, 5, OTHER)
    taken = turn(seen.status, over + SECOND, verdict=bad, obstacle=OTHER)
    assert (taken.status.state, taken.status.obstacle) == (State.ROLLING_BACK, None)


def test_a_return_to_what_was_stable_waits_for_nothing() -> None:
    seen = turn(status_in(State.STARTING, fast=True), obstacle=UNKNOWN)
    assert (seen.status.state, seen.status.obstacle) == (State.PROMOTING, None)


def test_the_condition_says_what_the_release_waits_for() -> None:
    blocked = turn(status_in(State.STARTING), obstacle=UNKNOWN).status
    found = {one.type: one for one in conditions(blocked, T0)}["Progressing"]
    assert (found.status, found.reason, found.message) == ("False", UNKNOWN.reason, UNKNOWN.message)
