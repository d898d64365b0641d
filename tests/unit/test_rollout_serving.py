"""What is wanted of traffic and instances: stable always serves (R5), nothing leaves before its time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.rollout_setting import (
    HOUR,
    MINUTE,
    NEW,
    NEXT,
    OLD,
    SECOND,
    STEPS,
    T0,
    command,
    policy,
    status_in,
    traffic_for,
    turn,
    verdict,
    world,
)

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.rollout.facts import GroupFacts, TrafficFacts, TrafficWanted
from phoenix_orch.rollout.status import CommandKind, Outcome, State
from phoenix_orch.rollout.walk import canary_size

FULL = GroupFacts(4, 4)


@pytest.mark.parametrize(
    ("replicas", "weight", "size"), [(4, 5, 1), (4, 25, 1), (4, 26, 2), (4, 100, 4), (1, 1, 1), (100, 29, 29)]
)
def test_canary_size(replicas: int, weight: int, size: int) -> None:
    assert canary_size(replicas, weight) == size


# -- the first revision ----------------------------------------------------------------------------


def test_case_1_the_first_revision_skips_all_steps() -> None:
    empty = status_in(State.INITIALIZING, stable=None, since=None)
    missing = replace(world(empty), traffic=None, traffic_missing=True, workload={}, target=NEW)
    first = turn(empty, seen=missing)
    assert (first.status.state, first.status.stable, first.instances) == (State.INITIALIZING, NEW, {NEW: 4})
    assert first.traffic is None
    ready = turn(first.status, seen=replace(missing, workload={NEW: GroupFacts(4, 1)}))
    assert ready.traffic == TrafficWanted(stable=NEW)
    serves = TrafficFacts(stable=NEW, seen=0, seen_stable=NEW)
    seen = turn(ready.status, seen=replace(missing, workload={NEW: FULL}, traffic=serves))
    assert (seen.status.state, seen.status.release) == (State.IDLE, 0)


def test_r5_a_first_revision_that_is_replaced_serves_until_the_other_is_at_full_size() -> None:
    status = status_in(State.INITIALIZING, stable=NEW)
    serves = TrafficFacts(stable=OLD, seen=0, seen_stable=OLD)
    few = turn(status, target=NEW, traffic=serves, workload={OLD: FULL, NEW: GroupFacts(4, 3)})
    assert (few.traffic, few.instances) == (None, {NEW: 4, OLD: 4})
    enough = turn(status, target=NEW, traffic=serves, workload={OLD: FULL, NEW: FULL})
    assert enough.traffic == TrafficWanted(stable=NEW)


# -- the promotion ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ready", [0, 1, 3])
def test_r5_no_swap_before_the_new_revision_is_at_full_size(ready: int) -> None:
    status = status_in(State.PROMOTING)
    seen = turn(status, workload={OLD: FULL, NEW: GroupFacts(4, ready)})
    assert seen.traffic is not None
    assert (seen.traffic.stable, seen.traffic.canary) == (OLD, NEW)
    assert seen.traffic.weight == (100 if ready else 0)
    assert seen.instances == {OLD: 4, NEW: 4}


def test_r5_the_swap_keeps_the_revision_before_warm() -> None:
    status = status_in(State.PROMOTING)
    seen = turn(status)
    assert seen.traffic == TrafficWanted(stable=NEW, previous=OLD)
    assert seen.instances == {OLD: 4, NEW: 4}


def test_r3_the_promotion_is_done_when_it_is_seen() -> None:
    status = status_in(State.PROMOTING)
    swapped = TrafficFacts(stable=NEW, previous=OLD, seen=0, seen_stable=OLD)
    for unseen in (swapped, replace(swapped, seen=None, seen_stable=None)):
        assert turn(status, traffic=unseen).status.state is State.PROMOTING
    done = turn(status, traffic=replace(swapped, seen_stable=NEW)).status
    assert (done.state, done.stable, done.previous, done.canary) == (State.BAKING, NEW, OLD, None)
    silent = turn(status, traffic=replace(swapped, seen_stable=None)).status
    assert silent.state is State.BAKING  # a data plane that answers, yet does not name revisions


def test_r7_a_swap_that_was_written_while_the_status_was_lost_is_found_and_kept() -> None:
    status = status_in(State.PROMOTING)
    swapped = TrafficFacts(stable=NEW, previous=OLD, seen=0, seen_stable=OLD)
    seen = turn(status, traffic=swapped, workload={OLD: FULL, NEW: GroupFacts(4, 2)})
    assert seen.traffic == TrafficWanted(stable=NEW, previous=OLD)


def test_a_promotion_that_does_not_get_ready_is_taken_back() -> None:
    workload = {OLD: FULL, NEW: GroupFacts(4, 3)}
    seen = turn(status_in(State.PROMOTING), T0 + 10 * MINUTE, workload=workload)
    assert (seen.status.state, seen.abort) == (State.ROLLING_BACK, NEW)


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.CANCELLING, State.STARTING])
def test_r5_no_way_back_to_a_stable_that_is_not_ready(state: State) -> None:
    """The new revision was swapped in already; the old one has to be ready to take over again."""
    status = status_in(state)
    swapped = TrafficFacts(stable=NEW, previous=OLD, seen=0, seen_stable=NEW)
    if state is State.ROLLING_BACK:
        swapped = replace(swapped, aborted=(NEW,))
    dead = turn(status, traffic=swapped, workload={OLD: GroupFacts(4, 0), NEW: FULL})
    assert dead.traffic is None
    assert dead.instances == {OLD: 4, NEW: 4}
    alive = turn(status, traffic=swapped, workload={OLD: GroupFacts(4, 1), NEW: FULL})
    assert alive.traffic == TrafficWanted(stable=OLD)


# -- another revision in the middle ----------------------------------------------------------------


@pytest.mark.parametrize("state", [State.STARTING, State.PROGRESSING, State.PAUSED, State.PROMOTING])
def test_case_8_another_revision_in_the_middle_starts_with_weight_0(state: State) -> None:
    seen = turn(status_in(state), target=NEXT)
    assert (seen.status.state, seen.status.canary, seen.status.weight) == (State.STARTING, NEXT, 0)
    assert seen.status.release == 2
    assert seen.traffic == TrafficWanted(stable=OLD)
    assert seen.release is not None
    assert (seen.release.number, seen.release.outcome) == (1, Outcome.SUPERSEDED)


@pytest.mark.parametrize(
    "leftover",
    [
        {"canary": NEW, "weight": 5},
        {"seen": 5, "seen_canary": NEW},
        {"seen": 5, "seen_canary": None},
        {"seen": None, "seen_stable": None},
        {"stable": NEW},
        {"seen_stable": NEW},
    ],
)
def test_case_8_weight_0_is_seen_before_the_next_canary_gets_any(leftover: dict[str, object]) -> None:
    status = status_in(State.STARTING, canary=NEXT)
    workload = {OLD: FULL, NEW: FULL, NEXT: FULL}
    facts = traffic_for(status, **leftover)
    assert turn(status, target=NEXT, workload=workload, traffic=facts).status.state is State.STARTING
    assert turn(status, target=NEXT, workload=workload).status.state is State.PROGRESSING


@pytest.mark.parametrize(
    "leftover",
    [
        {"canary": NEW, "weight": 5},
        {"seen": 5, "seen_canary": NEW},
        {"seen": 5, "seen_canary": None},
        {"seen": None, "seen_stable": None},
        {"stable": NEW},
        {"seen_stable": NEW},
        {"previous": NEW},
    ],
)
def test_r5_nothing_that_may_still_be_used_loses_its_instances(leftover: dict[str, object]) -> None:
    status = status_in(State.STARTING, canary=NEXT)
    workload = {OLD: FULL, NEW: GroupFacts(3, 2), NEXT: FULL}
    seen = turn(status, target=NEXT, workload=workload, traffic=traffic_for(status, **leftover))
    assert seen.instances[NEW] == 3
    assert NEW not in turn(status, target=NEXT, workload=workload).instances


def test_r5_nothing_is_taken_away_while_the_traffic_object_is_unreadable() -> None:
    status = status_in(State.PROMOTED)
    workload = {NEW: FULL, OLD: FULL}
    assert turn(status, traffic=None, workload=workload).instances == {NEW: 4, OLD: 4}
    assert turn(status, traffic=None, traffic_missing=True, workload=workload).instances == {NEW: 4}


# -- back to stable --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.STARTING, State.PROGRESSING, State.PAUSED, State.PROMOTING])
def test_case_9_back_to_stable_skips_all_steps(state: State) -> None:
    seen = turn(status_in(state), target=OLD)
    assert (seen.status.state, seen.traffic) == (State.CANCELLING, TrafficWanted(stable=OLD))
    assert seen.release is not None
    assert seen.release.outcome is Outcome.CANCELLED
    left = turn(seen.status, target=OLD, workload={OLD: FULL})
    assert (left.status.state, left.status.canary) == (State.IDLE, None)


def test_cancelling_waits_for_the_data_plane_and_the_instances() -> None:
    status = status_in(State.CANCELLING)
    both = {OLD: FULL, NEW: GroupFacts(1, 1)}
    for changes in (
        {"traffic": traffic_for(status, seen=5, seen_canary=NEW)},
        {"traffic": traffic_for(status, seen=None)},
        {"workload": both},
        {"workload": None},
        {"traffic": None},
    ):
        seen = turn(status, seen=replace(world(status), **changes))  # type: ignore[arg-type]
        assert seen.status.state is State.CANCELLING


def test_another_revision_while_cancelling() -> None:
    seen = turn(status_in(State.CANCELLING), target=NEXT)
    assert (seen.status.state, seen.status.canary, seen.status.release) == (State.STARTING, NEXT, 2)


def test_undo_skips_steps_and_bake() -> None:
    idle = status_in(State.IDLE)
    started = turn(idle, target=NEW, fast=True)
    assert (started.status.fast, started.instances) == (True, {OLD: 4, NEW: 4})
    few = turn(started.status, fast=True, workload={OLD: FULL, NEW: GroupFacts(4, 3)})
    assert (few.status.state, few.instances[NEW]) == (State.STARTING, 4)
    full = turn(few.status, fast=True)
    assert full.status.state is State.PROMOTING
    assert full.traffic == TrafficWanted(stable=NEW)
    swapped = TrafficFacts(stable=NEW, seen=0, seen_stable=NEW)
    baking = turn(full.status, fast=True, traffic=swapped).status
    assert (baking.state, baking.previous) == (State.BAKING, None)
    verified = turn(baking, target=NEW, verification=None)
    assert verified.verify == "promotion"


def test_case_6_a_canary_that_is_never_ready_is_taken_back() -> None:
    workload = {OLD: FULL, NEW: GroupFacts(1, 0)}
    early, late = T0 + 10 * MINUTE - SECOND, T0 + 10 * MINUTE
    assert turn(status_in(State.STARTING), early, workload=workload).status.state is State.STARTING
    seen = turn(status_in(State.STARTING), late, workload=workload, traffic=None)
    assert seen.status.cause is not None
    assert (seen.abort, seen.status.cause.trigger) == (NEW, "deadline")


def test_a_larger_canary_that_is_never_ready_is_taken_back() -> None:
    status = status_in(State.PROGRESSING, step=4, weight=60, step_clock=None)
    workload = {OLD: FULL, NEW: GroupFacts(4, 3)}
    seen = turn(status, T0 + 10 * MINUTE, workload=workload)
    assert seen.status.state is State.ROLLING_BACK


# -- drift -----------------------------------------------------------------------------------------


def test_case_17_a_weight_set_by_hand_is_put_back() -> None:
    status = status_in(State.PROGRESSING)
    seen = turn(status, traffic=traffic_for(status, weight=50, seen=50))
    assert seen.traffic is not None
    assert seen.traffic.weight == 5
    assert seen.status.step_clock is None


def test_case_18_a_deleted_traffic_object_is_made_anew() -> None:
    seen = turn(status_in(State.PROGRESSING), traffic=None, traffic_missing=True)
    assert seen.traffic == TrafficWanted(stable=OLD, canary=NEW, weight=5)


def test_r4_a_latched_stable_is_never_asked_for_where_it_does_not_serve() -> None:
    status = status_in(State.IDLE)
    facts = TrafficFacts(stable=NEXT, aborted=(OLD, NEXT), seen=0, seen_stable=NEXT)
    assert turn(status, traffic=facts, workload={OLD: FULL, NEXT: FULL}).traffic is None


def test_nothing_is_written_while_the_workload_is_unknown() -> None:
    seen = turn(status_in(State.PROGRESSING), workload=None)
    assert seen.traffic is None


def test_case_2_and_3_the_weights_follow_the_walk_and_end_at_100() -> None:
    weights = []
    status = status_in(State.PROGRESSING)
    for _ in STEPS:
        weights.append(status.weight)
        status = turn(status, commands=(command(CommandKind.PROMOTE, f"c{len(weights)}"),)).status
    assert weights == [5, 20, 40, 60, 80, 100]
    assert status.state is State.PROMOTING


def test_full_promotion_of_a_start_keeps_to_the_full_size() -> None:
    seen = turn(
        status_in(State.STARTING),
        workload={OLD: FULL, NEW: GroupFacts(1, 1)},
        commands=(command(CommandKind.PROMOTE_FULL),),
        spec=policy(),
    )
    assert seen.traffic == TrafficWanted(stable=OLD, canary=NEW, weight=0)
    assert seen.instances[NEW] == 4


def test_r5_nothing_is_made_smaller_while_nobody_knows_what_runs() -> None:
    """A revision that was swapped in is stable for everybody, though its step says one instance."""
    assert turn(status_in(State.PROGRESSING), workload=None).instances == {OLD: 4}
    assert turn(status_in(State.PROMOTING), workload=None).instances == {OLD: 4, NEW: 4}


# -- a promotion that somebody else makes ----------------------------------------------------------


def test_a_promotion_waits_for_others_without_a_deadline_and_says_so() -> None:
    status, waiting = status_in(State.PROMOTING), "waiting for Deployment shop to run revision new"
    first = turn(status, at=T0 + HOUR, awaits=waiting)
    assert (first.status.state, first.status.message) == (State.PROMOTING, waiting)
    assert [event.reason for event in first.events] == ["PromotionAwaited"]
    later = turn(first.status, at=T0 + 50 * HOUR, awaits=waiting)
    assert (later.status, later.events) == (first.status, ())
    # from when they have acted on, the new pods have the time that they always have
    deadline = policy().policy.progress_deadline
    acted = turn(first.status, at=T0 + 51 * HOUR, workload={OLD: FULL, NEW: GroupFacts(4, 3)})
    assert (acted.status.state, acted.status.since) == (State.PROMOTING, T0 + 51 * HOUR)
    late = turn(acted.status, at=T0 + 51 * HOUR + deadline, workload={OLD: FULL, NEW: GroupFacts(4, 3)})
    assert (late.status.state, late.abort) == (State.ROLLING_BACK, NEW)


def test_while_others_are_waited_for_a_bad_verdict_takes_it_back() -> None:
    bad = verdict(VerdictKind.ROLLBACK, at=T0 + HOUR)
    found = turn(status_in(State.PROMOTING), at=T0 + HOUR, awaits="waiting", verdict=bad)
    assert (found.status.state, found.abort) == (State.ROLLING_BACK, NEW)
