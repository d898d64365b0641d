"""How a rollout moves through its states by what is observed. Pure; one function per state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import timedelta

from phoenix_orch.health_validator.observation import Category, Tier, Verdict, VerdictKind
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.rollout import lags
from phoenix_orch.rollout.interrupts import condemned, latched, retargeted, stable_lost
from phoenix_orch.rollout.obstacles import obstructed
from phoenix_orch.rollout.status import Outcome, State, Verification
from phoenix_orch.rollout.turn import Turn


def canary_size(replicas: int, weight: int) -> int:
    """Instances the canary needs to carry `weight` per cent of what `replicas` carry; at least one."""
    return max(1, math.ceil(replicas * weight / 100))


def advance(turn: Turn) -> None:
    """Move the status by at most one state. Taking back comes first (R2), then what is wanted."""
    if latched(turn, _walk) or condemned(turn) or stable_lost(turn) or retargeted(turn):
        return
    _walk(turn)


def _walk(turn: Turn) -> None:
    handler = _HANDLERS.get(turn.status.state)
    if handler is not None:
        handler(turn)


# -- one function per state ------------------------------------------------------------------------


def _initializing(turn: Turn) -> None:
    target, traffic = turn.seen.target, turn.seen.traffic
    if turn.status.stable != target:
        turn.update(stable=target, since=turn.status.since or turn.now, message="the first revision starts")
    obstructed(turn)  # it is told of; users are served all the same
    if traffic is not None and traffic.stable == target and turn.seen.group(target).ready >= 1:
        turn.go(State.IDLE, "the first revision serves")


def _starting(turn: Turn) -> None:
    if obstructed(turn):
        return
    status, seen = turn.status, turn.seen
    if _deadline_passed(turn) or seen.workload is None or seen.traffic is None or status.clear_latch:
        return
    if _carries_another(turn):
        return
    size = seen.replicas if status.fast else canary_size(seen.replicas, turn.steps[0].weight)
    if seen.group(status.canary).ready < size:
        return
    if status.fast:
        turn.go(State.PROMOTING, "a return to an earlier revision: steps skipped")
    else:
        turn.go(State.PROGRESSING, f"the canary is ready; step 1 of {len(turn.steps)}", step=0)
        _want_weight(turn)


def _carries_another(turn: Turn) -> bool:
    """The revision before this one still has to leave the data plane, or that cannot be seen."""
    status, traffic = turn.status, turn.seen.traffic
    if traffic is None or traffic.seen is None:
        return True
    if traffic.stable != status.stable or traffic.seen_stable not in (None, status.stable):
        return True  # it had been swapped in already
    configured = traffic.weight > 0 and traffic.canary != status.canary
    return configured or (traffic.seen > 0 and traffic.seen_canary != status.canary)


def _deadline_passed(turn: Turn) -> bool:
    """Take a canary back that does not get ready in time."""
    deadline, since = turn.spec.policy.progress_deadline, turn.status.since
    if since is None or turn.now - since < deadline:
        return False
    turn.take_back("deadline", f"the canary was not ready within {format_duration(deadline)}")
    return True


def _want_weight(turn: Turn) -> None:
    """Ask for the step's weight once the canary is large enough for it, never before."""
    step = turn.step
    if turn.status.weight == step.weight:
        return
    if turn.seen.group(turn.status.canary).ready >= canary_size(turn.seen.replicas, step.weight):
        turn.update(weight=step.weight, step_clock=None)


def next_step(turn: Turn, message: str, *, actor: str = "phoenix") -> None:
    """Go to the step after this one; after the last one comes the promotion."""
    following = turn.status.step + 1
    if following >= len(turn.steps):
        turn.go(State.PROMOTING, message, actor=actor, step_clock=None)
        return
    step = turn.steps[following]
    turn.update(step=following, step_clock=None, hold_since=None, since=turn.now, message=message)
    turn.note("Step", f"step {following + 1} of {len(turn.steps)}, {step.weight} %: {message}", actor=actor)
    _want_weight(turn)


def _progressing(turn: Turn) -> None:
    if _frozen(turn) or obstructed(turn):
        return
    step = turn.step
    _want_weight(turn)
    if turn.status.weight != step.weight:
        if turn.status.step_clock is not None:
            turn.update(step_clock=None, since=turn.now)  # another weight was applied under way
        _deadline_passed(turn)  # the larger canary does not get ready
        return
    if not _weight_seen(turn, step.weight):
        _hold(turn, lags.of_a_step(turn, step.weight), told=False)
        return
    verdict = _follow_verdict(turn)
    if verdict is not None and (_lasted(turn, step.duration) or _early(turn, verdict)):
        next_step(turn, verdict.reason)


