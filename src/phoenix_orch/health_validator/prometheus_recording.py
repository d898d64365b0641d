"""Counters of a Prometheus range query as a recording. Pure; `sources.prometheus_range` asks for them.

Every series is counted by itself: an increase is the difference to the value before, and after a reset
the new value. A series that begins inside the range gives its first value as where counting starts.
Where a series has no value, nothing is invented: its next value carries the whole increase.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from phoenix_orch.health_validator import histogram
from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.recording import Header, Recording

CANARY, STABLE = "canary", "stable"


@dataclass(frozen=True, slots=True)
class Series:
    """One counter: its labels, and its values by moment in seconds since 1970."""

    labels: Mapping[str, str]
    values: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Answers:
    """What Prometheus knows of one variant."""

    requests: Sequence[Series]
    errors: Sequence[Series] = ()
    buckets: Sequence[Series] = ()
    """Series with the label `le`."""


@dataclass(slots=True)
class _Sums:
    requests: float = 0.0
    errors: float = 0.0
    at_most: dict[float, float] = field(default_factory=dict)
    known: bool = False


def recording(
    source: str, moments: Sequence[float], canary: Answers, stable: Answers | None
) -> Recording | None:
    """One observation between every two moments; None where the canary was never counted."""
    ours, theirs = _sums(moments, canary), _sums(moments, stable) if stable is not None else None
    observations = []
    for place, (start, end) in enumerate(pairwise(moments)):
        observations.append(
            Observation(
                t0=datetime.fromtimestamp(start, UTC),
                t1=datetime.fromtimestamp(end, UTC),
                revision=CANARY,
                step=0,
                weight_applied=0,
                canary=_arm(CANARY, ours[place]),
                stable=_arm(STABLE, theirs[place]) if theirs is not None else None,
            )
        )
    lived = [place for place, found in enumerate(ours) if found.known]
    if not lived:
        return None
    return Recording(source, Header(), tuple(observations[lived[0] : lived[-1] + 1]), placed=False)


def moments(start: datetime, end: datetime, step: timedelta) -> tuple[float, ...]:
    """The grid that a range query is answered on."""
    count = int((end - start) / step)
    return tuple(start.timestamp() + index * step.total_seconds() for index in range(count + 1))


def _sums(grid: Sequence[float], answers: Answers) -> list[_Sums]:
    found = [_Sums() for _ in grid[1:]]
    for place, number in _increases(grid, answers.requests):
        found[place].requests += number
        found[place].known = True
    for place, number in _increases(grid, answers.errors):
        found[place].errors += number
    for series in answers.buckets:
        edge = _edge(series.labels.get("le", ""))
        if edge is None:
            continue
        for place, number in _increases(grid, (series,)):
            at_most = found[place].at_most
            at_most[edge] = at_most.get(edge, 0.0) + number
    return found


def _increases(grid: Sequence[float], all_series: Iterable[Series]) -> Iterable[tuple[int, float]]:
    """(interval, increase) of each series, in the order of time."""
    for series in all_series:
        before: float | None = None
        for place, moment in enumerate(grid):
            value = series.values.get(moment)
            if value is None or not math.isfinite(value):
                continue
            if before is not None:
                yield place - 1, value - before if value >= before else value
            before = value


def _arm(revision: str, sums: _Sums) -> Arm:
    requests = round(sums.requests)
    cumulative = {edge: round(number) for edge, number in sums.at_most.items()}
    return Arm(
        revision=revision,
        requests=requests,
        errors=min(requests, round(sums.errors)),
        buckets=histogram.from_cumulative(cumulative),
        quality=Quality.OK if sums.known else Quality.GAP,
    )


def _edge(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
