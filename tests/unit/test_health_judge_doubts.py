"""What the statistical gate doubts: outages that both share, routing faults, answers that do not come."""

from __future__ import annotations

import pytest
from tests.unit.judge_stories import PAST, arm, first, observe, run, spec, steady, verdicts

from phoenix_orch.health_validator.observation import (
    Arm,
    Category,
    Observation,
    Quality,
    VerdictKind,
)
from phoenix_orch.rollout.spec import (
    Limits,
    Phase,
    Policy,
    RolloutSpec,
    Statistical,
)

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
