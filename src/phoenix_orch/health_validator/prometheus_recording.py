"""Counters of a Prometheus range query as a recording. Pure; `sources.prometheus_range` asks for them.

Every series is counted by itself: an increase is the difference to the value before, and after a reset
the new value. A series that begins inside the range gives its first value as where counting starts.
Where a series has no value, nothing is invented: its next value carries the whole increase. Series whose
status says that the client gave up are no answers, whatever the query was meant for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from phoenix_orch.health_validator import answers as said
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
    abandoned: float = 0.0
    at_most: dict[float, float] = field(default_factory=dict)
    left_within: dict[float, float] = field(default_factory=dict)
    """As `at_most`, of clients that gave up."""
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
    for series in answers.requests:
        given_up = _given_up(series)
        for place, number in _increases(grid, series):
            found[place].known = True
            if given_up:
                found[place].abandoned += number
            else:
                found[place].requests += number
    for series in answers.errors:
        if not _given_up(series):
            for place, number in _increases(grid, series):
                found[place].errors += number
    for series in answers.buckets:
        edge = _edge(series.labels.get("le", ""))
        if edge is None:
            continue
        for place, number in _increases(grid, series):
            counts = found[place].left_within if _given_up(series) else found[place].at_most
            counts[edge] = counts.get(edge, 0.0) + number
    return found


def _given_up(series: Series) -> bool:
    return said.kind(said.status(series.labels)) == "abandoned"


def _increases(grid: Sequence[float], series: Series) -> Iterable[tuple[int, float]]:
    """(interval, increase), in the order of time."""
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
    return Arm(
        revision=revision,
        requests=requests,
        errors=min(requests, round(sums.errors)),
        abandoned=round(sums.abandoned),
        buckets=_buckets(sums.at_most),
        waited=_buckets(sums.left_within),
        quality=Quality.OK if sums.known else Quality.GAP,
    )


def _buckets(at_most: Mapping[float, float]) -> histogram.Buckets:
    return histogram.from_cumulative({edge: round(number) for edge, number in at_most.items()})


def _edge(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
