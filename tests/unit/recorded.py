"""Releases made by a seeded stream of requests, for tests of what looks at recorded observations."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from phoenix_orch.health_validator.observation import Arm, Observation
from phoenix_orch.health_validator.recording import Header, Recording
from phoenix_orch.rollout.spec import Limits, Phase, RolloutSpec

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
EDGES = (0.05, 0.1, 0.2, math.inf)
LIMITS = Limits(error_rate="1%", latency_p95="100ms")
SPEC = RolloutSpec(
    phases=(
        Phase(name="initial", weight=10, duration=timedelta(minutes=3), limits=LIMITS),
        Phase(name="full", weight=50, duration=timedelta(minutes=3), limits=LIMITS),
    )
)


def release(
    *,
    failing: float = 0.0,
    fails_from: timedelta = timedelta(0),
    stable_failing: float = 0.0,
    walk: Sequence[tuple[int, timedelta]] = ((10, timedelta(minutes=3.5)), (50, timedelta(minutes=3.5))),
    rps: float = 100,
    seed: int = 1,
    began: datetime = BEGAN,
    revision: str = "2222222222",
) -> Recording:
    """One release along `walk` (weight, time at it); `failing`: share of the canary's failed requests."""
    dice = random.Random(seed)
    observations: list[Observation] = []
    now = began
    for step, (weight, stay) in enumerate(walk):
        for _ in range(round(stay / timedelta(seconds=10))):
            bad = failing if now - began >= fails_from else 0.0
            canary = arm(dice, revision, rps * 10 * weight / 100, bad)
            stable = arm(dice, "1111111111", rps * 10 * (100 - weight) / 100, stable_failing)
            observations.append(
                Observation(
                    t0=now,
                    t1=now + timedelta(seconds=10),
                    revision=revision,
                    step=step,
                    weight_applied=weight,
                    canary=canary,
                    stable=stable,
                )
            )
            now += timedelta(seconds=10)
    header = Header(rollout="web", release=3, revision=revision, version="1.5.0", spec=SPEC)
    return Recording("web#3", header, tuple(observations))


def arm(dice: random.Random, revision: str, mean: float, failing: float) -> Arm:
    """Poisson requests (by their normal approximation), 95 % within 50 ms and 4 % within 100 ms."""
    requests = max(0, round(dice.gauss(mean, math.sqrt(mean))))
    slow = sum(dice.random() < 0.01 for _ in range(requests))
    middle = sum(dice.random() < 0.04 for _ in range(requests - slow))
    return Arm(
        revision=revision,
        requests=requests,
        errors=sum(dice.random() < failing for _ in range(requests)) if failing else 0,
        buckets=tuple(zip(EDGES, (requests - slow - middle, middle, slow, 0), strict=True)),
        processes=2,
    )


def changed(recording: Recording, change: Callable[[Observation], Observation]) -> Recording:
    found = tuple(change(observation) for observation in recording.observations)
    return replace(recording, observations=found)