def _weight_seen(turn: Turn, weight: int) -> bool:
    """Start the step's clock when the data plane is seen at `weight`, stop it when it is not (R3)."""
    traffic = turn.seen.traffic
    if traffic is None or traffic.seen is None:
        return False
    if traffic.seen != weight or traffic.seen_canary not in (None, turn.status.canary):
        if turn.status.step_clock is not None:
            turn.note("ClockStopped", f"the data plane sends {traffic.seen} % instead of {weight} %")
            turn.update(step_clock=None, hold_since=None)
        return False
    if turn.status.step_clock is None:
        turn.update(step_clock=turn.now, hold_since=None, message=f"{weight} % seen on the data plane")
        turn.note("WeightSeen", f"{weight} % seen on the data plane; the clock starts")
    return True


def _lasted(turn: Turn, duration: timedelta) -> bool:
    clock = turn.status.step_clock
    return clock is not None and turn.now - clock >= duration


def _early(turn: Turn, verdict: Verdict) -> bool:
    """A phase whose limits are proven may be left before its time, where that is wanted."""
    wanted = turn.step.early_advance
    if wanted is None:
        wanted = turn.spec.policy.early_advance
    return wanted and verdict.tier is Tier.PROVEN


_KNOWN = frozenset({Category.ENVIRONMENT, Category.REGRESSION, Category.SAMPLE, Category.NO_DECISION})
"""Holds for another reason than that there is no data."""


def _follow_verdict(turn: Turn) -> Verdict | None:
    """Hold as the verdict says. The verdict is returned when it is to advance."""
    verdict = turn.verdict()
    if verdict is None or not _counts(turn, verdict):
        _silent(turn)
        return None
    if verdict.kind in (VerdictKind.HOLD, VerdictKind.EXTEND):
        no_data = verdict.kind is VerdictKind.HOLD and verdict.category not in _KNOWN
        _hold(turn, verdict.reason, no_data=no_data)
    elif turn.status.hold_since is not None or turn.status.message != verdict.reason:
        turn.update(hold_since=None, message=verdict.reason)
    return verdict if verdict.kind is VerdictKind.ADVANCE else None


def _counts(turn: Turn, verdict: Verdict) -> bool:
    """It is about this step and fresh; a pass is about the time since the weight was seen (R1)."""
    status = turn.status
    if verdict.step != status.step or abs(turn.now - verdict.at) > turn.spec.policy.stale_verdict:
        return False
    if verdict.kind is not VerdictKind.ADVANCE:
        return True
    return status.step_clock is not None and verdict.at >= status.step_clock


def _frozen(turn: Turn) -> bool:
    """Where the policy is to pause, a rollback verdict stops the walk.

    One from before this state was entered has been seen by the person who moved on in spite of it.
    """
    verdict, since = turn.verdict(), turn.status.since
    if verdict is None or verdict.kind is not VerdictKind.ROLLBACK:
        return False
    if since is not None and verdict.at <= since:
        return False
    turn.freeze(f"frozen: {verdict.reason}")
    return True


def _silent(turn: Turn) -> None:
    """No verdict: normal at the beginning of a step, a fault after a while."""
    policy, status = turn.spec.policy, turn.status
    began = status.step_clock or status.since or turn.now
    if turn.now - began <= policy.stale_verdict:
        return
    if policy.on_stale_verdict == "rollback":
        turn.take_back("stale-verdict", "the health validator has been silent for too long")
    else:
        _hold(turn, "no verdict from the health validator")


def _hold(turn: Turn, reason: str, *, no_data: bool = False, told: bool = True) -> None:
    """Stay; after the time-out do what the policy says, which is never to advance (R1).

    `told`: it is worth an event. Waiting a moment for the router is not.
    """
    policy, status = turn.spec.policy, turn.status
    if status.hold_since is None:
        turn.update(hold_since=turn.now, message=reason)
        if told:
            turn.note("Hold", reason)
        return
    if status.message != reason:
        turn.update(message=reason)
    held = turn.now - status.hold_since
    if no_data and policy.no_data == "rollback" and held > policy.stale_verdict:
        turn.take_back("no-data", reason)
    elif held > policy.hold_timeout and status.state is not State.BAKING:
        if policy.on_hold_timeout == "rollback":
            turn.take_back("no-data", f"held for {format_duration(policy.hold_timeout)}: {reason}")
        else:
            turn.freeze(f"held for too long: {reason}")


def _promoting(turn: Turn) -> None:
    status, traffic = turn.status, turn.seen.traffic
    if _frozen(turn) or traffic is None:
        return
    if traffic.stable != status.canary:
        if not _awaits_others(turn):
            _deadline_passed(turn)
    elif traffic.seen is not None and traffic.seen_stable in (None, status.canary):
        turn.go(
            State.BAKING,
            f"{status.canary} is stable and serves everybody",
            stable=status.canary,
            previous=None if status.fast else status.stable,
            canary=None,
            weight=0,
            step=len(turn.steps),
            step_clock=None,
            verification=None,
        )


