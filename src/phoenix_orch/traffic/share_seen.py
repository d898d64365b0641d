"""Which share of the requests the canary is seen to get (rule R3). Pure.

Two witnesses. The better one is what the router counted for each variant; the other one is what the traffic
object and its status say. Counts may be looked at after every scrape: a share is excluded by an e-value
(Krichevsky and Trofimov's mixture against it), of which Ville's inequality says that it ever gets as large as
`ODDS` with a probability of one in `ODDS` at most if the share is the true one. Weighted round robin varies
less than chance does, so that this holds for it all the more.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf, lgamma, log
from typing import NamedTuple

ODDS = 1000.0
"""Evidence from which on a share is excluded."""
SLACK, PART = 0.01, 0.3
"""A router does as it is told while its share is off by one point and three tenths of the smaller share:
clients with sessions come in lumps."""


class Witness(StrEnum):
    ROUTER = "router"  # its metrics
    OBJECT = "object"  # the traffic object and its status


class Counts(NamedTuple):
    """Requests of one stretch of time that began after the last change of the weight."""

    canary: int
    stable: int

    @property
    def total(self) -> int:
        return self.canary + self.stable


class Seen(NamedTuple):
    """What is known of the share."""

    share: int | None
    """Per cent; None: nobody knows yet."""
    witness: Witness | None = None


def share_of(counts: Counts, wanted: int, before: int | None, *, odds: float = ODDS) -> int | None:
    """What counters say, in per cent: `wanted` where they exclude `before` and nothing near `wanted`; where
    they exclude everything near it `before`, or the share as it was counted. None: too few to tell.

    `before`: what was wanted before that; None: not known, and then they cannot tell it from `wanted`.
    """
    if counts.total <= 0:
        return None
    counted = counts.canary / counts.total
    low, high = tolerated(wanted)
    if excluded(min(max(counted, low), high), counts, odds=odds):
        kept = before is not None and not excluded(before / 100, counts, odds=odds)
        return before if kept else round(100 * counted)
    return wanted if before is not None and excluded(before / 100, counts, odds=odds) else None


def tolerated(wanted: int) -> tuple[float, float]:
    """Between what shares, 0..1, a router does as it is told."""
    share = wanted / 100
    slack = SLACK + PART * min(share, 1 - share)
    return max(0.0, share - slack), min(1.0, share + slack)


def excluded(share: float, counts: Counts, *, odds: float = ODDS) -> bool:
    """Whether the counts are evidence of `odds` to 1 against this share, 0..1."""
    return _evidence(share, counts) >= log(odds)


def _evidence(share: float, counts: Counts) -> float:
    """Logarithm of the e-value."""
    canary, stable = counts
    if (share <= 0 and canary > 0) or (share >= 1 and stable > 0):
        return inf
    mixture = lgamma(canary + 0.5) + lgamma(stable + 0.5) - lgamma(counts.total + 1) - 2 * lgamma(0.5)
    likelihood = (canary * log(share) if canary else 0.0) + (stable * log(1 - share) if stable else 0.0)
    return mixture - likelihood
