"""What a verdict costs: processor time of `judge.step` alone, and the size of its state.

Without the chart, that is `detail=False`: every verdict has its kind, reason and evidence, and only
rollbacks the intervals metric by metric. With them it is measured as well.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.judge.phoenix import HORIZON, NEW, observations, spec
from benchmarks.judge.scenarios import SCENARIOS, TICK
from benchmarks.judge.streams import Stream
from benchmarks.judge.walk import STAGES

from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.judge import init, step
from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.rollout.spec import RolloutSpec

ROLLOUTS = 10_000
RATE = 500.0


def measured(repeats: int, seed: int) -> dict[str, Any]:
    config = JudgeConfig.of(spec("statistical"))
    speed = _speed(config, repeats, seed, detail=False)
    return {
        "updatesPerSecond": round(speed),
        "updatesPerSecondWithTheChart": round(_speed(config, repeats, seed, detail=True)),
        "microseconds": round(1e6 / speed, 1),
        "rollouts": ROLLOUTS,
        "shareOfACorePercent": round(100.0 * ROLLOUTS / TICK / speed, 2),
        "stateBytes": _largest_state(JudgeConfig.of(spec("statistical")), seed),
        "stateBytesWithEveryMetric": _largest_state(JudgeConfig.of(_widest()), seed, every=True),
    }


def _planned(stream: Stream) -> list[Observation]:
    found = list[Observation]()
    for index, stage in enumerate(STAGES):
        block = stream.read(stage.begin, stage.ticks, stage.weight)
        found.extend(observations(block, stage.begin, index, stage.weight))
    return found


def _speed(config: JudgeConfig, repeats: int, seed: int, *, detail: bool) -> float:
    """Updates per second of processor time: the best of `repeats`, least disturbed by others."""
    healthy = [one for one in SCENARIOS if one.kind in ("healthy", "outage")]
    streams = [_planned(Stream(one, RATE, (seed, 9, n), HORIZON)) for n, one in enumerate(healthy)]
    best = 0.0
    for _ in range(repeats):
        begin = time.process_time()
        for observed in streams:
            state = init(config, NEW)
            for observation in observed:
                state, _verdict = step(config, state, observation, detail=detail)
        best = max(best, sum(map(len, streams)) / (time.process_time() - begin))
    return best


def _largest_state(config: JudgeConfig, seed: int, *, every: bool = False) -> int:
    """Bytes of JSON, the most over every look at one stream of each scenario."""
    most = 0
    for number, scenario in enumerate(SCENARIOS):
        state = init(config, NEW)
        for observation in _planned(Stream(scenario, RATE, (seed, 10, number), HORIZON)):
            state, _verdict = step(config, state, _with_every(observation) if every else observation)
            most = max(most, len(state.model_dump_json().encode()))
    return most


def _widest() -> RolloutSpec:
    """The guide's walk with every limit there is and three business metrics."""
    phases = RolloutSpec().model_dump(mode="json")["phases"]
    for phase in phases:
        phase["limits"] |= {"latencyP99": "500ms", "cpu": "90%", "memory": "2Gi"}
    business = [{"name": name, "counter": f"{name}_total", "minPerRequest": 0.01} for name in _COUNTERS]
    settings = {"phases": phases, "evidence": {"business": business}, "policy": {"gate": "statistical"}}
    return RolloutSpec.model_validate(settings)


_COUNTERS = ("orders", "logins", "searches")


def _with_every(observation: Observation) -> Observation:
    arms = {}
    for name in ("canary", "stable"):
        arm = getattr(observation, name)
        business = dict.fromkeys(_COUNTERS, arm.requests // 20)
        arms[name] = arm.model_copy(update={"cpu": 0.3, "memory": 123_456_789, "business": business})
    return observation.model_copy(update=arms)
