"""How long a rollout still takes if nothing goes wrong. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import State, Status


def time_left(
    spec: RolloutSpec, status: Status, now: datetime, verdict: Verdict | None = None
) -> timedelta | None:
    """Rollout time until the release rests; None while nothing is on its way, a person has to act, or the
    `verdict` of the present step leaves open when it ends."""
    factor = _factor(spec, status, verdict)
    if factor is None:
        return None
    bake = timedelta(0) if status.fast else spec.policy.bake
    match status.state:
        case State.STARTING:
            return bake if status.fast else bake + _steps(spec, 0)
        case State.PROGRESSING:
            own = _steps(spec, status.step) - _steps(spec, status.step + 1)
            current = own * factor - _spent(status, now)
            return bake + max(timedelta(0), current) + _steps(spec, status.step + 1)
        case State.PROMOTING:
            return None if status.hold_since is not None else bake  # others have to act
        case State.BAKING:
            return max(timedelta(0), bake * factor - _spent(status, now))
        case _:
            return None


def _factor(spec: RolloutSpec, status: Status, verdict: Verdict | None) -> float | None:
    """So many times its duration the present step lasts; None: nobody knows."""
    if verdict is None or verdict.step != status.step or verdict.kind is not VerdictKind.EXTEND:
        held = verdict is not None and verdict.step == status.step and verdict.kind is VerdictKind.HOLD
        return None if held and status.state in {State.PROGRESSING, State.BAKING} else 1.0
    return spec.policy.statistical.extension if spec.policy.gate == "statistical" else None


def _steps(spec: RolloutSpec, first: int) -> timedelta:
    return sum((step.duration for step in spec.steps()[first:]), timedelta(0))


def _spent(status: Status, now: datetime) -> timedelta:
    if status.step_clock is None or status.step_clock > now:
        return timedelta(0)
    return now - status.step_clock
