"""What the daily check says of backups that are late, missing, paused, shrunken or partial."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.recovery.freshness import (
    LATE,
    Copy,
    History,
    Problem,
    longest_gap,
    missed,
    problems,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
EVERY = timedelta(minutes=15)


def copies(*ages: float, **more: object) -> list[Copy]:
    """Of so many intervals ago."""
    return [
        Copy(f"id{number}", NOW - EVERY * age, NOW - EVERY * age, **more) for number, age in enumerate(ages)
    ]


def found(history: History) -> list[Problem]:
    return [one.problem for one in problems(history, EVERY, NOW)]


def test_all_is_well():
    assert found(History("redis", copies(0.2, 1.2, 2.2, 3.2))) == []


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (History("redis", []), [Problem.NEVER]),
        (History("redis", copies(0.5, good=False)), [Problem.NEVER]),
        (History("redis", copies(2.4)), [Problem.STALE, Problem.MISSED]),
        (History("redis", copies(0.5, 1.5, shrunk=True)), [Problem.SHRUNK]),
        (History("redis", [*copies(0.5), *copies(1.5, lost="is gone")]), [Problem.PARTIAL]),
        (History("redis", [*copies(0.5), *copies(1.5, failure="damaged")]), [Problem.BROKEN]),
        (History("redis", copies(0.5, 3.5)), [Problem.MISSED]),
        (History("redis", copies(0.5), ["x is gone"]), [Problem.CATALOG]),
        (History("redis", copies(0.5), paused=NOW - timedelta(hours=25)), [Problem.PAUSED]),
        (History("redis", copies(0.5), paused=NOW - timedelta(hours=23)), []),
        (History("redis", [], paused=NOW - timedelta(days=2)), [Problem.PAUSED, Problem.NEVER]),
    ],
)
def test_each_problem_is_named(history, expected):
    assert found(history) == expected


def test_it_says_what_is_wrong():
    (stale, slots) = problems(History("redis/main", copies(40)), EVERY, NOW)
    assert str(stale) == (
        "redis/main: stale: the state of the newest verified backup is 10h old, and one is due every 15m"
    )
    assert slots.detail == "39 of the last slots have no backup"


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True))
def test_slots_that_were_missed_are_counted(slots):
    """Runs at `slots` of the last eight; those since the first of them without one are missed."""
    taken = sorted(slots)
    history = copies(*(slot + 0.6 for slot in taken))
    assert missed(history, EVERY, NOW) == taken[-1] + 1 - len(taken)


@given(st.lists(st.floats(0, 7), min_size=1, max_size=8))
def test_the_longest_gap_is_at_least_the_age(ages):
    gap = longest_gap(copies(*sorted(ages)), NOW)
    assert gap is not None
    assert gap >= NOW - max(one.at for one in copies(*ages))
    assert gap <= EVERY * 7 + timedelta(seconds=1)


def test_there_is_no_gap_without_a_good_copy():
    assert longest_gap(copies(1, 2, good=False), NOW) is None
    assert LATE == 2
