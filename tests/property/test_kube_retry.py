"""Waits, rates and budgets; and what is done again after which failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Conflict, PhoenixError, Terminal
from phoenix_orch.kube.bucket import Bucket
from phoenix_orch.kube.errors import Throttled, Unanswered, Unauthenticated, Unreachable
from phoenix_orch.kube.following import BACKOFF, PATIENCE, End, Ended, after
from phoenix_orch.kube.retry import Backoff, may_repeat

chances = st.floats(0, 1)


@given(st.integers(0, 10**6), chances, st.floats(0, 100))
def test_a_wait_is_within_its_limit_and_never_shorter_than_asked(
    attempt: int, chance: float, asked: float
) -> None:
    delay = Backoff(0.1, 5.0).delay(attempt, chance, asked)
    assert asked <= delay <= asked + min(5.0, 0.1 * 2 ** min(attempt, 10))


@pytest.mark.parametrize(
    ("error", "read", "repeatable", "other"),
    [
        (Unreachable("x"), True, True, True),
        (Throttled("x"), True, True, True),
        (Unanswered("x"), True, True, False),
        (Conflict("x"), False, False, False),
        (Unauthenticated("x"), False, False, False),
        (Terminal("x"), False, False, False),
    ],
)
def test_what_nobody_knows_is_repeated_only_where_twice_is_once(
    error: PhoenixError, read: bool, repeatable: bool, other: bool
) -> None:
    assert may_repeat(error, repeatable=True) is read is repeatable
    assert may_repeat(error, repeatable=False) is other


steps = st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["take", "reserve", "give back"])), max_size=100)


@given(st.floats(0.5, 100), st.floats(1, 100), steps)
def test_never_more_than_burst_and_rate(rate: float, burst: float, history: list[tuple[float, str]]) -> None:
    now, bucket, turns = 0.0, Bucket(rate, burst, 0.0), []
    for pause, what in history:
        now += pause
        if what == "take" and bucket.take(now):
            turns.append(now)
        elif what == "reserve":
            turns.append(now + bucket.reserve(now))
    turns.sort()
    for begin in range(len(turns)):
        for end in range(begin, len(turns)):
            assert end - begin + 1 <= burst + rate * (turns[end] - turns[begin]) + 1 + 1e-6


@given(st.floats(0.5, 100), st.floats(1, 100), st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_turns_come_in_the_order_they_were_asked_for(rate: float, burst: float, pauses: list[float]) -> None:
    now, bucket, last = 0.0, Bucket(rate, burst, 0.0), 0.0
    for pause in pauses:
        now += pause
        turn = now + bucket.reserve(now)
        assert turn >= last - 1e-9
        last = turn


@given(st.floats(0.5, 100), st.floats(1, 100), st.integers(1, 200))
def test_a_place_given_back_is_there_again(rate: float, burst: float, times: int) -> None:
    bucket = Bucket(rate, burst, 0.0)
    for _ in range(times):
        bucket.reserve(0.0)
        bucket.give_back(0.0)
    assert bucket.level(0.0) == burst


ends = st.builds(
    Ended,
    st.sampled_from(End),
    st.just(""),
    st.sampled_from([0.0, 1.0]),
    st.just(False),
)


@given(st.lists(ends, max_size=30), chances)
def test_a_watch_that_fails_again_and_again_is_listed_anew(history: list[Ended], chance: float) -> None:
    """Whatever the failures are: no more than PATIENCE without a list, waits for 429 aside."""
    failures = without_list = 0
    for ended in history:
        following = after(ended, failures, chance)
        assert 0 <= following.wait <= BACKOFF.longest + ended.retry_after
        without_list = 0 if following.relist else without_list + (ended.how is not End.THROTTLED)
        assert without_list <= PATIENCE
        failures = following.failures


@given(
    st.sampled_from([End.GONE, End.ERROR, End.UNREADABLE, End.REFUSED, End.MISSED]), st.booleans(), chances
)
def test_what_cannot_go_on_is_listed_anew(how: End, progress: bool, chance: float) -> None:
    assert after(Ended(how, progress=progress), 0, chance).relist


@given(st.integers(0, 100), chances)
def test_a_watch_that_worked_goes_on_at_once(failures: int, chance: float) -> None:
    following = after(Ended(End.DONE, progress=True), failures, chance)
    assert (following.relist, following.wait, following.failures) == (False, 0.0, 0)


@given(st.integers(0, 100), chances)
def test_a_watch_that_ends_at_once_is_not_a_busy_loop(failures: int, chance: float) -> None:
    assert after(Ended(End.DONE), failures, chance).failures == failures + 1


@given(st.integers(1, 100))
def test_gone_again_and_again_waits(failures: int) -> None:
    assert after(Ended(End.GONE), failures, 1.0).wait > 0
