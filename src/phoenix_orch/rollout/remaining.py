"""How long a rollout still takes if nothing goes wrong. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import State, Status


def time_left(spec: RolloutSpec, status: Status, now: datetime) -> timedelta | None:
    """Rollout time until the release rests; None while nothing is on its way or a person has to act."""
    bake = timedelta(0) if status.fast else spec.policy.bake
    match status.state:
        case State.STARTING:
            return bake if status.fast else bake + _steps(spec, 0)
        case State.PROGRESSING:
            current = _steps(spec, status.step) - _steps(spec, status.step + 1) - _spent(status, now)
            return bake + max(timedelta(0), current) + _steps(spec, status.step + 1)
        case State.PROMOTING:
            return bake
        case State.BAKING:
            return max(timedelta(0), bake - _spent(status, now))
        case _:
            return None


def _steps(spec: RolloutSpec, first: int) -> timedelta:
    return sum((step.duration for step in spec.steps()[first:]), timedelta(0))


def _spent(status: Status, now: datetime) -> timedelta:
    if status.step_clock is None or status.step_clock > now:
        return timedelta(0)
    return now - status.step_clock
