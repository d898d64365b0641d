"""False evidence: every e-process in a world where its null is just true, looked at after every block.

The formulas are those of `health_validator.sequential`, on all runs at once. So that they cannot drift
apart, some runs go through the package's own functions as well and have to give the same evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from benchmarks.judge.latency import Floats
from benchmarks.judge.streams import Ints

from phoenix_orch.health_validator.rules import MINUTES, RARER
from phoenix_orch.health_validator.sequential import absolute, interval, mixture, relative
from phoenix_orch.health_validator.sequential.mixture import Mixture
from phoenix_orch.rollout.spec import Onset

SAMPLE = 8
"""Runs that the package's own functions repeat."""
TOLERANCE = 1e-9
LOOKS_PER_STEP = 90

Say = Callable[[str], None]
Share = Callable[[int], float]
"""True share of bad requests at a look."""


def staked(look: int) -> float:
    """The part of the reserve that the gate stakes: first look, first look of a step, any other."""
    onset = Onset()
    if look == 0:
        return onset.first
    return onset.step if look % LOOKS_PER_STEP == 0 else onset.later


class Stakes:
    """`mixture.Mixture` of many runs: `weights` has shape (runs, alternatives)."""

    def __init__(self, runs: int, alternatives: int) -> None:
        self.reserve = 1.0
        self.weights: Floats = np.zeros((runs, alternatives))
        self.highest: Floats = np.ones(runs)

    def grow(self, part: float, logs: Floats) -> None:
        stake = self.reserve * part
        self.weights = (self.weights + stake / self.weights.shape[1]) * np.exp(np.minimum(logs, 700.0))
        np.minimum(self.weights, mixture.CAP, out=self.weights)
        self.reserve -= stake
        np.maximum(self.highest, self.reserve + self.weights.sum(axis=1), out=self.highest)


@dataclass(frozen=True)
class Absolute:
    """One variant whose share of bad requests is the limit, or below it for FAIL, above it for PASS."""

    name: str
    limit: float
    requests: int
    share: Share
    test: Literal["fail", "pass", "rate"] = "fail"
    """fail, pass: bad ones among requests. rate: events per request, Poisson."""
    multiples: tuple[float, ...] = absolute.WORSE
    """Alternatives of fail and rate; below 1: too few events."""

    @property
    def lines(self) -> absolute.Lines:
        if self.test == "pass":
            return absolute.pass_lines(self.limit)
        lines_of = absolute.fail_lines if self.test == "fail" else absolute.rate_lines
        return lines_of(self.limit, self.multiples)

    def _block(self, random: np.random.Generator, look: int, runs: int) -> tuple[Ints, Ints]:
        """What the lines are multiplied with: bad and good requests, or events and requests."""
        if self.test == "rate":
            events = random.poisson(self.requests * self.share(look), runs)
            return events, np.full(runs, self.requests)
        bad = random.binomial(self.requests, self.share(look), runs)
        return bad, self.requests - bad

    def highest(self, random: np.random.Generator, runs: int, looks: int) -> tuple[Floats, Floats]:
        """The largest evidence of every run, and that of SAMPLE of them by the package's functions."""
        return self._sums(random, runs, looks) if self.test == "pass" else self._mixed(random, runs, looks)

    def _mixed(self, random: np.random.Generator, runs: int, looks: int) -> tuple[Floats, Floats]:
        lines = np.array(self.lines)
        stakes = Stakes(runs, len(lines))
        own = [mixture.fresh(len(lines)) for _ in range(SAMPLE)]
        own_highest = np.ones(SAMPLE)
        for look in range(looks):
            x, y = self._block(random, look, runs)
            stakes.grow(staked(look), x[:, None] * lines[:, 0] + y[:, None] * lines[:, 1])
            for place in range(SAMPLE):
                block = staked(look), int(x[place]), int(y[place])
                own[place] = absolute.update(own[place], *block, self.lines)
                own_highest[place] = max(own_highest[place], own[place].value)
        return stakes.highest, own_highest

    def _sums(self, random: np.random.Generator, runs: int, looks: int) -> tuple[Floats, Floats]:
        lines = np.array(self.lines)
        bad, good = np.zeros(runs), np.zeros(runs)
        highest, own = np.zeros(runs), np.zeros(SAMPLE)
        for look in range(looks):
            x, y = self._block(random, look, runs)
            bad += x
            good += y
            logs = bad[:, None] * lines[:, 0] + good[:, None] * lines[:, 1]
            np.maximum(highest, np.exp(np.minimum(logs, 700.0)).mean(axis=1), out=highest)
            for place in range(SAMPLE):
                value = absolute.evidence(bad[place], good[place], self.lines)
                own[place] = max(own[place], value)
        return highest, own


