"""Histogram answers bracket the truth, whatever the values and the edges."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.health_validator.histogram import (
    Buckets,
    about_above,
    certainly_above,
    merged,
    possibly_above,
    project,
    quantile,
    thinned,
    total,
)

latency = st.floats(0.001, 20.0)
layouts = st.lists(st.sampled_from([0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0]), unique=True, min_size=1)


def histogram(values: list[float], edges: list[float]) -> Buckets:
    uppers = (*sorted(edges), math.inf)
    lowers = (0.0, *uppers[:-1])
    return tuple(
        (upper, sum(lower < value <= upper for value in values))
        for lower, upper in zip(lowers, uppers, strict=True)
    )


@given(st.lists(latency), layouts, st.floats(0.001, 20.0))
def test_the_truth_lies_between_certain_and_possible(
    values: list[float], edges: list[float], limit: float
) -> None:
    buckets = histogram(values, edges)
    truth = sum(value > limit for value in values)
    assert certainly_above(buckets, limit) <= truth <= possibly_above(buckets, limit)
    assert certainly_above(buckets, limit) <= about_above(buckets, limit) <= possibly_above(buckets, limit)


@given(st.lists(latency), layouts)
def test_on_an_edge_the_truth_is_known(values: list[float], edges: list[float]) -> None:
    buckets = histogram(values, edges)
    for edge in edges:
        assert certainly_above(buckets, edge) == sum(value > edge for value in values)


@given(st.lists(latency, min_size=1), layouts, st.sampled_from([0.5, 0.95, 0.99]))
def test_an_estimated_quantile_lies_in_the_bucket_of_the_true_one(
    values: list[float], edges: list[float], share: float
) -> None:
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    uppers = (0.0, *sorted(edges), math.inf)
    upper = min(edge for edge in uppers if edge >= true)
    lower = max(edge for edge in uppers if edge < true)
    estimate = quantile(histogram(values, edges), share)
    assert estimate is not None
    assert lower - 1e-9 <= estimate <= upper + 1e-9


@given(st.lists(latency), st.lists(latency), layouts, layouts)
def test_merging_loses_no_request(
    first: list[float], second: list[float], edges: list[float], others: list[float]
) -> None:
    both = merged(histogram(first, edges), histogram(second, others))
    assert total(both) == len(first) + len(second)
    assert both[-1][0] == math.inf


@given(st.lists(latency), layouts, st.integers(3, 6))
def test_thinning_loses_no_request(values: list[float], edges: list[float], at_most: int) -> None:
    buckets = histogram(values, edges)
    coarse = project(buckets, thinned((edge for edge, _ in buckets), at_most))
    assert total(coarse) == len(values)
    assert len(coarse) <= at_most
