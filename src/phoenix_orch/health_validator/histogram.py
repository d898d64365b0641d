"""Questions to classic latency histograms: how many were slower, and how slow is the slowest share.

Pure. Buckets are not cumulative: (upper edge in seconds, requests in this bucket only), rising, the
last edge is infinity, as in `Arm.buckets`. A value equal to an edge lies in the bucket that it ends.

When a limit is an edge, the number of slower requests is known. When it lies inside a bucket, that
bucket's requests may be on either side: `certainly_above` leaves them out, `possibly_above` takes them
in, `about_above` spreads them evenly, which is good enough to show and not to convict.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import pairwise

Buckets = tuple[tuple[float, int], ...]


def from_cumulative(counts: Mapping[float, int]) -> Buckets:
    """`le` counts by upper edge, as scraped. A count below that of a lower edge, which happens when a
    program is read while it counts, is taken as equal to it."""
    buckets: list[tuple[float, int]] = []
    below = 0
    for edge in sorted(counts):
        total = max(below, counts[edge])
        buckets.append((edge, total - below))
        below = total
    if buckets and buckets[-1][0] != math.inf:
        buckets.append((math.inf, 0))
    return tuple(buckets)


def from_samples(samples: Iterable[float], edges: Iterable[float]) -> Buckets:
    """Raw latencies in seconds, counted into buckets with these upper edges; infinity is added.

    Nothing is lost for the judge when the limits are among the edges. Values that are no finite numbers
    of 0 or more are no latencies and are left out.
    """
    uppers = (*sorted({edge for edge in edges if edge != math.inf}), math.inf)
    counts = [0] * len(uppers)
    for sample in samples:
        if math.isfinite(sample) and sample >= 0:
            counts[bisect_left(uppers, sample)] += 1
    return tuple(zip(uppers, counts, strict=True))


def from_native(schema: int, counts: Mapping[int, int], *, zero: int = 0, zero_edge: float = 0.0) -> Buckets:
    """A native histogram of Prometheus as buckets. `counts`: increase by bucket index; the bucket of index
    i ends at 2^(i * 2^-schema) seconds; `zero` requests took `zero_edge` seconds at most.

    Buckets are fine (9 % wide at schema 3), so a limit inside one leaves little open.
    """
    base = 2.0 ** (2.0**-schema)
    buckets: list[tuple[float, int]] = [(zero_edge, zero)] if zero or zero_edge > 0 else []
    for index in range(min(counts), max(counts) + 1) if counts else ():
        if not buckets or buckets[-1][0] < base ** (index - 1) * (1 - 1e-12):
            buckets.append((base ** (index - 1), 0))  # nothing lies below the first bucket
        buckets.append((base**index, counts.get(index, 0)))
    return (*buckets, (math.inf, 0)) if buckets else ()


def total(buckets: Buckets) -> int:
    return sum(count for _edge, count in buckets)


def certainly_above(buckets: Buckets, limit: float) -> int:
    """Requests that took longer than `limit` seconds, whatever their place inside their bucket."""
    return sum(count for lower, _upper, count in _spans(buckets) if lower >= limit)


def possibly_above(buckets: Buckets, limit: float) -> int:
    """Requests that may have taken longer than `limit` seconds."""
    return sum(count for _lower, upper, count in _spans(buckets) if upper > limit)


def about_above(buckets: Buckets, limit: float) -> float:
    """Requests that took longer than `limit`, those of its bucket spread evenly over it.

    Beyond the last finite edge nothing can be told: all of those requests count as slower.
    """
    number = float(certainly_above(buckets, limit))
    for lower, upper, count in _spans(buckets):
        if lower < limit < upper:
            number += count if upper == math.inf else count * (upper - limit) / (upper - lower)
    return number


def quantile(buckets: Buckets, share: float) -> float | None:
    """The estimated latency in seconds that `share` (0..1) of the requests did not exceed; None without
    requests or without a finite edge. Beyond the last finite edge the answer is that edge."""
    rank = share * total(buckets)
    if rank <= 0 or len(buckets) < 2:
        return None
    below = 0
    for lower, upper, count in _spans(buckets):
        if count > 0 and below + count >= rank:
            return lower if upper == math.inf else lower + (upper - lower) * (rank - below) / count
        below += count
    return None


def beyond(buckets: Buckets, share: float) -> bool:
    """Whether that quantile lies beyond the last finite edge, so that `quantile` is only its lower bound."""
    return len(buckets) > 1 and buckets[-1][1] > (1 - share) * total(buckets)


def common_edges(first: Iterable[float], second: Iterable[float]) -> tuple[float, ...]:
    """The edges of both layouts; infinity is always one."""
    return tuple(sorted({*(set(first) & set(second)), math.inf}))


def thinned(edges: Iterable[float], at_most: int, *, keep: Iterable[float] = ()) -> tuple[float, ...]:
    """At most `at_most` of the edges (3 or more), infinity among them: those of `keep`, the others evenly."""
    finite = set(edges) - {math.inf}
    if len(finite) >= at_most:
        kept = sorted(finite & set(keep))[: at_most - 3]
        others = sorted(finite - set(kept))
        picks = at_most - 2 - len(kept)
        finite = {*kept, *(others[round(i * (len(others) - 1) / picks)] for i in range(picks + 1))}
    return (*sorted(finite), math.inf)


def project(buckets: Buckets, edges: tuple[float, ...]) -> Buckets:
    """The same requests on a coarser layout. Exact when `edges` are among those of `buckets`; otherwise
    requests move to the next higher edge, never to a lower one. The last of `edges` is infinity."""
    counts = [0] * len(edges)
    place = 0
    for upper, count in buckets:
        while edges[place] < upper:
            place += 1
        counts[place] += count
    return tuple(zip(edges, counts, strict=True))


def merged(first: Buckets, second: Buckets) -> Buckets:
    """Both histograms added, on the edges that they have in common."""
    if not first or not second:
        return first or second
    edges = common_edges((edge for edge, _ in first), (edge for edge, _ in second))
    left, right = project(first, edges), project(second, edges)
    return tuple((edge, a + b) for (edge, a), (_, b) in zip(left, right, strict=True))


def with_waited(buckets: Buckets, waited: Buckets, limits: Iterable[float | None]) -> Buckets:
    """Answers, and clients that gave up after waiting longer than the largest of `limits` (seconds): those
    were certainly not answered within any of them. Who gave up sooner says nothing of a limit."""
    known = [limit for limit in limits if limit is not None]
    if not waited or not known:
        return buckets
    late = tuple((upper, count if lower >= max(known) else 0) for lower, upper, count in _spans(waited))
    return merged(buckets, late)


def _spans(buckets: Buckets) -> Iterable[tuple[float, float, int]]:
    """(lower edge, upper edge, count); latency starts at 0."""
    edges = (0.0, *(edge for edge, _ in buckets))
    counts = (count for _, count in buckets)
    return ((lower, upper, count) for (lower, upper), count in zip(pairwise(edges), counts, strict=True))
