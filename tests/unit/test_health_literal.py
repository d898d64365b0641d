"""The literal judge: what it convicts, what it doubts, and what it takes as a pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phoenix_orch.health_validator.judge import JudgeConfig, JudgeState, init, step
from phoenix_orch.health_validator.observation import Arm, Observation, Quality, Verdict, VerdictKind
from phoenix_orch.rollout.spec import BusinessMetric, Evidence, Limits, Phase, Policy, RolloutSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=10)


def spec(*, limits: Limits | None = None, policy: Policy | None = None, **evidence: Any) -> RolloutSpec:
    given = limits or Limits(error_rate="1%", latency_p95="100ms")
    return RolloutSpec(
        phases=(
            Phase(name="first", weight=20, duration="1m", limits=given),
            Phase(name="second", weight=50, duration="1m", limits=given),
        ),
        policy=policy or Policy(bake="2m", gate="literal"),
        evidence=Evidence(**evidence),
    )


def arm(requests: int = 100, errors: int = 0, *, slow: int = 0, revision: str = "new", **more: Any) -> Arm:
    buckets = ((0.05, requests - slow), (0.1, 0), (0.2, slow), (math.inf, 0)) if requests else ()
    return Arm(revision=revision, requests=requests, errors=errors, buckets=buckets, **more)


def observe(
    number: int,
    canary: Arm | None = None,
    *,
    stable: int | None = None,
    weight: int = 20,
    place: int = 0,
    notes: tuple[str, ...] = (),
) -> Observation:
    """The interval from tick `number` to the next one; stable gets what the weight leaves over."""
    canary = canary or arm()
    left = round(canary.requests * (100 - weight) / weight) if stable is None and weight else stable or 0
    return Observation(
        t0=START + number * TICK,
        t1=START + (number + 1) * TICK,
        revision=canary.revision,
        step=place,
        weight_applied=weight,
        canary=canary,
        stable=arm(left, revision="old"),
        notes=notes,
    )


def judged(
    observations: Iterable[Observation], of: RolloutSpec | None = None, state: JudgeState | None = None
) -> tuple[JudgeState, Verdict]:
    config = JudgeConfig.of(of or spec())
    state = state or init(config, "new")
    verdict = None
    for observation in observations:
        state, verdict = step(config, state, observation)
    assert verdict is not None
    return state, verdict


def after_a_minute(canary: Arm | None = None, **more: Any) -> list[Observation]:
    """Seven intervals: the first finds the weight, six are observed."""
    return [observe(number, canary, **more) for number in range(7)]


# -- passing ---------------------------------------------------------------------------------------


def test_a_healthy_step_goes_on_and_then_advances() -> None:
    state, verdict = judged(after_a_minute()[:6])
    assert verdict.kind is VerdictKind.CONTINUE
    assert verdict.observed_for == timedelta(seconds=50)
    assert verdict.reason == (
        "within limits for 50s of 1m at 20 % traffic: 600 requests to canary, 0 % errors, p95 about 47.5 ms"
    )
    _, verdict = judged(after_a_minute()[6:], state=state)
    assert verdict.kind is VerdictKind.ADVANCE
    assert verdict.requests == 700
    assert verdict.at == START + 7 * TICK


def test_the_first_interval_does_not_count_because_the_weight_before_it_is_unknown() -> None:
    _, verdict = judged([observe(0)])
    assert verdict.observed_for == timedelta(0)
    assert verdict.requests == 100


def test_time_counts_only_at_the_weight_of_the_step() -> None:
    story = [
        observe(0, weight=0, stable=400),
        observe(1),
        observe(2),
        observe(3, weight=5),
        observe(4),
        observe(5),
    ]
    _, verdict = judged(story)
    assert verdict.observed_for == timedelta(seconds=20)  # interval 2 and interval 5


def test_a_new_step_counts_anew() -> None:
    state, _ = judged(after_a_minute())
    _, verdict = judged([observe(7, weight=50, place=1), observe(8, weight=50, place=1)], state=state)
    assert (verdict.step, verdict.requests) == (1, 200)
    assert verdict.observed_for == TICK


def test_a_new_revision_counts_anew() -> None:
    state, _ = judged(after_a_minute())
    state, verdict = judged([observe(7, arm(revision="newer"))], state=state)
    assert (verdict.revision, verdict.requests, verdict.kind) == ("newer", 100, VerdictKind.CONTINUE)
    assert state.revision == "newer"


def test_changed_limits_count_anew() -> None:
    state, _ = judged(after_a_minute())
    stricter = spec(limits=Limits(error_rate="0.1%"))
    _, verdict = judged([observe(7)], stricter, state)
    assert (verdict.kind, verdict.requests) == (VerdictKind.CONTINUE, 100)


def test_the_bake_is_a_last_step_under_the_last_limits() -> None:
    baking = [observe(number, weight=100, place=2, stable=0) for number in range(13)]
    _, verdict = judged(baking[:12])
    assert verdict.kind is VerdictKind.CONTINUE
    _, verdict = judged(baking)
    assert verdict.kind is VerdictKind.ADVANCE
    _, verdict = judged([observe(0, arm(100, 2), weight=100, place=2, stable=0)])
    assert verdict.kind is VerdictKind.ROLLBACK
    assert verdict.reason == (
        "the new revision answered 2 of 100 requests with 5xx = 2 %, limit 1 %, "
        "in the last 10s at 100 % traffic"
    )


# -- convicting ------------------------------------------------------------------------------------


def test_errors_above_the_limit() -> None:
    _, verdict = judged([observe(0), observe(1, arm(412, 37))])
    assert verdict.kind is VerdictKind.ROLLBACK
    assert verdict.blame == ("errorRate",)
    assert verdict.reason == (
        "canary answered 37 of 512 requests with 5xx = 7.23 %, limit 1 %, "
        "in the last 20s at 20 % traffic; stable 0 %"
    )


def sick(number: int, *, canary: int, stable: int) -> Observation:
    """Errors of both variants in one interval: the canary's of 100, stable's of 400 requests."""
    seen = observe(number, arm(100, canary))
    return seen.model_copy(update={"stable": arm(400, stable, revision="old")})


def test_a_limit_that_stable_breaks_as_badly_holds_instead_of_blaming_the_version() -> None:
    _, verdict = judged([sick(0, canary=0, stable=0), sick(1, canary=10, stable=30)])
    assert verdict.kind is VerdictKind.HOLD
    assert verdict.reason.startswith("environment: error rate of stable is beyond the limit as well")


def test_a_canary_much_worse_than_a_sick_stable_is_taken_back() -> None:
    _, verdict = judged([sick(0, canary=0, stable=0), sick(1, canary=70, stable=30)])
    assert verdict.kind is VerdictKind.ROLLBACK


def test_an_environment_that_recovers_never_lets_the_sick_minutes_pass_as_good() -> None:
    sickness = [sick(number, canary=10, stable=40) for number in range(7)]
    _, verdict = judged([*sickness, *(observe(number) for number in range(7, 14))])
    assert verdict.kind is VerdictKind.HOLD, "the step as a whole is still beyond its limit"


def test_exactly_the_limit_is_within_it() -> None:
    _, verdict = judged([observe(0, arm(100, 1, slow=5))])
    assert verdict.kind is VerdictKind.CONTINUE


def test_one_slow_request_more_than_a_twentieth_is_a_p95_above_the_limit() -> None:
    _, verdict = judged([observe(0, arm(100, slow=6))])
    assert verdict.kind is VerdictKind.ROLLBACK
    assert verdict.blame == ("latencyP95",)
    assert verdict.reason == (
        "6 of 100 requests to canary took longer than 100 ms = 6 %; p95 is about 117 ms, limit 100 ms, "
        "in the last 10s at 20 % traffic; stable 47.5 ms"
    )


def test_p99_has_its_own_limit() -> None:
    limited = spec(limits=Limits(latency_p99="100ms"))
    _, verdict = judged([observe(0, arm(100, slow=1))], limited)
    assert verdict.kind is VerdictKind.CONTINUE
    _, verdict = judged([observe(0, arm(100, slow=2))], limited)
    assert (verdict.kind, verdict.blame) == (VerdictKind.ROLLBACK, ("latencyP99",))


def test_a_limit_inside_a_bucket_convicts_only_what_is_certainly_slower() -> None:
    limited = spec(limits=Limits(latency_p95="150ms"))
    _, verdict = judged([observe(0, arm(100, slow=100))], limited)  # all between 100 and 200 ms
    assert verdict.kind is VerdictKind.CONTINUE
    _, verdict = judged(after_a_minute(arm(100, slow=100)), limited)
    assert verdict.kind is VerdictKind.EXTEND
    assert verdict.reason == (
        "1m are over, but the histogram cannot tell whether latency p95 is within 150 ms: make that an edge"
    )


def test_all_failing_from_the_first_interval() -> None:
    _, verdict = judged([observe(0, arm(10, 10))])
    assert verdict.kind is VerdictKind.ROLLBACK
    assert verdict.reason.startswith("canary answered 10 of 10 requests with 5xx = 100 %, limit 1 %")


def test_too_few_requests_convict_nobody() -> None:
    _, verdict = judged([observe(0, arm(9, 9))])
    assert verdict.kind is VerdictKind.CONTINUE
    assert verdict.evidence[0].observed == 1.0
    assert not verdict.evidence[0].breached


def test_few_errors_add_up_over_the_step() -> None:
    """Never ten requests in the window, but enough of them, all failed, when the step ends."""
    rare = [observe(number, arm(1 if number % 6 == 0 else 0, number % 6 == 0)) for number in range(70)]
    long = spec().model_copy(
        update={"phases": (Phase(name="first", weight=20, duration="10m", limits=Limits(error_rate="1%")),)}
    )
    _, verdict = judged(rare[:60], long)
    assert verdict.kind is VerdictKind.CONTINUE
    _, verdict = judged(rare, long)
    assert verdict.kind is VerdictKind.ROLLBACK
    assert "answered 11 of 11 requests with 5xx = 100 %" in verdict.reason


def test_the_window_forgets_what_is_older() -> None:
    """1.4 % errors in the first minute are diluted by the whole step, not seen by a later window."""
    tolerant = spec(policy=Policy(on_failure="pause", gate="literal"))
    _, first = judged([observe(0, arm(100, 2))], tolerant)
    assert first.kind is VerdictKind.ROLLBACK
    _, later = judged([observe(0, arm(100, 2)), *[observe(n) for n in range(1, 7)]], tolerant)
    assert later.evidence[0].observed == 2 / 700  # at the end the whole step is shown
    recent = [observe(0, arm(100, 2)), *[observe(n, arm(10)) for n in range(1, 6)]]
    _, inside = judged(recent, tolerant)
    assert inside.kind is VerdictKind.ROLLBACK
    _, outside = judged([*recent, observe(6, arm(10), weight=5)], tolerant)
    assert outside.evidence[0].observed == 0.0


def test_a_rollback_stands_for_the_release() -> None:
    state, _ = judged([observe(0, arm(100, 50))])
    state, verdict = judged([observe(number) for number in range(1, 20)], state=state)
    assert verdict.kind is VerdictKind.ROLLBACK
    assert "answered 50 of 100 requests" in verdict.reason
    assert verdict.at == START + 20 * TICK
    config = JudgeConfig.of(spec())
    again = init(config, "new", release=state.release + 1)
    assert step(config, again, observe(20))[1].kind is VerdictKind.CONTINUE


def test_a_policy_that_pauses_lets_a_cured_canary_go_on() -> None:
    pausing = spec(policy=Policy(on_failure="pause", gate="literal"))
    long = pausing.model_copy(
        update={"phases": (Phase(name="first", weight=20, duration="10m", limits=Limits(error_rate="1%")),)}
    )
    state, verdict = judged([observe(0, arm(100, 50))], long)
    assert verdict.kind is VerdictKind.ROLLBACK
    _, verdict = judged([observe(number) for number in range(1, 8)], long, state)
    assert verdict.kind is VerdictKind.CONTINUE


def test_the_worst_metric_is_blamed_first() -> None:
    _, verdict = judged([observe(0, arm(100, 50, slow=90))])
    assert verdict.blame == ("errorRate", "latencyP95")
    assert verdict.reason.endswith("; also beyond its limit: latency p95")


# -- resources and business ------------------------------------------------------------------------


def test_memory_needs_no_requests() -> None:
    limited = spec(limits=Limits(memory="512Mi"))
    _, verdict = judged([observe(0, arm(0, memory=600 * 1024**2), stable=10)], limited)
    assert verdict.kind is VerdictKind.ROLLBACK
    assert verdict.reason == (
        "canary grew to 600 MiB in one process, limit 512 MiB, in the last 10s at 20 % traffic"
    )


def test_cpu_is_averaged_over_half_a_window_at_least() -> None:
    limited = spec(limits=Limits(cpu="50%"))
    _, verdict = judged([observe(0, arm(cpu=1.0)), observe(1, arm(cpu=1.0))], limited)
    assert verdict.kind is VerdictKind.CONTINUE  # a start may be busy
    _, verdict = judged([observe(n, arm(cpu=0.9 if n < 2 else 0.0)) for n in range(3)], limited)
    assert verdict.blame == ("cpu",)
    assert "used 60 % of the machine's cores in one process, limit 50 %" in verdict.reason


@pytest.mark.parametrize(
    ("orders", "blamed"),
    [(1, True), (1.99, True), (2, False), (2.5, False), (50, False), (51, True)],
)
def test_business_metrics_are_judged_in_both_directions(orders: float, *, blamed: bool) -> None:
    metric = BusinessMetric(name="orders", counter="orders_total", min_per_request=0.02, max_per_request=0.5)
    _, verdict = judged([observe(0, arm(business={"orders": orders}))], spec(business=(metric,)))
    assert (verdict.kind is VerdictKind.ROLLBACK) is blamed
    if orders == 1:
        assert "canary had 0.01 orders per request in 100 requests, at least 0.02 wanted" in verdict.reason
    if orders == 51:
        assert "canary had 0.51 orders per request in 100 requests, at most 0.5 wanted" in verdict.reason


def test_many_small_fractions_add_up_to_what_they_are() -> None:
    metric = BusinessMetric(name="turnover", counter="turnover_total", min_per_request=0.001)
    _, verdict = judged(
        [observe(n, arm(business={"turnover": 0.1})) for n in range(3)], spec(business=(metric,))
    )
    (found,) = [item for item in verdict.evidence if item.metric == "business/turnover"]
    assert found.observed == 0.3 / 300


def test_a_business_counter_that_was_not_read_neither_convicts_nor_passes() -> None:
    metric = BusinessMetric(name="orders", counter="orders_total", min_per_request=0.02)
    _, verdict = judged(after_a_minute(), spec(business=(metric,)))
    assert verdict.kind is VerdictKind.EXTEND
    assert verdict.reason == "1m are over, but nothing is known about orders per request, which has a limit"


# -- doubting --------------------------------------------------------------------------------------


def test_too_few_requests_extend_and_say_how_many_are_missing() -> None:
    story = [observe(0, arm(4)), *[observe(number, arm(0), stable=1) for number in range(1, 7)]]
    _, verdict = judged(story)
    assert verdict.kind is VerdictKind.EXTEND
    assert verdict.reason == "1m are over, but canary got 4 of the 10 requests needed: 6 more"


def test_a_limit_without_numbers_extends() -> None:
    _, verdict = judged(after_a_minute(), spec(limits=Limits(memory="1Gi")))
    assert (verdict.kind, verdict.reason) == (
        VerdictKind.EXTEND,
        "1m are over, but nothing is known about memory, which has a limit",
    )
    bare = Arm(revision="new", requests=100)
    _, verdict = judged(after_a_minute(bare))
    assert verdict.reason == "1m are over, but nothing is known about latency p95, which has a limit"


@pytest.mark.parametrize(
    ("quality", "reason"),
    [
        (Quality.GAP, "no answer from the source of evidence about canary (connection refused)"),
        (
            Quality.STALE,
            "the counters of canary stand still although requests are expected (connection refused)",
        ),
        (Quality.PARTIAL, "not every process of canary answered (connection refused)"),
    ],
)
def test_bad_quality_holds_even_when_all_else_is_well(quality: Quality, reason: str) -> None:
    story = [*after_a_minute(), observe(7, arm(quality=quality), notes=("connection refused",))]
    _, verdict = judged(story)
    assert (verdict.kind, verdict.reason) == (VerdictKind.HOLD, reason)
    assert verdict.observed_for == timedelta(minutes=1)  # its time is not counted


def test_the_numbers_of_a_gap_mean_nothing() -> None:
    state, verdict = judged([observe(0, arm(100, 100, quality=Quality.GAP))])
    assert (verdict.kind, verdict.requests) == (VerdictKind.HOLD, 0)
    assert state.tally.window == ()


def test_merged_numbers_convict_but_their_time_does_not_count() -> None:
    state, verdict = judged([observe(0), observe(1, arm(quality=Quality.MERGED))])
    assert (verdict.kind, verdict.requests, verdict.observed_for) == (
        VerdictKind.CONTINUE,
        200,
        timedelta(0),
    )
    _, verdict = judged([observe(2, arm(300, 60, quality=Quality.MERGED))], state=state)
    assert verdict.kind is VerdictKind.ROLLBACK


def test_downtime_of_phoenix_is_not_observed() -> None:
    state, _ = judged(after_a_minute()[:3])
    late = observe(3).model_copy(update={"t1": START + timedelta(hours=1)})
    _, verdict = judged([late], state=state)
    assert (verdict.kind, verdict.observed_for) == (VerdictKind.CONTINUE, timedelta(seconds=20))
    hole = observe(100)
    _, verdict = judged([hole], state=state)
    assert verdict.observed_for == timedelta(seconds=20)


def test_another_weight_on_the_data_plane_is_waited_for() -> None:
    _, verdict = judged([*after_a_minute(), observe(7, weight=50)])
    assert verdict.kind is VerdictKind.CONTINUE
    assert verdict.reason == "waiting for 20 % on the data plane, which sends 50 %"
    _, verdict = judged([*after_a_minute(), observe(7, arm(100, 90), weight=50)])
    assert verdict.kind is VerdictKind.ROLLBACK


def test_no_requests_although_they_were_expected_is_a_routing_fault() -> None:
    story = [observe(number, arm(0), stable=40) for number in range(4)]
    _, verdict = judged(story[:3])
    assert verdict.kind is VerdictKind.CONTINUE  # 16 were to be expected in the observed time
    _, verdict = judged(story)
    assert verdict.kind is VerdictKind.HOLD
    assert verdict.reason == "routing: canary got none of 120 requests, about 24 were expected at 20 %"


@pytest.mark.parametrize(("canary", "held"), [(9, True), (10, False), (40, False), (41, True)])
def test_a_share_far_from_the_weight_is_a_routing_fault(canary: int, *, held: bool) -> None:
    story = [observe(0), observe(1, arm(canary), stable=100 - canary)]
    _, verdict = judged(story)
    assert (verdict.kind is VerdictKind.HOLD) is held
    if canary == 9:
        assert verdict.reason == "routing: canary got 9 of 100 requests = 9 %, 20 % were to be expected"


def test_at_full_weight_requests_to_stable_are_a_routing_fault() -> None:
    lost = [observe(number, arm(0), weight=100, place=2, stable=20) for number in range(2)]
    _, verdict = judged(lost)
    assert verdict.kind is VerdictKind.HOLD
    assert verdict.reason.startswith("routing: the new revision gets no requests")


# -- order and time --------------------------------------------------------------------------------


def test_an_observation_twice_or_out_of_order_changes_nothing() -> None:
    story = after_a_minute()
    state, verdict = judged(story)
    for late in (story[6], story[2], observe(3, arm(100, 100), weight=50, place=1)):
        again, repeated = judged([late], state=state)
        assert again == state
        assert repeated == verdict


def test_overlapping_observations_count_no_time_twice() -> None:
    story = [observe(0), observe(1), observe(2)]
    overlap = observe(3).model_copy(update={"t0": START + TICK})
    _, verdict = judged([*story, overlap])
    assert verdict.observed_for == timedelta(seconds=30)


def test_a_changed_histogram_layout_keeps_counting() -> None:
    other = Arm(revision="new", requests=100, buckets=((0.1, 90), (0.3, 10), (math.inf, 0)))
    state, verdict = judged([observe(0), observe(1, other), observe(2)])
    assert state.tally.edges == (0.1,)
    assert verdict.evidence[1].samples == 300
    strange = Arm(revision="new", requests=100, buckets=((0.07, 100), (math.inf, 0)))
    state, verdict = judged([observe(3, strange), observe(4)], state=state)
    assert state.tally.edges == ()
    assert verdict.evidence[1].observed is None  # nothing can be estimated any more
    assert verdict.evidence[1].samples == 500


def test_a_longer_real_interval_widens_the_window() -> None:
    config = JudgeConfig.of(spec(), interval=timedelta(minutes=3))
    assert (config.interval, config.window) == (timedelta(minutes=3), timedelta(minutes=3))
    assert JudgeConfig.of(spec()).interval == TICK


def test_values_on_too_few_requests_are_not_called_within_limits() -> None:
    _, verdict = judged(observe(number, arm(2, 1), stable=8) for number in range(4))
    assert verdict.kind is VerdictKind.CONTINUE
    assert "within limits" not in verdict.reason
    assert verdict.reason.startswith("too few requests to judge, 8 of the 10 needed, in 30s of 1m")
