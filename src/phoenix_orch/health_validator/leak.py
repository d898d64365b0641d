"""Memory that grows all the time, projected to its limit. Pure."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations
from statistics import median

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.books import Ledger
from phoenix_orch.health_validator.rules import Rules

FEWEST = 6
"""Fewer windows show no trend."""

RISING = 0.9
"""Share of all pairs of windows that have to rise."""

NEAR = 0.5
"""Part of the limit below which growth is taken for a start that is not over."""


def leak(rules: Rules, ledger: Ledger) -> tuple[str, str] | None:
    """The metric and the reason when memory will reach its limit before the rollout is over.

    The slope is the median of the slopes between all pairs of windows (Theil and Sen), which a few odd
    windows do not move. Windows are means of `window`; the newest ten are looked at.
    """
    limit = rules.step.limits.memory
    floors = ledger.floors
    if limit is None or len(floors) < FEWEST or floors[-1] < NEAR * limit:
        return None
    pairs = list(combinations(range(len(floors)), 2))
    rising = sum(floors[b] > floors[a] for a, b in pairs)
    if rising < RISING * len(pairs):
        return None
    slope = median((floors[b] - floors[a]) / (b - a) for a, b in pairs)
    window = rules.window_cells * rules.interval_ms / 1000
    seconds = (limit - floors[-1]) / slope * window
    if seconds > rules.remaining:
        return None
    per_hour = explain.size(slope / window * 3600)
    return "memory", (
        f"memory of {rules.who} grows by {per_hour} an hour: {explain.size(floors[-1])} now, "
        f"{explain.size(limit)} in about {explain.length(timedelta(seconds=round(seconds)))}"
    )
