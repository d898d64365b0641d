"""Seeded streams of counters: what a scrape every 10 s would have read of a scene.

Requests of a tick are Poisson, each goes to the canary with the weight's probability, fails with the
scene's, and takes a time of the scene's law. A stream can be read at any weight from any tick on, and
gives the same numbers for the same seed: every rule sees the same release until it decides otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.judge.latency import EDGES, Floats
from benchmarks.judge.scenarios import CANARY, TICK, Scenario, Scene
from numpy.typing import NDArray

Ints = NDArray[np.int64]

CLUSTER = 6.0
"""Mean errors of one cluster (geometric: variance to mean of clustered counts is 11)."""
SPREAD = 30.0
"""Mean seconds from the begin of a cluster to each of its errors."""


@dataclass(frozen=True)
class Block:
    """Ticks in a row at one weight; row 0 is the canary."""

    requests: Ints
    """(2, ticks)"""
    errors: Ints
    """(2, ticks)"""
    buckets: Ints
    """(2, ticks, edges), not cumulative."""

    @property
    def ticks(self) -> int:
        return self.requests.shape[1]


class Stream:
    """One release of one scenario at `rate` requests per second, over `ticks` at most."""

    def __init__(self, scenario: Scenario, rate: float, seed: tuple[int, ...], ticks: int) -> None:
        self.scenario = scenario
        self.rate = rate
        self.seed = seed
        self.scene = Scene(ticks)
        random = np.random.default_rng([*seed, 0])
        self.onset = scenario.draw(self.scene, random)
        """The tick at which the fault, if any, begins."""
        self._events = self._clusters(random) if self.scene.clustered else None

    def read(self, tick: int, ticks: int, weight: int) -> Block:
        """The counters of `ticks` ticks from `tick` on, with `weight` per cent to the canary."""
        scene, part = self.scene, slice(tick, tick + ticks)
        random = np.random.default_rng([*self.seed, 1, tick, weight])
        total = random.poisson(self.rate * TICK * scene.traffic[part])
        canary = random.binomial(total, weight / 100.0)
        requests = np.stack([canary, total - canary])
        if self._events is None:
            errors = random.binomial(requests, scene.errors[:, part])
        else:
            errors = np.minimum(self._clustered(tick, total.size, weight), requests)
        buckets = np.stack(
            [random.multinomial(requests[arm], self._shares(arm, part)) for arm in (0, 1)],
        )
        return Block(requests, errors, buckets)

    def _shares(self, arm: int, part: slice) -> Floats:
        scale = self.scene.scale[arm, part]
        if np.all(scale == scale[0]):
            return np.broadcast_to(self.scene.laws[arm].buckets(scale[:1]), (scale.size, EDGES.size))
        return self.scene.laws[arm].buckets(scale)

    def _clusters(self, random: np.random.Generator) -> tuple[Ints, Floats]:
        """(tick, draw in 0..1) of every error; the errors of one cluster share their draw."""
        expected = self.rate * TICK * float(self.scene.errors[CANARY].sum())
        count = random.poisson(expected / CLUSTER)
        sizes = random.geometric(1.0 / CLUSTER, count)
        begins = random.uniform(-120.0, self.scene.ticks * TICK, count)
        times = np.repeat(begins, sizes) + random.exponential(SPREAD, int(sizes.sum()))
        return np.floor(times / TICK).astype(np.int64), np.repeat(random.random(count), sizes)

    def _clustered(self, tick: int, ticks: int, weight: int) -> Ints:
        assert self._events is not None
        at, draw = self._events
        inside = (at >= tick) & (at < tick + ticks)
        own = draw < weight / 100.0
        rows = [np.bincount(at[inside & mine] - tick, minlength=ticks) for mine in (own, ~own)]
        return np.stack(rows).astype(np.int64)
