"""Phoenix's own judge on a stream: the same calls as the health validator's, and the walk as it decides.

A step lasts until the verdict says advance; what a stream holds at a weight and time is the same for
every rule, so the planned part of a step is the one that the peers see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from benchmarks.judge.latency import EDGES
from benchmarks.judge.scenarios import CANARY, MINUTE, SCENARIOS, STABLE, TICK, Scenario
from benchmarks.judge.streams import Block, Stream
from benchmarks.judge.walk import STAGES

from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.history import History, learn
from phoenix_orch.health_validator.judge import JudgeState, init, step
from phoenix_orch.health_validator.observation import Arm, Category, Observation, Verdict, VerdictKind
from phoenix_orch.rollout.spec import RolloutSpec

BEGIN = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
HEALTHY = SCENARIOS[0]
NEW, OLD = "revision-new", "revision-old"
FURTHER = 10 * MINUTE
"""Ticks read at once when a step takes longer than planned."""
PATIENCE = 60 * MINUTE
"""`holdTimeout`: what has been held or extended for so long beyond a step's plan is not waited for."""

EXCUSES = frozenset(
    {Category.ENVIRONMENT, Category.NO_DATA, Category.STALE, Category.ROUTING, Category.NO_DECISION}
)
"""Reasons to take a release back that are not the new revision's fault."""

_EDGES = tuple(float(edge) for edge in EDGES)


@dataclass(frozen=True)
class Ending:
    """What became of one release; `tick` counts from the begin of the first step."""

    kind: Literal["rollback", "promoted", "hold"]
    tick: int
    exposed: int
    """Requests to the canary until then, and those of them that failed."""
    failed: int
    blamed: bool = False
    """The rollback was said to be the new revision's fault."""
    reason: str = ""


def spec(gate: str) -> RolloutSpec:
    return RolloutSpec.model_validate({"policy": {"gate": gate}})


def observations(block: Block, tick: int, step_index: int, weight: int) -> Iterator[Observation]:
    """What the health validator would have read. Every field is of its type: nothing to validate."""
    for place in range(block.ticks):
        arms = [
            Arm.model_construct(
                revision=(NEW, OLD)[arm],
                requests=int(block.requests[arm, place]),
                errors=int(block.errors[arm, place]),
                buckets=tuple(zip(_EDGES, block.buckets[arm, place].tolist(), strict=True)),
                processes=1,
            )
            for arm in (CANARY, STABLE)
        ]
        yield Observation.model_construct(
            t0=BEGIN + timedelta(seconds=(tick + place) * TICK),
            t1=BEGIN + timedelta(seconds=(tick + place + 1) * TICK),
            revision=NEW,
            step=step_index,
            weight_applied=weight,
            canary=arms[CANARY],
            stable=arms[STABLE],
        )


def past(scenario: Scenario, rate: float, seed: tuple[int, ...], config: JudgeConfig) -> History:
    """What the judge is told of stable's last six hours: all traffic, in the windows that it is cut into."""
    window = round(config.statistical.history_window.total_seconds() / TICK)
    windows = round(config.statistical.history.total_seconds() / TICK) // window
    usual = scenario if scenario.usual else HEALTHY
    block = Stream(usual, rate, seed, windows * window).read(0, windows * window, 0)

    def observed() -> Iterator[Observation]:
        for place in range(windows):
            part = slice(place * window, (place + 1) * window)
            counts = block.buckets[STABLE, part].sum(axis=0).tolist()
            stable = Arm.model_construct(
                revision=OLD,
                requests=int(block.requests[STABLE, part].sum()),
                errors=int(block.errors[STABLE, part].sum()),
                buckets=tuple(zip(_EDGES, counts, strict=True)),
                processes=1,
            )
            begin = BEGIN - timedelta(seconds=(windows - place) * window * TICK)
            yield Observation.model_construct(
                t0=begin,
                t1=begin + timedelta(seconds=window * TICK - 1),
                revision=NEW,
                step=0,
                weight_applied=0,
                canary=Arm(revision=NEW),
                stable=stable,
            )

    return learn(observed(), config.statistical)


class Run:
    """One release under the judge's hands."""

    def __init__(self, config: JudgeConfig, stream: Stream, history: History | None) -> None:
        self.config = config
        self.stream = stream
        self.state: JudgeState = init(config, NEW, history=history)
        self.tick = 0
        self.exposed = 0
        self.failed = 0

    def ending(self) -> Ending:
        for index, stage in enumerate(STAGES):
            verdict = self._step(index, stage.weight, stage.ticks)
            if verdict.kind is VerdictKind.ROLLBACK:
                return self._ended("rollback", verdict)
            if verdict.kind is not VerdictKind.ADVANCE:
                return self._ended("hold", verdict)
        return self._ended("promoted", verdict)

    def _step(self, index: int, weight: int, planned: int) -> Verdict:
        """Until the step is decided, or nobody waits any longer."""
        end = self.tick + planned + PATIENCE
        size = planned
        while self.tick < end:
            block = self.stream.read(self.tick, min(size, end - self.tick), weight)
            size = FURTHER
            place = 0
            for place, observation in enumerate(observations(block, self.tick, index, weight)):  # noqa: B007
                self.state, verdict = step(self.config, self.state, observation)
                if verdict.kind in (VerdictKind.ROLLBACK, VerdictKind.ADVANCE):
                    break
            self.tick += place + 1
            self.exposed += int(block.requests[CANARY, : place + 1].sum())
            self.failed += int(block.errors[CANARY, : place + 1].sum())
            if verdict.kind in (VerdictKind.ROLLBACK, VerdictKind.ADVANCE):
                break
        return verdict

    def _ended(self, kind: Literal["rollback", "promoted", "hold"], verdict: Verdict) -> Ending:
        blamed = kind == "rollback" and verdict.category not in EXCUSES
        return Ending(kind, self.tick, self.exposed, self.failed, blamed, verdict.reason)


HORIZON = STAGES[-1].end + len(STAGES) * PATIENCE
"""No release takes more ticks."""
