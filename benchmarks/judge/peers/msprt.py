"""The mixture sequential probability ratio test of Optimizely and Statsig: Johari, Pekelis & Walsh,
"Always valid inference" (2015).

Normal mixture over the difference of the pooled shares: with V the variance of the difference under
the null and tau the standard deviation of the prior,
Lambda = sqrt(V / (V + tau^2)) exp(tau^2 d^2 / (2 V (V + tau^2))), looked at after every scrape. Error
rate and share beyond the p95 limit, 2.5 % each; tau is 0.1 points for errors and 2 points for slow
requests. Pooled over the whole release, as these products do.
"""

from __future__ import annotations

import math

from benchmarks.judge.scenarios import CANARY, STABLE
from benchmarks.judge.walk import TICKS, Release, stage_of

ALPHA = 0.05 / 2
TAU = (0.001, 0.02)


def decide(release: Release) -> int | None:
    for tick in range(1, TICKS + 1):
        slow = stage_of(tick).slow
        requests, errors, buckets = release.counted(0, tick)
        if requests.min() == 0:
            continue
        for bad, tau in zip((errors, buckets[:, slow:].sum(axis=1)), TAU, strict=True):
            canary = (int(bad[CANARY]), int(requests[CANARY]))
            if evidence(canary, (int(bad[STABLE]), int(requests[STABLE])), tau) >= math.log(1.0 / ALPHA):
                return tick
    return None


def evidence(canary: tuple[int, int], stable: tuple[int, int], tau: float) -> float:
    """Logarithm of Lambda; 0 when the canary is not the worse one. Pairs are (bad, of)."""
    apart = canary[0] / canary[1] - stable[0] / stable[1]
    if apart <= 0.0:
        return 0.0
    pooled = (canary[0] + stable[0]) / (canary[1] + stable[1])
    variance = pooled * (1.0 - pooled) * (1.0 / canary[1] + 1.0 / stable[1])
    if variance == 0.0:
        return 0.0
    wide = variance + tau * tau
    return 0.5 * math.log(variance / wide) + tau * tau * apart * apart / (2.0 * variance * wide)
