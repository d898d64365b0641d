"""What one step's observations add up to, in constant memory. Pure.

The rolling window is a ring of at most seven slots, each with the sums of some intervals; the whole
step is one more slot. Counts of every observation that has any go in: a failed request is one at any
weight and after any gap. Time is harder to earn: it counts as observed only between two readings that
both found the step's weight on the data plane, none of them missing, and not too far apart.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from phoenix_orch.health_validator import histogram
from phoenix_orch.health_validator.config import PATIENCE, JudgeConfig
from phoenix_orch.health_validator.counters import exact
from phoenix_orch.health_validator.histogram import Buckets
from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.rollout.spec import Step

SLOTS = 7
EDGES = 14
"""Both keep the state of the judge below 4 kB."""

COUNTED = frozenset({Quality.OK, Quality.MERGED, Quality.PARTIAL})
"""Qualities whose counts are real."""


class Counts(NamedTuple):
    """One arm. A pair of `business` is (count, requests while it was read), in the order of the spec."""

    requests: int = 0
    errors: int = 0
    timed: int = 0
    """Requests whose latency is known."""
    slow95: int = 0
    """Of those, certainly slower than the p95 limit; `slow99` likewise."""
    slow99: int = 0
    about95: float = 0.0
    """The same with requests of the limit's bucket spread evenly, for limits that are no edge."""
    about99: float = 0.0
    buckets: tuple[int, ...] = ()
    """On `Tally.edges`, for showing quantiles."""
    business: tuple[tuple[int | float, int], ...] = ()
    abandoned: int = 0
    """Requests that clients gave up on; `requests` are without them."""

    @property
    def arrived(self) -> int:
        return self.requests + self.abandoned


class Slot(NamedTuple):
    """Sums over some time; `start` and `end` in milliseconds since 1970. An empty one has no end."""

    stretch: int = 0
    """Number of the seventh of a window that it ends in: observations of one stretch share a slot."""
    start: int = 0
    end: int = 0
    canary: Counts = Counts()
    stable: Counts = Counts()
    routed: tuple[int, int] = (0, 0)
    """Requests of canary and stable while the step's weight was seen at both ends."""
    busy: int = 0
    """Millionths of the machine's cores times milliseconds, of the canary's busiest process."""
    busy_ms: int = 0
    memory: int | None = None
    """Largest process of the canary in bytes."""


