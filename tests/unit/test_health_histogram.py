"""What a latency histogram can say, and what it cannot."""

from __future__ import annotations

import math

import pytest

from phoenix_orch.health_validator.histogram import (
    about_above,
    certainly_above,
    common_edges,
    from_cumulative,
    from_native,
    from_samples,
    merged,
    possibly_above,
    project,
    quantile,
    thinned,
    total,
    with_waited,
)

BUCKETS = ((0.1, 80), (0.2, 10), (0.5, 6), (math.inf, 4))


def test_buckets_from_cumulative_counts() -> None:
    assert from_cumulative({math.inf: 100, 0.5: 96, 0.1: 80, 0.2: 90}) == BUCKETS
    assert total(BUCKETS) == 100


def test_counts_read_while_they_change_are_never_negative() -> None:
    assert from_cumulative({0.1: 5, 0.2: 4, math.inf: 6}) == ((0.1, 5), (0.2, 0), (math.inf, 1))


def test_a_missing_last_edge_is_added() -> None:
    assert from_cumulative({0.1: 5}) == ((0.1, 5), (math.inf, 0))
    assert from_cumulative({}) == ()


@pytest.mark.parametrize(
    ("limit", "certain", "about", "possible"),
    [
        (0.1, 20, 20, 20),  # an edge: known
        (0.15, 10, 15, 20),  # inside (0.1, 0.2]
        (0.35, 4, 7, 10),
        (0.05, 20, 60, 100),
        (2.0, 0, 4, 4),  # beyond the last finite edge nothing can be told
    ],
)
def test_requests_above_a_limit(limit: float, certain: int, about: float, possible: int) -> None:
    assert certainly_above(BUCKETS, limit) == certain
    assert about_above(BUCKETS, limit) == pytest.approx(about)
    assert possibly_above(BUCKETS, limit) == possible


def test_quantiles_are_interpolated_inside_their_bucket() -> None:
    assert quantile(BUCKETS, 0.4) == pytest.approx(0.05)
    assert quantile(BUCKETS, 0.85) == pytest.approx(0.15)
    assert quantile(BUCKETS, 0.95) == pytest.approx(0.2 + 0.3 * 5 / 6)
    assert quantile(BUCKETS, 0.99) == 0.5  # in the last bucket: at least its lower edge
    assert quantile((), 0.95) is None
    assert quantile(((0.1, 0), (math.inf, 0)), 0.95) is None


def test_layouts_meet_on_their_common_edges() -> None:
    other = ((0.05, 1), (0.2, 2), (1.0, 3), (math.inf, 4))
    assert merged(BUCKETS, other) == ((0.2, 93), (math.inf, 17))
    assert merged(BUCKETS, ()) == BUCKETS
    assert merged((), BUCKETS) == BUCKETS
    assert common_edges((0.1, 0.2), (0.2, 0.3)) == (0.2, math.inf)


def test_projection_never_makes_a_request_faster() -> None:
    assert project(BUCKETS, (0.15, 0.5, math.inf)) == ((0.15, 80), (0.5, 16), (math.inf, 4))


def test_thinning_keeps_both_ends() -> None:
    edges = tuple(i / 10 for i in range(1, 31))
    few = thinned(edges, 8)
    assert len(few) == 8
    assert (few[0], few[-2], few[-1]) == (0.1, 3.0, math.inf)
    assert thinned((0.1, math.inf), 8) == (0.1, math.inf)


def test_raw_samples_are_counted_at_the_edges_given() -> None:
    samples = [0.01, 0.1, 0.1001, 3.0, math.nan, math.inf, -1.0]
    assert from_samples(samples, (0.1, 1.0)) == ((0.1, 2), (1.0, 1), (math.inf, 1))
    assert from_samples([], ()) == ((math.inf, 0),)


def test_a_native_histogram_is_a_fine_classic_one() -> None:
    buckets = from_native(3, {-26: 5, -24: 2}, zero=1, zero_edge=0.001)
    edges = [edge for edge, _ in buckets]
    assert edges == sorted(edges)
    assert total(buckets) == 8
    assert math.isclose(edges[-2], 2 ** (-24 / 8))
    assert certainly_above(buckets, 2 ** (-26 / 8)) == 2
    assert (certainly_above(buckets, 0.12), possibly_above(buckets, 0.12)) == (0, 2)
    assert from_native(3, {}) == ()


def test_only_who_waited_longer_than_every_limit_is_known_to_be_late() -> None:
    answers = ((0.1, 5), (0.2, 3), (math.inf, 1))
    waited = ((0.1, 40), (0.2, 20), (math.inf, 10))
    assert with_waited(answers, waited, (0.1, None)) == ((0.1, 5), (0.2, 23), (math.inf, 11))
    assert with_waited(answers, waited, (0.1, 0.2)) == ((0.1, 5), (0.2, 3), (math.inf, 11))
    assert with_waited((), waited, (0.15,)) == ((0.1, 0), (0.2, 0), (math.inf, 10))
    assert with_waited(answers, waited, (None, None)) == answers
    assert with_waited(answers, (), (0.1,)) == answers
