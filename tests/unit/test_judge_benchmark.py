"""The benchmark of the judge: its streams are what they say, and the peers' rules are the published ones."""

import json
import math

import numpy as np
import pytest
from benchmarks.judge import __main__ as judge
from benchmarks.judge import outcomes, page, phoenix, type_one
from benchmarks.judge.__main__ import RESULT
from benchmarks.judge.bars import ASKED, figures, held
from benchmarks.judge.latency import EDGES, HEAVY, SLOW_TAIL, USUAL, normal_cdf
from benchmarks.judge.peers import PEERS, argo, bayes, flagger, kayenta, lindon, msprt
from benchmarks.judge.scenarios import BASE, CANARY, SCENARIOS, STABLE, TICK
from benchmarks.judge.streams import CLUSTER, Stream
from benchmarks.judge.walk import STAGES, TICKS, Release, quantile

from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.observation import Observation

BY_NAME = {one.name: one for one in SCENARIOS}


def release(name: str, rate: float = 50.0, seed: int = 1) -> Release:
    return Release.of(Stream(BY_NAME[name], rate, (seed,), TICKS))


def test_the_table_of_the_normal_law_is_exact_enough() -> None:
    z = np.linspace(-6, 6, 1001)
    exact = np.array([0.5 * math.erfc(-one / math.sqrt(2)) for one in z])
    assert np.abs(normal_cdf(z) - exact).max() < 1e-7


def test_the_usual_latency_has_its_p95_at_80_ms_and_the_tail_fault_leaves_p95_within_100_ms() -> None:
    one = np.ones(1)
    fine = np.searchsorted(EDGES, 0.1)
    assert USUAL.buckets(one * 0.1 / 0.08)[0, : fine + 1].sum() == pytest.approx(0.95, abs=1e-4)
    assert SLOW_TAIL.buckets(one)[0, fine + 1 :].sum() < 0.05
    assert SLOW_TAIL.buckets(one)[0, np.searchsorted(EDGES, 0.3) + 1 :].sum() > 0.015
    for law in (USUAL, SLOW_TAIL, HEAVY):
        assert law.buckets(np.array([0.02, 1.0, 4.0])).sum(axis=1) == pytest.approx(1.0)


def test_a_stream_read_again_is_the_same_and_its_counts_agree() -> None:
    for scenario in SCENARIOS:
        stream = Stream(scenario, 50.0, (3,), TICKS)
        first, again = stream.read(6, 30, 20), Stream(scenario, 50.0, (3,), TICKS).read(6, 30, 20)
        assert np.array_equal(first.requests, again.requests)
        assert np.array_equal(first.errors, again.errors)
        assert np.array_equal(first.buckets, again.buckets)
        assert np.array_equal(first.buckets.sum(axis=2), first.requests)
        assert (first.errors <= first.requests).all()


def test_clustered_errors_are_as_many_as_others_and_vary_as_stated() -> None:
    windows = []
    for seed in range(40):
        block = Stream(BY_NAME["bursty"], 500.0, (seed,), TICKS).read(0, TICKS, 5)
        windows.extend(block.errors[STABLE].reshape(-1, 90).sum(axis=1))
    mean, variance = np.mean(windows), np.var(windows)
    assert mean == pytest.approx(500 * 900 * 0.95 * BASE, rel=0.1)
    assert 0.6 * (2 * CLUSTER - 1) < variance / mean < 1.4 * (2 * CLUSTER - 1)


def test_the_walk_is_the_guides() -> None:
    assert [(stage.weight, stage.ticks * TICK / 60) for stage in STAGES] == [
        (5, 10), (20, 15), (40, 5), (60, 5), (80, 5), (100, 5),
    ]  # fmt: skip
    assert TICKS * TICK == 45 * 60


def test_observations_are_what_validation_would_have_made() -> None:
    block = Stream(BY_NAME["healthy"], 50.0, (1,), TICKS).read(0, 3, 5)
    for one in phoenix.observations(block, 0, 0, 5):
        assert Observation.model_validate(one.model_dump()) == one


def test_quantile_is_prometheus_histogram_quantile() -> None:
    counts = np.zeros(EDGES.size, np.int64)
    counts[3], counts[4] = 50, 50
    assert quantile(counts, 0.5) == EDGES[3]
    assert quantile(counts, 0.75) == pytest.approx((EDGES[3] + EDGES[4]) / 2)
    assert math.isnan(quantile(np.zeros_like(counts), 0.95))
    counts[-1] = 10_000
    assert quantile(counts, 0.95) == EDGES[-2]


