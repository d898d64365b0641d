"""What the statistical gate makes of memory, CPU, business metrics and plain values."""

from __future__ import annotations

import math

import pytest
from tests.unit.judge_stories import arm, first, observe, run, spec, steady, verdicts

from phoenix_orch.health_validator.observation import (
    Arm,
    Observation,
    VerdictKind,
)
from phoenix_orch.rollout.spec import (
    BusinessMetric,
    Limits,
    PlainValue,
)


def minutes(count: int, canary: Arm, stable: Arm | None = None) -> list[Observation]:
    return steady(count * 6 + 1, canary, stable)


def test_memory_beyond_its_limit_is_found_in_minutes_and_never_passes() -> None:
    limited = spec(Limits(error_rate="1%", memory="512Mi"))
    big = arm(memory=600 * 2**20)
    found = verdicts(minutes(12, big, arm(4000, revision="old", memory=200 * 2**20)), limited)
    place = first(found, VerdictKind.ROLLBACK)
    assert place < 62
    assert found[place].blame == ("memory",)
    assert "memory of canary was" in found[place].reason
    assert VerdictKind.ADVANCE not in {verdict.kind for verdict in found}
    sick = verdicts(minutes(6, big, arm(4000, revision="old", memory=600 * 2**20)), limited)
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in sick}


def test_cpu_within_its_limit_passes() -> None:
    limited = spec(Limits(error_rate="1%", cpu="50%"))
    _, verdict = run(steady(31, arm(cpu=0.3), arm(4000, revision="old", cpu=0.28)), limited)
    assert verdict.kind is VerdictKind.ADVANCE
    assert verdict.evidence[-1].observed == pytest.approx(0.3)


def test_memory_that_will_reach_its_limit_while_the_rollout_lasts_is_no_pass() -> None:
    limited = spec(Limits(error_rate="1%", memory="512Mi"), minutes=8)
    story = [observe(n, arm(memory=(300 + 3 * n) * 2**20)) for n in range(60)]
    found = verdicts(story, limited)
    assert found[48].kind is VerdictKind.EXTEND
    assert "grows by" in found[48].reason
    calm = [observe(n, arm(memory=(300 + n // 12) * 2**20)) for n in range(49)]
    assert verdicts(calm, limited)[-1].kind is VerdictKind.ADVANCE


ORDERS = BusinessMetric(name="orders", counter="orders_total", min_per_request=0.1, max_per_request=1.5)


@pytest.mark.parametrize(("orders", "blamed"), [(20, True), (200, False), (1000, True), (1900, True)])
def test_business_metrics_in_both_directions(orders: int, *, blamed: bool) -> None:
    """200 per 1,000 requests is what stable does."""
    story = steady(31, arm(business={"orders": orders}), arm(4000, revision="old", business={"orders": 800}))
    found = verdicts(story, spec(business=(ORDERS,)))
    assert (VerdictKind.ROLLBACK in {verdict.kind for verdict in found}) is blamed
    if blamed:
        verdict = found[first(found, VerdictKind.ROLLBACK)]
        assert verdict.blame == ("business/orders",)
        assert "orders per request in" in verdict.reason
    else:
        assert found[-1].kind is VerdictKind.ADVANCE


def test_a_plain_value_is_judged_by_the_minute() -> None:
    rate = PlainValue(name="success", gauge="success_rate", minimum=0.95)
    good = verdicts(steady(31, arm(values={"success": 0.99})), spec(values=(rate,)))
    assert good[-1].kind is VerdictKind.ADVANCE
    bad = verdicts(steady(70, arm(values={"success": 0.5})), spec(values=(rate,)))
    assert bad[first(bad, VerdictKind.ROLLBACK)].blame == ("value/success",)
    assert VerdictKind.ADVANCE not in {verdict.kind for verdict in bad}
    unknown = verdicts(steady(31, arm(values={"success": math.nan})), spec(values=(rate,)))
    assert "nothing is known about success" in unknown[-1].reason