class Tally(BaseModel):
    """One step so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime | None = None
    """End of the last observation."""
    weight: int | None = None
    """What the data plane was seen to send then."""
    quality: Quality = Quality.OK
    note: str = ""
    observed_ms: int = 0
    edges: tuple[float, ...] | None = None
    """Finite upper edges of the kept histograms; None before the first one."""
    window: tuple[Slot, ...] = ()
    total: Slot = Slot()

    @property
    def observed_for(self) -> timedelta:
        return timedelta(milliseconds=self.observed_ms)

    def recent(self) -> Slot:
        """The rolling window as one slot."""
        if not self.window:
            return Slot()
        joined = self.window[0]
        for slot in self.window[1:]:
            joined = _joined(joined, slot)
        return joined

    def buckets(self, counts: Counts) -> Buckets:
        if self.edges is None or not counts.buckets:
            return ()
        return tuple(zip((*self.edges, math.inf), counts.buckets, strict=True))


def next_step(tally: Tally) -> Tally:
    """An empty tally that remembers where the last one stopped."""
    return Tally(at=tally.at, weight=tally.weight)


def add(config: JudgeConfig, step: Step, tally: Tally, observation: Observation) -> Tally:
    """Take one observation that ends after the last one."""
    good = _is_good(config, step, tally, observation)
    if observation.canary.quality in COUNTED:
        tally = _aligned(step, tally, observation)
        slot = _slot(config, step, tally, observation, good=good)
        tally = tally.model_copy(
            update={
                "window": _with(tally.window, slot),
                "total": _joined(tally.total, slot)
                if observation.weight_applied == step.weight
                else tally.total,
            }
        )
    oldest = _ms(observation.t1 - config.window)
    return tally.model_copy(
        update={
            "at": observation.t1,
            "weight": observation.weight_applied,
            "quality": observation.canary.quality,
            "note": observation.notes[0][:200] if observation.notes else "",
            "observed_ms": tally.observed_ms + (_fresh_ms(tally, observation) if good else 0),
            "window": tuple(slot for slot in tally.window if slot.end > oldest),
        }
    )


def _is_good(config: JudgeConfig, step: Step, tally: Tally, observation: Observation) -> bool:
    return (
        observation.canary.quality is Quality.OK
        and not observation.canary.unanswered
        and observation.weight_applied == step.weight
        and tally.weight == step.weight
        and tally.at is not None
        and observation.t0 <= tally.at
        and observation.t1 - observation.t0 <= PATIENCE * config.interval
    )


def _fresh_ms(tally: Tally, observation: Observation) -> int:
    """Milliseconds that no earlier observation has counted."""
    begin = observation.t0 if tally.at is None else max(observation.t0, tally.at)
    return _ms(observation.t1) - _ms(begin)


def _aligned(step: Step, tally: Tally, observation: Observation) -> Tally:
    """Bring kept histograms and the new ones onto one layout: the edges that all of them have."""
    edges = tally.edges
    limits = [limit for limit in (step.limits.latency_p95, step.limits.latency_p99) if limit is not None]
    for arm in (observation.canary, observation.stable):
        if arm is None or not arm.buckets:
            continue
        own = tuple(edge for edge, _ in arm.buckets)
        if edges is None:
            edges = histogram.thinned(own, EDGES, keep=[limit.total_seconds() for limit in limits])[:-1]
        else:
            edges = histogram.common_edges(edges, own)[:-1]
    if edges is None or edges == tally.edges or tally.edges is None:
        return tally.model_copy(update={"edges": edges})

    def moved(counts: Counts) -> Counts:
        coarse = histogram.project(tally.buckets(counts), (*edges, math.inf))
        return counts._replace(buckets=tuple(n for _, n in coarse) if counts.buckets else ())

    def both(slot: Slot) -> Slot:
        return slot._replace(canary=moved(slot.canary), stable=moved(slot.stable))

    return tally.model_copy(
        update={
            "edges": edges,
            "window": tuple(both(slot) for slot in tally.window),
            "total": both(tally.total),
        }
    )


def _slot(config: JudgeConfig, step: Step, tally: Tally, observation: Observation, *, good: bool) -> Slot:
    canary, stable = observation.canary, observation.stable
    start = observation.t0 if tally.at is None else max(observation.t0, tally.at)
    duration = max(0, _ms(observation.t1) - _ms(start))
    counted = stable is not None and stable.quality in COUNTED
    theirs = _counts(config, step, tally, stable) if stable is not None and counted else Counts()
    return Slot(
        stretch=_ms(observation.t1) // _slot_ms(config),
        start=_ms(start),
        end=_ms(observation.t1),
        canary=_counts(config, step, tally, canary),
        stable=theirs,
        routed=(canary.arrived, theirs.arrived) if good else (0, 0),
        busy=round((canary.cpu or 0.0) * 1_000_000) * duration,
        busy_ms=duration if canary.cpu is not None else 0,
        memory=canary.memory,
    )


def _counts(config: JudgeConfig, step: Step, tally: Tally, arm: Arm) -> Counts:
    p95, p99 = step.limits.latency_p95, step.limits.latency_p99
    known = histogram.with_waited(arm.buckets, arm.waited, step.limits.latencies())
    coarse = histogram.project(known, (*(tally.edges or ()), math.inf)) if known else ()
    return Counts(
        requests=arm.requests,
        errors=arm.errors,
        timed=histogram.total(known),
        slow95=histogram.certainly_above(known, p95.total_seconds()) if p95 else 0,
        slow99=histogram.certainly_above(known, p99.total_seconds()) if p99 else 0,
        about95=round(histogram.about_above(known, p95.total_seconds()), 2) if p95 else 0.0,
        about99=round(histogram.about_above(known, p99.total_seconds()), 2) if p99 else 0.0,
        buckets=tuple(count for _, count in coarse),
        business=tuple(
            (arm.business[metric.name], arm.requests) if metric.name in arm.business else (0, 0)
            for metric in config.business
        ),
        abandoned=arm.abandoned,
    )


def _with(window: tuple[Slot, ...], slot: Slot) -> tuple[Slot, ...]:
    """Put the slot at the end, or into the last one of the same stretch of time."""
    if window and window[-1].stretch == slot.stretch:
        return (*window[:-1], _joined(window[-1], slot))
    return (*window, slot)


def _slot_ms(config: JudgeConfig) -> int:
    return max(1, _ms_of(config.window) // (SLOTS - 1))


def _joined(first: Slot, second: Slot) -> Slot:
    """Two slots as one."""
    if first.end == 0:
        return second
    memories = [memory for memory in (first.memory, second.memory) if memory is not None]
    return Slot(
        stretch=second.stretch,
        start=min(first.start, second.start),
        end=max(first.end, second.end),
        canary=_sum(first.canary, second.canary),
        stable=_sum(first.stable, second.stable),
        routed=(first.routed[0] + second.routed[0], first.routed[1] + second.routed[1]),
        busy=first.busy + second.busy,
        busy_ms=first.busy_ms + second.busy_ms,
        memory=max(memories, default=None),
    )


def _sum(first: Counts, second: Counts) -> Counts:
    return Counts(
        requests=first.requests + second.requests,
        errors=first.errors + second.errors,
        timed=first.timed + second.timed,
        slow95=first.slow95 + second.slow95,
        slow99=first.slow99 + second.slow99,
        about95=round(first.about95 + second.about95, 2),
        about99=round(first.about99 + second.about99, 2),
        buckets=_each(first.buckets, second.buckets),
        business=_pairs(first.business, second.business),
        abandoned=first.abandoned + second.abandoned,
    )


def _each(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    if not first or not second:
        return first or second
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _pairs(
    first: tuple[tuple[int | float, int], ...], second: tuple[tuple[int | float, int], ...]
) -> tuple[tuple[int | float, int], ...]:
    if not first or not second:
        return first or second
    return tuple((exact(a + c), b + d) for (a, b), (c, d) in zip(first, second, strict=True))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _ms_of(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
