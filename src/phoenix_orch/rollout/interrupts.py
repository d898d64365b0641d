"""What comes before the walk: taking back, a stable that was swapped away, another target. Pure.

Each function says True when it has used this turn up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.rollout.obstacles import held_at_rest, nothing_waits, waits
from phoenix_orch.rollout.status import ACTIVE, RESTING, Cause, Outcome, State
from phoenix_orch.rollout.turn import Turn


def latched(turn: Turn, walk: Callable[[Turn], None]) -> bool:
    """Follow the traffic object, or the word of whoever latches: the revision is being taken back.

    While a person's retry is on its way the latch on the object is the one being lifted; only a cause
    that was given since then is a new one.
    """
    revision, traffic = turn.under_judgement(), turn.seen.traffic
    if revision is None:
        return False
    on_object = traffic is not None and revision in traffic.aborted
    cause = turn.fresh_cause()
    if turn.status.clear_latch:
        if turn.seen.traffic_missing or (traffic is not None and not on_object):
            turn.update(clear_latch=False)
        on_object = False
    if not on_object and cause is None:
        return False
    cause = cause or _told_before(turn, revision) or _own_reason(turn, walk)
    turn.take_back("latch", "the revision is latched on the traffic object", cause=cause)
    return True


def _told_before(turn: Turn, revision: str) -> Cause | None:
    """The latch of an earlier release still holds; so does what was said about it."""
    cause = turn.seen.cause
    return cause if cause is not None and cause.revision == revision else None


def _own_reason(turn: Turn, walk: Callable[[Turn], None]) -> Cause | None:
    """Why Phoenix itself would take the revision back now.

    A crash between writing the latch and the status loses the reason; the same facts give it again (R7).
    """
    probe = Turn(turn.spec, turn.status, turn.seen, turn.now)
    if not condemned(probe) and not _wanted_back(probe):
        walk(probe)
    return probe.status.cause if probe.status.state is State.ROLLING_BACK else None


def condemned(turn: Turn) -> bool:
    """Obey a rollback verdict on the revision under judgement, also one of an earlier step.

    It comes before another target, so that a bad revision gets its latch and never counts as promoted.
    """
    verdict = turn.verdict()
    if verdict is None or verdict.kind is not VerdictKind.ROLLBACK:
        return False
    if turn.spec.policy.on_failure == "pause" and turn.status.state is not State.BAKING:
        return False  # the walk freezes instead
    turn.take_back("verdict", verdict.reason)
    return True


def stable_lost(turn: Turn) -> bool:
    """Follow a latch that made stable and the revision before it change places.

    That happens between the end of a bake and the write that drops the revision before: nothing is
    under judgement any more, yet the traffic object still has somewhere to go back to.
    """
    status, traffic = turn.status, turn.seen.traffic
    if traffic is None or status.stable is None or traffic.stable == status.stable:
        return False
    if status.stable not in traffic.aborted or traffic.stable in traffic.aborted:
        return False
    if turn.seen.group(traffic.stable).present == 0 or status.state in {State.INITIALIZING, State.BAKING}:
        return False
    if traffic.stable == status.canary:
        return _stable_already(turn, traffic.stable)
    turn.note("StableTakenBack", f"{status.stable} was latched; {traffic.stable} is stable again")
    turn.update(stable=traffic.stable)
    return True


def _stable_already(turn: Turn, revision: str) -> bool:
    status, leaving = turn.status, turn.status.stable
    if status.state in {State.PROMOTING, State.ROLLING_BACK}:
        return False  # its own promotion put it there
    message = f"{leaving} was latched; {revision} is stable already"
    if status.state in ACTIVE:
        turn.end(Outcome.CANCELLED, message, revision=revision, replaced=leaving)
        _cancel(turn, message, stable=revision, canary=leaving)
    else:
        turn.note("StableTakenBack", message)
        turn.update(stable=revision, canary=leaving)
    return True


def _cancel(turn: Turn, message: str, **changes: Any) -> None:
    turn.go(
        State.CANCELLING,
        message,
        weight=0,
        step_clock=None,
        clear_latch=False,
        pause_by="",
        resume_to=None,
        **changes,
    )


def retargeted(turn: Turn) -> bool:
    """Follow a change of what is wanted. True when that is all for this turn."""
    status, target = turn.status, turn.seen.target
    if status.state in RESTING:
        return _leave_rest(turn, target)
    if status.state in ACTIVE and target != status.canary:
        _supersede(turn, target)
        return True
    if status.state is State.BAKING and target != status.stable:
        if _wanted_back(turn):
            return True
        if waits(turn):
            return False  # the bake goes on meanwhile
        if status.stable is not None:
            message = f"bake cut short: {target} is wanted"
            turn.end(Outcome.PROMOTED, message, revision=status.stable, replaced=status.previous)
            turn.begin(target, "another revision is wanted")
        return True
    if status.state is State.CANCELLING and target != status.stable:
        if waits(turn):
            return False
        turn.begin(target, "another revision is wanted")
        return True
    return False


def _wanted_back(turn: Turn) -> bool:
    """The revision before is wanted during the bake: somebody has undone the release."""
    status = turn.status
    if status.state is not State.BAKING or turn.seen.target != status.previous:
        return False
    turn.take_back("person", "the revision before is wanted again")
    return True


def _leave_rest(turn: Turn, target: str) -> bool:
    status = turn.status
    if target == status.stable:
        if status.state is State.ROLLED_BACK:
            turn.go(State.IDLE, "stable is wanted again", canary=None, cause=None)
        nothing_waits(turn)
        return True
    if status.state is State.ROLLED_BACK and target == status.canary:
        nothing_waits(turn)
        return True  # latched: only a person's retry brings it back (R4)
    if held_at_rest(turn):
        return True
    turn.begin(target, "a new revision is wanted")
    return True


def _supersede(turn: Turn, target: str) -> None:
    """Another revision is wanted in the middle of a release: weight 0 comes first."""
    status = turn.status
    back = target == status.stable
    if status.canary is not None:
        turn.end(
            Outcome.CANCELLED if back else Outcome.SUPERSEDED,
            "stable is wanted again" if back else f"superseded by {target}",
            revision=status.canary,
            replaced=status.stable,
        )
    if back:
        _cancel(turn, "stable is wanted again")
    elif waits(turn):
        _cancel(turn, f"{target} is wanted and has to wait; what was under way leaves")
    else:
        turn.begin(target, f"{target} is wanted; weight 0 first")
