"""Which witness is believed about the canary's share, and when it is put back no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.traffic.contest import FREE, PAUSE, WINDOW, Contest
from phoenix_orch.traffic.share_seen import Counts, Seen, Witness, seen_share, share_of


@pytest.mark.parametrize(
    ("counts", "wanted", "before", "share"),
    [
        (Counts(0, 0), 5, 0, None),  # nobody asked
        (Counts(1, 19), 5, 0, 5),  # chance does not bring a canary at weight 0
        (Counts(0, 20), 5, 0, None),  # 0 % or 5 %: too few to tell
        (Counts(0, 1000), 5, 0, 0),  # the router has not heard
        (Counts(50, 950), 5, 0, 5),
        (Counts(50, 950), 20, 5, 5),
        (Counts(120, 880), 20, 5, 12),  # neither: it is said as it is
        (Counts(200, 800), 20, 5, 20),
        (Counts(3, 57), 5, 5, 5),  # nothing changed
        (Counts(0, 3), 0, 40, None),
        (Counts(0, 300), 0, 40, 0),
        (Counts(1000, 0), 100, 80, 100),
        (Counts(198, 802), 20, 5, 20),
        (Counts(51_000, 949_000), 5, 0, 5),  # off by a fiftieth: as told
        (Counts(60_000, 940_000), 5, 0, 6),
    ],
)
def test_counts(counts: Counts, wanted: int, before: int, share: int | None) -> None:
    assert share_of(counts, wanted, before) == share


def test_the_best_witness_that_knows_is_believed() -> None:
    few, many, other = Counts(0, 5), Counts(50, 950), Counts(200, 800)
    assert seen_share(5, 0, router=many, variants=other, by_object=20) == Seen(5, Witness.ROUTER)
    assert seen_share(20, 0, router=few, variants=other, by_object=5) == Seen(20, Witness.VARIANTS)
    assert seen_share(5, 0, router=few, variants=None, by_object=5) == Seen(5, Witness.OBJECT)
    assert seen_share(5, 0, router=None, variants=few, by_object=None) == Seen(None)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(2000, 100_000))
def test_exact_counts_are_never_misread(wanted: int, before: int, total: int) -> None:
    canary = total * wanted // 100
    assert share_of(Counts(canary, total - canary), wanted, before) in {wanted, None}


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
