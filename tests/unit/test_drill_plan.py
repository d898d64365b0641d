"""The lot: one copy of each tier, the same for the same seed, and any of them for some seed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.recovery.drill_plan import Candidate, Tier, draw, tier

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
AGES = st.lists(st.integers(0, 24 * 28), max_size=30, unique=True)


def candidates(ages: list[int]) -> list[Candidate]:
    return [Candidate(f"b{age}", NOW - timedelta(hours=age)) for age in ages]


@given(AGES, st.text(max_size=20))
def test_one_of_each_tier_that_has_any(ages, seed):
    known = {one.id: tier(one.at, NOW) for one in candidates(ages)}
    drawn = draw(candidates(ages), NOW, seed)
    assert [one.tier for one in drawn] == [one for one in Tier if one in known.values()]
    assert all(known[one.id] is one.tier for one in drawn)


@given(AGES, st.text(max_size=20))
def test_the_order_does_not_matter(ages, seed):
    assert draw(candidates(ages), NOW, seed) == draw(candidates(ages[::-1]), NOW, seed)


def test_each_copy_comes_up_for_some_seed():
    hourly = candidates(list(range(20)))
    found = {draw(hourly, NOW, str(seed))[0].id for seed in range(400)}
    assert found == {one.id for one in hourly}


def test_the_limits_of_tiers():
    assert tier(NOW - timedelta(days=1), NOW) is Tier.HOURLY
    assert tier(NOW - timedelta(days=1, seconds=1), NOW) is Tier.DAILY
    assert tier(NOW - timedelta(days=7), NOW) is Tier.DAILY
    assert tier(NOW - timedelta(days=7, seconds=1), NOW) is Tier.WEEKLY
