"""The statistical gate: what it convicts, what it doubts, what it takes as a pass, and what it says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phoenix_orch.health_validator.findings import bound_of, quantile
from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.judge import JudgeConfig, JudgeState, init, step
from phoenix_orch.health_validator.measures import Measure
from phoenix_orch.health_validator.observation import (
    Arm,
    Bound,
    Category,
    Observation,
    Quality,
    Tier,
    Verdict,
    VerdictKind,
)
from phoenix_orch.rollout.spec import (
    BusinessMetric,
    Evidence,
    Limits,
    Phase,
    PlainValue,
    Policy,
    RolloutSpec,
    Statistical,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=10)
EDGES = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, math.inf)
PAST = History(
    windows=180,
    requests=10**6,
    errors=400,
    dispersion=1.0,
    edges=(0.01, 0.025, 0.05, 0.1, 0.2, 0.4),
    slower=(0.99, 0.8, 0.4, 0.02, 0.001, 0.0002),
    spread=(1.25,) * 6,
)


def spec(
    limits: Limits | None = None, *, minutes: int = 5, policy: Policy | None = None, **evidence: Any
) -> RolloutSpec:
    given = limits or Limits(error_rate="0.1%", latency_p95="100ms")
    return RolloutSpec(
        phases=(
            Phase(name="first", weight=20, duration=f"{minutes}m", limits=given),
            Phase(name="second", weight=50, duration=f"{minutes}m", limits=given),
        ),
        policy=policy or Policy(bake="2m"),
        evidence=Evidence(**evidence),
    )


def arm(
    requests: int = 1000,
    errors: int = 0,
    *,
    slow: int | None = None,
    factor: float = 1.0,
    revision: str = "new",
    **more: Any,
) -> Arm:
    """Latency as in PAST: 2 % slower than 100 ms; or `slow` of them; or everything `factor` times as slow."""
    shares = [PAST._slower(edge / factor) or 1.0 for edge in PAST.edges]
    above = [round(requests * share) for share in shares]
    if slow is not None:
        above = [*above[:3], slow, slow // 4, 0]
        above[2] = max(above[2], slow)
    counts = [a - b for a, b in zip([requests, *above], [*above, 0], strict=True)]
    buckets = tuple(zip(EDGES, counts, strict=True))
    return Arm(revision=revision, requests=requests, errors=errors, buckets=buckets, processes=1, **more)


def observe(
    number: int,
    canary: Arm | None = None,
    stable: Arm | None = None,
    *,
    weight: int = 20,
    place: int = 0,
    alone: bool = False,
    **more: Any,
) -> Observation:
    canary = canary or arm()
    left = round(canary.requests * (100 - weight) / weight)
    return Observation(
        t0=START + number * TICK,
        t1=START + (number + 1) * TICK,
        revision=canary.revision,
        step=place,
        weight_applied=weight,
        canary=canary,
        stable=None if alone else stable or arm(left, revision="old"),
        **more,
    )


def run(
    story: Iterable[Observation],
    of: RolloutSpec | None = None,
    state: JudgeState | None = None,
    history: History | None = PAST,
) -> tuple[JudgeState, Verdict]:
    config = JudgeConfig.of(of or spec())
    state = state or init(config, "new", history=history)
    verdict = None
    for seen in story:
        state, verdict = step(config, state, seen)
    assert verdict is not None
    return state, verdict


ERRORS = Limits(error_rate="0.1%")


def steady(
    count: int, canary: Arm | None = None, stable: Arm | None = None, **more: Any
) -> list[Observation]:
    return [observe(number, canary, stable, **more) for number in range(count)]


def verdicts(story: Iterable[Observation], of: RolloutSpec | None = None, **more: Any) -> list[Verdict]:
    config = JudgeConfig.of(of or spec())
    state, found = init(config, "new", history=more.get("history", PAST)), []
    for seen in story:
        state, verdict = step(config, state, seen)
        found.append(verdict)
    return found


def first(found: list[Verdict], kind: VerdictKind) -> int:
    return next(number for number, verdict in enumerate(found) if verdict.kind is kind)


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


# -- the environment -------------------------------------------------------------------------------


def outage(number: int) -> Observation:
    return observe(number, arm(1000, 50), arm(4000, 200, revision="old"))


def test_an_outage_of_both_holds_then_goes_on_without_blame() -> None:
    story = [
        *(observe(number) for number in range(15)),
        *(outage(number) for number in range(15, 24)),
        *(observe(number) for number in range(24, 70)),
    ]
    found = verdicts(story)
    assert {verdict.kind for verdict in found[15:24]} == {VerdictKind.HOLD}
    assert {verdict.category for verdict in found[15:24]} == {Category.ENVIRONMENT}
    assert found[16].reason.startswith("environment: error rate of stable is beyond the limit as well")
    place = first(found, VerdictKind.ADVANCE)
    assert 36 < place < 50, "the minutes of the outage do not count"
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found}


def test_a_canary_much_worse_than_a_sick_stable_is_taken_back() -> None:
    story = [
        *(observe(number) for number in range(15)),
        *(observe(number, arm(1000, 200), arm(4000, 200, revision="old")) for number in range(15, 24)),
    ]
    found = verdicts(story)
    assert first(found, VerdictKind.ROLLBACK) <= 16
    assert found[-1].blame == ("errorRate",)


def test_an_outage_at_a_high_weight_shows_in_the_canary_first_and_is_not_its_fault() -> None:
    """Of 400 and 100 requests in an interval 3 % fail: stable alone would not yet be sure of it."""
    good = [observe(n, arm(400), arm(100, revision="old"), weight=80) for n in range(31)]
    bad = [observe(n, arm(400, 12), arm(100, 3, revision="old"), weight=80) for n in range(31, 37)]
    walk = RolloutSpec(
        phases=(Phase(name="most", weight=80, duration="20m", limits=Limits(error_rate="0.5%")),)
    )
    found = verdicts([*good, *bad], walk)
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found}
    assert {verdict.category for verdict in found[33:]} == {Category.ENVIRONMENT}
    own = [observe(n, arm(400, 12), arm(100, revision="old"), weight=80) for n in range(31, 37)]
    assert first(verdicts([*good, *own], walk), VerdictKind.ROLLBACK) <= 33


def test_an_outage_that_begins_with_a_step_is_not_waited_for() -> None:
    story = [observe(0), *(outage(number) for number in range(1, 40))]
    found = verdicts(story)
    place = first(found, VerdictKind.ROLLBACK)
    assert place == 31, "five windows of six intervals after it was seen"
    verdict = found[place]
    assert (verdict.category, verdict.blame) == (Category.ENVIRONMENT, ())
    assert {earlier.category for earlier in found[1:place]} == {Category.ENVIRONMENT}
    assert verdict.reason.endswith("it began with this step, so it may be the release's doing")
    unknown = verdicts(story, history=None)
    assert VerdictKind.ROLLBACK not in {v.kind for v in unknown}, "nobody knows how stable was before"


def test_what_both_share_for_some_windows_is_waited_for_even_when_it_began_with_the_step() -> None:
    """As when Phoenix and every process begin anew in the first moments of a step."""
    story = [
        *(outage(number) for number in range(25)),
        *(observe(number) for number in range(25, 90)),
    ]
    found = verdicts(story)
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found}
    assert VerdictKind.ADVANCE in {verdict.kind for verdict in found}


def test_noise_that_stable_always_had_is_no_outage() -> None:
    """Both are at 9 % slow instead of 5 % for some minutes: much for requests that know nothing of each
    other, and nothing where counts vary thirty times as much."""
    slow = (arm(200, slow=18), arm(800, slow=72, revision="old"))
    story = [observe(number, *slow) for number in range(12)]
    assert Category.ENVIRONMENT in {verdict.category for verdict in verdicts(story)}
    noisy = PAST.model_copy(update={"spread": (30.0,) * 6})
    calm = {verdict.category for verdict in verdicts(story, history=noisy)}
    assert calm == {Category.PROGRESS}


def test_a_step_whose_errors_stable_may_share_is_not_blamed_at_its_end() -> None:
    story = [
        observe(n, arm(100, int(n % 6 == 3)), arm(400, int(n % 3 == 0), revision="old")) for n in range(62)
    ]
    found = verdicts(story, spec(policy=Policy(statistical=Statistical(alpha=0.0001))))
    assert (found[30].kind, found[30].category) == (VerdictKind.EXTEND, Category.ENVIRONMENT)
    assert found[30].reason.endswith(
        "error rate is beyond its limit, and as far as can be told stable is as bad "
        "(0.161 % of canary, 0.0887 % of stable)"
    )
    assert VerdictKind.ROLLBACK not in {verdict.kind for verdict in found[:60]}


def test_what_an_outage_does_is_the_policys_choice() -> None:
    story = [*(observe(number) for number in range(15)), *(outage(number) for number in range(15, 20))]
    found = verdicts(story, spec(policy=Policy(on_environment="rollback")))
    assert (found[-1].kind, found[-1].category) == (VerdictKind.ROLLBACK, Category.ENVIRONMENT)
    assert found[-1].blame == ()


# -- doubting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quality", "category", "words"),
    [
        (Quality.GAP, Category.NO_DATA, "no answer from the source of evidence about canary (away)"),
        (Quality.PARTIAL, Category.NO_DATA, "not every process of canary answered (away)"),
        (Quality.STALE, Category.STALE, "the counters of canary stand still although requests are expected"),
    ],
)
def test_doubts_hold(quality: Quality, category: Category, words: str) -> None:
    odd = observe(31, Arm(revision="new", quality=quality), arm(4, revision="old"), notes=("away",))
    _, verdict = run([*steady(31), odd])
    assert (verdict.kind, verdict.category) == (VerdictKind.HOLD, category)
    assert verdict.reason.startswith(words)


def test_no_request_at_all_is_a_routing_fault_and_then_a_rollback() -> None:
    lost = [observe(number, arm(0), arm(40, revision="old")) for number in range(12)]
    found = verdicts(lost)
    place = first(found, VerdictKind.HOLD)
    assert place == 1, "20 of 100 were to be expected"
    assert found[place].category is Category.ROUTING
    assert found[place].reason == "routing: canary got none of the last 20 requests that 20 % should bring"
    later = first(found, VerdictKind.ROLLBACK)
    assert 7 <= later <= 8
    assert (found[later].category, found[later].blame) == (Category.ROUTING, ())


@pytest.mark.parametrize(("canary", "held"), [(5, True), (100, False), (390, False), (700, True)])
def test_a_share_far_from_the_weight_is_a_routing_fault(canary: int, *, held: bool) -> None:
    story = [observe(0), observe(1, arm(canary), arm(1000 - canary, revision="old"))]
    _, verdict = run(story)
    assert (verdict.kind is VerdictKind.HOLD) is held


def test_another_weight_on_the_data_plane_is_waited_for() -> None:
    _, verdict = run([*steady(31), observe(31, weight=50)])
    assert verdict.kind is VerdictKind.CONTINUE
    assert verdict.reason == "waiting for 20 % on the data plane, which sends 50 %"


def test_nothing_known_about_a_limit_extends() -> None:
    bare = Arm(revision="new", requests=100)
    _, verdict = run(steady(31, bare, arm(400, revision="old")))
    assert (verdict.kind, verdict.category) == (VerdictKind.EXTEND, Category.SAMPLE)
    assert verdict.reason == (
        "5m are over, but nothing is known about latency p95, which has a limit; if that stays so, a person "
        "has to decide after 15m (onNoDecision: pause)"
    )


def test_an_old_observation_changes_nothing() -> None:
    state, verdict = run(steady(31))
    for late in (observe(30), observe(3, arm(1000, 900))):
        again, repeated = run([late], state=state)
        assert again == state
        assert repeated.kind is verdict.kind


def test_an_arm_that_does_not_answer_is_compared_when_it_does_again() -> None:
    """Stable's counters were not read once; the next reading brings everything."""
    gap = observe(5, stable=Arm(revision="old", quality=Quality.GAP))
    late = observe(6, stable=arm(8000, revision="old", quality=Quality.MERGED))
    after, _ = run([*steady(5), gap, late])
    whole, _ = run([*steady(5), observe(5), observe(6)])
    assert after.books is not None
    assert whole.books is not None
    assert after.books.pending is None
    pair = after.books.block.pair
    assert pair is not None
    assert (pair[0][0], pair[1][0]) == (2000, 8000)


# -- resources, business and values ----------------------------------------------------------------


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
