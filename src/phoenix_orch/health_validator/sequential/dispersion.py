"""How much counts vary beyond what independent requests would.

Source: Pearson's statistic on pairs of neighbouring windows, which a slow drift of the base rate does not
move. The Fano factor of a sum of independent processes equals that of one of them, so the sum of all
stable processes is enough. Pairs are added up before the division: a mean of single quotients gives a pair
with one event the weight of one with twenty, and where events are few and clustered most pairs with any
have few, so that clusters of six looked like six instead of eleven.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

CLIPPED = 200.0
"""One pair says at most so many times what is usual: an incident is not the usual state."""

MOST = 10.0
"""Nor does it count more than so many usual pairs, however many events it has."""

PRIOR_PAIRS = 10
"""The prior counts like so many pairs, with as many events as the pairs seen have in the mean."""

Window = tuple[int, int]
"""(bad, total) of one stretch of time."""


def pair(first: Window, second: Window) -> tuple[float, float] | None:
    """(square, spread) of two neighbouring windows: how far apart they are, and what independent requests
    would have in the mean. Their quotient is Pearson's X². None: no event."""
    (bad_1, total_1), (bad_2, total_2) = first, second
    bad, total = bad_1 + bad_2, total_1 + total_2
    if bad <= 0 or total_1 <= 0 or total_2 <= 0:
        return None
    part = total_1 / total
    spread = bad * part * (1 - part) * _finite(bad, total)
    return ((bad_1 - bad * part) ** 2, spread) if spread > 0 else None


def _finite(bad: int, total: int) -> float:
    """Common events vary less: the hypergeometric correction."""
    return (total - bad) / (total - 1) if total > 1 else 1.0


def estimate(
    windows: Iterable[Window], *, prior: float, safety: float = 1.5, cap: float = 30.0
) -> tuple[float, int]:
    """(dispersion, pairs it stands on) from windows in the order of time, each used once.

    Guarantee: none that is exact; it is an estimate, and `safety` (1.5) stands for clusters longer than a
    window. Between 1 and `cap`.
    """
    found: list[tuple[float, float]] = []
    before: Window | None = None
    for window in windows:
        if before is None:
            before = window
            continue
        compared = pair(before, window)
        before = None
        if compared is not None:
            found.append(compared)
    ratio = _ratio(found, prior) if found else prior
    return min(cap, max(1.0, 1 + safety * (ratio - 1))), len(found)


def _ratio(found: list[tuple[float, float]], prior: float) -> float:
    """All squares by all spreads, the prior among them."""
    usual = statistics.median([spread for _, spread in found])
    squares = spreads = 0.0
    for square, spread in found:
        part = min(1.0, MOST * usual / spread)
        squares += min(square * part, CLIPPED * usual)
        spreads += spread * part
    known = spreads / len(found) * PRIOR_PAIRS
    return (prior * known + squares) / (known + spreads)
