"""How likely a count is, exactly: at the end of a step there is one look, and no normal law for three errors.

Source: the tail of the Poisson distribution is the regularised incomplete gamma function, which takes
counts that are no whole numbers, such as those divided by a dispersion.
"""

from __future__ import annotations

import math

MANY = 10_000.0
"""From so many expected events on the normal law is as good: the levels differ by less than 1 % of
themselves."""

SMALL = 1e-12
"""Terms of this part of the sum change nothing."""


def level(z: float) -> float:
    """Probability of `z` standard errors or more on one side of the normal law."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def as_many(count: float, expected: float) -> float:
    """Probability of `count` events or more where `expected` (above 0) are usual."""
    if count <= 0:
        return 1.0
    if expected >= MANY:
        return level((count - expected) / math.sqrt(expected))
    term = math.exp(count * math.log(expected) - expected - math.lgamma(count + 1))
    total, place = 0.0, count
    while place < expected or term > SMALL * total:
        total += term
        place += 1
        term *= expected / place
    return min(1.0, total)


def as_few(count: float, expected: float) -> float:
    """Probability of `count` events or fewer where `expected` (above 0) are usual."""
    if expected >= MANY:
        return level((expected - count) / math.sqrt(expected))
    return max(0.0, 1.0 - as_many(count + 1, expected))
