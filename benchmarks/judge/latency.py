"""How long requests take: laws whose share above any edge is known, so that buckets are drawn, not requests.

A law is a mixture of lognormal parts and, at most, one Pareto tail. Times in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phoenix_orch.traffic.traefik_config import BUCKETS

Floats = NDArray[np.float64]

EDGES: Floats = np.array([*BUCKETS, math.inf])
"""Upper edges as the embedded router keeps them; the guide's limits of 100 and 200 ms are among them."""

SIGMA = 0.6
MEDIAN = 0.080 / math.exp(1.6448536 * SIGMA)
"""p95 is 80 ms, p99 120 ms, 2.2 % are above 100 ms."""

_GRID = np.linspace(-9.0, 9.0, 18_001)
_NORMAL = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in _GRID])


def normal_cdf(z: Floats) -> Floats:
    """Of the standard normal law, by table: exact to 1e-7."""
    table: Floats = np.interp(z, _GRID, _NORMAL)
    return table


@dataclass(frozen=True)
class Law:
    """`parts`: (share, median, sigma) of lognormals. The rest of the requests follow the Pareto tail."""

    parts: tuple[tuple[float, float, float], ...] = ((1.0, MEDIAN, SIGMA),)
    pareto: tuple[float, float] = (0.08, 1.5)
    """(smallest value, exponent)."""

    def buckets(self, scale: Floats) -> Floats:
        """Shares per bucket, shape (len(scale), len(EDGES)), when every time is multiplied by `scale`."""
        edges = EDGES[:-1] / scale[:, None]
        below = np.zeros_like(edges)
        for share, median, sigma in self.parts:
            below += share * normal_cdf(np.log(edges / median) / sigma)
        rest = 1.0 - sum(share for share, _, _ in self.parts)
        if rest > 1e-12:
            least, exponent = self.pareto
            below += rest * (1.0 - (least / np.maximum(edges, least)) ** exponent)
        whole = np.concatenate([below, np.ones((len(scale), 1))], axis=1)
        shares = np.diff(whole, axis=1, prepend=0.0)
        return np.maximum(shares, 0.0) / np.maximum(shares, 0.0).sum(axis=1, keepdims=True)


USUAL = Law()
HEAVY = Law(parts=((0.99, MEDIAN, SIGMA),))
"""One request in a hundred from a Pareto tail without a variance: a few take seconds."""
SLOW_TAIL = Law(parts=((0.98, MEDIAN, SIGMA), (0.02, 0.5, 0.3)))
"""One request in fifty takes about half a second: p95 stays within 100 ms, p99 is four times as long."""
