"""Taking a revision back: from every state, whatever else is unknown, whoever asks for it (R2, R4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.rollout_setting import (
    MINUTE,
    NEW,
    NEXT,
    OLD,
    SECOND,
    STEPS,
    T0,
    cause,
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

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.rollout.facts import GroupFacts, TrafficFacts
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import ACTIVE, CommandKind, Outcome, State

JUDGED = [*sorted(ACTIVE), State.BAKING]


@pytest.mark.parametrize("state", JUDGED)
def test_r2_an_abort_is_asked_for_while_nothing_else_is_known(state: State) -> None:
    seen = turn(status_in(state), traffic=None, workload=None, commands=(command(CommandKind.ABORT),))
    assert (seen.status.state, seen.abort, seen.traffic) == (State.ROLLING_BACK, NEW, None)
    assert turn(seen.status, traffic=None, workload=None).abort == NEW  # until it is known to be done


@pytest.mark.parametrize("state", JUDGED)
def test_r2_a_rollback_verdict_is_obeyed_at_once(state: State) -> None:
    status = status_in(state)
    bad = verdict(VerdictKind.ROLLBACK, T0 + SECOND, step=status.step)
    seen = turn(status, verdict=bad, traffic=None, workload=None)
    assert (seen.status.state, seen.abort) == (State.ROLLING_BACK, NEW)
    assert seen.status.cause is not None
    assert (seen.status.cause.trigger, seen.status.cause.reason) == ("verdict", bad.reason)


@pytest.mark.parametrize("state", JUDGED)
@pytest.mark.parametrize("target", [OLD, NEXT])
def test_r2_a_rollback_verdict_comes_before_another_target(state: State, target: str) -> None:
    """Else a bad revision would count as promoted, or be left without its latch."""
    status = status_in(state)
    bad = verdict(VerdictKind.ROLLBACK, T0 + SECOND, step=status.step)
    seen = turn(status, verdict=bad, target=target)
    assert (seen.status.state, seen.abort, seen.release) == (State.ROLLING_BACK, NEW, None)


@pytest.mark.parametrize("state", JUDGED)
def test_a_latch_set_by_somebody_else_is_followed(state: State) -> None:
    status = status_in(state)
    facts = traffic_for(status, aborted=(NEW,), weight=0)
    seen = turn(status, traffic=facts)
    assert seen.status.state is State.ROLLING_BACK
    assert seen.status.cause is not None
    assert seen.status.cause.trigger == "latch"
    assert (seen.status.stable, seen.status.canary) == (OLD, NEW)


@pytest.mark.parametrize("state", JUDGED)
def test_r2_the_word_of_the_rollback_controller_counts_without_the_traffic_object(state: State) -> None:
    said = cause(at=T0 + SECOND)
    seen = turn(status_in(state), T0 + 2 * SECOND, cause=said, traffic=None)
    assert (seen.status.state, seen.abort, seen.status.cause) == (State.ROLLING_BACK, NEW, said)


def test_r4_a_latch_set_anew_while_a_retry_is_on_its_way_wins() -> None:
    retried = turn(status_in(State.ROLLED_BACK), commands=(command(CommandKind.RETRY),)).status
    latched = traffic_for(status_in(State.ROLLED_BACK))
    old_word = turn(retried, traffic=latched, cause=cause(at=T0))
    assert old_word.status.state is State.STARTING  # that is what the retry forgave
    new_word = turn(retried, T0 + MINUTE, traffic=latched, cause=cause(at=T0 + 2 * SECOND))
    assert (new_word.status.state, new_word.clear_latch) == (State.ROLLING_BACK, None)


def test_the_cause_may_arrive_after_the_latch() -> None:
    status = status_in(State.PROGRESSING)
    latched = turn(status, traffic=traffic_for(status, aborted=(NEW,), weight=0)).status
    told = turn(latched, cause=cause(at=T0 + SECOND)).status
    assert told.cause == cause(at=T0 + SECOND)


@pytest.mark.parametrize(
    ("spec", "changes", "trigger"),
    [
        (RolloutSpec(), {"workload": {OLD: GroupFacts(4, 4), NEW: GroupFacts(1, 0)}}, "deadline"),
        (policy(on_stale_verdict="rollback"), {}, "stale-verdict"),
    ],
)
def test_r7_a_crash_between_latch_and_status_does_not_lose_the_reason(
    spec: RolloutSpec, changes: dict[str, object], trigger: str
) -> None:
    state = State.STARTING if trigger == "deadline" else State.PROGRESSING
    status, at = status_in(state), T0 + 11 * MINUTE
    seen = replace(world(status), **changes)  # type: ignore[arg-type]
    whole = turn(status, at, spec=spec, seen=seen)
    assert whole.abort == NEW
    latched = replace(seen, traffic=traffic_for(status, aborted=(NEW,), weight=0))
    resumed = turn(status, at, spec=spec, seen=latched)
    assert resumed.status == whole.status
    assert resumed.status.cause is not None
    assert resumed.status.cause.trigger == trigger


def test_r7_an_undo_in_the_bake_keeps_its_reason_where_it_ends_the_process_that_obeys_it() -> None:
    """`kubectl rollout undo` of Phoenix's own Deployment replaces the pod that has just set the latch."""
    status = status_in(State.BAKING)
    whole = turn(status, target=OLD)
    resumed = turn(status, target=OLD, traffic=traffic_for(status, aborted=(NEW,), weight=0))
    assert resumed.status == whole.status
    assert resumed.status.cause is not None
    assert resumed.status.cause.trigger == "person"


