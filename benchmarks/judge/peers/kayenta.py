"""Kayenta's judge NetflixACAJudge-v1.0 with its defaults: `NetflixACAJudge.scala`,
`MannWhitneyClassifier.scala`, `MannWhitney.scala`, `WeightedSumScorer.scala` at spinnaker a69573be.

Time series of one value a minute of canary and stable (error rate, p95, p99), minutes without requests
left out. A metric is High when the lower end of the 98 % Mann-Whitney confidence interval of the shift
(normal approximation, continuity and ties corrected) is above 0.25 times the absolute Hodges-Lehmann
estimate. A group's score is the share of its metrics that pass; errors and latency weigh 50 each. The
analysis runs every 10 min over everything since the start: below the marginal score of 75 the canary
fails, and at the end it has to reach 95. Half of the metrics without data is a failure as well.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from benchmarks.judge.latency import Floats
from benchmarks.judge.scenarios import CANARY, MINUTE, STABLE
from benchmarks.judge.walk import STAGES, TICKS, Release, quantile

EVERY = 10 * MINUTE
MARGINAL, PASS = 75.0, 95.0
TOLERANCE, CONFIDENCE = 0.25, 0.98
_Z = NormalDist().inv_cdf(1.0 - (1.0 - CONFIDENCE) / 2.0)
GROUPS = ((0,), (1, 2))
"""Error rate; p95 and p99."""


def decide(release: Release) -> int | None:
    # At 100 % nothing is left to compare with.
    compared = max(stage.end for stage in STAGES if stage.weight < 100)
    series = _series(release, compared)
    for tick in [*range(EVERY, compared, EVERY), TICKS]:
        points = min(tick, compared) // MINUTE
        score = _score(series[:, :, :points])
        if score < (PASS if tick == TICKS else MARGINAL):
            return tick
    return None


def _series(release: Release, end: int) -> Floats:
    """(arm, metric, minute); NaN where there was no request."""
    series = np.full((2, 3, end // MINUTE), np.nan)
    for minute, (begin, until) in enumerate(pairwise(range(0, end + 1, MINUTE))):
        requests, errors, buckets = release.counted(begin, until)
        for arm in (CANARY, STABLE):
            if requests[arm]:
                series[arm, :, minute] = (
                    errors[arm] / requests[arm],
                    quantile(buckets[arm], 0.95),
                    quantile(buckets[arm], 0.99),
                )
    return series


def _score(series: Floats) -> float:
    verdicts = [classify(series[CANARY, metric], series[STABLE, metric]) for metric in range(3)]
    if sum(verdict is None for verdict in verdicts) * 2 >= len(verdicts):
        return 0.0
    score = 0.0
    for group in GROUPS:
        known = [verdicts[metric] for metric in group if verdicts[metric] is not None]
        score += 100.0 / len(GROUPS) * (sum(map(bool, known)) / len(known) if known else 1.0)
    return score


def classify(experiment: Floats, control: Floats) -> bool | None:
    """Whether the metric passes; None: no data. Direction: increase."""
    experiment, control = experiment[~np.isnan(experiment)], control[~np.isnan(control)]
    if experiment.size == 0 or control.size == 0:
        return None
    if experiment.size == control.size and np.all(experiment == control):
        return True
    lower, estimate = shift(experiment, control)
    return not lower > TOLERANCE * abs(estimate)


def shift(experiment: Floats, control: Floats) -> tuple[float, float]:
    """Lower end of the confidence interval of the shift, and the shift itself.

    The roots that Kayenta finds with a solver lie at differences of pairs: with U(mu) the number of
    pairs more than mu apart, z(mu) = (U - nm/2 -+ 1/2) / sigma falls through a quantile at one of them.
    """
    n, m = experiment.size, control.size
    apart = np.sort((experiment[:, None] - control[None, :]).ravel())
    ties = sum(float(k**3 - k) for arm in (experiment, control) for k in np.unique_counts(arm).counts)
    variance = n * m / 12.0 * ((n + m + 1) - ties / ((n + m) * (n + m - 1.0)))
    middle = n * m / 2.0
    if variance <= 0.0:
        return float(apart[0]), float(apart[apart.size // 2])
    # z(mu) <= _Z as soon as at most so many pairs are more than mu apart.
    most = math.floor(middle + 0.5 + _Z * math.sqrt(variance))
    lower = apart[0] if most >= apart.size else apart[apart.size - most - 1]
    return float(lower), float((apart[(apart.size - 1) // 2] + apart[apart.size // 2]) / 2.0)
