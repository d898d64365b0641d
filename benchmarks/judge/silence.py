"""No evidence is never a pass: random streams that hold next to nothing, counted for any advance.

Fewer than ten canary requests in all, or none; sources that give no answer, stale or partial ones;
NaN, histograms that are missing, no stable, gaps of any length. Steps of a minute or so, so that every
stream goes far beyond the end of the plan.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from benchmarks.judge.latency import EDGES
from benchmarks.judge.phoenix import BEGIN, NEW, OLD

from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.judge import init, step
from phoenix_orch.health_validator.observation import Arm, Observation, Quality, VerdictKind
from phoenix_orch.rollout.spec import RolloutSpec

MOST = 9
"""Canary requests in a whole stream."""
LOOKS = 40
KINDS = ("silent", "trickle", "outage", "stale", "anything")

_WALK = [
    {"name": "one", "weight": 5, "duration": "1m", "limits": {"errorRate": "0.1%", "latencyP95": "100ms"}},
    {"name": "two", "weight": 50, "duration": "2m", "limits": {"errorRate": "5%", "cpu": "90%"}},
    {"name": "all", "weight": 100, "duration": "1m", "limits": {"latencyP99": "1s", "memory": "1Gi"}},
]


def measured(streams: int, seed: int) -> dict[str, Any]:
    config = JudgeConfig.of(RolloutSpec.model_validate({"phases": _WALK, "policy": {"gate": "statistical"}}))
    verdicts, promoted = Counter[str](), 0
    for number in range(streams):
        draws = random.Random(f"{seed}/{number}")
        last = len(_WALK) - 1
        state, place = init(config, NEW), draws.choice((0, 0, 0, 1, last))
        advanced = False
        for observation in _stream(draws, KINDS[number % len(KINDS)], place):
            state, verdict = step(config, state, observation)
            verdicts[verdict.kind.value] += 1
            advanced |= verdict.kind is VerdictKind.ADVANCE
        promoted += advanced
    return {"streams": streams, "looks": streams * LOOKS, "promoted": promoted, "verdicts": dict(verdicts)}


def _stream(draws: random.Random, kind: str, place: int) -> Iterator[Observation]:
    left = 0 if kind == "silent" else draws.randint(0, MOST)
    now, weight = BEGIN, (5, 50, 100)[place]
    # A busy stable beside a canary without traffic is a routing fault, which is found out soon.
    busiest = 3 if draws.random() < 0.8 else 3000
    begin_of_trouble = draws.randint(0, LOOKS // 2)
    for look in range(LOOKS):
        gap = timedelta(seconds=10 if draws.random() < 0.9 else draws.choice((20, 60, 300)))
        quality = _quality(draws, kind, look >= begin_of_trouble)
        requests = 0
        if left and quality in (Quality.OK, Quality.PARTIAL, Quality.MERGED) and draws.random() < 0.4:
            requests = draws.randint(1, left)
            left -= requests
        yield Observation(
            t0=now,
            t1=now + gap,
            revision=NEW,
            step=place,
            weight_applied=weight if draws.random() < 0.97 else draws.choice((0, 5, 50, 100)),
            canary=_arm(draws, NEW, requests, quality),
            stable=_stable(draws, kind, requests, busiest),
        )
        now += gap


def _quality(draws: random.Random, kind: str, trouble: bool) -> Quality:
    if kind == "outage" and trouble:
        return Quality.GAP
    if kind == "stale" and trouble:
        return Quality.STALE
    return draws.choice(tuple(Quality)) if kind == "anything" else Quality.OK


def _stable(draws: random.Random, kind: str, like: int, busiest: int) -> Arm | None:
    if kind == "anything" and draws.random() < 0.3:
        return None
    requests = draws.choice((0, like, draws.randint(0, busiest)))
    quality = draws.choice(tuple(Quality)) if kind == "anything" else Quality.OK
    return _arm(draws, OLD, requests, quality)


def _arm(draws: random.Random, revision: str, requests: int, quality: Quality) -> Arm:
    counts = [0] * EDGES.size
    for _ in range(min(requests, 50)):
        counts[draws.randint(0, 3) if draws.random() < 0.98 else draws.randint(4, 12)] += 1
    histogram = () if draws.random() < 0.1 else tuple(zip(map(float, EDGES), counts, strict=True))
    return Arm(
        revision=revision,
        requests=requests,
        # Rarely any: what has been taken back cannot be promoted any more.
        errors=draws.choices((0, min(1, requests), requests), (30, 1, 1))[0],
        buckets=histogram,
        cpu=draws.choice((None, float("nan"), 0.1, 0.5)),
        memory=draws.choice((None, 10**8)),
        processes=draws.choice((0, 1, 2)),
        quality=quality,
    )
