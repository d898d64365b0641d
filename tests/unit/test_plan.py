"""How long limits take to prove, and whether stable keeps them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit import recorded

from phoenix_orch.health_validator.foreseen import End
from phoenix_orch.health_validator.plan import Fit, Past, plan, stable_past, unattainable
from phoenix_orch.health_validator.resting import at_rest, past
from phoenix_orch.rollout.spec import Policy, RolloutSpec, Statistical

GUIDE = RolloutSpec()
KNOWN = Past(seconds=3600, requests=180_000, errors=36, dispersion=1.0, slow_dispersion=1.0)


def first(found, metric="errorRate"):
    return next(item for item in found.prospects if item.metric == metric)


def test_the_specified_sample_proves_a_limit_of_a_thousandth():
    item = first(plan(GUIDE, KNOWN))
    assert item.clean == 4_104  # 4,110 in the specification, by a coarser search
    assert item.needed is not None
    assert 8_500 < item.needed < 9_200
    assert item.canary_rate == pytest.approx(2.5)
    assert item.proven_after == timedelta(seconds=round(item.needed / 2.5))
    assert item.fit is Fit.KEPT
    assert item.likely_after is not None
    assert item.likely_after < timedelta(minutes=10)


def test_every_limit_of_every_step_has_a_prospect():
    found = plan(GUIDE, Past(), rate=50)
    assert [(item.weight, item.metric) for item in found.prospects] == [
        (step.weight, metric) for step in GUIDE.steps() for metric in ("errorRate", "latencyP95")
    ]
    assert not found.dispersion_known
    assert found.dispersion == Statistical().dispersion_unknown
    assert {item.fit for item in found.prospects} == {Fit.UNKNOWN}
    assert first(found).clean == 4_104  # as the judge counts where it knows no past


def test_a_step_that_cannot_be_known_in_time_says_what_becomes_of_it():
    few = plan(GUIDE, Past(), rate=0.5)
    assert (first(few).otherwise, first(few).otherwise_after) == (End.THIN, timedelta(minutes=20))
    assert first(few, "latencyP95").otherwise is None  # it is known in time
    careful = GUIDE.model_copy(update={"policy": Policy(statistical=Statistical(budget=0))})
    item = first(plan(careful, Past(), rate=0.5))
    assert (item.otherwise, item.otherwise_after) == (End.PAUSE, timedelta(minutes=30))
    rollback = careful.policy.model_copy(update={"on_no_decision": "rollback"})
    item = first(plan(careful.model_copy(update={"policy": rollback}), Past(), rate=0.5))
    assert item.otherwise is End.ROLLBACK
    promote = careful.policy.model_copy(update={"on_no_decision": "promote"})
    tired = careful.model_copy(update={"policy": promote})
    assert first(plan(tired, Past(), rate=0.5)).otherwise is End.PROMOTE
    assert first(plan(tired, Past(), rate=0.05)).otherwise is End.HOLD  # not ten requests in all the time
    assert first(plan(GUIDE, KNOWN)).otherwise is None


def test_without_traffic_nothing_is_proven():
    for rate in (0.0, None):
        item = first(plan(GUIDE, Past(), rate=rate))
        assert item.proven_after is None


@pytest.mark.parametrize(
    ("errors", "requests", "fit"),
    [
        (0, 0, Fit.UNKNOWN),
        (0, 100, Fit.LIKELY),
        (1, 100, Fit.DOUBTFUL),
        (30, 10_000, Fit.BROKEN),
        (0, 10_000, Fit.KEPT),
    ],
)
def test_only_a_proven_breach_is_not_attainable(errors, requests, fit):
    found = plan(GUIDE, Past(seconds=600, requests=requests, errors=errors, dispersion=1.0))
    assert first(found).fit is fit
    assert (first(found) in found.broken) == (fit is Fit.BROKEN)


def test_a_limit_that_stable_breaks_is_told_with_its_figures():
    (item, *_) = plan(GUIDE, Past(seconds=600, requests=10_000, errors=30, dispersion=1.0)).broken
    assert unattainable(item) == (
        "limit not attainable: stable itself fails 0.3 % of its requests "
        "(interval 0.15-0.52 %, 10,000 requests), "
        "phase initial allows 0.1 %"
    )
    assert item.needed is None


def test_stable_is_slower_than_the_limit():
    record = recorded.release(rps=20)
    slow = Past(seconds=60, requests=1000, buckets=((0.05, 500), (0.2, 500), (float("inf"), 0)))
    item = first(plan(record.header.spec, slow), "latencyP95")
    assert item.fit is Fit.UNKNOWN or item.observed == 0  # 100 ms lies inside a bucket: nothing is certain
    slow = Past(seconds=60, requests=1000, buckets=((0.1, 500), (0.2, 500), (float("inf"), 0)))
    item = first(plan(record.header.spec, slow), "latencyP95")
    assert item.fit is Fit.BROKEN
    assert "is slower than 100 ms in 50 %" in unattainable(item)


def test_the_past_is_that_of_the_revision_that_is_stable_now():
    record = recorded.release(stable_failing=0.1, rps=20)
    other = recorded.release(stable_failing=0.0, rps=20)
    bake = [o.model_copy(update={"stable": None}) for o in other.observations]
    rest = [at_rest(o) for o in bake]
    before = past(record.observations)
    known = stable_past([*before, *bake, *rest], "2222222222", Statistical())
    assert known.errors == 0
    assert known.requests == 2 * sum(o.canary.requests for o in bake)
    assert known.seconds == pytest.approx(2 * 420)
    assert stable_past([*before, *bake], "1111111111", Statistical()).errors > 0
    assert stable_past([], "x", Statistical()) == Past()
