"""The guide's walk in ticks, and one release on it as every peer sees it: as it was planned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.judge.latency import EDGES
from benchmarks.judge.scenarios import TICK
from benchmarks.judge.streams import Block, Ints, Stream

from phoenix_orch.rollout.spec import RolloutSpec


@dataclass(frozen=True)
class Stage:
    """One step of the walk; limits as share of failed requests and as seconds at p95."""

    begin: int
    ticks: int
    weight: int
    errors: float
    p95: float
    slow: int
    """The first bucket above the p95 limit."""

    @property
    def end(self) -> int:
        return self.begin + self.ticks


def _stages() -> tuple[Stage, ...]:
    stages, begin = list[Stage](), 0
    for step in RolloutSpec().steps():
        assert step.limits.error_rate is not None
        assert step.limits.latency_p95 is not None
        ticks, p95 = round(step.duration.total_seconds() / TICK), step.limits.latency_p95.total_seconds()
        slow = int(np.searchsorted(EDGES, p95, side="right"))
        assert EDGES[slow - 1] == p95, "the limit has to be an edge"
        stages.append(Stage(begin, ticks, step.weight, float(step.limits.error_rate), p95, slow))
        begin += ticks
    return tuple(stages)


STAGES = _stages()
TICKS = STAGES[-1].end
"""45 min."""


@dataclass(frozen=True)
class Release:
    """A whole walk without a delay. Row 0 is the canary; sums are running, with a zero in front."""

    requests: Ints
    errors: Ints
    buckets: Ints

    @classmethod
    def of(cls, stream: Stream) -> Release:
        blocks: list[Block] = [stream.read(stage.begin, stage.ticks, stage.weight) for stage in STAGES]
        return cls(
            _running(np.concatenate([block.requests for block in blocks], axis=1)),
            _running(np.concatenate([block.errors for block in blocks], axis=1)),
            _running(np.concatenate([block.buckets for block in blocks], axis=1)),
        )

    def counted(self, begin: int, end: int) -> tuple[Ints, Ints, Ints]:
        """Requests (2,), errors (2,) and buckets (2, edges) of the ticks from `begin` to before `end`."""
        begin = max(begin, 0)
        return (
            self.requests[:, end] - self.requests[:, begin],
            self.errors[:, end] - self.errors[:, begin],
            self.buckets[:, end] - self.buckets[:, begin],
        )


def stage_of(tick: int) -> Stage:
    """The step to which the scrape that ends with tick number `tick` (from 1) belongs."""
    return next(stage for stage in STAGES if tick <= stage.end)


def _running(counts: Ints) -> Ints:
    shape = (counts.shape[0], 1, *counts.shape[2:])
    return np.concatenate([np.zeros(shape, np.int64), np.cumsum(counts, axis=1)], axis=1)


def quantile(buckets: Ints, share: float) -> float:
    """As PromQL's histogram_quantile: straight inside a bucket, above all the last finite edge; else NaN."""
    below = np.cumsum(buckets)
    if below[-1] == 0:
        return float("nan")
    rank = share * below[-1]
    place = int(np.searchsorted(below, rank))
    if place >= EDGES.size - 1:
        return float(EDGES[-2])
    lower = EDGES[place - 1] if place else 0.0
    before = below[place - 1] if place else 0
    return float(lower + (EDGES[place] - lower) * (rank - before) / buckets[place])