def test_the_abort_is_repeated_until_latch_and_weight_are_seen_on_the_object() -> None:
    status = status_in(State.ROLLING_BACK)
    for facts in (
        traffic_for(status, aborted=()),
        traffic_for(status, canary=NEW, weight=5),
    ):
        seen = turn(status, traffic=facts)
        assert (seen.abort, seen.traffic) == (NEW, None)
    done = turn(status)
    assert done.abort is None
    assert done.traffic is not None
    assert (done.traffic.stable, done.traffic.canary) == (OLD, None)


def test_case_7_an_abort_while_the_traffic_object_is_missing_makes_it_anew_without_the_canary() -> None:
    seen = turn(status_in(State.ROLLING_BACK), traffic=None, traffic_missing=True)
    assert seen.abort == NEW
    assert seen.traffic is not None
    assert (seen.traffic.stable, seen.traffic.canary, seen.traffic.weight) == (OLD, None, 0)


def test_case_4_the_canary_keeps_its_instances_until_the_data_plane_is_seen_without_it() -> None:
    status = status_in(State.ROLLING_BACK)
    both = {OLD: GroupFacts(4, 4), NEW: GroupFacts(1, 1)}
    still = turn(status, workload=both, traffic=traffic_for(status, seen=5, seen_canary=NEW))
    assert still.instances == {OLD: 4, NEW: 1}
    off = turn(status, workload=both)
    assert off.instances == {OLD: 4}
    assert off.status.state is State.ROLLING_BACK  # it has to be gone


def test_a_rollback_ends_verified_and_with_its_record() -> None:
    status = status_in(State.ROLLING_BACK)
    waiting = turn(status)
    assert (waiting.status.state, waiting.verify) == (State.ROLLING_BACK, "rollback")
    done = turn(status, verification=verification("rollback"))
    assert done.status.state is State.ROLLED_BACK
    assert done.release is not None
    assert (done.release.outcome, done.release.revision, done.release.replaced) == (
        Outcome.ROLLED_BACK,
        NEW,
        OLD,
    )
    assert done.release.verification == verification("rollback")
    assert done.status.canary == NEW  # remembered: it takes a retry


def test_a_failing_verification_of_the_rollback_is_told_and_does_not_hold_it_up() -> None:
    done = turn(status_in(State.ROLLING_BACK), verification=verification("rollback", ok=False))
    assert done.status.state is State.ROLLED_BACK
    assert "VerificationFailed" in reasons(done)


def test_no_verification_of_an_earlier_release_counts() -> None:
    found = verification("rollback", release=7)
    assert turn(status_in(State.ROLLING_BACK), verification=found).status.state is State.ROLLING_BACK


def test_r4_a_rolled_back_revision_does_not_come_back_by_itself() -> None:
    status = status_in(State.ROLLED_BACK)
    seen = turn(status, target=NEW)
    assert seen.status == status
    assert seen.instances == {OLD: 4}


def test_r4_a_latched_revision_that_is_wanted_again_is_taken_back_again() -> None:
    idle = status_in(State.IDLE)
    started = turn(idle, target=NEW, traffic=traffic_for(idle, aborted=(NEW,))).status
    assert started.state is State.STARTING
    seen = turn(started, traffic=traffic_for(started, aborted=(NEW,)))
    assert seen.status.state is State.ROLLING_BACK
    assert seen.status.release == 2


def test_rolled_back_then_stable_is_wanted_again() -> None:
    seen = turn(status_in(State.ROLLED_BACK), target=OLD)
    assert (seen.status.state, seen.status.canary, seen.status.cause) == (State.IDLE, None, None)


def test_rolled_back_then_a_fix_is_wanted() -> None:
    seen = turn(status_in(State.ROLLED_BACK), target=NEXT)
    assert (seen.status.state, seen.status.canary, seen.status.release) == (State.STARTING, NEXT, 2)


# -- after the promotion ---------------------------------------------------------------------------


def test_the_bake_is_taken_back_to_the_revision_before() -> None:
    seen = turn(status_in(State.BAKING), commands=(command(CommandKind.ABORT),))
    assert (seen.status.stable, seen.status.canary, seen.status.previous) == (OLD, NEW, None)
    assert seen.status.cause is not None
    assert seen.status.cause.weight == 100
    assert seen.instances == {OLD: 4, NEW: 4}  # the data plane still uses the new one


