"""What is watched of a rollout, and what is made of answers that do not come. Pure."""

from __future__ import annotations

from datetime import timedelta

from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.sources.source import Context, Reading, SourceMemory
from phoenix_orch.rollout.status import RESTING, State, Status
from phoenix_orch.traffic.router import TrafficSeen

FLOOR = timedelta(milliseconds=200)
"""Real time between two observations at least, however compressed the rollout's clock is."""


def watched(status: Status) -> str | None:
    """The revision to watch; while there is no release that is stable, for the sake of its history."""
    return status.stable if status.state in RESTING | {State.BAKING} else status.canary


def weight(seen: TrafficSeen, revision: str) -> int:
    """The revision's share as the data plane shows it; 0 when it does not."""
    if seen.weight is None:
        return 0
    if seen.canary_revision == revision:
        return seen.weight
    return 100 - seen.weight if seen.stable_revision == revision else 0


def gap(context: Context, memory: SourceMemory, reason: str) -> Reading:
    def arm(revision: str) -> Arm:
        return Arm(revision=revision, quality=Quality.GAP)

    tracker = memory.tracker.model_copy(update={"missed": True})
    observation = Observation(
        t0=context.t0,
        t1=context.t1,
        revision=context.revision,
        step=context.step,
        weight_applied=context.weight,
        canary=arm(context.revision),
        stable=arm(context.stable) if context.stable is not None else None,
        notes=(*context.notes, reason),
    )
    return Reading(observation, memory.model_copy(update={"tracker": tracker}))
