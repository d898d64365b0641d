"""Which slot is due, what was missed, and that all workers find the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from phoenix_orch.tasks.schedule import (
    MOST_COUNTED,
    Due,
    Schedule,
    Timing,
    due,
    due_at,
    next_due,
    slot_after,
    slot_until,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOMENTS = st.integers(0, 10 * 366 * 86400 * 1000).map(lambda ms: NOON + timedelta(milliseconds=ms))
TIMINGS = st.one_of(
    st.integers(1, 100_000).map(lambda seconds: Timing(every=timedelta(seconds=seconds))),
    st.sampled_from(["* * * * *", "*/7 3 * * *", "0 0 1 * *", "30 2 * * 1-5", "@daily", "0 9 L * *"]).map(
        lambda text: Timing(cron=text)
    ),
)


def schedule(**timing: object) -> Schedule:
    return Schedule(name="tidy", kind="tidy", timing=Timing.model_validate(timing))


def test_the_newest_slot_runs_once_and_those_before_it_are_counted() -> None:
    hourly = schedule(cron="0 * * * *")
    assert due(hourly, NOON, NOON + timedelta(minutes=59)) is None
    assert due(hourly, NOON, NOON + timedelta(hours=1)) == Due(NOON + timedelta(hours=1), missed=0)
    assert due(hourly, NOON, NOON + timedelta(hours=5.5)) == Due(NOON + timedelta(hours=5), missed=4)


def test_intervals_are_aligned_to_1970_so_that_workers_agree() -> None:
    every = schedule(every="7s")
    assert slot_until(every.timing, datetime(1970, 1, 1, 0, 0, 13, tzinfo=UTC)) == datetime(
        1970, 1, 1, 0, 0, 7, tzinfo=UTC
    )
    assert due(every, NOON, NOON + timedelta(seconds=70)).missed == 9


def test_a_long_absence_is_counted_up_to_a_bound() -> None:
    for timing in ({"every": "1s"}, {"cron": "* * * * *"}):
        assert due(schedule(**timing), NOON, NOON + timedelta(days=30)).missed == MOST_COUNTED


def test_jitter_delays_each_slot_by_its_own_part() -> None:
    late = schedule(cron="0 * * * *", jitter="10m")
    delays = {due_at(late, NOON + timedelta(hours=n)) - (NOON + timedelta(hours=n)) for n in range(24)}
    assert len(delays) == 24
    assert all(timedelta(0) <= delay < timedelta(minutes=10) for delay in delays)


@pytest.mark.parametrize("text", ["", "* * * *", "61 * * * *", "0 0 30 2 *", "@sometimes", "a b c d e"])
def test_what_names_no_moments_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Timing(cron=text)


def test_a_schedule_is_either_cron_or_every() -> None:
    for both in ({}, {"cron": "* * * * *", "every": "1s"}):
        with pytest.raises(ValidationError, match="either cron or every"):
            Timing.model_validate(both)


@settings(max_examples=40)
@given(TIMINGS, MOMENTS)
def test_no_slot_lies_between_the_last_one_and_the_next(timing: Timing, moment: datetime) -> None:
    before, after = slot_until(timing, moment), slot_after(timing, moment)
    assert before is not None
    assert after is not None
    assert before <= moment < after
    assert slot_after(timing, before) == after
    assert slot_until(timing, after) == after


@settings(max_examples=40)
@given(TIMINGS, MOMENTS, st.lists(st.integers(0, 200_000), max_size=30), st.integers(0, 3600))
def test_every_slot_runs_once_or_is_counted_however_seldom_one_looks(
    timing: Timing, start: datetime, gaps: list[int], jitter: int
) -> None:
    """Run and missed together are all slots up to the last that ran, in order."""
    one = Schedule(name="a", kind="a", timing=timing.model_copy(update={"jitter": timedelta(seconds=jitter)}))
    now = last = start
    ran: list[datetime] = []
    missed = 0
    for gap in gaps:
        now += timedelta(seconds=gap)
        found = due(one, last, now)
        if found is None:
            continue
        assert due_at(one, found.slot) <= now
        ran.append(found.slot)
        missed += found.missed
        last = found.slot
    assert ran == sorted(set(ran))
    slots, slot = 0, slot_after(timing, start)
    while ran and slot is not None and slot <= ran[-1] and slots <= MOST_COUNTED:
        slots, slot = slots + 1, slot_after(timing, slot)
    if slots < MOST_COUNTED:
        assert len(ran) + missed == slots


@settings(max_examples=40)
@given(TIMINGS, MOMENTS)
def test_what_is_due_next_is_due_then(timing: Timing, last: datetime) -> None:
    one = Schedule(name="a", kind="a", timing=timing)
    moment = next_due(one, last)
    assert moment is not None
    assert due(one, last, moment - timedelta(seconds=1)) is None
    assert due(one, last, moment) == Due(moment, missed=0)
