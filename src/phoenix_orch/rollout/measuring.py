"""A rollout after a pass over it, as the numbers that are shown of it. Pure."""

from __future__ import annotations

from datetime import datetime

from phoenix_orch.observability.rollouts import RolloutFacts
from phoenix_orch.rollout.facts import Decision, TrafficFacts
from phoenix_orch.rollout.status import ACTIVE, RESTING, Rollout


def facts_of(rollout: Rollout, traffic: TrafficFacts | None, now: datetime) -> RolloutFacts:
    """`traffic`: what the object said and the router did; None: not known."""
    status = rollout.status
    active = status.state in ACTIVE
    return RolloutFacts(
        name=rollout.name,
        state=status.state.value,
        resting=status.state in RESTING,
        release=status.release,
        step=status.step + 1 if active else 0,
        steps=len(rollout.spec.steps()),
        wanted=status.weight,
        seen=traffic.seen if traffic is not None else None,
        state_seconds=_seconds(status.since, now),
        step_seconds=_seconds(status.step_clock, now) if active else 0.0,
    )


def acts(rollout: Rollout, decision: Decision) -> bool:
    """Something comes of this decision that was not so before."""
    return bool(
        decision.abort is not None
        or decision.clear_latch is not None
        or decision.release is not None
        or decision.events
        or decision.status != rollout.status
    )


def _seconds(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since is not None else 0.0