@dataclass(frozen=True)
class Relative:
    """Two variants; the canary's odds of a bad request are just the tolerated multiple of stable's."""

    name: str
    odds: float
    requests: int
    """Of both together, per look."""
    share: Share
    """Of stable."""
    ratios: tuple[float, ...] = relative.RATIOS
    poisson: bool = False
    """Events, of which a request may have several, instead of bad requests."""

    def highest(self, random: np.random.Generator, runs: int, looks: int) -> tuple[Floats, Floats]:
        logs_of = np.log(np.array(self.ratios))
        excess = np.array(self.ratios) - 1.0
        stakes = Stakes(runs, len(self.ratios))
        own = [mixture.fresh(len(self.ratios)) for _ in range(SAMPLE)]
        own_highest = np.ones(SAMPLE)
        for look in range(looks):
            n_c = random.binomial(self.requests, _weight(look, looks), runs)
            n_s = self.requests - n_c
            stable = self.share(look)
            if self.poisson:
                x_c = random.poisson(n_c * stable * self.odds)
                bad = x_c + random.poisson(n_s * stable)
                m, q = bad, self.odds * n_c / (self.odds * n_c + n_s)
            else:
                x_c = random.binomial(n_c, _worse(stable, self.odds))
                bad = x_c + random.binomial(n_s, stable)
                m, q = _bounds(n_c, n_s, bad, self.odds)
            logs = x_c[:, None] * logs_of - m[:, None] * np.log1p(q[:, None] * excess)
            stakes.grow(staked(look), logs)
            for place in range(SAMPLE):
                table = int(n_c[place]), int(n_s[place]), int(bad[place])
                own[place] = self._package(own[place], staked(look), int(x_c[place]), *table)
                own_highest[place] = max(own_highest[place], own[place].value)
        return stakes.highest, own_highest

    def _package(self, test: Mixture, part: float, x_c: int, n_c: int, n_s: int, bad: int) -> Mixture:
        """The package's own function for this kind of comparison."""
        if self.poisson:
            return relative.update(test, part, (x_c, *relative.poisson_bound(n_c, n_s, bad, self.odds)))
        if self.ratios == relative.FEW:
            edge = (x_c, bad - x_c, self.odds, 1.0)
            return relative.compare_edges((test,), (part, part), (n_c, n_s), (edge,))[0]
        return relative.compare(test, part, (n_c, x_c, n_s, bad - x_c), self.odds)


def _bounds(n_c: Ints, n_s: Ints, bad: Ints, odds: float) -> tuple[Ints, Floats]:
    """`relative.bound` of many tables."""
    m = np.minimum(n_c, bad)
    some = np.maximum(m, 1)
    a = np.where(m > 1, (1.0 - odds) * (1.0 - 1.0 / some), 0.0)
    b = n_s - bad + odds * (n_c + bad) - (odds - 1.0)
    c = odds * n_c * bad
    root = 2.0 * c / np.maximum(b + np.sqrt(np.maximum(0.0, b * b + 4.0 * a * c)), 1e-300)
    return m, np.where(m > 0, np.minimum(1.0, root / some), 0.0)


def _worse(share: float, odds: float) -> float:
    multiple = odds * share / (1.0 - share)
    return multiple / (1.0 + multiple)