def _awaits_others(turn: Turn) -> bool:
    """Wait for what somebody else has to do, however long that takes: stable serves, and so does the canary.
    From then on the new pods have the time that they always have."""
    awaits, status = turn.seen.awaits, turn.status
    if awaits and status.message != awaits:
        turn.update(hold_since=turn.now, message=awaits)
        turn.note("PromotionAwaited", awaits)
    elif not awaits and status.hold_since is not None:
        turn.update(hold_since=None, since=turn.now, message=f"{status.canary} is becoming stable")
    return bool(awaits)


def _baking(turn: Turn) -> None:
    """Verify once, then watch; without evidence the bake goes on and the old revision stays warm."""
    status, bake = turn.status, turn.spec.policy.bake
    verification = own_verification(turn, "promotion")
    if verification is None:
        return
    if not verification.ok and status.previous is not None:
        turn.take_back("verification", f"verification after the promotion failed: {verification.failures}")
    elif status.previous is None or bake == timedelta(0):
        turn.finish("promoted" if not verification.ok else "promoted and verified")
    elif not _new_stable_seen(turn):
        _hold(turn, "waiting to see the new revision on the data plane", told=False)
    else:
        verdict = _follow_verdict(turn)
        if verdict is not None and _lasted(turn, bake):
            turn.finish("promoted; the bake is over")


def _new_stable_seen(turn: Turn) -> bool:
    """Run the clock of the bake while the data plane is seen to send everybody to the new stable (R3)."""
    traffic = turn.seen.traffic
    if traffic is None or traffic.seen is None:
        return False
    if traffic.seen > 0 or traffic.seen_stable not in (None, turn.status.stable):
        if turn.status.step_clock is not None:
            turn.note("ClockStopped", "the data plane does not send everybody to the new stable")
            turn.update(step_clock=None, hold_since=None)
        return False
    if turn.status.step_clock is None:
        turn.update(step_clock=turn.now, hold_since=None)
    return True


def own_verification(turn: Turn, kind: str) -> Verification | None:
    """The result for this release, copied into the status when it arrives."""
    kept, found = turn.status.verification, turn.seen.verification
    if kept is not None and kept.kind == kind and kept.release == turn.status.release:
        return kept
    if found is None or found.kind != kind or found.release != turn.status.release:
        return None
    turn.update(verification=found)
    if not found.ok:
        turn.note("VerificationFailed", f"after the {kind}: failed: {found.failures}")
    else:
        turn.note(
            "Verified",
            f"after the {kind}: {sum(step.ok for step in found.steps)} of {len(found.steps)} steps passed",
        )
    return found


def off_the_data_plane(turn: Turn) -> bool:
    """The canary is configured away and was seen to get nothing."""
    status, traffic = turn.status, turn.seen.traffic
    return (
        traffic is not None
        and traffic.stable == status.stable
        and traffic.weight == 0
        and traffic.seen == 0
        and traffic.seen_stable in (None, status.stable)
    )


def _learn_cause(turn: Turn) -> None:
    """Whoever latched first takes traffic away and says why a moment later."""
    status, cause = turn.status, turn.seen.cause
    if status.cause is None or status.cause.trigger != "latch" or cause is None:
        return
    if cause.revision == status.canary:
        turn.update(cause=cause, message=cause.reason)


def _rolling_back(turn: Turn) -> None:
    _learn_cause(turn)
    if _no_way_back(turn):
        return
    status = turn.status
    traffic = turn.seen.traffic
    if traffic is None or status.canary not in traffic.aborted:
        return  # not over before it is latched (R4)
    if not off_the_data_plane(turn):
        lags.after_an_abort(turn)
        return
    if turn.seen.workload is None:
        return
    if turn.seen.group(status.canary).present > 0 or own_verification(turn, "rollback") is None:
        return
    reason = status.cause.reason if status.cause else status.message
    turn.end(Outcome.ROLLED_BACK, reason, revision=status.canary or "", replaced=status.stable)
    turn.go(State.ROLLED_BACK, reason, fast=False)


def _no_way_back(turn: Turn) -> bool:
    """Both revisions are latched and the newer one serves: it goes on serving (R4 and R5)."""
    status, traffic = turn.status, turn.seen.traffic
    if traffic is None or status.stable not in traffic.aborted or traffic.stable != status.canary:
        return False
    if status.canary not in traffic.aborted:
        return False
    reason = f"not taken back: {status.stable} is latched too, so {status.canary} goes on serving"
    turn.update(stable=status.canary, previous=status.stable)
    turn.finish(reason)
    return True


def _cancelling(turn: Turn) -> None:
    if turn.seen.workload is None or not off_the_data_plane(turn):
        return
    if turn.seen.group(turn.status.canary).present == 0:
        turn.go(State.IDLE, "back to stable", canary=None, fast=False)


_HANDLERS: Mapping[State, Callable[[Turn], None]] = {
    State.INITIALIZING: _initializing,
    State.STARTING: _starting,
    State.PROGRESSING: _progressing,
    State.PROMOTING: _promoting,
    State.BAKING: _baking,
    State.ROLLING_BACK: _rolling_back,
    State.CANCELLING: _cancelling,
}