def test_undo_during_the_bake_is_an_abort() -> None:
    seen = turn(status_in(State.BAKING), target=OLD)
    assert (seen.status.state, seen.abort) == (State.ROLLING_BACK, NEW)


@pytest.mark.parametrize(
    ("state", "target"),
    [(State.PROMOTED, NEW), (State.PROMOTED, NEXT), (State.STARTING, NEXT), (State.PROGRESSING, NEXT)],
)
def test_a_latch_that_swaps_stable_away_just_after_the_bake_is_followed(state: State, target: str) -> None:
    """The bake is over in the status, yet the object still names the revision before."""
    canary = None if state is State.PROMOTED else NEXT
    status = status_in(state, stable=NEW, canary=canary, release=2)
    workload = {OLD: GroupFacts(4, 4), NEW: GroupFacts(4, 4), NEXT: GroupFacts(1, 1)}
    facts = TrafficFacts(
        stable=OLD, previous=NEW, aborted=(NEW,), seen=0, seen_stable=OLD, weight=0, canary=canary
    )
    seen = turn(status, target=target, traffic=facts, workload=workload)
    assert seen.status.stable == OLD
    assert seen.traffic is None or seen.traffic.stable == OLD
    assert seen.instances[OLD] == 4


def test_a_latch_that_makes_the_wanted_revision_stable_again_ends_its_release() -> None:
    status = status_in(State.STARTING, stable=NEW, canary=OLD, release=2)
    workload = {OLD: GroupFacts(4, 4), NEW: GroupFacts(4, 4)}
    facts = TrafficFacts(stable=OLD, previous=NEW, aborted=(NEW,), seen=0, seen_stable=OLD)
    seen = turn(status, target=OLD, traffic=facts, workload=workload)
    assert (seen.status.state, seen.status.stable, seen.status.canary) == (State.CANCELLING, OLD, NEW)
    assert seen.release is not None
    assert (seen.release.number, seen.release.outcome) == (2, Outcome.CANCELLED)
    gone = turn(seen.status, target=OLD, traffic=facts, workload={OLD: GroupFacts(4, 4)})
    assert (gone.status.state, gone.status.canary) == (State.IDLE, None)


def test_with_the_revision_before_latched_too_stable_goes_on_serving() -> None:
    """R4 forbids the way back and R5 demands that somebody serves; the rollout must still come to rest."""
    status = status_in(State.ROLLING_BACK)
    facts = TrafficFacts(stable=NEW, previous=OLD, aborted=(OLD, NEW), seen=0, seen_stable=NEW)
    both = {OLD: GroupFacts(4, 4), NEW: GroupFacts(4, 4)}
    seen = turn(status, traffic=facts, workload=both)
    assert (seen.status.state, seen.status.stable, seen.status.canary) == (State.PROMOTED, NEW, None)
    assert seen.traffic is not None
    assert seen.traffic.stable == NEW
    assert seen.release is not None
    assert "latched" in seen.release.reason


def test_verification_failing_after_the_promotion_takes_it_back() -> None:
    seen = turn(status_in(State.BAKING), verification=verification("promotion", ok=False))
    assert (seen.status.state, seen.abort) == (State.ROLLING_BACK, NEW)
    assert seen.status.cause is not None
    assert seen.status.cause.trigger == "verification"
    assert "health" in seen.status.cause.reason
    assert seen.status.verification is None  # the rollback is verified on its own
    assert seen.status.step == len(STEPS)


def test_r4_a_rollback_is_not_over_before_the_latch_is_seen() -> None:
    """All the rest may be done already: a verification of this release, no instances, no traffic."""
    unlatched, done = traffic_for(status_in(State.ROLLING_BACK), aborted=()), verification("rollback")
    waiting = turn(status_in(State.ROLLING_BACK), traffic=unlatched, verification=done)
    assert (waiting.status.state, waiting.abort) == (State.ROLLING_BACK, NEW)
    at_once = turn(
        status_in(State.STARTING),
        workload={OLD: GroupFacts(4, 4)},
        verification=done,
        commands=(command(CommandKind.ABORT),),
    )
    assert (at_once.status.state, at_once.abort) == (State.ROLLING_BACK, NEW)


@pytest.mark.parametrize(("share", "words"), [(20, "it sends 20 %"), (None, "does not say whether")])
def test_a_router_that_does_not_follow_an_abort_is_told_of_once(share: int | None, words: str) -> None:
    status = status_in(State.ROLLING_BACK)
    seen = world(status, traffic=traffic_for(status, seen=share, seen_canary=NEW))
    assert not turn(status, T0 + 5 * SECOND, seen=seen).events
    late = turn(status, T0 + 11 * SECOND, seen=seen)
    assert reasons(late) == ["RouterLags"]
    assert words in late.status.message
    assert not turn(late.status, T0 + 20 * SECOND, seen=seen).events
