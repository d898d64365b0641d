"""Requests split at random: nothing is lost, and the numbers are as random as they should be."""

from __future__ import annotations

import math
from random import Random

import pytest

from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.observation import Arm
from phoenix_orch.health_validator.thinning import binomial, clustered, split
from phoenix_orch.rollout.spec import Statistical

ARM = Arm(
    revision="old",
    requests=1000,
    errors=40,
    abandoned=60,
    buckets=((0.05, 800), (0.1, 150), (math.inf, 50)),
    waited=((0.05, 20), (0.1, 30), (math.inf, 10)),
)


@pytest.mark.parametrize(
    ("n", "p"),
    [(0, 0.3), (7, 0.0), (5, 1.0), (40, 0.05), (1000, 0.004), (1000, 0.2), (10**6, 0.7), (33, 0.5)],
)
def test_binomial_numbers_have_their_mean_and_variance(n, p):
    dice, draws = Random(5), 4000
    found = [binomial(dice, n, p) for _ in range(draws)]
    assert all(0 <= k <= n for k in found)
    mean, spread = n * p, n * p * (1 - p)
    assert abs(sum(found) / draws - mean) <= 5 * math.sqrt(spread / draws) + 1e-9
    variance = sum((k - mean) ** 2 for k in found) / draws
    assert abs(variance - spread) <= 0.15 * spread + 1e-9


def test_small_binomial_numbers_follow_their_distribution():
    dice, draws, n, p = Random(6), 20_000, 60, 0.25
    found = [binomial(dice, n, p) for _ in range(draws)]
    for k in range(8, 24):
        wanted = math.comb(n, k) * p**k * (1 - p) ** (n - k)
        assert abs(found.count(k) / draws - wanted) < 5 * math.sqrt(wanted / draws)


def test_clusters_have_the_variance_of_their_size():
    dice, draws, size = Random(7), 4000, 5
    found = [clustered(dice, 200, 0.3, size) for _ in range(draws)]
    mean = sum(found) / draws
    variance = sum((k - mean) ** 2 for k in found) / draws
    assert abs(mean - 60) < 2
    assert abs(variance / (200 * 0.3 * 0.7) - size) < 0.6
    assert clustered(dice, 0, 0.3, 5) == 0
    assert clustered(dice, 3, 1.0, 5) == 3


def test_both_parts_are_the_whole():
    history = History(windows=30, dispersion=4.0, edges=(0.05, 0.1), slower=(0.2, 0.05), spread=(1.5, 7.0))
    dice = Random(8)
    for share in (0.0, 0.05, 0.2, 0.8, 1.0):
        canary, rest = split(dice, ARM, share, history, Statistical())
        assert canary.requests + rest.requests == ARM.requests
        assert canary.errors + rest.errors == ARM.errors
        assert canary.abandoned + rest.abandoned == ARM.abandoned
        assert [a + b for (_, a), (_, b) in zip(canary.waited, rest.waited, strict=True)] == [20, 30, 10]
        assert [a + b for (_, a), (_, b) in zip(canary.buckets, rest.buckets, strict=True)] == [800, 150, 50]
        assert canary.errors <= canary.requests
    assert canary == ARM
