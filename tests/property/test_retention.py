"""Which backups are kept: the same however often it is asked, and never the last good one gone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.recovery.retention import Candidate, Decision, Limits, Policy, retain, stopped, tier

START = datetime(2026, 3, 1, tzinfo=UTC)
GUIDE = Policy(hourly=24, daily=7, weekly=4, last=4)

counts = st.integers(0, 6)
policies = st.builds(Policy, hourly=counts, daily=counts, weekly=counts, last=counts).filter(
    lambda policy: not policy.empty
)
histories = st.lists(
    st.tuples(st.integers(0, 60 * 24 * 45), st.booleans()), max_size=60, unique_by=lambda one: one[0]
).map(
    lambda found: [
        Candidate(f"{minute:06d}", START + timedelta(minutes=minute), good=good) for minute, good in found
    ]
)


def kept(decisions: Sequence[Decision]) -> set[str]:
    return {one.id for one in decisions if one.keep}


def left(policy: Policy, history: Sequence[Candidate], **how: bool) -> list[Candidate]:
    stay = kept(retain(policy, history, START, **how))
    return [one for one in history if one.id in stay]


@given(policies, histories, st.booleans(), st.booleans())
def test_what_is_kept_is_kept_again(
    policy: Policy, history: list[Candidate], guards: bool, oldest: bool
) -> None:
    once = left(policy, history, guards=guards, oldest=oldest)
    assert left(policy, once, guards=guards, oldest=oldest) == once


@given(policies, histories)
def test_pruning_after_each_backup_is_pruning_at_once(policy: Policy, history: list[Candidate]) -> None:
    have: list[Candidate] = []
    for one in sorted(history, key=lambda one: one.at):
        have = left(policy, [*have, one], guards=False)
    assert {one.id for one in have} == kept(retain(policy, history, START, guards=False))


@given(policies, histories)
def test_the_newest_good_one_stays(policy: Policy, history: list[Candidate]) -> None:
    good = sorted((one for one in history if one.good), key=lambda one: (one.at, one.id))
    if good:
        assert good[-1].id in kept(retain(policy, history, START))


@given(policies, histories)
def test_a_good_one_stands_for_its_hour_day_and_week(policy: Policy, history: list[Candidate]) -> None:
    by_id = {one.id: one for one in history}
    for decision in retain(policy, history, START):
        for reason in decision.reasons:
            if reason.startswith("hourly "):
                hour = decision.at.replace(minute=0)
                same = [one for one in history if one.at.replace(minute=0) == hour]
                assert by_id[decision.id].good or not any(one.good for one in same)


@given(policies, histories, st.randoms())
def test_the_order_that_it_is_told_in_does_not_matter(
    policy: Policy, history: list[Candidate], chance: random.Random
) -> None:
    mixed = list(history)
    chance.shuffle(mixed)
    assert retain(policy, mixed, START) == retain(policy, history, START)


@given(policies, histories)
def test_each_backup_has_one_decision_and_a_reason(policy: Policy, history: list[Candidate]) -> None:
    decisions = retain(policy, history, START)
    assert sorted(one.id for one in decisions) == sorted(one.id for one in history)
    assert all(one.reasons for one in decisions)


@given(histories)
def test_a_policy_that_takes_nothing_keeps_everything(history: list[Candidate]) -> None:
    assert all(one.keep for one in retain(Policy(0, 0, 0, 0), history, START))


def test_a_year_of_the_guides_policy_never_has_more_than_36() -> None:
    """Every 15 minutes with one in ten missed, and nights in which none ran; pruned after each."""
    chance = random.Random(53)
    have: list[Candidate] = []
    most, down = 0, 0
    for quarter in range(4 * 24 * 366):
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * quarter)
        down = 96 if chance.random() < 1 / 2000 else max(0, down - 1)
        if down or chance.random() < 0.1:
            continue
        have.append(Candidate(f"{quarter:06d}", at))
        stay = kept(retain(GUIDE, have, at))
        have = [one for one in have if one.id in stay]
        most = max(most, len(have))
    assert 30 <= most <= 36


def on(*moments: datetime) -> list[Candidate]:
    return [Candidate(f"{at:%Y%m%d%H%M}", at) for at in moments]


def test_weeks_are_those_of_iso_8601_over_the_end_of_a_year() -> None:
    """2026-12-28 to 2027-01-03 is week 53 of 2026: one week, one copy."""
    days = [datetime(2026, 12, 27, 12, tzinfo=UTC) + timedelta(days=day) for day in range(9)]
    found = retain(Policy(0, 0, 3, 0), on(*days), days[-1], guards=False, oldest=False)
    weeks = {one.at.date().isoformat(): one.reasons for one in found if one.keep}
    assert weeks == {
        "2027-01-04": ("weekly 2027-W01 (1 of 3)",),
        "2027-01-03": ("weekly 2026-W53 (2 of 3)",),
        "2026-12-27": ("weekly 2026-W52 (3 of 3)",),
    }


@given(st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1)), st.integers(0, 20 * 24))  # noqa: DTZ001
def test_two_copies_share_a_week_exactly_when_iso_8601_says_so(naive: datetime, hours: int) -> None:
    first = naive.replace(tzinfo=UTC, microsecond=0)
    second = first + timedelta(hours=hours, seconds=1)
    found = retain(Policy(0, 0, 9, 0), on(first, second), second, guards=False, oldest=False)
    same = first.isocalendar()[:2] == second.isocalendar()[:2]
    assert sum(one.keep for one in found) == (1 if same and len({one.id for one in found}) == 2 else 2)


def test_a_leap_day_is_a_day() -> None:
    days = [datetime(2028, 2, 28, 6, tzinfo=UTC) + timedelta(days=day) for day in range(3)]
    assert len(kept(retain(Policy(0, 3, 0, 0), on(*days), days[-1]))) == 3


def test_a_bad_newest_one_does_not_take_the_place_of_a_good_one() -> None:
    ten, quarter = START + timedelta(hours=10), START + timedelta(hours=10, minutes=15)
    history = [Candidate("good", ten), Candidate("bad", quarter, good=False)]
    assert kept(retain(Policy(1, 0, 0, 0), history, quarter, oldest=False)) == {"good"}
    assert kept(retain(Policy(1, 0, 0, 0), history, quarter, guards=False, oldest=False)) == {"bad"}


def test_pins_and_locks_keep_what_no_rule_takes() -> None:
    at = START + timedelta(days=1)
    history = [
        Candidate("pinned", START, pinned="before the move"),
        Candidate("locked", START + timedelta(minutes=1), locked_until=at + timedelta(hours=1)),
        Candidate("free again", START + timedelta(minutes=2), locked_until=at),
        Candidate("new", at),
    ]
    found = {one.id: one for one in retain(Policy(0, 0, 0, 1), history, at)}
    assert {name for name, one in found.items() if one.keep} == {"pinned", "locked", "new"}
    assert found["pinned"].guards == ("pinned: before the move",)
    assert found["locked"].guards == ("locked by the storage until 2026-03-02 01:00",)


@pytest.mark.parametrize(
    ("apart", "unsure", "faults", "said"),
    [
        (timedelta(minutes=6), "", 0, "the clocks of this machine and the storage are 360 s apart"),
        (-timedelta(minutes=6), "", 0, "the clocks of this machine and the storage are 360 s apart"),
        (timedelta(0), "the newest is empty", 0, "the newest is empty"),
        (timedelta(0), "", 2, "the catalog has 2 faults; `phoenix backup list` tells which"),
        (timedelta(0), "", 0, "19 of 20 backups would go, and one run may remove 10"),
    ],
)
def test_nothing_goes_while_something_is_wrong(apart: timedelta, unsure: str, faults: int, said: str) -> None:
    now = START + timedelta(hours=1)
    history = [Candidate(f"{minute}", START + timedelta(minutes=minute)) for minute in range(20)]
    found = retain(Policy(0, 0, 0, 1), history, now)
    assert stopped(found, Limits(10), now, now + apart, unsure=unsure, faults=faults) == said


def test_a_run_may_remove_what_its_limits_allow() -> None:
    history = [Candidate(f"{minute}", START + timedelta(minutes=minute)) for minute in range(11)]
    found = retain(Policy(0, 0, 0, 1), history, START + timedelta(hours=1))
    assert stopped(found, Limits(10), START + timedelta(hours=1), START + timedelta(hours=1)) == ""


def test_a_backup_of_the_future_stops_everything() -> None:
    history = [Candidate("now", START), Candidate("later", START + timedelta(days=1))]
    found = retain(Policy(0, 0, 0, 1), history, START)
    assert "1 backup of the future" in stopped(found, Limits(), START, START)
    assert kept(found) == {"later"}


@given(policies, histories, st.booleans())
def test_each_copy_is_of_one_tier_and_tiers_hold_what_is_kept(
    policy: Policy, history: list[Candidate], pinned: bool
) -> None:
    if pinned:
        history = [Candidate(one.id, one.at, one.good, pinned="mine") for one in history]
    decisions = retain(policy, history, START + timedelta(days=60))
    tiers = [tier(one) for one in decisions]
    assert set(tiers) <= {"last", "hourly", "daily", "weekly", "guarded", "leaving"}
    assert [name != "leaving" for name in tiers] == [one.keep for one in decisions]
    assert tiers.count("last") == min(policy.last, len(history))
    assert not pinned or "leaving" not in tiers
