"""What counters say of the canary's share, which witness is believed, and when it is put back no more."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.traffic.contest import FREE, PAUSE, WINDOW, Contest
from phoenix_orch.traffic.share_seen import ODDS, Counts, Seen, Witness, excluded, share_of, tolerated
from phoenix_orch.traffic.share_watch import BLOCK, PATIENCE, Watch, counted, following, seen, uncounted

SHARES = st.integers(0, 100)


@pytest.mark.parametrize(
    ("counts", "wanted", "before", "share"),
    [
        (Counts(0, 0), 5, 0, None),  # nobody asked
        (Counts(1, 19), 5, 0, 5),  # nothing comes to a canary at weight 0
        (Counts(0, 20), 5, 0, None),  # 0 % or 5 %: too few to tell
        (Counts(0, 1000), 5, 0, 0),  # the router has not heard
        (Counts(50, 950), 5, 0, 5),
        (Counts(50, 950), 20, 5, 5),
        (Counts(10, 30), 20, 5, 20),
        (Counts(1, 9), 20, 5, None),
        (Counts(1000, 9000), 20, 5, 10),  # neither: it is said as it is
        (Counts(200, 800), 20, 5, 20),
        (Counts(1000, 0), 100, 80, 100),
        (Counts(800, 200), 100, 80, 80),
        (Counts(51_000, 949_000), 5, 0, 5),  # off by a fiftieth: as told
        (Counts(90_000, 910_000), 5, 0, 9),
        (Counts(500, 500), 20, None, 50),
        (Counts(200, 800), 20, None, None),  # as before, or as wanted: nobody knows
    ],
)
def test_counts(counts: Counts, wanted: int, before: int | None, share: int | None) -> None:
    assert share_of(counts, wanted, before) == share


@given(SHARES, SHARES, st.integers(2000, 100_000))
def test_exact_counts_are_never_misread(wanted: int, before: int, total: int) -> None:
    canary = total * wanted // 100
    assert share_of(Counts(canary, total - canary), wanted, before) in {wanted, None}


@given(SHARES, st.integers(0, 5000), st.integers(0, 5000))
def test_what_is_told_is_wanted_only_within_the_tolerance(wanted: int, canary: int, stable: int) -> None:
    counts = Counts(canary, stable)
    told = share_of(counts, wanted, None if wanted == 0 else 0)
    low, high = tolerated(wanted)
    if told == wanted and counts.total > 3000:
        assert low - 0.1 <= canary / counts.total <= high + 0.1
    if told is not None and told != wanted:
        assert not low <= canary / counts.total <= high


@pytest.mark.parametrize("wanted", [1, 5, 20, 50, 80, 99])
def test_looked_at_after_every_request_the_true_share_is_hardly_ever_excluded(wanted: int) -> None:
    """The bound is one in a thousand for each run of any length; here 100 of 800 looks."""
    random, wrong = Random(wanted), 0
    for _ in range(100):
        canary = 0
        for total in range(1, 801):
            canary += random.random() < wanted / 100
            if excluded(wanted / 100, Counts(canary, total - canary)):
                wrong += 1
                break
    assert wrong <= 100 / ODDS + 2


def test_a_share_of_all_or_nothing_is_excluded_by_one_request() -> None:
    assert excluded(0.0, Counts(1, 10_000))
    assert excluded(1.0, Counts(10_000, 1))
    assert not excluded(0.0, Counts(0, 10_000))
    assert not excluded(1.0, Counts(10_000, 0))


RAISED = following(following(None, 5, 0.0), 20, 100.0)


def test_a_weight_begins_with_what_was_wanted_before_it() -> None:
    assert (RAISED.wanted, RAISED.before, RAISED.changed) == (20, 5, 100.0)
    assert following(RAISED, 20, 500.0) is RAISED
    assert following(None, 20, 0.0).before is None


def test_the_object_is_not_believed_while_the_counters_may_still_tell() -> None:
    assert seen(RAISED, 20, 101.0) == Seen(None)
    assert seen(RAISED, 5, 101.0) == Seen(5, Witness.OBJECT), "nor is it kept back when it says otherwise"
    assert seen(counted(RAISED, Counts(1, 3), 110.0), 20, 111.0) == Seen(None)
    assert seen(RAISED, 20, 100.0 + PATIENCE) == Seen(20, Witness.OBJECT), "too few in all that time"


def test_counters_decide_once_they_can_tell() -> None:
    good, old = counted(RAISED, Counts(200, 800), 120.0), counted(RAISED, Counts(50, 950), 120.0)
    assert seen(good, None, 121.0) == Seen(20, Witness.ROUTER)
    assert seen(old, 20, 1000.0) == Seen(5, Witness.ROUTER), "whatever the object says, however long"


def test_nobody_who_counts_leaves_it_to_the_object() -> None:
    for watch in (RAISED, counted(RAISED, Counts(50, 950), 120.0)):
        assert seen(uncounted(watch), 20, 121.0) == Seen(20, Witness.OBJECT)
    assert seen(uncounted(RAISED), None, 121.0) == Seen(None)


def test_after_a_restart_the_object_is_believed_and_counters_may_object() -> None:
    begun = following(None, 20, 0.0)
    assert seen(begun, 20, 1.0) == Seen(20, Witness.OBJECT)
    assert seen(counted(begun, Counts(200, 800), 30.0), 20, 31.0) == Seen(20, Witness.OBJECT)
    assert seen(counted(begun, Counts(50, 950), 30.0), 20, 31.0) == Seen(5, Witness.ROUTER)


def test_what_goes_wrong_after_an_hour_is_seen_within_minutes_and_so_is_its_end() -> None:
    watch, now = RAISED, 100.0
    told = []
    for share, seconds in ((20, 3600), (5, 180), (20, 180)):
        for _ in range(0, seconds, 10):
            now += 10
            watch = counted(watch, Counts(share * 5, (100 - share) * 5), now)
        told.append(seen(watch, 20, now).share)
    assert told[0] == 20
    assert told[1] not in {20, None}
    assert told[2] == 20


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 200)), max_size=60))
def test_blocks_lose_no_request_before_they_have_told_something(steps: list[tuple[int, int]]) -> None:
    watch, now, canary, stable = RAISED, 100.0, 0, 0
    for more in steps:
        now += BLOCK / 4
        block = watch.block
        watch = counted(watch, Counts(*more), now)
        canary, stable = canary + more[0], stable + more[1]
        if watch.block > block:
            assert watch.decided is not None
            canary = stable = 0
        assert watch.counts == Counts(canary, stable)


def test_every_block_asks_for_more_evidence_than_the_one_before() -> None:
    fresh = Watch(20, 5, 0.0)
    late = Watch(20, 5, 0.0, block=100)
    few = Counts(14, 36)
    assert counted(fresh, few, 1.0).decided == 20
    assert counted(late, few, 1.0).decided is None


def test_a_contest_begins_and_ends() -> None:
    contest = Contest()
    begun = [contest.put_back(float(second)) for second in range(FREE)]
    assert begun == [False] * (FREE - 1) + [True]
    assert contest.wait(FREE) == PAUSE - 1
    assert contest.wait(FREE + PAUSE) == 0
    assert not contest.put_back(FREE + PAUSE)
    assert contest.contested(WINDOW - 1)
    assert not contest.contested(WINDOW + FREE)
    assert contest.wait(WINDOW + FREE) == 0
