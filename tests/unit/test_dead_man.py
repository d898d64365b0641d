"""A call goes out after a good backup only, and not in the name of a component that has stopped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.recovery.dead_man import Standing, address, held_up_by

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ONE, EACH = "https://watch.test/ping", "https://watch.test/ping/{component}?from=phoenix"

standings = st.lists(
    st.builds(
        Standing,
        st.sampled_from(["config", "redis/cache", "volume/shop"]),
        st.timedeltas(timedelta(minutes=1), timedelta(days=1)),
        st.none() | st.timedeltas(timedelta(), timedelta(days=30)).map(lambda ago: NOW - ago),
    ),
    max_size=4,
)


@given(standings)
def test_one_watch_for_all_is_called_only_while_all_are_fresh(there: list[Standing]) -> None:
    held = held_up_by(ONE, there, NOW)
    assert bool(held) == any(one.good is None or NOW - one.good > 2 * one.every for one in there)
    assert held_up_by(EACH, there, NOW) == []


def test_each_component_has_its_own_place() -> None:
    assert address(EACH, "redis/cache.shard0") == "https://watch.test/ping/redis-cache.shard0?from=phoenix"
    assert address(EACH, "volume/a b?#") == "https://watch.test/ping/volume-a%20b%3F%23?from=phoenix"
    assert address(ONE, "config") == ONE