def _weight(look: int, looks: int) -> float:
    """The guide's weights, the same number of looks each."""
    return (0.05, 0.2, 0.4, 0.6, 0.8)[min(4, 5 * look // looks)]


def _constant(share: float) -> Share:
    return lambda _look: share


def _below(share: float) -> Share:
    """A rate that swings between a tenth of the limit and the limit."""
    return lambda look: share * (0.55 + 0.45 * math.sin(look / 40.0))


def _above(share: float) -> Share:
    return lambda look: share * (1.25 + 0.25 * math.sin(look / 40.0))


def _drifting(look: int) -> float:
    """0.02 to 0.08 % and back, within an hour and a half."""
    return 0.0002 * 4.0 ** (0.5 - 0.5 * math.cos(look / 90.0))


def _outages(look: int) -> float:
    """0.04 %, and 3 % for 5 min in every 25."""
    return 0.03 if look % 150 >= 120 else 0.0004


NULLS: tuple[Absolute | Relative, ...] = (
    Absolute("beyond the limit: 0.1 %, 25 requests a look", 0.001, 25, _constant(0.001)),
    Absolute("beyond the limit: 0.1 %, 250 a look", 0.001, 250, _constant(0.001)),
    Absolute("beyond the limit: 0.1 %, 2,500 a look", 0.001, 2500, _constant(0.001)),
    Absolute("beyond the limit: 5 %, 25 a look", 0.05, 25, _constant(0.05)),
    Absolute("beyond the limit: 5 %, 250 a look", 0.05, 250, _constant(0.05)),
    Absolute("beyond the limit: drifting below 0.1 %, 250 a look", 0.001, 250, _below(0.001)),
    Absolute("within the limit: 0.1 %, 250 a look", 0.001, 250, _constant(0.001), test="pass"),
    Absolute("within the limit: 5 %, 25 a look", 0.05, 25, _constant(0.05), test="pass"),
    Absolute("within the limit: drifting above 0.1 %, 250 a look", 0.001, 250, _above(0.001), test="pass"),
    Absolute("a business counter beyond 0.3 per request, 250 a look", 0.3, 250, _constant(0.3), test="rate"),
    Absolute(
        "a business counter below 0.05 per request, 250 a look",
        0.05,
        250,
        _constant(0.05),
        test="rate",
        multiples=RARER,
    ),
    Absolute("bad minutes of a gauge: 20 %, one a look", 0.2, 1, _constant(0.2), multiples=MINUTES),
    Absolute(
        "stable beyond the limit: 0.1 %, 250 a look", 0.001, 250, _constant(0.001), multiples=absolute.FEW
    ),
    Relative("worse than stable: odds 1, 0.04 %, 5,000 a look", 1.0, 5000, _constant(0.0004)),
    Relative("worse than stable: odds 1, drifting, 5,000 a look", 1.0, 5000, _drifting),
    Relative("worse than stable: odds 1, outages of both, 5,000 a look", 1.0, 5000, _outages),
    Relative("worse than stable: odds 1.1, 0.04 %, 5,000 a look", 1.1, 5000, _constant(0.0004)),
    Relative("worse than stable: odds 1.1, drifting, 500 a look", 1.1, 500, _drifting),
    Relative("worse than stable: odds 1.1, outages of both, 5,000 a look", 1.1, 5000, _outages),
    Relative(
        "worse than stable: odds 1.1, 30 % (a latency edge), 500 a look",
        1.1,
        500,
        _constant(0.3),
        relative.FEW,
    ),
    Relative(
        "worse than stable: odds 1.37, 5 % (a latency edge), 500 a look",
        1.37,
        500,
        _constant(0.05),
        relative.FEW,
    ),
    Relative(
        "business events against stable: odds 1.05, 500 a look", 1.05, 500, _constant(0.3), poisson=True
    ),
)


def measured(runs: int, looks: int, seed: int, say: Say) -> dict[str, Any]:
    rows = []
    for number, null in enumerate(NULLS):
        highest, own = null.highest(np.random.default_rng([seed, 7, number]), runs, looks)
        same = np.abs(highest[:SAMPLE] / own - 1.0).max()
        assert same < TOLERANCE, f"{null.name}: the copy of the formula differs by {same:.2g}"
        rows.append(
            {
                "name": null.name,
                "percentAt100": round(100.0 * float((highest >= 100.0).mean()), 3),
                "percentAt20": round(100.0 * float((highest >= 20.0).mean()), 3),
            }
        )
        say(f"{null.name}: {rows[-1]['percentAt100']} %")
    return {
        "runs": runs,
        "looks": looks,
        "nulls": rows,
        "intervalMissedPercent": _missed(np.random.default_rng([seed, 8])),
    }


def _missed(random: np.random.Generator, runs: int = 1000, looks: int = 100) -> float:
    """Runs in which a shown 95 % interval ever did not hold the true share, 0.1 %; at most 5 %."""
    missed = 0
    for _ in range(runs):
        bad = np.cumsum(random.binomial(250, 0.001, looks))
        for look in range(looks):
            low, high = interval.bounds(int(bad[look]), 250 * (look + 1), limit=0.001, alpha=0.05)
            if not low <= 0.001 <= high:
                missed += 1
                break
    return round(100.0 * missed / runs, 2)
