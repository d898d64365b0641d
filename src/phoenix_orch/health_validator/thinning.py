"""Stable's requests split at random into a pretended canary and the rest: an A/A release.

The log has one sum for all processes of a variant, so requests are split and not processes: each one
goes to the canary with the probability of the weight (binomial thinning), which is exact for requests
that fail independently. Bursts are another matter: they hit one process. So bad requests go to one side
in clusters as large as the measured dispersion, which gives both sides the variance that was measured.
"""

from __future__ import annotations

import math
from random import Random

from phoenix_orch.health_validator.histogram import Buckets
from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.observation import Arm
from phoenix_orch.rollout.spec import Statistical

TAIL = 0.2
"""Edges that fewer requests exceed are the tail, where slow requests come in clusters."""
_FEW = 10.0


def split(dice: Random, arm: Arm, share: float, history: History, parameters: Statistical) -> tuple[Arm, Arm]:
    """(canary, rest): `share` (0..1) of the arm's requests, and the others."""
    size = cluster(history.dispersion, parameters)
    errors = clustered(dice, arm.errors, share, size)
    good = binomial(dice, arm.requests - arm.errors, share)
    buckets = []
    for place, (edge, count) in enumerate(arm.buckets):
        lower = arm.buckets[place - 1][0] if place else 0.0
        buckets.append((edge, clustered(dice, count, share, _slow(history, lower, parameters))))
    together = cluster(history.abandoned, parameters)
    canary = arm.model_copy(
        update={
            "requests": good + errors,
            "errors": errors,
            "abandoned": clustered(dice, arm.abandoned, share, together),
            "buckets": tuple(buckets),
            "waited": tuple((edge, clustered(dice, count, share, together)) for edge, count in arm.waited),
        }
    )
    rest = arm.model_copy(
        update={
            "requests": arm.requests - canary.requests,
            "errors": arm.errors - errors,
            "abandoned": arm.abandoned - canary.abandoned,
            "buckets": _without(arm.buckets, canary.buckets),
            "waited": _without(arm.waited, canary.waited),
        }
    )
    return canary, rest


def _without(whole: Buckets, part: Buckets) -> Buckets:
    return tuple((edge, count - taken) for (edge, count), (_, taken) in zip(whole, part, strict=True))


def cluster(dispersion: float | None, parameters: Statistical) -> int:
    """How many bad requests hang together: the dispersion without its margin of safety."""
    if dispersion is None:
        return 1
    return max(1, round(1 + (dispersion - 1) / parameters.dispersion_safety))


def _slow(history: History, lower: float, parameters: Statistical) -> int:
    known = dict(zip(history.edges, history.slower, strict=True))
    if lower <= 0 or known.get(lower, 1.0) > TAIL:
        return 1
    return cluster(history.dispersion_of(lower, 1.0), parameters)


def clustered(dice: Random, count: int, share: float, size: int) -> int:
    """Of `count` events that come in clusters of `size`: those on the side with `share`."""
    whole, left = divmod(count, size)
    return size * binomial(dice, whole, share) + (left if left and dice.random() < share else 0)


def binomial(dice: Random, n: int, p: float) -> int:
    """A binomial number: by the gaps between successes where few are expected, else Hörmann's BTRS."""
    if n <= 0 or p <= 0:
        return 0
    if p > 0.5:
        return n - binomial(dice, n, 1 - p)
    return _by_gaps(dice, n, p) if n * p < _FEW else _by_rejection(dice, n, p)


def _by_gaps(dice: Random, n: int, p: float) -> int:
    found, place, log_q = 0, 0, math.log1p(-p)
    while True:
        place += math.floor(math.log(1.0 - dice.random()) / log_q) + 1
        if place > n:
            return found
        found += 1


def _by_rejection(dice: Random, n: int, p: float) -> int:
    """Transformed rejection with squeeze: W. Hörmann, The generation of binomial random variates (1993)."""
    spread = math.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    c = n * p + 0.5
    squeeze = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * spread
    odds, mode = math.log(p / (1 - p)), math.floor((n + 1) * p)
    height = math.lgamma(mode + 1) + math.lgamma(n - mode + 1)
    while True:
        u, v = dice.random() - 0.5, 1.0 - dice.random()
        room = 0.5 - abs(u)
        if room <= 0:
            continue
        k = math.floor((2 * a / room + b) * u + c)
        if not 0 <= k <= n:
            continue
        if room >= 0.07 and v <= squeeze:
            return k
        v *= alpha / (a / (room * room) + b)
        if math.log(v) <= height - math.lgamma(k + 1) - math.lgamma(n - k + 1) + (k - mode) * odds:
            return k