def test_flagger_rolls_back_on_the_tick_after_the_threshold() -> None:
    """Five failed checks a minute apart, and one more tick: 6 min at the earliest."""
    for rule in (flagger.defaults, flagger.guide):
        assert rule(release("errors_100")) == 36
        assert rule(release("healthy", 5000.0)) is None
    assert flagger.defaults(release("errors_02", 5000.0)) is None
    assert flagger.guide(release("errors_02", 5000.0)) == 36


def test_flagger_takes_no_traffic_for_a_failed_check() -> None:
    assert flagger.guide(release("healthy", 0.01)) is not None


def test_argo_rolls_back_with_the_measurement_beyond_the_failure_limit() -> None:
    assert argo.decide(release("errors_100"), failure_limit=0) == 6
    assert argo.decide(release("errors_100"), failure_limit=3) == 24
    assert argo.decide(release("healthy", 5000.0), failure_limit=0) is None
    # Counted anew in each step: 1 point more after 15 min is found 4 min later.
    assert argo.decide(release("late_onset", 5000.0), failure_limit=3) == 90 + 24


def z_of(experiment: np.ndarray, control: np.ndarray, shift: float) -> float:
    """As the R function that Kayenta translates, with ranks."""
    both = np.concatenate([experiment - shift, control])
    ranks = np.array([(both < one).sum() + ((both == one).sum() + 1) / 2 for one in both])
    n, m = experiment.size, control.size
    ties = sum(float(k**3 - k) for k in np.unique_counts(both).counts)
    z = ranks[:n].sum() - n * (n + 1) / 2 - n * m / 2
    sigma = math.sqrt(n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1))))
    return float((z - 0.5 * np.sign(z)) / sigma)


@pytest.mark.parametrize("seed", range(20))
def test_kayentas_interval_is_where_its_solver_would_find_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    experiment, control = random.normal(0.3, 1, 10 + seed), random.normal(0, 1, 25)
    lower, estimate = kayenta.shift(experiment, control)
    quantile_98 = 2.3263478740408408
    assert z_of(experiment, control, lower - 1e-9) >= quantile_98 >= z_of(experiment, control, lower + 1e-9)
    apart = (experiment[:, None] - control[None, :]).ravel()
    assert estimate == pytest.approx(np.median(apart))


def test_kayenta_passes_equal_series_and_flags_a_shift() -> None:
    random = np.random.default_rng(1)
    control = random.normal(80, 3, 50)
    assert kayenta.classify(control.copy(), control) is True
    assert kayenta.classify(np.full(7, np.nan), control) is None
    assert kayenta.classify(random.normal(80, 3, 50), control) is True
    assert kayenta.classify(random.normal(88, 3, 50), control) is False
    assert kayenta.classify(random.normal(60, 3, 50), control) is True


def test_the_multinomial_evidence_has_mean_one_under_its_null() -> None:
    shares = (0.05, 0.95)
    total = 12
    mean = sum(
        math.comb(total, bad) * shares[0] ** bad * shares[1] ** (total - bad)
        * math.exp(lindon.multinomial((bad, total - bad), shares))
        for bad in range(total + 1)
    )  # fmt: skip
    assert mean == pytest.approx(1.0)


def test_the_band_is_the_published_one() -> None:
    assert 0.8 * math.log(1612 / 0.05) == pytest.approx(8.3, abs=0.01)
    assert lindon.band(15_000, 0.05) == pytest.approx(0.0225, abs=0.001)


