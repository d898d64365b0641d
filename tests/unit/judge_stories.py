"""Observations of a canary and of stable, and what the judge says of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.judge import JudgeConfig, JudgeState, init, step
from phoenix_orch.health_validator.observation import (
    Arm,
    Observation,
    Verdict,
    VerdictKind,
)
from phoenix_orch.rollout.spec import (
    Evidence,
    Limits,
    Phase,
    Policy,
    RolloutSpec,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=10)
EDGES = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, math.inf)
PAST = History(
    windows=180,
    requests=10**6,
    errors=400,
    dispersion=1.0,
    edges=(0.01, 0.025, 0.05, 0.1, 0.2, 0.4),
    slower=(0.99, 0.8, 0.4, 0.02, 0.001, 0.0002),
    spread=(1.25,) * 6,
)


def spec(
    limits: Limits | None = None, *, minutes: int = 5, policy: Policy | None = None, **evidence: Any
) -> RolloutSpec:
    given = limits or Limits(error_rate="0.1%", latency_p95="100ms")
    return RolloutSpec(
        phases=(
            Phase(name="first", weight=20, duration=f"{minutes}m", limits=given),
            Phase(name="second", weight=50, duration=f"{minutes}m", limits=given),
        ),
        policy=policy or Policy(bake="2m"),
        evidence=Evidence(**evidence),
    )


def arm(
    requests: int = 1000,
    errors: int = 0,
    *,
    slow: int | None = None,
    factor: float = 1.0,
    revision: str = "new",
    **more: Any,
) -> Arm:
    """Latency as in PAST: 2 % slower than 100 ms; or `slow` of them; or everything `factor` times as slow."""
    shares = [PAST._slower(edge / factor) or 1.0 for edge in PAST.edges]
    above = [round(requests * share) for share in shares]
    if slow is not None:
        above = [*above[:3], slow, slow // 4, 0]
        above[2] = max(above[2], slow)
    counts = [a - b for a, b in zip([requests, *above], [*above, 0], strict=True)]
    buckets = tuple(zip(EDGES, counts, strict=True))
    return Arm(revision=revision, requests=requests, errors=errors, buckets=buckets, processes=1, **more)


def observe(
    number: int,
    canary: Arm | None = None,
    stable: Arm | None = None,
    *,
    weight: int = 20,
    place: int = 0,
    alone: bool = False,
    **more: Any,
) -> Observation:
    canary = canary or arm()
    left = round(canary.requests * (100 - weight) / weight)
    return Observation(
        t0=START + number * TICK,
        t1=START + (number + 1) * TICK,
        revision=canary.revision,
        step=place,
        weight_applied=weight,
        canary=canary,
        stable=None if alone else stable or arm(left, revision="old"),
        **more,
    )


def run(
    story: Iterable[Observation],
    of: RolloutSpec | None = None,
    state: JudgeState | None = None,
    history: History | None = PAST,
) -> tuple[JudgeState, Verdict]:
    config = JudgeConfig.of(of or spec())
    state = state or init(config, "new", history=history)
    verdict = None
    for seen in story:
        state, verdict = step(config, state, seen)
    assert verdict is not None
    return state, verdict


ERRORS = Limits(error_rate="0.1%")


def steady(
    count: int, canary: Arm | None = None, stable: Arm | None = None, **more: Any
) -> list[Observation]:
    return [observe(number, canary, stable, **more) for number in range(count)]


def verdicts(story: Iterable[Observation], of: RolloutSpec | None = None, **more: Any) -> list[Verdict]:
    config = JudgeConfig.of(of or spec())
    state, found = init(config, "new", history=more.get("history", PAST)), []
    for seen in story:
        state, verdict = step(config, state, seen)
        found.append(verdict)
    return found


def first(found: list[Verdict], kind: VerdictKind) -> int:
    return next(number for number, verdict in enumerate(found) if verdict.kind is kind)
