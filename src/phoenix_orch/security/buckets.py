"""How often somebody may ask: a token bucket. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and so many a second in the long run."""

    burst: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left at a moment, on a clock that never goes back."""

    left: float
    at: float


def filled(bucket: Bucket | None, rate: Rate, now: float) -> Bucket:
    """The bucket as it is by now; a new one is full."""
    if bucket is None:
        return Bucket(rate.burst, now)
    passed = max(0.0, now - bucket.at)
    return Bucket(min(rate.burst, bucket.left + passed * rate.per_second), max(now, bucket.at))


def take(bucket: Bucket | None, rate: Rate, now: float) -> tuple[Bucket, float]:
    """(the bucket from now on, 0 when one was taken out of it, or else seconds until there is one)."""
    full = filled(bucket, rate, now)
    if full.left >= 1:
        return Bucket(full.left - 1, full.at), 0.0
    return full, (1 - full.left) / rate.per_second


class Buckets:
    """One bucket for each name; the oldest are forgotten, which fills them."""

    def __init__(self, rate: Rate, most: int = 10_000) -> None:
        self._rate = rate
        self._most = most
        self._buckets: dict[str, Bucket] = {}

    def take(self, name: str, now: float) -> float:
        """0 when `name` may; else seconds until it may."""
        bucket, wait = take(self._buckets.pop(name, None), self._rate, now)
        self._buckets[name] = bucket
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        return wait

    def wait(self, name: str, now: float) -> float:
        """As `take`, and takes nothing."""
        return take(self._buckets.get(name), self._rate, now)[1]
