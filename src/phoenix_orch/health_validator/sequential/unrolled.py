"""The loops of `mixture` and `relative`, written out: in this language a loop of eight costs more than the
eight exponentials in it. Tests hold them against the loops. Raise OverflowError where the loops would.

Each gives the new weights and their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log1p

Pairs = Sequence[tuple[float, float]]
Block = tuple[float, float, float]
"""x, trials and q."""
Moved = tuple[tuple[float, ...], float]


def linear_8(weights: tuple[float, ...], each: float, x: float, y: float, lines: Pairs) -> Moved:
    """(w + each) * exp(a*x + b*y) for eight weights and lines (a, b)."""
    s, t, u, v, w, z, q, r = weights
    (a, b), (c, d), (e, f), (g, h), (i, j), (k, aa), (m, n), (o, p) = lines
    s = (s + each) * exp(a * x + b * y)
    t = (t + each) * exp(c * x + d * y)
    u = (u + each) * exp(e * x + f * y)
    v = (v + each) * exp(g * x + h * y)
    w = (w + each) * exp(i * x + j * y)
    z = (z + each) * exp(k * x + aa * y)
    q = (q + each) * exp(m * x + n * y)
    r = (r + each) * exp(o * x + p * y)
    return (s, t, u, v, w, z, q, r), s + t + u + v + w + z + q + r


def linear_4(weights: tuple[float, ...], each: float, x: float, y: float, lines: Pairs) -> Moved:
    """The same for four."""
    s, t, u, v = weights
    (a, b), (c, d), (e, f), (g, h) = lines
    s = (s + each) * exp(a * x + b * y)
    t = (t + each) * exp(c * x + d * y)
    u = (u + each) * exp(e * x + f * y)
    v = (v + each) * exp(g * x + h * y)
    return (s, t, u, v), s + t + u + v


def odds_5(weights: tuple[float, ...], each: float, block: Block, terms: Pairs) -> Moved:
    """(w + each) * exp(x*log - trials*log1p(q*excess)) for five weights and terms (log, excess)."""
    x, trials, q = block
    s, t, u, v, w = weights
    (a, b), (c, d), (e, f), (g, h), (i, j) = terms
    s = (s + each) * exp(x * a - trials * log1p(q * b))
    t = (t + each) * exp(x * c - trials * log1p(q * d))
    u = (u + each) * exp(x * e - trials * log1p(q * f))
    v = (v + each) * exp(x * g - trials * log1p(q * h))
    w = (w + each) * exp(x * i - trials * log1p(q * j))
    return (s, t, u, v, w), s + t + u + v + w


def odds_7(weights: tuple[float, ...], each: float, block: Block, terms: Pairs) -> Moved:
    """The same for seven."""
    x, trials, q = block
    s, t, u, v, w, z, r = weights
    (a, b), (c, d), (e, f), (g, h), (i, j), (k, o), (m, n) = terms
    s = (s + each) * exp(x * a - trials * log1p(q * b))
    t = (t + each) * exp(x * c - trials * log1p(q * d))
    u = (u + each) * exp(x * e - trials * log1p(q * f))
    v = (v + each) * exp(x * g - trials * log1p(q * h))
    w = (w + each) * exp(x * i - trials * log1p(q * j))
    z = (z + each) * exp(x * k - trials * log1p(q * o))
    r = (r + each) * exp(x * m - trials * log1p(q * n))
    return (s, t, u, v, w, z, r), s + t + u + v + w + z + r
