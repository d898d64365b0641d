"""Netflix' sequential tests: Lindon & Malek, "Anytime-Valid Inference for Multinomial Count Data"
(NeurIPS 2022) for errors; Lindon, Sanden & Shirikian, "Rapid Regression Detection in Software
Deployments through Sequential Testing" (KDD 2022) for latency, with the bands of Howard & Ramdas,
"Sequential estimation of quantiles" (Bernoulli 2022).

Errors: under the null the failed requests of both versions are a multinomial with the known shares of
traffic; the Bayes factor against a Dirichlet prior of strength 100 around them may be looked at at any
time. Latency: the two empirical distributions, each within a time-uniform band, are apart at some edge.
Allocation has to be constant, so both start anew in each step with a part of alpha = 5 %.
"""

from __future__ import annotations

import math

import numpy as np
from benchmarks.judge.scenarios import CANARY, STABLE
from benchmarks.judge.walk import STAGES, Release

ALPHA = 0.05
STRENGTH = 100.0
"""Default k of the authors' own code."""


def decide(release: Release) -> int | None:
    compared = [stage for stage in STAGES if stage.weight < 100]
    alpha = ALPHA / 2 / len(compared)
    for stage in compared:
        for tick in range(stage.begin + 1, stage.end + 1):
            requests, errors, buckets = release.counted(stage.begin, tick)
            weight = stage.weight / 100.0
            if errors[CANARY] > weight * errors.sum():
                evidence = multinomial((int(errors[CANARY]), int(errors[STABLE])), (weight, 1.0 - weight))
                if evidence >= math.log(1.0 / alpha):
                    return tick
            if requests.min() == 0:
                continue
            slower = (
                np.cumsum(buckets[STABLE]) / requests[STABLE] - np.cumsum(buckets[CANARY]) / requests[CANARY]
            )
            if slower.max() > sum(band(int(number), alpha / 2) for number in requests):
                return tick
    return None


def multinomial(counts: tuple[int, ...], shares: tuple[float, ...]) -> float:
    """Logarithm of the Bayes factor of Dirichlet(STRENGTH x shares) against exactly `shares`."""
    factor = math.lgamma(STRENGTH) - math.lgamma(STRENGTH + sum(counts))
    for count, share in zip(counts, shares, strict=True):
        prior = STRENGTH * share
        factor += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return factor


def band(number: int, alpha: float) -> float:
    """Half-width around the empirical distribution of `number` values that holds at all times."""
    return 0.85 * math.sqrt((math.log(1.0 + math.log(number)) + 0.8 * math.log(1612.0 / alpha)) / number)
