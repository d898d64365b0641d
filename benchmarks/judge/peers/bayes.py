"""The posterior rule of Iter8 and of many A/B tools: roll back when the probability that the canary is
worse reaches 95 %, looked at once a minute.

Error rate and share of requests beyond the p95 limit, each with a uniform prior, pooled over the
release. P(p_c > p_s) of two beta posteriors is Miller's sum ("Formulas for Bayesian A/B testing"), or
its normal approximation from 100 bad canary requests on.
"""

from __future__ import annotations

import math

from benchmarks.judge.scenarios import CANARY, MINUTE, STABLE
from benchmarks.judge.walk import TICKS, Release, stage_of

CERTAIN = 0.95


def decide(release: Release) -> int | None:
    for tick in range(MINUTE, TICKS + 1, MINUTE):
        slow = stage_of(tick).slow
        requests, errors, buckets = release.counted(0, tick)
        for bad in (errors, buckets[:, slow:].sum(axis=1)):
            canary = (int(bad[CANARY]), int(requests[CANARY]))
            if worse(canary, (int(bad[STABLE]), int(requests[STABLE]))) >= CERTAIN:
                return tick
    return None


def worse(canary: tuple[int, int], stable: tuple[int, int]) -> float:
    """Posterior probability that the canary's share of bad requests is the higher one; (bad, of)."""
    a, b = canary[0] + 1.0, canary[1] - canary[0] + 1.0
    c, d = stable[0] + 1.0, stable[1] - stable[0] + 1.0
    if canary[0] > 100:
        mean = a / (a + b) - c / (c + d)
        spread = a * b / ((a + b) ** 2 * (a + b + 1.0)) + c * d / ((c + d) ** 2 * (c + d + 1.0))
        return 0.5 * math.erfc(-mean / math.sqrt(2.0 * spread))
    # log B(c + i, b + d) - log(b + i) - log B(1 + i, b) - log B(c, d), by recurrence over i.
    term = _beta(c, b + d) - math.log(b) - _beta(1.0, b) - _beta(c, d)
    total = 0.0
    for i in range(canary[0] + 1):
        total += math.exp(term)
        term += math.log((c + i) / (c + i + b + d) * (1.0 + i + b) / (1.0 + i) * (b + i) / (b + i + 1.0))
    return min(1.0, total)


def _beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
