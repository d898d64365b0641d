"""Every command in every state: obeyed where it makes sense, refused with a reason where not."""

from __future__ import annotations

import pytest
from tests.unit.rollout_setting import (
    LAST,
    NEW,
    NEXT,
    OLD,
    T0,
    command,
    reasons,
    status_in,
    traffic_for,
    turn,
    world,
)

from phoenix_orch.rollout.commands import HANDLED_KEPT, refusal, remedy
from phoenix_orch.rollout.status import Command, CommandKind, Outcome, State

K, S = CommandKind, State

ALLOWED = {
    K.PAUSE: {S.STARTING: S.PAUSED, S.PROGRESSING: S.PAUSED},
    K.RESUME: {S.PAUSED: S.PROGRESSING},
    K.PROMOTE: {S.PROGRESSING: S.PROGRESSING, S.PAUSED: S.PROGRESSING},
    K.PROMOTE_FULL: dict.fromkeys((S.STARTING, S.PROGRESSING, S.PAUSED), S.PROMOTING),
    K.END_BAKE: {S.BAKING: S.PROMOTED},
    K.ABORT: dict.fromkeys((S.STARTING, S.PROGRESSING, S.PAUSED, S.PROMOTING, S.BAKING), S.ROLLING_BACK),
    K.RETRY: {S.ROLLED_BACK: S.STARTING},
}
EVERY = [(kind, state) for kind in K for state in S]


@pytest.mark.parametrize(("kind", "state"), EVERY)
def test_every_command_in_every_state(kind: CommandKind, state: State) -> None:
    status = status_in(state)
    # Unreadable surroundings: nothing but the command can move the rollout.
    seen = turn(status, traffic=None, workload=None, commands=(command(kind),))
    assert seen.status.handled == ("c1",)
    expected = ALLOWED[kind].get(state)
    if expected is None:
        assert seen.status.state is turn(status, traffic=None, workload=None).status.state
        refused = next(event for event in seen.events if event.reason == "CommandRefused")
        assert state.value in refused.message
        assert refused.actor == "operator"
        assert refusal(status, kind) is not None
    else:
        assert seen.status.state is expected
        assert "CommandRefused" not in reasons(seen)
        assert refusal(status, kind) is None


def test_promote_skips_the_rest_of_the_step() -> None:
    seen = turn(status_in(S.PROGRESSING), commands=(command(K.PROMOTE),))
    assert (seen.status.step, seen.status.weight, seen.status.step_clock) == (1, 20, None)
    assert seen.events[0].actor == "operator"


def test_promote_at_the_last_step_goes_on_to_the_promotion() -> None:
    status = status_in(S.PROGRESSING, step=LAST, weight=100)
    assert turn(status, commands=(command(K.PROMOTE),)).status.state is S.PROMOTING


def test_promote_while_paused_before_the_canary_was_ready_only_resumes() -> None:
    status = status_in(S.PAUSED, resume_to=S.STARTING, weight=0)
    seen = turn(status, traffic=None, workload=None, commands=(command(K.PROMOTE),))
    assert (seen.status.state, seen.status.step) == (S.STARTING, 0)


def test_pause_keeps_the_weight_and_stops_the_clock() -> None:
    seen = turn(status_in(S.PROGRESSING), commands=(command(K.PAUSE),))
    assert (seen.status.state, seen.status.weight, seen.status.step_clock) == (S.PAUSED, 5, None)
    assert seen.traffic is not None
    assert seen.traffic.weight == 5


def test_resume_starts_the_clock_of_the_step_anew() -> None:
    at = T0.replace(hour=5)
    seen = turn(status_in(S.PAUSED), at, commands=(command(K.RESUME),))
    assert (seen.status.state, seen.status.step_clock, seen.status.pause_by) == (S.PROGRESSING, at, "")


