"""How much counts vary beyond what independent requests would.

Source: Pearson's statistic on pairs of neighbouring windows, which a slow drift of the base rate does not
move. The Fano factor of a sum of independent processes equals that of one of them, so the sum of all
stable processes is enough.
"""

from __future__ import annotations

from collections.abc import Iterable

CLIPPED = 200.0
"""One pair says at most so much: an incident is not the usual state."""

PRIOR_PAIRS = 10
"""The prior counts like so many pairs."""

Window = tuple[int, int]
"""(bad, total) of one stretch of time."""


def pair(first: Window, second: Window) -> float | None:
    """Pearson's X² of two neighbouring windows, 1 in the mean for independent requests. None: no event."""
    (bad_1, total_1), (bad_2, total_2) = first, second
    bad, total = bad_1 + bad_2, total_1 + total_2
    if bad <= 0 or total_1 <= 0 or total_2 <= 0:
        return None
    part = total_1 / total
    spread = bad * part * (1 - part) * _finite(bad, total)
    return (bad_1 - bad * part) ** 2 / spread if spread > 0 else None


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
    found: list[float] = []
    before: Window | None = None
    for window in windows:
        if before is None:
            before = window
            continue
        statistic = pair(before, window)
        before = None
        if statistic is not None:
            found.append(min(statistic, CLIPPED))
    mean = (prior * PRIOR_PAIRS + sum(found)) / (PRIOR_PAIRS + len(found))
    return min(cap, max(1.0, 1 + safety * (mean - 1))), len(found)