@pytest.mark.parametrize(
    ("canary", "stable"), [((0, 10), (0, 10)), ((3, 40), (2, 90)), ((20, 100), (10, 95))]
)
def test_the_posterior_is_that_of_two_beta_laws(canary: tuple[int, int], stable: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    a = random.beta(canary[0] + 1, canary[1] - canary[0] + 1, 400_000)
    b = random.beta(stable[0] + 1, stable[1] - stable[0] + 1, 400_000)
    assert bayes.worse(canary, stable) == pytest.approx(float((a > b).mean()), abs=0.004)


def test_the_sum_and_the_normal_approximation_meet() -> None:
    assert bayes.worse((100, 5000), (160, 10_000)) == pytest.approx(
        bayes.worse((101, 5050), (160, 10_000)), abs=0.02
    )


def test_the_mixture_test_sees_a_difference_and_only_the_bad_direction() -> None:
    assert msprt.evidence((50, 1000), (10, 1000), 0.02) > math.log(40)
    assert msprt.evidence((10, 1000), (50, 1000), 0.02) == 0.0
    assert msprt.evidence((10, 1000), (10, 1000), 0.02) <= 0.0


def test_every_peer_decides_within_the_walk() -> None:
    for name in ("healthy", "errors_100", "crash"):
        for decide in PEERS.values():
            tick = decide(release(name, 5.0))
            assert tick is None or 1 <= tick <= TICKS


def test_only_the_canary_is_worse_in_a_bad_scene() -> None:
    for scenario in SCENARIOS:
        stream = Stream(scenario, 5.0, (1,), TICKS)
        scene = stream.scene
        worse = (scene.errors[CANARY] > scene.errors[STABLE]).any() or (
            scene.laws[CANARY] is not scene.laws[STABLE]
            or (scene.scale[CANARY] > scene.scale[STABLE] * 1.2).any()
        )
        if scenario.name != "cold_start":
            assert worse == (scenario.kind == "bad"), scenario.name


def test_the_vectorised_formulas_are_the_packages_own() -> None:
    """`measured` itself compares some runs with the functions of the package and fails when they differ."""
    found = type_one.measured(runs=type_one.SAMPLE, looks=200, seed=3, say=lambda _words: None)
    assert len(found["nulls"]) == len(type_one.NULLS)


def test_a_bar_about_what_was_not_measured_is_not_held() -> None:
    assert not any(held({}).values())
    assert set(figures({})) == set(ASKED) == set(held({}))
    assert figures({})["falseRollbacks"] == "- %, - %"


def test_a_release_ends_and_its_cell_adds_up() -> None:
    chosen = [BY_NAME["errors_100"], BY_NAME["late_onset"]]
    cells = outcomes.measured(5.0, 4, chosen, seed=2, say=lambda _words: None)
    for name, rules in cells.items():
        assert set(rules) == {outcomes.PHOENIX, outcomes.LITERAL, *PEERS}
        for cell in rules.values():
            assert cell["found"] + cell["early"] == cell["rollback"] <= 100.0
            assert cell["failed"] <= cell["exposed"]
        assert name == "late_onset" or rules["argo-fl0"] == {
            **rules["argo-fl0"],
            "found": 100.0,
            "medianSeconds": 60.0,
        }
    # Alarms before the fault began have found nothing.
    assert cells["late_onset"]["argo-fl0"]["early"] > 0
    assert outcomes.summary(cells, "argo-fl3")["detection"] is not None
    assert outcomes.summary(cells, "argo-fl3")["falseRollback"] is None


def test_a_fault_begins_where_the_canary_is_worse_first() -> None:
    """Whatever is found before the fault counts as early, so the label has to be right."""
    for scenario in SCENARIOS:
        if scenario.kind != "bad" or scenario.name in {"latency_30", "latency_x2", "tail_only"}:
            continue
        stream = Stream(scenario, 5.0, (1,), TICKS)
        worse = stream.scene.errors[CANARY] > stream.scene.errors[STABLE]
        assert np.argmax(worse) == stream.onset, scenario.name


def test_one_scenario_measured_anew_joins_the_others_of_as_many_runs() -> None:
    old = {"crash": {"phoenix": {"found": 1.0}}, "healthy": {"phoenix": {"found": 0.0}}}
    before = {"rates": {"5": {"runs": 4, "scenarios": old}}}
    new = {"crash": {"phoenix": {"found": 2.0}}}
    assert judge.beside(before, 5.0, 4, new) == {**old, **new}
    assert list(judge.beside(before, 5.0, 4, new)) == ["healthy", "crash"]
    assert judge.beside(before, 5.0, 3, new) == judge.beside({}, 5.0, 4, new) == new


def test_the_past_of_a_bursty_service_is_seen_to_be_bursty() -> None:
    config = JudgeConfig.of(phoenix.spec("statistical"))
    calm = phoenix.past(BY_NAME["errors_x2"], 500.0, (1,), config)
    bursty = phoenix.past(BY_NAME["bursty"], 500.0, (1,), config)
    assert calm.dispersion is not None
    assert bursty.dispersion is not None
    assert calm.dispersion < 2.0 < 5.0 < bursty.dispersion
    assert calm.windows == 180


def test_the_page_is_made_from_the_result_that_is_kept() -> None:
    assert page.text(json.loads(RESULT.read_text("utf-8"))) == page.PAGE.read_text("utf-8"), "run `make docs`"
