"""Which share of the requests the canary is seen to get (rule R3). Pure.

Three witnesses, the best first: what the router counted for each Service, what the two variants counted
of their own requests, and what the traffic object and its status say. The first that knows is believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from math import sqrt
from typing import NamedTuple

Z = 3.29
"""Standard scores of a two-sided interval of 99.9 %."""
_ROUNDING = 1e-9
"""So that no share of 0 counts as below the interval of 0 requests."""
TOLERANCE = 0.05
"""A router that is off by this part of the share wanted does as it is told."""


class Witness(StrEnum):
    ROUTER = "router"  # its metrics
    VARIANTS = "variants"  # request counters of the two variants
    OBJECT = "object"  # the traffic object and its status


class Counts(NamedTuple):
    """Requests of one stretch of time that began after the last change of the weight."""

    canary: float
    stable: float


class Seen(NamedTuple):
    """What is known of the share."""

    share: int | None
    """Per cent; None: nobody knows yet."""
    witness: Witness | None = None


def seen_share(
    wanted: int,
    before: int,
    *,
    router: Counts | None,
    variants: Counts | None,
    by_object: int | None,
) -> Seen:
    """The share in force. `wanted`: what the object says; `before`: what it said before that.

    `by_object`: the share that the status vouches for; None: it does not.
    """
    counted: Iterable[tuple[Witness, Counts | None]] = (
        (Witness.ROUTER, router),
        (Witness.VARIANTS, variants),
    )
    for witness, counts in counted:
        if counts is not None and (share := share_of(counts, wanted, before)) is not None:
            return Seen(share, witness)
    return Seen(by_object, Witness.OBJECT) if by_object is not None else Seen(None)


def share_of(counts: Counts, wanted: int, before: int) -> int | None:
    """What counters say: `wanted` when they agree with it and not with `before`, another share when
    they agree with neither; None while they are too few to tell.

    Weighted round robin varies less than chance would, a router with several workers about as much: the
    interval of chance (Wilson's score) is right for both.
    """
    total = counts.canary + counts.stable
    if total <= 0:
        return None
    low, high = _wilson(counts.canary / total, total)
    slack = TOLERANCE * wanted / 100
    as_wanted = low - slack <= wanted / 100 <= high + slack
    as_before = low <= before / 100 <= high
    if as_wanted:
        return wanted if before == wanted or not as_before else None
    return before if as_before else round(100 * counts.canary / total)


def _wilson(share: float, total: float) -> tuple[float, float]:
    """Between what shares `share` of `total` requests may have come about by chance."""
    middle = (share + Z * Z / (2 * total)) / (1 + Z * Z / total)
    half = Z / (1 + Z * Z / total) * sqrt(share * (1 - share) / total + Z * Z / (4 * total * total))
    return middle - half - _ROUNDING, middle + half + _ROUNDING
