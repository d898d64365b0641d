"""Two variants in the same seconds, without knowing the base rate.

Sources: given its margins, a 2x2 table follows Fisher's noncentral hypergeometric distribution, whose
generating function has real roots only, so that the count is a sum of independent Bernoulli variables;
for those a convex function has the largest expectation when all are alike (Hoeffding 1956). The safe
tests of Turner, Ly and Grünwald are the nearest relatives; they learn a base rate, this needs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log, log1p, sqrt

from phoenix_orch.health_validator.sequential import mixture, unrolled
from phoenix_orch.health_validator.sequential.mixture import CAP, Mixture

RATIOS = (1.3, 1.7, 2.5, 4.0, 8.0, 20.0, 80.0)
"""Alternatives: odds ratios beyond the tolerated one."""

FEW = (1.5, 2.5, 5.0, 15.0, 80.0)
"""Alternatives where many comparisons are made at once."""

Terms = tuple[tuple[float, float], ...]
"""(ln(rho), rho - 1) per alternative."""


def terms(ratios: Sequence[float]) -> Terms:
    """What a comparison needs to know of its alternatives."""
    return tuple((log(ratio), ratio - 1) for ratio in ratios)


_new = tuple.__new__
"""As in `mixture`."""

FULL_TERMS = terms(RATIOS)
FEW_TERMS = terms(FEW)


def bound(n_c: float, n_s: float, bad: float, odds: float) -> tuple[float, float]:
    """(m, q): the canary's bad requests vary at most like a binomial of m trials with share q.

    Null: odds of the canary are at most `odds` (1 or more) times those of stable. Given that `bad` of
    the n_c + n_s requests were bad, E[rho^x_c] <= (1 + q(rho - 1))^m for every rho >= 1, with
    m = min(n_c, bad). q*m bounds the mean from above: the positive root of a quadratic that follows from
    the exact identity E[x(n_s - bad + x)] = odds * E[(n_c - x)(bad - x)] and Var(x) <= mu(1 - mu/m).
    """
    m = n_c if n_c < bad else bad  # noqa: FURB136 - half the price of min(), and some five times a look
    if m <= 0:
        return 0.0, 0.0
    a = (1 - odds) * (1 - 1 / m) if m > 1 else 0.0
    b = n_s - bad + odds * (n_c + bad) - (odds - 1)
    c = odds * n_c * bad
    square = b * b + 4 * a * c
    q = 2 * c / (b + sqrt(square) if square > 0 else b) / m
    return m, q if q < 1.0 else 1.0  # noqa: FURB136


def poisson_bound(n_c: float, n_s: float, events: float, odds: float) -> tuple[float, float]:
    """(m, q) for events that may be more than one per request: the conditional binomial, exact."""
    return events, odds * n_c / (odds * n_c + n_s) if n_c > 0 else 0.0


def compare(
    test: Mixture,
    staked: float,
    counts: tuple[int, int, int, int],
    odds: float,
    *,
    dispersion: float = 1.0,
    terms: Terms = FULL_TERMS,
) -> Mixture:
    """One block: `counts` are requests and bad ones of the canary, then of stable.

    Null, guarantee: those of `bound`, in every block; base rate and weights may change from block to
    block. As many weights as `terms`; `staked`: see `mixture.linear`.
    """
    n_c, x_c, n_s, x_s = counts
    bad = x_c + x_s
    if bad <= 0 or n_c <= 0:
        return mixture.idle(test, staked)
    m, q = bound(n_c, n_s, bad, odds)
    return update(test, staked, (x_c / dispersion, m / dispersion, q), terms)


def update(
    test: Mixture, staked: float, block: tuple[float, float, float], terms: Terms = FULL_TERMS
) -> Mixture:
    """One `block`: bad ones of the canary, and the trials and q of `bound` or `poisson_bound`; counts and
    trials are divided by the dispersion."""
    x, trials, q = block
    reserve, weights, _ = test
    stake = reserve * staked
    each = stake / len(weights)
    move = unrolled.odds_5 if len(weights) == 5 else unrolled.odds_7
    try:
        weights, total = move(weights, each, block, terms)
    except OverflowError:
        return mixture.grown(
            test, staked, [x * of_ratio - trials * log1p(q * excess) for of_ratio, excess in terms]
        )
    reserve -= stake
    if total >= CAP:
        return mixture.closed(reserve, weights)
    return _new(Mixture, (reserve, weights, reserve + total))


def compare_edges(
    tests: tuple[Mixture, ...],
    staked: tuple[float, float],
    totals: tuple[int, int],
    edges: Iterable[tuple[int, int, float, float]],
) -> tuple[Mixture, ...]:
    """One block at many edges: `compare` with FEW_TERMS for each test, in three quarters of its time.

    `totals` are the requests of canary and stable; an edge is (slow ones of the canary, of stable, odds,
    dispersion). `staked`: from now on, and on a test's first look.
    """
    n_c, n_s = totals
    later, first = staked
    (a, b), (c, d), (e, f), (g, h), (i, j) = FEW_TERMS
    found = []
    # `bound` and `unrolled.odds_5` are written out: calling them at every edge costs a fiftieth of a verdict.
    for test, (x_c, x_s, odds, dispersion) in zip(tests, edges, strict=True):
        reserve, (s, t, u, v, w), _ = test
        part = later if s else first
        stake = reserve * part
        each = stake / 5
        bad = x_c + x_s
        if bad and n_c:
            m = n_c if n_c < bad else bad  # noqa: FURB136
            slope = (1 - odds) * (1 - 1 / m) if m > 1 else 0.0
            middle = n_s - bad + odds * (n_c + bad) - (odds - 1)
            square = middle * middle + 4 * slope * (odds * n_c * bad)
            q = 2 * (odds * n_c * bad) / (middle + sqrt(square) if square > 0 else middle) / m
            q = q if q < 1.0 else 1.0  # noqa: FURB136
            x, trials = x_c / dispersion, m / dispersion
            try:
                s = (s + each) * exp(x * a - trials * log1p(q * b))
                t = (t + each) * exp(x * c - trials * log1p(q * d))
                u = (u + each) * exp(x * e - trials * log1p(q * f))
                v = (v + each) * exp(x * g - trials * log1p(q * h))
                w = (w + each) * exp(x * i - trials * log1p(q * j))
                total = s + t + u + v + w
            except OverflowError:
                total = CAP
            if total >= CAP:
                found.append(update(test, part, (x, trials, q), FEW_TERMS))
                continue
        else:
            s, t, u, v, w = s + each, t + each, u + each, v + each, w + each
            total = s + t + u + v + w
        reserve -= stake
        found.append(_new(Mixture, (reserve, (s, t, u, v, w), reserve + total)))
    return tuple(found)