def test_a_pause_before_the_canary_was_ready_resumes_there() -> None:
    paused = turn(status_in(S.STARTING), workload=None, commands=(command(K.PAUSE),)).status
    assert (paused.state, paused.resume_to) == (S.PAUSED, S.STARTING)
    resumed = turn(paused, workload=None, commands=(command(K.RESUME, "c2"),)).status
    assert (resumed.state, resumed.resume_to) == (S.STARTING, None)


def test_a_command_is_obeyed_once_however_often_it_is_read() -> None:
    asked = (command(K.PROMOTE), command(K.PROMOTE))
    first = turn(status_in(S.PROGRESSING), commands=asked).status
    assert first.step == 1
    assert turn(first, commands=asked).status.step == 1


def test_more_waiting_commands_than_are_remembered_are_still_obeyed_once() -> None:
    many = tuple(command(K.RESUME, f"c{number}") for number in range(HANDLED_KEPT + 8))
    first = turn(status_in(S.PROGRESSING), commands=many)
    assert {c.id for c in many} <= set(first.status.handled)
    assert "CommandRefused" not in reasons(turn(first.status, commands=many))


def test_ids_of_old_commands_are_forgotten() -> None:
    status = status_in(S.PROGRESSING, handled=tuple(f"old{n}" for n in range(HANDLED_KEPT)))
    handled = turn(status, commands=(command(K.PAUSE),)).status.handled
    assert len(handled) == HANDLED_KEPT
    assert handled[-1] == "c1"


@pytest.mark.parametrize("kind", [K.PROMOTE, K.PROMOTE_FULL])
def test_a_promotion_typed_as_the_last_step_ended_does_not_skip_the_bake(kind: CommandKind) -> None:
    seen = turn(status_in(S.BAKING), commands=(command(kind),))
    assert seen.status.state is S.BAKING
    assert "CommandRefused" in reasons(seen)
    assert "--end-bake" in remedy(status_in(S.BAKING), kind, "shop")


def test_a_promotion_meant_for_a_step_that_is_over_skips_no_other_one() -> None:
    meant = command(K.PROMOTE).model_copy(update={"step": 0})
    late = turn(status_in(S.PROGRESSING, step=1, weight=20), commands=(meant,))
    assert late.status.step == 1
    refused = next(event for event in late.events if event.reason == "CommandRefused")
    assert refused.message == "promote: it is at step 2 and not at step 1"
    in_time = turn(status_in(S.PROGRESSING), commands=(meant,))
    assert in_time.status.step == 1
    twice = turn(status_in(S.PROGRESSING), commands=(meant, meant.model_copy(update={"id": "c2"})))
    assert twice.status.step == 1


def test_the_end_of_the_bake_by_a_person_leaves_its_record() -> None:
    seen = turn(status_in(S.BAKING), commands=(command(K.END_BAKE),))
    assert seen.release is not None
    assert (seen.release.number, seen.release.outcome, seen.release.replaced) == (1, Outcome.PROMOTED, OLD)
    assert seen.status.previous is None


def test_abort_is_refused_when_the_revision_before_is_gone() -> None:
    status = status_in(S.BAKING, previous=None, fast=True)
    seen = turn(status, commands=(command(K.ABORT),))
    assert (seen.status.state, seen.abort) == (S.BAKING, None)
    assert "not kept" in seen.events[0].message


def test_commands_are_obeyed_in_their_order() -> None:
    asked = (command(K.PAUSE, "c1"), command(K.RESUME, "c2"), command(K.ABORT, "c3"))
    seen = turn(status_in(S.PROGRESSING), commands=asked)
    assert seen.status.state is S.ROLLING_BACK
    assert seen.abort == NEW


# -- retry -----------------------------------------------------------------------------------------


