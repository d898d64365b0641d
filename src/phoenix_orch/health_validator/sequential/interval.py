"""Intervals of a share that may be watched: they hold at all looks at once.

Source: Robbins' method of mixtures with a beta prior; the interval is every share that the mixture of
likelihood ratios does not reject.
"""

from __future__ import annotations

import math
from functools import lru_cache

SMALLEST = 1e-6

_CLOSE = 1e-4
"""Newton stops after a step of this size, on the scale of logits and logarithms: the next would be 1e-8."""


def bounds(
    bad: float, total: float, *, limit: float, alpha: float, dispersion: float = 1.0
) -> tuple[float, float]:
    """(lower, upper) of the share of bad requests, 0..1, after `bad` of `total`.

    Guarantee: with probability 1 - alpha the true share lies within, at all looks together. The prior
    Beta(1/2, 1/(2 limit)) makes it narrowest near the limit and costs no validity. `dispersion`: 1 or
    more; counts are taken so many times smaller (see `mixture.linear`).
    """
    if total <= 0:
        return 0.0, 1.0
    x, n = bad / dispersion, total / dispersion
    y = n - x
    room = -math.log(alpha) - _evidence(x, y, limit)
    if x <= 0:
        return 0.0, -math.expm1(-room / n)
    if y <= 0:
        return math.exp(-room / n), 1.0
    return _root(x, n, room, -1.0), _root(x, n, room, 1.0)


def upper(bad: float, total: float, *, limit: float, alpha: float, dispersion: float = 1.0) -> float:
    """The upper one of `bounds` alone, which is what a pass needs."""
    if total <= 0:
        return 1.0
    x, n = bad / dispersion, total / dispersion
    room = -math.log(alpha) - _evidence(x, n - x, limit)
    if x <= 0:
        return -math.expm1(-room / n)
    return 1.0 if n - x <= 0 else _root(x, n, room, 1.0)


@lru_cache(maxsize=512)
def needed(bad: int, target: float, *, limit: float, alpha: float, dispersion: float = 1.0) -> int | None:
    """How many requests in all, with no bad one more than `bad`, bring the upper bound down to `target`.

    None: not within 10^12.
    """
    most = 10**12
    if target <= 0 or upper(bad, most, limit=limit, alpha=alpha, dispersion=dispersion) > target:
        return None
    low, high = bad, most
    while high - low > 1:
        middle = (low + high) // 2
        if upper(bad, middle, limit=limit, alpha=alpha, dispersion=dispersion) <= target:
            high = middle
        else:
            low = middle
    return high


def _evidence(x: float, y: float, limit: float) -> float:
    """Logarithm of the mixture's likelihood: B(a + x, b + y) / B(a, b)."""
    b, known = _prior(limit)
    lgamma = math.lgamma
    return lgamma(0.5 + x) + lgamma(b + y) - lgamma(0.5 + b + x + y) - known


@lru_cache(maxsize=256)
def _prior(limit: float) -> tuple[float, float]:
    """The second parameter of Beta(1/2, b), and the logarithm of B(1/2, b)."""
    b = 0.5 / max(limit, SMALLEST)
    return b, math.lgamma(0.5) + math.lgamma(b) - math.lgamma(0.5 + b)


def _root(x: float, n: float, room: float, side: float) -> float:
    """Where -x ln p - (n-x) ln(1-p) = room, on one side of x/n.

    In t = logit p that is n ln(1+e^t) - x t = room: convex, so that Newton's method comes from outside
    and never crosses the root again. It begins where the expansion to the third order has its root.
    """
    share = x / n
    rest = 1 - share
    centre = math.log(share / rest)
    lowest = -x * math.log(share) - (n - x) * math.log(rest)
    away = max(1e-12, 2 * (room - lowest) / (x * rest))
    t = centre + side * math.sqrt(away) - (1 - 2 * share) * away / 6
    exp, log1p = math.exp, math.log1p
    for _ in range(60):
        if t >= 0:
            e = exp(-t)
            value, slope = n * (t + log1p(e)) - x * t - room, n / (1 + e) - x
        else:
            e = exp(t)
            value, slope = n * log1p(e) - x * t - room, n * e / (1 + e) - x
        if slope * side <= 0:
            t += side * math.sqrt(away)  # begun on the wrong side of x/n
            continue
        move = value / slope
        t -= move
        if -_CLOSE < move < _CLOSE:
            break
    return 1 / (1 + exp(-t)) if t >= 0 else exp(t) / (1 + exp(t))


def rate_bounds(
    events: float, total: float, *, limit: float, alpha: float, dispersion: float = 1.0
) -> tuple[float, float]:
    """(lower, upper) of events per request after `events` in `total` requests (Poisson).

    As `bounds`, with the prior Gamma(1/2, 1/(2 limit)); several events per request are allowed.
    """
    if total <= 0:
        return 0.0, math.inf
    x, n = events / dispersion, total / dispersion
    a = 0.5
    b = a / max(limit, SMALLEST)
    evidence = math.lgamma(a + x) - math.lgamma(a) + a * math.log(b) - (a + x) * math.log(b + n)
    room = -math.log(alpha) - evidence
    if x <= 0:
        return 0.0, room / n
    return _rate_root(x, n, room, -1.0), _rate_root(x, n, room, 1.0)


def _rate_root(x: float, n: float, room: float, side: float) -> float:
    """Where n*rate - x*ln(rate) = room, on one side of x/n; convex in the logarithm of the rate."""
    rate = x / n
    lowest = x - x * math.log(rate)
    t = math.log(rate) + side * math.sqrt(max(1e-12, 2 * (room - lowest) / x))
    for _ in range(100):
        e = n * math.exp(min(t, 600.0))
        if (e - x) * side <= 0:
            break
        move = (e - x * t - room) / (e - x)
        t -= move
        if abs(move) < _CLOSE:
            break
    return math.exp(t)
