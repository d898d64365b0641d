"""Where on a walk each observation was made, when the record does not say. Pure.

The share of requests that the canary got tells the weight. Each single share is noisy, the walk as a
whole is not: it begins at 0, only rises, and may end at 0 again. `placed` takes the most likely such
walk over the policy's steps (Viterbi: one binomial likelihood for each interval and step).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.health_validator.recording import Recording
from phoenix_orch.kernel.errors import Invalid

NOTHING = 0.0005
"""Share of a canary that gets no traffic: a stray request does not make a step."""
EVERYTHING = 0.9995


def placed(recording: Recording, weights: Sequence[int]) -> Recording:
    """The recording with step and weight of each observation; what was made at no weight is left out."""
    if recording.placed:
        return recording
    if all(observation.stable is None for observation in recording.observations):
        raise Invalid(
            f"{recording.source}: the canary's weight cannot be told",
            remedy="give a column `weight`, or the requests of stable beside those of the canary",
        )
    path = _path(recording.observations, weights)
    found = tuple(
        observation.model_copy(update={"step": place, "weight_applied": weights[place]})
        for observation, place in zip(recording.observations, path, strict=True)
        if place is not None
    )
    return replace(recording, observations=found, placed=True)


def _path(observations: Sequence[Observation], weights: Sequence[int]) -> list[int | None]:
    """The step of each observation; None before the first and after the last one."""
    shares = [NOTHING, *(min(EVERYTHING, weight / 100) for weight in weights), NOTHING]
    last = len(shares) - 1
    score = [0.0] + [-math.inf] * last
    back: list[list[int]] = []
    for observation in observations:
        best, came = [], []
        for state in range(last + 1):
            options = range(state + 1) if state < last else range(last + 1)
            source = max(options, key=lambda before: score[before])
            best.append(score[source] + _likelihood(observation, shares[state]))
            came.append(source)
        score = best
        back.append(came)
    state = max(range(last + 1), key=lambda place: score[place])
    path: list[int | None] = []
    for came in reversed(back):
        path.append(state - 1 if 0 < state < last else None)
        state = came[state]
    return path[::-1]


def _likelihood(observation: Observation, share: float) -> float:
    """Log-likelihood of the canary's share of the requests; without stable nothing is said."""
    if observation.stable is None:
        return 0.0
    return observation.canary.arrived * math.log(share) + observation.stable.arrived * math.log1p(-share)