def test_retry_lifts_the_latch_once() -> None:
    rolled_back = status_in(S.ROLLED_BACK)
    retried = turn(rolled_back, commands=(command(K.RETRY),))
    assert (retried.status.state, retried.status.release, retried.clear_latch) == (S.STARTING, 2, NEW)
    assert retried.status.cause is None
    latched = traffic_for(rolled_back)
    again = turn(retried.status, traffic=latched)
    assert again.clear_latch == NEW  # not seen to be gone: said again
    gone = turn(retried.status)
    assert (gone.clear_latch, gone.status.clear_latch) == (None, False)
    assert gone.status.state is not S.ROLLING_BACK
    latched_anew = turn(gone.status, traffic=latched)
    assert latched_anew.status.state is S.ROLLING_BACK  # the word was good for one latch


def test_nothing_carries_weight_until_the_latch_is_seen_gone() -> None:
    rolled_back = status_in(S.ROLLED_BACK)
    retried = turn(rolled_back, commands=(command(K.RETRY),)).status
    seen = turn(retried, traffic=traffic_for(rolled_back), workload=world(status_in(S.STARTING)).workload)
    assert seen.status.state is S.STARTING
    assert seen.traffic is not None
    assert seen.traffic.weight == 0
    full = turn(seen.status, traffic=traffic_for(rolled_back), commands=(command(K.PROMOTE_FULL, "c2"),))
    assert full.status.state is S.PROMOTING
    assert full.traffic is not None
    assert full.traffic.stable == OLD


@pytest.mark.parametrize("together", [True, False])
def test_an_abort_right_after_a_retry_wins(together: bool) -> None:
    latched = traffic_for(status_in(S.ROLLED_BACK))
    retry, abort = command(K.RETRY, "c1"), command(K.ABORT, "c2")
    if together:
        seen = turn(status_in(S.ROLLED_BACK), traffic=latched, commands=(retry, abort))
    else:
        first = turn(status_in(S.ROLLED_BACK), traffic=latched, commands=(retry,))
        seen = turn(first.status, traffic=latched, commands=(retry, abort))
    assert seen.status.state is S.ROLLING_BACK
    assert (seen.clear_latch, seen.status.clear_latch) == (None, False)


def test_a_retry_of_what_nobody_wants_any_more_starts_what_is_wanted() -> None:
    seen = turn(status_in(S.ROLLED_BACK), target=NEXT, commands=(command(K.RETRY),))
    assert (seen.status.state, seen.status.canary, seen.clear_latch) == (S.STARTING, NEXT, None)


def test_words_of_the_person_reach_the_event() -> None:
    said = Command(id="c9", kind=K.ABORT, actor="operator", at=T0, reason="smells wrong")
    seen = turn(status_in(S.PROGRESSING), commands=(said,))
    assert seen.status.cause is not None
    assert (seen.status.cause.trigger, seen.status.cause.actor) == ("person", "operator")
    assert "smells wrong" in seen.status.message


@pytest.mark.parametrize("kind", [K.PROMOTE_FULL, K.PAUSE])
def test_a_retry_does_not_wait_for_the_latch_of_an_object_that_is_gone(kind: CommandKind) -> None:
    asked = (command(K.RETRY, "c1"), command(kind, "c2"))
    seen = turn(status_in(S.ROLLED_BACK), traffic=None, traffic_missing=True, commands=asked)
    assert (seen.clear_latch, seen.status.clear_latch) == (None, False)
    assert seen.traffic is not None
    assert seen.traffic.weight == 0


@pytest.mark.parametrize("other", [K.END_BAKE, K.PROMOTE_FULL, K.PAUSE])
def test_r2_an_abort_goes_before_what_came_a_moment_earlier(other: CommandKind) -> None:
    state = S.BAKING if other is K.END_BAKE else S.PROGRESSING
    first, second = command(other), command(K.ABORT).model_copy(update={"id": "c2"})
    seen = turn(status_in(state), traffic=None, workload=None, commands=(first, second))
    assert seen.status.state is S.ROLLING_BACK
    assert set(seen.status.handled) == {"c1", "c2"}
