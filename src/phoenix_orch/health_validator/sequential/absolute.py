"""One variant against a limit.

Source: likelihood ratios of the exponential family on a grid of alternatives; Ville; for rates that
change, Hoeffding's argument (the bound on the moment generating function is concave in the rate).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from phoenix_orch.health_validator.sequential import mixture
from phoenix_orch.health_validator.sequential.mixture import Mixture

Lines = tuple[tuple[float, float], ...]
"""(a, b) per alternative: the logarithm of its likelihood ratio is a*x + b*y."""

WORSE = (1.3, 1.7, 2.5, 4.0, 8.0, 20.0, 80.0, 400.0)
"""Alternatives of FAIL: odds so many times those of the limit."""

FEW = (1.7, 4.0, 20.0, 400.0)
"""Alternatives where less will do."""

BETTER = (0.02, 0.1, 0.25, 0.45, 0.65)
"""Alternatives of PASS: shares so many times the limit."""

SMALLEST = 1e-6
"""A limit of 0 is taken as one in a million: no evidence is infinite."""


@lru_cache(maxsize=256)
def fail_lines(limit: float, multiples: Sequence[float] = WORSE) -> Lines:
    """FAIL for a share: x bad and y good requests; null: the share is at most `limit` (0..1).

    The null is against every request's own share p_i, which may change all the time: exp(l*x) has the
    expectation prod(1 + p_i(e^l - 1)) <= (1 + limit(e^l - 1))^n. It suffices that the mean of the p_i
    since the beginning of the stake is at most `limit`.
    """
    limit = _inside(limit)
    lines = []
    for multiple in multiples:
        odds = multiple * limit / (1 - limit)
        share = odds / (1 + odds)
        lines.append((math.log(share / limit), math.log1p(-share) - math.log1p(-limit)))
    return tuple(lines)


@lru_cache(maxsize=256)
def pass_lines(limit: float, parts: Sequence[float] = BETTER) -> Lines:
    """PASS for a share: x bad and y good requests; null: the share is at least `limit` (0..1)."""
    limit = _inside(limit)
    return tuple((math.log(part), math.log1p(-part * limit) - math.log1p(-limit)) for part in parts)


@lru_cache(maxsize=256)
def rate_lines(limit: float, multiples: Sequence[float] = WORSE) -> Lines:
    """FAIL for a rate: x events in y requests, more than one each allowed (Poisson).

    Null: at most `limit` events per request; with multiples below 1: at least `limit`.
    """
    limit = max(limit, SMALLEST)
    return tuple((math.log(multiple), -limit * (multiple - 1)) for multiple in multiples)


def update(
    test: Mixture, staked: float, x: float, y: float, lines: Lines, *, dispersion: float = 1.0
) -> Mixture:
    """One block of FAIL. `staked`: see `mixture.linear`; `dispersion` is 1 or more."""
    return mixture.linear(test, staked, x / dispersion, y / dispersion, lines)


def evidence(x: float, y: float, lines: Lines, dispersion: float = 1.0) -> float:
    """The e-value of all counts since a fixed beginning, with equal stakes placed at the beginning.

    Null and guarantee: those of the lines. It needs no state but the sums. For PASS, `1/alpha` proves at
    level alpha that the limit is kept; several limits need no correction, since all of them have to pass.
    """
    logs = [(a * x + b * y) / dispersion for a, b in lines]
    return min(mixture.CAP, sum(math.exp(min(log, 700.0)) for log in logs) / len(logs))


def _inside(limit: float) -> float:
    return min(max(limit, SMALLEST), 1 - SMALLEST)
