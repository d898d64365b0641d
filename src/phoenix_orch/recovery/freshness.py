"""Are there backups when there should be? From the catalog and the schedule. Pure.

What is looked for is what others find out when they restore: no backup ever, none for too long, a schedule
that was paused and forgotten, copies that have lost most of their content, copies that are there in part, and
slots in which nothing was taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from phoenix_orch.kernel.units import format_duration

LATE = 2
"""A component is stale when the state of its newest good backup is older than so many intervals."""
LONGEST_PAUSE = timedelta(days=1)
_TRAIL = 8
"""Newest copies whose gaps are looked at: retention keeps so many, whatever their hour."""
_GRACE = 0.5
"""Share of an interval that a run may be late without counting as missed."""


class Problem(StrEnum):
    NEVER = "never ran"
    STALE = "stale"
    PAUSED = "paused too long"
    SHRUNK = "shrunk"
    PARTIAL = "partial"
    BROKEN = "does not hold"
    MISSED = "missed slots"
    FUTURE = "of the future"
    CATALOG = "catalog"


@dataclass(frozen=True, slots=True)
class Copy:
    """One backup that is not to be removed."""

    id: str
    at: datetime
    """Its slot, or when it was begun."""
    consistency_point: datetime
    good: bool = True
    lost: str = ""
    """What became of its data, where that is not there or not whole: `is gone`."""
    shrunk: bool = False
    failure: str = ""
    """What a look at it has found."""
    future: bool = False
    """It is dated in the future: a clock was wrong, or is."""


@dataclass(frozen=True, slots=True)
class History:
    """The backups of one component."""

    component: str
    copies: Sequence[Copy]
    """Newest first."""
    faults: Sequence[str] = ()
    """What the catalog says is wrong."""
    paused: datetime | None = None
    """Since when its schedule is paused."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that is wrong."""

    component: str
    problem: Problem
    detail: str

    def __str__(self) -> str:
        return f"{self.component}: {self.problem.value}: {self.detail}"


def problems(history: History, every: timedelta, now: datetime) -> list[Found]:
    """Everything that is wrong with a component that is to be backed up `every` so often."""
    return [Found(history.component, problem, detail) for problem, detail in _problems(history, every, now)]


def longest_gap(copies: Sequence[Copy], now: datetime) -> timedelta | None:
    """The most that could have been lost at any moment since the oldest of the newest eight good copies."""
    points = sorted((one.consistency_point for one in copies if one.good and not one.future), reverse=True)[
        :_TRAIL
    ]
    if not points:
        return None
    return max(later - earlier for later, earlier in pairwise([max(now, points[0]), *points]))


def missed(copies: Sequence[Copy], every: timedelta, now: datetime) -> int:
    """Slots without a copy between the newest eight, and since the newest. `copies`: newest first."""
    moments = [one.at for one in copies if not one.future][:_TRAIL]
    if not moments:
        return 0
    return sum(
        max(0, int((later - earlier) / every + _GRACE) - 1)
        for later, earlier in pairwise([max(now, moments[0]), *moments])
    )


def _problems(history: History, every: timedelta, now: datetime) -> Iterator[tuple[Problem, str]]:
    copies = history.copies
    for fault in history.faults:
        yield Problem.CATALOG, fault
    if history.paused is not None and now - history.paused > LONGEST_PAUSE:
        yield Problem.PAUSED, f"its schedule has been paused for {_age(now - history.paused)}"
    if not copies:
        yield Problem.NEVER, "there is no backup"
        return
    good = next((one for one in copies if one.good and not one.future), None)
    if good is None:
        yield Problem.NEVER, "there is no verified backup"
    elif (age := now - good.consistency_point) > every * LATE:
        due = f"one is due every {format_duration(every)}"
        yield Problem.STALE, f"the state of the newest verified backup is {_age(age)} old, and {due}"
    if (count := missed(copies, every, now)) > 0:
        yield Problem.MISSED, f"{count} of the last slots have no backup"
    if copies[0].shrunk:
        yield Problem.SHRUNK, f"the newest backup, {copies[0].id}, is much smaller than those before"
    for one in copies:
        if one.future:
            yield Problem.FUTURE, f"{one.id} is dated {one.at:%Y-%m-%d %H:%M} UTC: a clock was wrong, or is"
        if one.lost:
            yield Problem.PARTIAL, f"the data of {one.id} {one.lost}"
        elif one.failure:
            yield Problem.BROKEN, f"{one.id}: {one.failure}"


def _age(age: timedelta) -> str:
    return format_duration(timedelta(minutes=int(age.total_seconds() // 60)))
