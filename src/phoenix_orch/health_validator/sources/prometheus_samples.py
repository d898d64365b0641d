"""From raw samples of Prometheus to what `counters` can follow. Pure.

A scrape belongs to one process and one moment. Prometheus may be asked more often than it scrapes: then a
process is where it was, which is no gap. It may be one of two servers that know the same a few seconds
apart: then a lower count is no reset. It may go on answering with old numbers: then nobody answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from phoenix_orch.health_validator.counters import Baseline, Sample, TrackerState

PACES = 3
"""A process is not heard of any more when so many scrapes are overdue."""
SHORTEST = 30.0
"""Seconds that are always waited for the next scrape."""
UNKNOWN_PACE = 30.0
"""Seconds between two scrapes while only one is known."""


class Counted(NamedTuple):
    """One counter of one process."""

    process: str
    key: str
    """As `exposition.Key`."""
    started: float | None
    points: tuple[tuple[float, float], ...]


class Scrapes(NamedTuple):
    """`samples` of the processes that are heard of, and when each of them was scraped last."""

    samples: tuple[Sample, ...]
    read: dict[str, float]


def scrapes(
    counted: Iterable[Counted],
    tracker: TrackerState,
    read: Mapping[str, float],
    *,
    now: float,
    switched: bool,
) -> Scrapes:
    """The last scrape of each process, at the time `now` of the server.

    `tracker` and `read` are those of the last call. `switched`: another server answers than last time.
    """
    by_process: dict[str, list[Counted]] = {}
    for one in counted:
        if one.points:
            by_process.setdefault(one.process, []).append(one)
    samples, times = [], {}
    for process, found in by_process.items():
        newest = max(one.points[-1][0] for one in found)
        if now - newest > _patience(found):
            continue
        known = tracker.processes.get(process)
        before = read.get(process)
        if before is not None and newest <= before:
            if known is not None:
                samples.append(Sample(process, known.started, tuple(known.values.items())))
                times[process] = before
            continue
        # What was not in the newest scrape is gone; it starts at zero when it comes back.
        last = [one for one in found if one.points[-1][0] == newest]
        started = next((one.started for one in last if one.started is not None), None)
        floor = known if switched and known is not None and _same(known, started) else None
        samples.append(Sample(process, started, tuple((one.key, _value(one, floor)) for one in last)))
        times[process] = newest
    return Scrapes(tuple(samples), times)


def _patience(found: list[Counted]) -> float:
    """Seconds after which the next scrape is overdue, by the pace that is seen."""
    longest = max(found, key=lambda one: len(one.points)).points
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(longest)]
    return max(SHORTEST, PACES * (median(gaps) if gaps else UNKNOWN_PACE))


def _same(known: Baseline, started: float | None) -> bool:
    return known.started is None or started is None or known.started == started


def _value(one: Counted, floor: Baseline | None) -> float:
    value = one.points[-1][1]
    return max(value, floor.values.get(one.key, 0)) if floor is not None else value
