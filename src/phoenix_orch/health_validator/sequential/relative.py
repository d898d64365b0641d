"""Two variants in the same seconds, without knowing the base rate.

Sources: given its margins, a 2x2 table follows Fisher's noncentral hypergeometric distribution, whose
generating function has real roots only, so that the count is a sum of independent Bernoulli variables;
for those a convex function has the largest expectation when all are alike (Hoeffding 1956). The safe
tests of Turner, Ly and Grünwald are the nearest relatives; they learn a base rate, this needs none.
"""

from __future__ import annotations

import math

from phoenix_orch.health_validator.sequential import mixture
from phoenix_orch.health_validator.sequential.mixture import Mixture

RATIOS = (1.3, 1.7, 2.5, 4.0, 8.0, 20.0, 80.0)
"""Alternatives: odds ratios beyond the tolerated one."""

_LOGS = tuple(math.log(ratio) for ratio in RATIOS)
_EXCESS = tuple(ratio - 1 for ratio in RATIOS)


def bound(n_c: float, n_s: float, bad: float, odds: float) -> tuple[float, float]:
    """(m, q): the canary's bad requests vary at most like a binomial of m trials with share q.

    Null: odds of the canary are at most `odds` (1 or more) times those of stable. Given that `bad` of
    the n_c + n_s requests were bad, E[rho^x_c] <= (1 + q(rho - 1))^m for every rho >= 1, with
    m = min(n_c, bad). q*m bounds the mean from above: the positive root of a quadratic that follows from
    the exact identity E[x(n_s - bad + x)] = odds * E[(n_c - x)(bad - x)] and Var(x) <= mu(1 - mu/m).
    """
    m = min(n_c, bad)
    if m <= 0:
        return 0.0, 0.0
    a = (1 - odds) * (1 - 1 / m) if m > 1 else 0.0
    b = n_s - bad + odds * (n_c + bad) - (odds - 1)
    c = odds * n_c * bad
    root = 2 * c / (b + math.sqrt(max(0.0, b * b + 4 * a * c)))
    return m, min(1.0, root / m)


def poisson_bound(n_c: float, n_s: float, events: float, odds: float) -> tuple[float, float]:
    """(m, q) for events that may be more than one per request: the conditional binomial, exact."""
    return events, odds * n_c / (odds * n_c + n_s) if n_c > 0 else 0.0


def compare(
    test: Mixture, staked: float, counts: tuple[int, int, int, int], odds: float, dispersion: float
) -> Mixture:
    """One block: `counts` are requests and bad ones of the canary, then of stable.

    Null, guarantee: those of `bound`, in every block; base rate and weights may change from block to
    block. As many weights as RATIOS; `staked`: see `mixture.linear`.
    """
    n_c, x_c, n_s, x_s = counts
    bad = x_c + x_s
    if bad <= 0 or n_c <= 0:
        return mixture.idle(test, staked)
    m, q = bound(n_c, n_s, bad, odds)
    return update(test, staked, x_c / dispersion, m / dispersion, q)


def update(test: Mixture, staked: float, x: float, trials: float, q: float) -> Mixture:
    """One block: x bad ones of the canary, where `trials` and `q` are those of `bound` or
    `poisson_bound`; x and trials divided by the dispersion."""
    reserve, weights = test
    stake = reserve * staked
    each = stake / len(weights)
    exp, log1p = math.exp, math.log1p
    try:
        moved = tuple(
            [
                (weight + each) * exp(x * log - trials * log1p(q * excess))
                for weight, log, excess in zip(weights, _LOGS, _EXCESS, strict=True)
            ]
        )
    except OverflowError:
        logs = [x * log - trials * log1p(q * excess) for log, excess in zip(_LOGS, _EXCESS, strict=True)]
        return mixture.grown(test, staked, logs)
    if sum(moved) >= mixture.CAP:
        moved = tuple([min(weight, mixture.CAP) for weight in moved])
    return Mixture(reserve - stake, moved)
