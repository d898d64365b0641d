"""The statistical gate: what it convicts, what it doubts, what it takes as a pass, and what it says."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from tests.unit.judge_stories import (
    EDGES,
    ERRORS,
    PAST,
    START,
    TICK,
    arm,
    first,
    observe,
    run,
    spec,
    steady,
    verdicts,
)

from phoenix_orch.health_validator.findings import bound_of, quantile
from phoenix_orch.health_validator.judge import JudgeConfig, JudgeState, init, step
from phoenix_orch.health_validator.measures import Measure
from phoenix_orch.health_validator.observation import (
    Arm,
    Bound,
    Category,
    Tier,
    VerdictKind,
)
from phoenix_orch.rollout.spec import (
    Limits,
    Policy,
    Statistical,
)

# -- passing ---------------------------------------------------------------------------------------


def test_a_good_step_goes_on_and_is_then_left_with_its_limits_proven() -> None:
    found = verdicts(steady(31))
    assert {verdict.kind for verdict in found[:30]} == {VerdictKind.CONTINUE}
    assert found[29].reason == (
        "no evidence of a fault in 4m50s of 5m at 20 % traffic: 30,000 requests to canary, 0 % errors, "
        "p95 about 94.7 ms"
    )
    last = found[30]
    assert (last.kind, last.tier, last.requests) == (VerdictKind.ADVANCE, Tier.PROVEN, 31_000)
    assert last.reason.startswith("limits proven for 5m at 20 % traffic")
    assert last.e is not None
    assert last.e < 1
    errors, latency = last.evidence
    assert (errors.metric, errors.bad, errors.samples, errors.tier) == ("errorRate", 0, 31_000, Tier.PROVEN)
    assert errors.upper is not None
    assert errors.upper < 0.001
    assert errors.e_healthy is not None
    assert errors.e_healthy > 1000
    assert (latency.metric, latency.share_limit) == ("latencyP95", 0.05)


def test_what_is_made_without_validation_lacks_no_field() -> None:
    for made in run([observe(0)]):
        assert made.__dict__.keys() == type(made).model_fields.keys()


def test_fewer_requests_are_a_pass_when_five_times_the_limit_is_excluded() -> None:
    _, verdict = run(steady(31, arm(40)))
    assert (verdict.kind, verdict.tier) == (VerdictKind.ADVANCE, Tier.LIKELY)
    assert verdict.reason.startswith("within limits for 5m")


def test_a_step_that_needs_proof_waits_for_it_and_says_how_long() -> None:
    strict = spec(policy=Policy(bake="2m", statistical=Statistical(tier="proven", likely_factor=1)))
    found = verdicts(steady(31, arm(50)), strict)
    assert (found[-1].kind, found[-1].category) == (VerdictKind.EXTEND, Category.SAMPLE)
    assert found[-1].reason == (
        "5m are over, but 4,104 error-free requests are needed to prove 0.1 %, 1,550 so far, "
        "about 8 min at 5.17 requests/s; if that stays so, it goes on after 10m if nothing is wrong, as few "
        "requests can be lost then"
    )


def test_few_requests_extend_then_pass_when_little_can_be_lost() -> None:
    found = verdicts(steady(61, arm(2)), spec(ERRORS))
    assert found[30].kind is VerdictKind.EXTEND
    assert found[30].reason == (
        "5m are over, but 684 error-free requests are needed to exclude 0.5 % (5 times the 0.1 % allowed), "
        "62 so far, about 50 min at 0.207 requests/s; if that stays so, it goes on after 10m if nothing is "
        "wrong, as few requests can be lost then"
    )
    assert (found[60].kind, found[60].tier) == (VerdictKind.ADVANCE, Tier.THIN)
    assert found[60].reason.startswith("within limits as far as few requests can tell")


def test_what_may_be_lost_is_the_policys_or_the_phases_choice() -> None:
    careful = spec(ERRORS, policy=Policy(bake="2m", statistical=Statistical(budget=0)))
    found = verdicts(steady(95, arm(2)), careful)
    for early in (found[30], found[60]):
        assert early.reason.endswith(
            "; if that stays so, a person has to decide after 15m (onNoDecision: pause)"
        )
    assert (found[60].kind, found[60].category) == (VerdictKind.HOLD, Category.SAMPLE)
    assert (found[94].kind, found[94].category) == (VerdictKind.HOLD, Category.NO_DECISION)
    assert found[94].reason.endswith("; a person has to decide")
    phases = tuple(phase.model_copy(update={"budget": 25}) for phase in careful.phases)
    found = verdicts(steady(61, arm(2)), careful.model_copy(update={"phases": phases}))
    assert found[60].tier is Tier.THIN


@pytest.mark.parametrize(
    ("choice", "kind"),
    [("pause", VerdictKind.HOLD), ("rollback", VerdictKind.ROLLBACK), ("promote", VerdictKind.ADVANCE)],
)
def test_what_happens_without_a_decision_is_the_policys_choice(choice: str, kind: VerdictKind) -> None:
    policy = Policy(bake="2m", on_no_decision=choice, statistical=Statistical(budget=0))
    found = verdicts(steady(95, arm(2)), spec(ERRORS, policy=policy))
    assert found[94].kind is kind
    assert found[94].blame == ()


def test_a_phase_is_left_early_where_that_is_wanted_and_proven() -> None:
    early = spec(policy=Policy(bake="2m", early_advance=True))
    found = verdicts(steady(31), early)
    place = first(found, VerdictKind.ADVANCE)
    assert place == 6, "a minute at least, and 4,104 requests"
    assert found[place].tier is Tier.PROVEN
    phases = tuple(phase.model_copy(update={"early_advance": False}) for phase in early.phases)
    found = verdicts(steady(31), early.model_copy(update={"phases": phases}))
    assert first(found, VerdictKind.ADVANCE) == 30


def test_a_new_step_counts_anew_and_evidence_goes_on() -> None:
    state, before = run(steady(31))
    _, verdict = run([observe(31, place=1, weight=50)], state=state)
    assert (verdict.step, verdict.requests, verdict.observed_for) == (1, 1000, timedelta(0))
    assert verdict.e is not None
    assert before.e is not None
    assert verdict.e < 1


def test_other_limits_begin_anew() -> None:
    state, _ = run(steady(31))
    _, verdict = run([observe(31)], spec(Limits(error_rate="1%")), state)
    assert (verdict.kind, verdict.requests) == (VerdictKind.CONTINUE, 1000)


# -- convicting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("requests", [3, 25, 250])
def test_a_catastrophe_is_found_within_two_looks(requests: int) -> None:
    found = verdicts(steady(3, arm(requests, requests)))
    assert first(found, VerdictKind.ROLLBACK) <= 1
    assert found[-1].blame[0] == "errorRate"


def test_a_higher_error_rate_is_convicted_in_words_and_numbers() -> None:
    found = verdicts(steady(20, arm(1000, 4), arm(4000, 2, revision="old")))
    verdict = found[first(found, VerdictKind.ROLLBACK)]
    assert (verdict.category, verdict.blame) == (Category.EVIDENCE, ("errorRate",))
    assert verdict.e is not None
    assert verdict.e >= verdict.e_threshold == 100
    assert verdict.reason == (
        "canary failed 12 of 3,000 requests = 0.4 % (95 % interval 0.13-0.91 %, limit 0.1 %); stable failed "
        "0.05 % in the same minutes, at 20 % traffic. If the version were as good as it has to be, "
        "evidence this strong (175 : 1) would appear in fewer than 1 of 170"
        " rollouts; blamed: error rate against stable, error rate against limit"
    )


FEW = [observe(0, arm(3, 1), arm(400, revision="old")), observe(1, arm(4, 2), arm(400, revision="old"))]


def test_an_interval_that_tells_less_than_the_evidence_is_left_out() -> None:
    """It is made for shares near the limit: of few requests it holds the limit that the evidence excludes."""
    _, verdict = run(FEW)
    (errors, *_) = verdict.evidence
    assert verdict.kind is VerdictKind.ROLLBACK
    assert "limit" in errors.blamed
    assert errors.lower is not None
    assert errors.lower < 0.001
    assert verdict.reason.startswith(
        "canary failed 3 of 7 requests = 42.9 % (limit 0.1 %); stable failed 0 %"
    )


def test_a_canary_worse_than_stable_within_its_limits_is_convicted_too() -> None:
    loose = spec(Limits(error_rate="5%"))
    story = steady(60, arm(1000, 10), arm(4000, 4, revision="old"))
    found = verdicts(story, loose)
    assert first(found, VerdictKind.ROLLBACK) < 6
    held = spec(Limits(error_rate="5%"), policy=Policy(on_relative_regression="hold"))
    found = verdicts(story, held)
    place = first(found, VerdictKind.HOLD)
    assert (found[place].category, found[place].blame) == (Category.REGRESSION, ())
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found}


def test_a_difference_too_small_to_matter_convicts_nobody() -> None:
    story = steady(31, arm(100_000, 15), arm(400_000, 20, revision="old"))
    found = verdicts(story, spec(Limits(error_rate="5%")))
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found}
    assert (found[-1].evidence[0].e_stable or 0) > 1e4


def test_single_errors_convict_nobody() -> None:
    story = [observe(0), observe(1, arm(20, 2)), *(observe(number, arm(20)) for number in range(2, 12))]
    assert {verdict.kind for verdict in verdicts(story)} == {VerdictKind.CONTINUE}


def test_latency_beyond_the_limit_and_latency_worse_than_stable() -> None:
    found = verdicts(steady(20, arm(1000, slow=90)))
    verdict = found[first(found, VerdictKind.ROLLBACK)]
    assert verdict.blame == ("latencyP95",)
    assert verdict.reason.startswith(
        "canary is slower than stable: 9 % of its 1,000 requests took longer than"
    )
    alone = verdicts(steady(20, arm(1000, slow=150), alone=True))
    verdict = alone[first(alone, VerdictKind.ROLLBACK)]
    assert verdict.reason.startswith(
        "150 of 1,000 requests to canary took longer than 100 ms = 15 % (95 % inter"
    )


@pytest.mark.parametrize(("bad", "words"), [({"slow": 300}, "took longer"), ({"errors": 300}, "failed")])
def test_at_full_weight_there_is_nothing_to_compare_with(bad: dict[str, int], words: str) -> None:
    """The observation in which the weight rose still has requests to stable."""
    before = [observe(number, weight=50, place=1) for number in range(12)]
    rose = observe(12, weight=100, place=2, stable=arm(300, slow=0, revision="old"))
    after = [
        observe(number, arm(1000, **bad), arm(0, revision="old"), weight=100, place=2)
        for number in range(13, 20)
    ]
    found = verdicts([*before, rose, *after])
    verdict = found[first(found, VerdictKind.ROLLBACK)]
    assert words in verdict.reason
    assert "; stable gets no requests to compare with, at 100 % traffic" in verdict.reason
    assert "same minutes" not in verdict.reason
    assert {(item.stable, item.stable_samples, item.slower) for item in verdict.evidence} == {(None, 0, None)}


def test_latency_of_new_processes_is_not_counted_at_first() -> None:
    found = verdicts(steady(20, arm(1000, slow=900)))
    assert first(found, VerdictKind.ROLLBACK) == 3, "30 s are not looked at"
    assert found[2].evidence[1].samples == 0
    impatient = spec(policy=Policy(statistical=Statistical(warm_up="0s")))
    assert first(verdicts(steady(20, arm(1000, slow=900)), impatient), VerdictKind.ROLLBACK) == 0


def test_a_tenth_slower_is_tolerated() -> None:
    found = verdicts(steady(31, arm(10_000, factor=1.1)))
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found}


def test_requests_well_within_the_limit_are_quick_however_quick_those_of_stable_are() -> None:
    """Some 40 ms come and go with the share of the traffic, as with acknowledgements that are delayed."""

    def served(revision: str, quick: int, slower: int) -> Arm:
        counts = dict.fromkeys(EDGES, 0) | {0.01: quick, 0.05: slower}
        return Arm(revision=revision, requests=quick + slower, buckets=tuple(counts.items()), processes=1)

    mine, theirs = served("new", 650, 350), served("old", 3800, 200)
    found = verdicts(steady(31, mine, theirs), spec(Limits(latency_p95="100ms")))
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found}
    strict = Policy(statistical=Statistical(latency_floor=0.25))
    found = verdicts(steady(31, mine, theirs), spec(Limits(latency_p95="100ms"), policy=strict))
    assert "took longer than 25 ms" in found[first(found, VerdictKind.ROLLBACK)].reason


def test_a_limit_inside_a_bucket_convicts_only_what_is_certainly_slower() -> None:
    inside = spec(Limits(latency_p95="150ms"))
    known = PAST.model_copy(update={"slower": (1.0, 1.0, 0.99, 0.9, 0.001, 0.0002)})
    both = steady(62, arm(1000, slow=200), arm(4000, slow=800, revision="old"))
    found = verdicts(both, inside, history=known)
    assert found[30].kind is VerdictKind.EXTEND
    assert found[30].reason == (
        "5m are over, but the histogram cannot tell whether latency p95 is within 150 ms: make that an edge; "
        "if that stays so, a person has to decide after 15m (onNoDecision: pause)"
    )
    assert VerdictKind.ADVANCE not in {verdict.kind for verdict in found}
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found}


def test_a_rollback_stands_and_its_state_is_small() -> None:
    state, verdict = run(steady(8, arm(1000, 600)))
    assert verdict.kind is VerdictKind.ROLLBACK
    assert state.books is None
    assert len(state.model_dump_json()) < 4096
    again = JudgeState.model_validate_json(state.model_dump_json())
    _, repeated = run([observe(9)], state=again)
    assert repeated == verdict.model_copy(update={"at": START + 10 * TICK})


def test_the_gate_takes_back_what_is_clearly_beyond_its_limit_at_the_end() -> None:
    """Too few for strong evidence, too many for chance; stable is within the limit."""
    story = [
        observe(n, arm(100, int(n % 6 == 3)), arm(400, int(n % 15 == 0), revision="old")) for n in range(61)
    ]
    quiet = spec(policy=Policy(bake="2m", statistical=Statistical(alpha=1e-6)))
    found = verdicts(story, quiet)
    assert found[29].kind is VerdictKind.CONTINUE
    assert (found[30].kind, found[30].category) == (VerdictKind.EXTEND, Category.SAMPLE)
    assert "beyond its limit by no more than chance" in found[30].reason
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found[:60]}
    assert (found[-1].kind, found[-1].category) == (VerdictKind.ROLLBACK, Category.GATE)
    assert found[-1].blame == ("errorRate",)
    assert "standard errors beyond the limit" in found[-1].reason


def counted(bad: float, total: float, limit: float, spread: float, *, at_least: bool = False) -> Measure:
    return Measure(
        "m", "m", bad, bad, total, limit, 0, 0, dispersion=spread, width=spread, rate=at_least,
        at_least=at_least,
    )  # fmt: skip


def test_chance_is_told_by_the_exact_tail_of_few_events() -> None:
    assert counted(4, 1500, 0.001, 1.0).z() > 2
    assert counted(4, 1500, 0.001, 1.0).chance() == pytest.approx(0.0656, abs=1e-4)
    assert counted(40, 15_000, 0.001, 10.0).chance() == counted(4, 1500, 0.001, 1.0).chance()
    assert counted(0, 10, 0.5, 1.0, at_least=True).chance() == pytest.approx(math.exp(-5))
    assert counted(0, 0, 0.5, 1.0, at_least=True).chance() == 1.0
    assert counted(1, 0, 0.5, 1.0).chance() == 0.0


@pytest.mark.parametrize(("spread", "kind"), [(1.0, VerdictKind.ROLLBACK), (12.0, VerdictKind.HOLD)])
def test_a_few_clusters_are_no_clear_miss_after_the_extension_either(
    spread: float, kind: VerdictKind
) -> None:
    """18 errors where 6 are allowed; of clusters of twelve those are one or two where half of one is."""
    story = [
        observe(n, arm(100, 9 * (n in {20, 50})), arm(400, int(n % 15 == 0), revision="old"))
        for n in range(62)
    ]
    past = PAST.model_copy(update={"dispersion": spread})
    wide = spec(policy=Policy(statistical=Statistical(alpha=1e-9)))
    assert verdicts(story, wide, history=past)[-1].kind is kind


# -- the point rule beside it ----------------------------------------------------------------------


def test_every_verdict_says_what_a_point_rule_would_have_done() -> None:
    story = [observe(n, arm(100, 1 if n == 8 else 0)) for n in range(31)]
    found = verdicts(story)
    before, after = found[7].counterfactual, found[-1].counterfactual
    assert before is not None
    assert (before.kind, before.sentence) == (
        VerdictKind.CONTINUE,
        "a one-minute point rule would have gone on",
    )
    assert after is not None
    assert (after.kind, after.at) == (VerdictKind.ROLLBACK, START + 9 * TICK)
    assert after.sentence == (
        "a one-minute point rule would have rolled back after 1m30s: 1 of 600 requests failed"
    )
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found}
    good = verdicts(steady(31))[-1].counterfactual
    assert good is not None
    assert good.kind is VerdictKind.ADVANCE


# -- time and state --------------------------------------------------------------------------------


def test_without_detail_the_decision_is_the_same() -> None:
    config = JudgeConfig.of(spec())
    for canary in (arm(), arm(1000, 4), arm(1000, slow=90)):
        full = short = init(config, "new", history=PAST)
        for seen in steady(31, canary):
            full, first_ = step(config, full, seen)
            short, second = step(config, short, seen, detail=False)
            assert second.model_copy(update={"evidence": first_.evidence}) == first_
            assert full == short


def test_a_stored_state_of_the_version_before_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        JudgeState.model_validate_json('{"version":1,"revision":"new"}')
    with pytest.raises(ValueError, match="books"):
        JudgeState.model_validate_json('{"version":2,"revision":"new","books":{"stakes":"x"}}')


def test_a_billion_requests_are_judged_without_trouble() -> None:
    huge, rest = arm(10**9, 10**5), arm(4 * 10**9, 4 * 10**5, revision="old")
    found = verdicts(steady(31, huge, rest))
    assert found[-1].kind is VerdictKind.ADVANCE
    broken = verdicts(steady(3, arm(10**9, 10**8), rest))
    assert broken[-1].kind is VerdictKind.ROLLBACK


def test_a_latency_below_the_first_edge_or_beyond_the_last_is_a_bound() -> None:
    quick = Arm(revision="new", requests=1000, buckets=((0.01, 1000), (0.2, 0), (math.inf, 0)))
    _, verdict = run(steady(31, quick, quick.model_copy(update={"revision": "old"})))
    latency = next(item for item in verdict.evidence if item.metric == "latencyP95")
    assert latency.bound is Bound.AT_MOST
    assert latency.stable_bound is Bound.AT_MOST
    found = (100, 0, 0, 100, 0, 0, 0, 0, 40, 20)
    edges = (0.1, 0.2)
    assert quantile(found, edges, 0.95) == 0.2
    assert bound_of(found, edges, 0.95) is Bound.AT_LEAST
    assert bound_of((*found[:8], 40, 0), edges, 0.95) is None
    assert bound_of((0,) * 10, edges, 0.95) is None
