"""The four numbers of delivery from histories that were written down by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.rollout_setting import T0, cause

from phoenix_orch.rollout.dora import DoraReport, Record, report
from phoenix_orch.rollout.status import Outcome, Release

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
END = T0 + 30 * DAY


def release(
    number: int,
    revision: str,
    replaced: str | None,
    *,
    ends: timedelta,
    outcome: Outcome = Outcome.PROMOTED,
    took: timedelta = HOUR,
    weight: int = 100,
) -> Release:
    ended = T0 + ends
    back = cause(revision=revision, at=ended - 2 * MINUTE) if outcome is Outcome.ROLLED_BACK else None
    return Release(
        number=number,
        revision=revision,
        replaced=replaced,
        started=ended - took,
        ended=ended,
        outcome=outcome,
        weight=weight,
        cause=back,
    )


def over(*history: Release, window: timedelta = 30 * DAY, kept: int = 200) -> DoraReport:
    return report([Record("web", tuple(reversed(history)))], END, window, kept=kept)


def test_nothing_released_gives_no_numbers_and_no_rate() -> None:
    found = over().total
    assert (found.deployments, found.per_day) == (0, 0.0)
    assert (found.lead_time.n, found.lead_time.median) == (0, None)
    assert (found.change_failures.of, found.change_failures.rate) == (0, None)


def test_a_month_with_three_good_releases_one_caught_and_one_undone() -> None:
    found = over(
        release(1, "b", "a", ends=1 * DAY, took=HOUR),
        release(2, "c", "b", ends=2 * DAY, outcome=Outcome.ROLLED_BACK, weight=5),
        release(3, "d", "b", ends=3 * DAY, took=3 * HOUR),
        release(4, "b", "d", ends=3 * DAY + HOUR, took=10 * MINUTE),  # back to what served before
        release(5, "e", "b", ends=4 * DAY, outcome=Outcome.CANCELLED),
        release(6, "f", "b", ends=5 * DAY, outcome=Outcome.SUPERSEDED),
        release(7, "g", "b", ends=6 * DAY, took=5 * HOUR),
    ).total
    assert found.deployments == 3
    assert found.per_day == pytest.approx(0.1)
    assert (found.lead_time.n, found.lead_time.median, found.lead_time.longest) == (3, 3 * HOUR, 5 * HOUR)
    assert (found.change_failures.n, found.change_failures.of, found.caught) == (2, 4, 1)
    assert found.change_failures.rate == 0.5
    assert (found.time_to_restore.n, found.time_to_restore.median) == (2, 6 * MINUTE)
    assert found.time_to_restore.longest == 10 * MINUTE


def test_a_rollback_out_of_a_bake_is_a_failure_that_everybody_was_served() -> None:
    found = over(release(1, "b", "a", ends=DAY, outcome=Outcome.ROLLED_BACK, weight=100)).total
    assert (found.change_failures.n, found.caught, found.deployments) == (1, 0, 0)


def test_lead_time_begins_when_the_revision_was_first_wanted_and_anew_for_one_that_comes_again() -> None:
    history = (
        release(1, "b", "a", ends=2 * DAY, outcome=Outcome.ROLLED_BACK),
        release(2, "b", "a", ends=3 * DAY, took=HOUR),
        release(3, "c", "b", ends=5 * DAY, took=HOUR),
    )
    wanted = {"b": T0, "c": T0 + 4 * DAY}
    record = Record("web", tuple(reversed(history)), wanted)
    found = report([record], END, 30 * DAY, kept=200).total
    assert (found.lead_time.n, found.lead_time.median) == (2, (HOUR + DAY) / 2)
    assert found.lead_time.longest == DAY


def test_only_what_ended_in_the_window_counts_and_a_full_history_says_how_far_it_reaches() -> None:
    history = (
        release(1, "b", "a", ends=10 * DAY),
        release(2, "c", "b", ends=25 * DAY),
        release(3, "d", "c", ends=26 * DAY),
    )
    week = over(*history, window=7 * DAY)
    assert (week.total.deployments, week.total.since) == (2, END - 7 * DAY)
    full = over(*history[1:], window=30 * DAY, kept=2)
    assert full.rollouts[0].since == T0 + 25 * DAY
    assert full.total.since == T0 + 25 * DAY
    assert full.total.per_day == pytest.approx(2 / 5)


def test_an_undo_is_seen_although_the_release_before_is_kept_no_more() -> None:
    found = over(release(8, "c", "b", ends=DAY), release(9, "b", "c", ends=2 * DAY, took=MINUTE)).total
    assert (found.deployments, found.change_failures.n, found.change_failures.of) == (1, 1, 1)
    assert found.time_to_restore.median == MINUTE


@pytest.mark.parametrize(
    ("failed", "of", "lower", "upper"),
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634)],
)
def test_the_interval_of_the_rate_is_that_of_wilson(
    failed: int, of: int, lower: float, upper: float
) -> None:  # figures: Brown, Cai and DasGupta 2001, computed by hand from their formula
    history = [
        release(
            number,
            f"r{number}",
            "a",
            ends=number * HOUR,
            outcome=Outcome.ROLLED_BACK if number <= failed else Outcome.PROMOTED,
        )
        for number in range(1, of + 1)
    ]
    found = over(*history).total.change_failures
    assert (found.lower, found.upper) == (pytest.approx(lower, abs=1e-4), pytest.approx(upper, abs=1e-4))


def test_all_together_are_the_changes_of_each() -> None:
    records = [
        Record("web", (release(1, "b", "a", ends=DAY),)),
        Record("api", (release(1, "b", "a", ends=DAY, outcome=Outcome.ROLLED_BACK, weight=5),)),
    ]
    found = report(records, END, 30 * DAY, kept=200)
    assert [one.rollout for one in found.rollouts] == ["api", "web"]
    assert (found.total.deployments, found.total.change_failures.n, found.total.change_failures.of) == (
        1,
        1,
        2,
    )
