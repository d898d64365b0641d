"""What the world should look like for a status. Pure and level-triggered: no memory, no order of calls."""

from __future__ import annotations

from datetime import datetime, timedelta

from phoenix_orch.rollout.facts import Decision, TrafficWanted
from phoenix_orch.rollout.status import RESTING, State
from phoenix_orch.rollout.turn import Turn
from phoenix_orch.rollout.walk import canary_size, off_the_data_plane


def desire(turn: Turn) -> Decision:
    """Read the wanted world off the status.

    An abort leaves no room for any other traffic write, unless there is no object to latch: then it is
    made, without the canary and with the latch.
    """
    status = turn.status
    abort = _wanted_abort(turn)
    return Decision(
        status=status,
        abort=abort,
        clear_latch=status.canary if status.clear_latch else None,
        traffic=_wanted_traffic(turn) if abort is None or turn.seen.traffic_missing else None,
        instances=_wanted_instances(turn),
        verify=_wanted_verification(turn),
        events=tuple(turn.events),
        release=turn.release,
        requeue_after=_requeue(turn),
    )


def _wanted_abort(turn: Turn) -> str | None:
    """The revision to latch, until the traffic object is known to hold the latch and no weight."""
    status, traffic = turn.status, turn.seen.traffic
    if status.state is not State.ROLLING_BACK or status.canary is None:
        return None
    if traffic is None or status.canary not in traffic.aborted:
        return status.canary
    return status.canary if traffic.canary == status.canary and traffic.weight > 0 else None


def _wanted_traffic(turn: Turn) -> TrafficWanted | None:
    """How the traffic object should look; None where writing that would hurt."""
    wanted, traffic = _configured(turn), turn.seen.traffic
    if wanted is None or traffic is None or wanted.stable == traffic.stable:
        return wanted
    latched = wanted.stable in traffic.aborted  # R4
    return None if latched or turn.seen.group(wanted.stable).ready == 0 else wanted  # R5


def _configured(turn: Turn) -> TrafficWanted | None:
    status = turn.status
    if status.stable is None or turn.seen.group(status.stable).present == 0:
        return None
    if status.state is State.INITIALIZING:
        ready = turn.seen.group(status.stable).ready
        return TrafficWanted(stable=status.stable) if ready >= _first_size(turn) else None
    if status.state is State.BAKING:
        return TrafficWanted(stable=status.stable, previous=status.previous)
    if status.state is State.PROMOTING and status.canary is not None and _may_swap(turn):
        return TrafficWanted(stable=status.canary, previous=None if status.fast else status.stable)
    if status.state in {State.PROGRESSING, State.PAUSED, State.PROMOTING}:
        ready = turn.seen.group(status.canary).ready > 0
        return TrafficWanted(stable=status.stable, canary=status.canary, weight=status.weight if ready else 0)
    return TrafficWanted(stable=status.stable)


def _first_size(turn: Turn) -> int:
    """One instance is better than none; yet where another revision serves already, all are needed."""
    traffic = turn.seen.traffic
    return 1 if traffic is None or traffic.stable == turn.status.stable else turn.seen.replicas


def _may_swap(turn: Turn) -> bool:
    """The new revision is at full size and nobody has latched it meanwhile (R4, R5)."""
    status, traffic = turn.status, turn.seen.traffic
    if traffic is None or status.canary in traffic.aborted:
        return False
    return traffic.stable == status.canary or turn.seen.group(status.canary).ready >= turn.seen.replicas


def _wanted_instances(turn: Turn) -> dict[str, int]:
    """Wanted count by revision. While nobody knows what runs, nothing may be made smaller (R5)."""
    wanted, replicas = _counted(turn), turn.seen.replicas
    if turn.seen.workload is not None:
        return wanted
    return {revision: count for revision, count in wanted.items() if count >= replicas}


def _counted(turn: Turn) -> dict[str, int]:
    status, replicas = turn.status, turn.seen.replicas
    wanted: dict[str, int] = {}
    if status.stable is not None:
        wanted[status.stable] = replicas
    if status.previous is not None:
        wanted[status.previous] = replicas
    if status.canary is not None and (count := _canary_count(turn)) > 0:
        wanted[status.canary] = count
    _keep_what_serves(turn, wanted)
    return wanted


def _canary_count(turn: Turn) -> int:
    status, replicas = turn.status, turn.seen.replicas
    match status.state:
        case State.STARTING:
            return replicas if status.fast else canary_size(replicas, turn.steps[0].weight)
        case State.PROGRESSING | State.PAUSED:
            return canary_size(replicas, turn.step.weight)
        case State.PROMOTING:
            return replicas
        case _:
            return 0


def _keep_what_serves(turn: Turn, wanted: dict[str, int]) -> None:
    """Never take away instances that the traffic object or the data plane still uses (R5).

    Stable and the one before have the size that is wanted; a smaller one is a person's wish.
    """
    present = turn.seen.workload or {}
    for revision in (_serving(turn) & set(present)) - {turn.status.stable, turn.status.previous}:
        wanted[revision] = max(wanted.get(revision, 0), present[revision].present)
        if wanted[revision] == 0:
            del wanted[revision]


def _serving(turn: Turn) -> set[str]:
    """Revisions that get requests, or may get some at the next abort. All, where that is not known."""
    traffic, everything = turn.seen.traffic, set(turn.seen.workload or {})
    if traffic is None:
        return set() if turn.seen.traffic_missing else everything
    nameless = traffic.seen_canary is None and (traffic.canary is None or traffic.weight == 0)
    if traffic.seen is None or (traffic.seen > 0 and nameless):
        return everything
    serving = {traffic.stable, traffic.seen_stable, traffic.previous}
    if traffic.weight > 0 or traffic.seen > 0:
        serving |= {traffic.canary}
    if traffic.seen > 0:
        serving |= {traffic.seen_canary}
    return {revision for revision in serving if revision is not None}


def _wanted_verification(turn: Turn) -> str | None:
    status = turn.status
    kept = status.verification
    done = kept is not None and kept.release == status.release
    if (
        done
        and kept is not None
        and kept.kind == ("promotion" if status.state is State.BAKING else "rollback")
    ):
        return None
    if status.state is State.BAKING:
        return "promotion"
    gone = turn.seen.workload is not None and turn.seen.group(status.canary).present == 0
    if status.state is State.ROLLING_BACK and gone and off_the_data_plane(turn):
        return "rollback"
    return None


def _requeue(turn: Turn) -> timedelta | None:
    """Until the next deadline that lies in the future."""
    status, policy = turn.status, turn.spec.policy
    if status.state in RESTING:
        return None
    moments: list[datetime] = []
    if status.since is not None and status.state in {State.STARTING, State.PROMOTING}:
        moments.append(status.since + policy.progress_deadline)
    if status.step_clock is not None and status.state is State.PROGRESSING:
        moments.append(status.step_clock + turn.step.duration)
    if status.step_clock is not None and status.state is State.BAKING:
        moments.append(status.step_clock + policy.bake)
    if status.hold_since is not None:
        moments.append(status.hold_since + policy.hold_timeout)
    return min((moment - turn.now for moment in moments if moment > turn.now), default=None)
