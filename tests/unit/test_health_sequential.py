"""The e-processes against exact enumeration, and figures that are known."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest

from phoenix_orch.health_validator.sequential import (
    absolute,
    dispersion,
    interval,
    mixture,
    poisson,
    relative,
    unrolled,
)

SIZES = (0, 1, 2, 10**3, 10**6, 10**9)


def log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def noncentral(n_c: int, n_s: int, bad: int, odds: float) -> dict[int, float]:
    """Fisher's noncentral hypergeometric distribution of the canary's bad requests."""
    support = range(max(0, bad - n_s), min(n_c, bad) + 1)
    logs = {x: log_choose(n_c, x) + log_choose(n_s, bad - x) + x * math.log(odds) for x in support}
    highest = max(logs.values())
    weights = {x: math.exp(log - highest) for x, log in logs.items()}
    whole = sum(weights.values())
    return {x: weight / whole for x, weight in weights.items()}


# -- canary against stable -------------------------------------------------------------------------


def test_the_relative_e_value_is_at_most_one_in_the_mean_for_every_table() -> None:
    """Exact over 3,000 random tables, at the boundary of the null and within it."""
    chance = random.Random(1)
    for _ in range(3000):
        n_c = chance.randint(1, chance.choice((3, 10, 60, 300)))
        n_s = chance.randint(0, chance.choice((3, 30, 400, 2000)))
        bad = chance.randint(1, n_c + n_s)
        tolerated = chance.choice((1.0, 1.05, 1.1, 1 + 3 * chance.random()))
        real = tolerated * chance.choice((1.0, 1.0, chance.random() * 0.9 + 0.1))
        m, q = relative.bound(n_c, n_s, bad, tolerated)
        table = noncentral(n_c, n_s, bad, real)
        assert 0 <= q <= 1
        assert sum(x * share for x, share in table.items()) <= q * m * (1 + 1e-9)
        for ratio in relative.RATIOS:
            logs = [
                math.log(share) + x * math.log(ratio) - m * math.log1p(q * (ratio - 1))
                for x, share in table.items()
                if share > 0
            ]
            highest = max(logs)
            assert highest + math.log(sum(math.exp(log - highest) for log in logs)) < 1e-9


def test_rare_events_are_compared_by_the_conditional_binomial() -> None:
    m, q = relative.bound(1_000_000, 19_000_000, 7, 1.1)
    assert m == 7
    assert q == pytest.approx(1.1 * 0.05 / (1.1 * 0.05 + 0.95), rel=1e-4)
    assert relative.poisson_bound(5, 95, 7, 1.0) == (7, 0.05)


def test_a_comparison_says_nothing_without_bad_requests_or_without_a_canary() -> None:
    test = mixture.fresh(7)
    for counts in ((0, 0, 100, 3), (100, 0, 100, 0), (0, 0, 0, 0)):
        assert relative.compare(test, 0.5, counts, 1.1).value == pytest.approx(1.0)


@pytest.mark.parametrize(("n_c", "n_s"), [(a, b) for a in SIZES for b in SIZES])
def test_comparisons_are_finite_at_any_size(n_c: int, n_s: int) -> None:
    for bad_c, bad_s in ((0, 0), (n_c, 0), (0, n_s), (n_c, n_s), (n_c // 2, n_s // 1000)):
        test = mixture.fresh(7)
        for _ in range(3):
            test = relative.compare(test, 0.5, (n_c, bad_c, n_s, bad_s), 1.1)
        assert 0 <= test.value <= 7 * mixture.CAP
        assert math.isfinite(test.value)


def test_many_edges_at_once_are_the_same_as_one_by_one() -> None:
    chance = random.Random(2)
    many = (mixture.fresh(5),) * 6
    single = list(many)
    for look in range(50):
        n_c, n_s = chance.choice(((0, 500), (40, 760), (3000, 12_000), (10**9, 10**9)))
        edges = []
        for place in range(6):
            x_c, x_s = (round(n * chance.random() ** (place + 1)) for n in (n_c, n_s))
            edges.append((x_c, x_s if place < 5 else 0, 1.0 + place, 1.5))
        many = relative.compare_edges(many, (0.005, 0.5), (n_c, n_s), edges)
        for place, (x_c, x_s, odds, spread) in enumerate(edges):
            staked = 0.005 if single[place].weights[0] else 0.5
            counts = (n_c, x_c, n_s, x_s)
            single[place] = relative.compare(
                single[place], staked, counts, odds, dispersion=spread, terms=relative.FEW_TERMS
            )
        assert list(many) == single, look


# -- one variant against a limit -------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.3])
@pytest.mark.parametrize("part", [1.0, 0.5, 0.0])
def test_fail_is_at_most_one_in_the_mean_while_the_limit_is_kept(limit: float, part: float) -> None:
    share, n = limit * part, 40
    for a, b in absolute.fail_lines(limit):
        mean = sum(
            math.exp(log_choose(n, x) + a * x + b * (n - x)) * share**x * (1 - share) ** (n - x)
            for x in range(n + 1)
        )
        assert mean <= 1 + 1e-9
        assert part < 1 or mean == pytest.approx(1.0)


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.3])
@pytest.mark.parametrize("times", [1.0, 1.5, 3.0])
def test_pass_is_at_most_one_in_the_mean_while_the_limit_is_broken(limit: float, times: float) -> None:
    share, n = limit * times, 40
    for a, b in absolute.pass_lines(limit):
        mean = sum(
            math.exp(log_choose(n, x) + a * x + b * (n - x)) * share**x * (1 - share) ** (n - x)
            for x in range(n + 1)
        )
        assert mean <= 1 + 1e-9


@pytest.mark.parametrize(("limit", "multiples"), [(0.5, absolute.WORSE), (3.0, (0.7, 0.2))])
def test_rates_may_be_above_one_event_per_request(limit: float, multiples: tuple[float, ...]) -> None:
    n = 4
    mean = n * limit
    for a, b in absolute.rate_lines(limit, multiples):
        total = sum(
            math.exp(a * x + b * n + x * math.log(mean) - mean - math.lgamma(x + 1)) for x in range(4000)
        )
        assert total == pytest.approx(1.0, abs=1e-6) or (total < 1 and max(multiples) > 8)


def test_a_rate_that_changes_within_a_block_is_covered_by_its_mean() -> None:
    """Hoeffding: requests with shares of 0 and of twice the limit are no worse than all at the limit."""
    limit, half = 0.05, 12
    for a, b in absolute.fail_lines(limit):
        one = math.exp(a) * 2 * limit + math.exp(b) * (1 - 2 * limit)
        assert one**half * math.exp(b) ** half <= 1 + 1e-9


def test_the_mixture_over_beginnings_keeps_the_mean_at_one() -> None:
    """Exact over all courses of five blocks of two requests, with stakes as the gate places them."""
    limit = 0.2
    lines = absolute.fail_lines(limit)
    total = 0.0
    for course in product(range(3), repeat=5):
        test, chance = mixture.fresh(len(lines)), 1.0
        for look, bad in enumerate(course):
            chance *= math.comb(2, bad) * limit**bad * (1 - limit) ** (2 - bad)
            test = absolute.update(test, 0.5 if look == 0 else 0.15, bad, 2 - bad, lines, dispersion=1.0)
        total += chance * test.value
    assert total == pytest.approx(1.0)


def test_stakes_that_are_not_placed_lose_nothing_in_good_times() -> None:
    """A fault after 1,000 good looks is found as if looking had begun then, but for the stake."""
    lines = absolute.fail_lines(0.001)
    test = mixture.fresh(len(lines))
    for look in range(1000):
        test = absolute.update(test, 0.5 if look == 0 else 0.005, 0, 250, lines)
    assert 0.0 < test.value < 0.1
    for look in range(4):
        assert look < 3 or test.value > 100
        test = absolute.update(test, 0.005, 25, 225, lines)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("limit", [0.0, 1e-9, 0.001, 0.5, 1.0])
def test_fail_and_pass_are_finite_at_any_size(n: int, limit: float) -> None:
    for bad in {0, min(1, n), n // 1000, n // 2, n}:
        test = mixture.fresh(8)
        for _ in range(3):
            test = absolute.update(test, 0.5, bad, n - bad, absolute.fail_lines(limit))
        assert math.isfinite(test.value)
        assert test.value >= 0
        assert math.isfinite(absolute.evidence(bad, n - bad, absolute.pass_lines(limit)))


@pytest.mark.parametrize("alternatives", [4, 5, 7, 8])
def test_what_is_written_out_is_what_the_loops_say(alternatives: int) -> None:
    chance = random.Random(alternatives)
    weights = tuple(chance.random() for _ in range(alternatives))
    pairs = tuple((chance.random(), -chance.random()) for _ in range(alternatives))
    if alternatives in (4, 8):
        written = unrolled.linear_4 if alternatives == 4 else unrolled.linear_8
        found = written(weights, 0.1, 3.0, 5.0, pairs)
        logs = [3.0 * a + 5.0 * b for a, b in pairs]
    else:
        terms = relative.terms([1.5 + place for place in range(alternatives)])
        odds = unrolled.odds_5 if alternatives == 5 else unrolled.odds_7
        found = odds(weights, 0.1, (3.0, 8.0, 0.2), terms)
        logs = [3.0 * log - 8.0 * math.log1p(0.2 * excess) for log, excess in terms]
    wanted = [(weight + 0.1) * math.exp(log) for weight, log in zip(weights, logs, strict=True)]
    moved, total = found
    assert list(moved) == pytest.approx(wanted, rel=1e-12)
    assert total == pytest.approx(sum(moved), rel=1e-15)


# -- intervals -------------------------------------------------------------------------------------


def test_figures_that_are_known() -> None:
    """From the design of the method: to prove 0.1 % at 95 %, whenever looked at."""
    known = {"limit": 0.001, "alpha": 0.05}
    assert interval.needed(0, 0.001, **known) == 4104
    assert interval.upper(0.0002 * 8900, 8900, **known) <= 0.001 < interval.upper(1.76, 8800, **known)
    assert interval.upper(0.0004 * 20200, 20200, **known) <= 0.001 < interval.upper(8.0, 20000, **known)
    lower, upper = interval.bounds(17, 5263, **known)
    assert (round(lower, 4), round(upper, 4)) == (0.0013, 0.0065)


@pytest.mark.parametrize("n", [1, 2, 17, 5263, 10**6, 10**9])
def test_an_interval_is_what_the_evidence_does_not_reject(n: int) -> None:
    for bad in {0, 1, n // 1000, n // 3, n - 1, n}:
        lower, upper = interval.bounds(bad, n, limit=0.001, alpha=0.05)
        assert 0 <= lower <= bad / n <= upper <= 1
        assert interval.upper(bad, n, limit=0.001, alpha=0.05) == upper
        a, b = 0.5, 500.0
        beta = [
            math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q) for p, q in ((a + bad, b + n - bad), (a, b))
        ]
        for end in (lower, upper):
            if 0 < end < 1:
                log = beta[0] - beta[1] - bad * math.log(end) - (n - bad) * math.log1p(-end)
                assert log == pytest.approx(math.log(20), abs=1e-3 + 1e-12 * n)


def test_without_requests_everything_is_possible() -> None:
    assert interval.bounds(0, 0, limit=0.1, alpha=0.05) == (0.0, 1.0)
    assert interval.upper(0, 0, limit=0.1, alpha=0.05) == 1.0
    assert interval.rate_bounds(0, 0, limit=0.1, alpha=0.05) == (0.0, math.inf)


def test_clustered_requests_widen_an_interval() -> None:
    narrow = interval.bounds(10, 1000, limit=0.01, alpha=0.05)
    wide = interval.bounds(10, 1000, limit=0.01, alpha=0.05, dispersion=3.0)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(("events", "total"), [(0, 10), (3, 10), (50, 10), (10**6, 10**9)])
def test_intervals_of_rates(events: int, total: int) -> None:
    lower, upper = interval.rate_bounds(events, total, limit=0.5, alpha=0.05)
    assert 0 <= lower <= events / total <= upper < math.inf
    if events:
        a, b = 0.5, 1.0
        mixed = (
            math.lgamma(a + events) - math.lgamma(a) + a * math.log(b) - (a + events) * math.log(b + total)
        )
        for end in (lower, upper):
            log = mixed - events * math.log(end) + total * end
            assert log == pytest.approx(math.log(20), abs=1e-2)


def test_what_is_needed_grows_with_every_bad_request_and_may_be_out_of_reach() -> None:
    known = {"limit": 0.001, "alpha": 0.05}
    figures = [interval.needed(bad, 0.001, **known) for bad in range(4)]
    assert figures == sorted(figures, key=lambda figure: figure or 0)
    assert interval.needed(0, 0.0, **known) is None


# -- dispersion ------------------------------------------------------------------------------------


def test_independent_requests_have_a_dispersion_of_one() -> None:
    chance = random.Random(3)
    windows = [(sum(chance.random() < 0.3 for _ in range(200)), 200) for _ in range(400)]
    found, pairs = dispersion.estimate(windows, prior=1.0, safety=1.0)
    assert pairs == 200
    assert 1.0 <= found < 1.25


def test_failures_in_clusters_of_five_have_a_dispersion_of_five() -> None:
    chance = random.Random(4)
    windows = [(5 * sum(chance.random() < 0.002 for _ in range(2000)), 10_000) for _ in range(400)]
    found, _ = dispersion.estimate(windows, prior=1.0, safety=1.0)
    assert 4 < found < 6


def test_rare_clusters_are_seen_to_be_clusters() -> None:
    """Sizes geometric with the mean 6: variance to mean is 11. Most pairs with an event have one cluster or
    part of one, and would say 6 or less if every pair counted the same."""
    chance = random.Random(5)
    windows = []
    for _ in range(4000):
        events = 0
        if chance.random() < 0.25:
            events = 1 + int(math.log(chance.random()) / math.log(5 / 6))
        windows.append((events, 6000))
    found, _ = dispersion.estimate(windows, prior=1.0, safety=1.0)
    assert 9 < found < 12


def test_a_slow_drift_is_no_dispersion() -> None:
    windows = [(100 + i // 2, 10_000) for i in range(200)]
    found, _ = dispersion.estimate(windows, prior=1.0)
    assert found == 1.0


def test_an_incident_hides_no_clusters() -> None:
    windows = [(10 * (i % 4 == 0), 10_000) for i in range(100)]
    usual, _ = dispersion.estimate(windows, prior=1.0, safety=1.0)
    found, _ = dispersion.estimate([*windows, (5000, 10_000), (5000, 10_000)], prior=1.0, safety=1.0)
    assert found > 0.7 * usual > 5


def test_one_incident_in_the_past_does_not_blind_the_judge() -> None:
    windows = [(1, 1000)] * 100 + [(900, 1000)] + [(1, 1000)] * 99
    found, _ = dispersion.estimate(windows, prior=1.0)
    assert found < 5
    assert dispersion.pair((0, 100), (0, 100)) is None
    assert dispersion.pair((3, 100), (0, 0)) is None


# -- tails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [0.01, 0.7, 1.5, 3.0, 20.0, 300.0])
def test_tails_of_whole_counts_are_the_sums_of_their_terms(expected: float) -> None:
    for count in (0, 1, 2, 5, 6, 20, 290, 340):
        below = sum(math.exp(k * math.log(expected) - expected - math.lgamma(k + 1)) for k in range(count))
        assert poisson.as_many(count, expected) == pytest.approx(1 - below, abs=1e-9)
        assert poisson.as_few(count - 1, expected) == pytest.approx(below, abs=1e-9)


def test_what_few_events_say() -> None:
    """Two standard errors are reached by 4 where 1.5 are usual, which happens in 6.6 of 100 cases."""
    assert poisson.level(2.0) == pytest.approx(0.02275, abs=1e-5)
    assert poisson.as_many(4, 1.5) == pytest.approx(0.0656, abs=1e-4)
    assert poisson.as_many(4, 1.5) > poisson.level(2.0) > poisson.as_many(5, 1.5)


def test_tails_of_broken_counts_lie_between_those_of_whole_ones_and_meet_the_normal_law() -> None:
    tails = [poisson.as_many(4 + part / 10, 3.0) for part in range(11)]
    assert tails == sorted(tails, reverse=True)
    many = poisson.MANY
    for count in (many - 150, many + 100, many + 200):
        beside = poisson.as_many(count, many)
        assert poisson.as_many(count, many * (1 - 1e-9)) == pytest.approx(beside, rel=0.03)
    assert poisson.as_many(2e9, 1e9) == 0.0
    assert poisson.as_few(0, 1e9) == 0.0
