"""Requests that clients gave up on: neither answered nor failed, and never evidence for a version."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phoenix_orch.health_validator.explanation import explained
from phoenix_orch.health_validator.history import History, learn
from phoenix_orch.health_validator.judge import JudgeConfig, JudgeState, init, step
from phoenix_orch.health_validator.observation import Arm, Category, Observation, Verdict, VerdictKind
from phoenix_orch.health_validator.recording import Header, Recording
from phoenix_orch.rollout.spec import Limits, Phase, Policy, RolloutSpec, Statistical

START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=10)
ERRORS = Limits(error_rate="1%")
"""No limit of latency: the time that clients waited says nothing here."""
PAST = History(windows=180, requests=10**6, errors=400, dispersion=1.0, abandoned=1.0)
GATES = ("statistical", "literal")
KINDS = tuple[VerdictKind, ...]


def spec(gate: str, limits: Limits = ERRORS, **policy: Any) -> RolloutSpec:
    return RolloutSpec(
        phases=(
            Phase(name="first", weight=20, duration="2m", limits=limits),
            Phase(name="full", weight=100, duration="2m", limits=limits),
        ),
        policy=Policy(gate=gate, bake="2m", **policy),
    )


def observe(
    number: int,
    canary: tuple[int, int],
    stable: tuple[int, int] | None = (400, 0),
    *,
    place: int = 0,
    **more: Any,
) -> Observation:
    """`canary`, `stable`: requests that were answered, and those that were given up on."""
    ours = Arm(revision="new", requests=canary[0], abandoned=canary[1], processes=1, **more)
    theirs = None
    if stable is not None:
        theirs = Arm(revision="old", requests=stable[0], abandoned=stable[1], processes=1)
    return Observation(
        t0=START + number * TICK,
        t1=START + (number + 1) * TICK,
        revision="new",
        step=place,
        weight_applied=(20, 100, 100)[place],
        canary=ours,
        stable=theirs,
    )


def judged(
    story: Iterable[Observation], of: RolloutSpec, history: History | None = PAST
) -> tuple[list[Verdict], JudgeState]:
    config = JudgeConfig.of(of)
    state, found = init(config, "new", history=history), []
    for seen in story:
        state, verdict = step(config, state, seen)
        found.append(verdict)
    return found, state


def kinds(found: list[Verdict]) -> set[VerdictKind]:
    return {verdict.kind for verdict in found}


# -- a canary that answers nobody ------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
def test_a_canary_that_answers_nobody_is_held_and_then_taken_back(gate: str) -> None:
    """Clients give up at once, no limit is set on latency, and stable answers as ever."""
    found, _ = judged([observe(number, (0, 100)) for number in range(60)], spec(gate))
    assert VerdictKind.ADVANCE not in kinds(found)
    assert found[-1].kind is VerdictKind.ROLLBACK
    assert found[-1].blame == ("abandonmentRate",)
    assert "clients gave up on" in found[-1].reason
    assert found[-1].requests == 0
    assert all(verdict.observed_for == timedelta(0) for verdict in found)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("place", [1, 2])
def test_nobody_answered_is_held_where_there_is_no_stable_to_compare_with(gate: str, place: int) -> None:
    """At 100 % and in the bake: as long as nobody is answered nothing is passed."""
    story = [observe(number, (0, 3), None, place=place) for number in range(60)]
    found, _ = judged(story, spec(gate))
    assert kinds(found) == {VerdictKind.HOLD}
    assert {verdict.category for verdict in found} == {Category.NO_ANSWERS}
    assert "none of" in found[-1].reason
    assert "gave up" in found[-1].reason


@pytest.mark.parametrize("gate", GATES)
def test_an_interval_without_an_answer_earns_no_time(gate: str) -> None:
    story = [observe(number, (100, 0) if number % 4 else (0, 1)) for number in range(15)]
    found, _ = judged(story, spec(gate))
    silent = found[0::4]
    assert {(verdict.kind, verdict.category) for verdict in silent} == {
        (VerdictKind.HOLD, Category.NO_ANSWERS)
    }
    assert found[-1].kind is not VerdictKind.ADVANCE
    assert found[-1].observed_for <= 11 * TICK


@pytest.mark.parametrize("gate", GATES)
def test_a_hold_for_want_of_answers_ends_with_the_next_answer(gate: str) -> None:
    story = [observe(0, (100, 0)), observe(1, (0, 2)), observe(2, (100, 0))]
    found, _ = judged(story, spec(gate))
    assert [verdict.kind for verdict in found[1:]] == [VerdictKind.HOLD, VerdictKind.CONTINUE]


def test_requests_that_were_given_up_on_arrived_so_the_routing_is_not_blamed() -> None:
    found, _ = judged([observe(number, (0, 2), (8, 0)) for number in range(40)], spec("statistical"))
    assert Category.ROUTING not in {verdict.category for verdict in found}


# -- a canary that answers some --------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("history", [PAST, None])
def test_a_share_far_above_stables_is_a_breach(gate: str, history: History | None) -> None:
    story = [observe(number, (60, 40), (398, 2)) for number in range(12)]
    found, _ = judged(story, spec(gate), history)
    assert found[-1].kind is VerdictKind.ROLLBACK
    assert found[-1].blame == ("abandonmentRate",)
    (row,) = [item for item in found[-1].evidence if item.metric == "abandonmentRate"]
    assert row.observed == pytest.approx(0.4)
    assert row.stable == pytest.approx(0.005)
    assert row.breached
    assert row.limit < 0.2


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7])
def test_what_clients_of_stable_do_as_well_is_no_fault(gate: str, share: float) -> None:
    """Requests of a search that runs with every key are given up on by the dozen, whoever answers."""
    dice = random.Random(7)
    story = []
    for number in range(60):
        place = min(2, number // 20)
        gone = sum(dice.random() < share for _ in range(100))
        theirs = sum(dice.random() < share for _ in range(400))
        stable = (400 - theirs, theirs) if place == 0 else None
        story.append(observe(number, (100 - gone, gone), stable, place=place))
    found, _ = judged(story, spec(gate))
    assert VerdictKind.ROLLBACK not in kinds(found)
    assert VerdictKind.HOLD not in kinds(found)
    assert VerdictKind.ADVANCE in kinds(found[:20])
    assert VerdictKind.ADVANCE in kinds(found[20:])


def test_few_who_give_up_convict_nobody() -> None:
    story = [observe(number, (100, 1 if number == 3 else 0)) for number in range(12)]
    for gate in GATES:
        found, _ = judged(story, spec(gate))
        assert kinds(found) <= {VerdictKind.CONTINUE, VerdictKind.ADVANCE}


def test_one_client_that_leaves_takes_its_requests_along_and_convicts_nobody() -> None:
    story = [observe(number, (100, 40 if number == 3 else 0)) for number in range(12)]
    found, _ = judged(story, spec("statistical"))
    assert VerdictKind.ROLLBACK not in kinds(found)


@pytest.mark.parametrize("place", [1, 2])
def test_without_stable_beside_it_what_was_usual_for_stable_is_the_measure(place: int) -> None:
    """The fault begins when there is nothing left to compare with."""
    calm = [observe(number, (100, 1), (396, 4)) for number in range(12)]
    worse = [observe(number, (300, 200), None, place=place) for number in range(12, 30)]
    found, _ = judged([*calm, *worse], spec("statistical"))
    assert found[-1].kind is VerdictKind.ROLLBACK
    assert found[-1].blame == ("abandonmentRate",)
    assert "stable" in found[-1].reason


def test_evidence_goes_on_into_the_next_step() -> None:
    """What speaks against the canary does not vanish until the new weight has brought numbers of its own."""
    before = [observe(number, (60, 12), (300, 8)) for number in range(60)]
    config = JudgeConfig.of(spec("statistical", on_relative_regression="hold"))
    state, told = init(config, "new", history=PAST), 0.0
    for seen in before:
        state, verdict = step(config, state, seen)
        told = verdict.e or 0.0
    assert told > 100
    _, verdict = step(config, state, observe(60, (0, 0), (300, 8), place=1))
    assert verdict.e is not None
    assert verdict.e > told / 2


def test_false_alarms_are_as_rare_as_alpha_says() -> None:
    """Of 300 releases whose clients give up as stable's do, one in a hundred may be taken back."""
    dice = random.Random(1)
    config = JudgeConfig.of(spec("statistical"))
    taken = 0
    for _ in range(300):
        state = init(config, "new", history=PAST)
        for number in range(60):
            gone = sum(dice.random() < 0.1 for _ in range(20))
            theirs = sum(dice.random() < 0.1 for _ in range(80))
            state, verdict = step(
                config, state, observe(number, (20 - gone, gone), (80 - theirs, theirs)), detail=False
            )
            if verdict.kind is VerdictKind.ROLLBACK:
                taken += 1
                break
    assert taken <= 6


def test_it_is_judged_whatever_else_is_limited_unless_it_is_turned_off() -> None:
    story = [observe(number, (60, 40)) for number in range(12)]
    assert judged(story, spec("statistical", Limits(cpu="90%")))[0][-1].blame == ("abandonmentRate",)
    off = Statistical.model_validate({"shares": {"abandonedAgainstStable": 0}})
    found, _ = judged(story, spec("statistical", statistical=off))
    assert VerdictKind.ROLLBACK not in kinds(found)


def test_worse_than_stable_may_be_left_to_a_person() -> None:
    story = [observe(number, (60, 40)) for number in range(12)]
    found, _ = judged(story, spec("statistical", on_relative_regression="hold"))
    assert (found[-1].kind, found[-1].category) == (VerdictKind.HOLD, Category.REGRESSION)


# -- how long they waited --------------------------------------------------------------------------

LATENCY = Limits(error_rate="50%", latency_p95="100ms")


def waiting(late: int, soon: int, answered: int = 200) -> Observation:
    """Clients that gave up after 0.2 s or more, and such that did so at once."""
    return Observation(
        t0=START,
        t1=START + TICK,
        revision="new",
        step=0,
        weight_applied=20,
        canary=Arm(
            revision="new",
            requests=answered,
            abandoned=late + soon,
            buckets=((0.1, answered), (0.2, 0), (math.inf, 0)),
            waited=((0.1, soon), (0.2, 0), (math.inf, late)),
        ),
        stable=Arm(revision="old", requests=800, buckets=((0.1, 800), (0.2, 0), (math.inf, 0))),
    )


def row(verdict: Verdict, metric: str) -> tuple[int, int]:
    (item,) = [item for item in verdict.evidence if item.metric == metric]
    return item.bad, item.samples


def test_who_waited_longer_than_the_limit_was_not_answered_within_it() -> None:
    config = JudgeConfig.of(spec("statistical", LATENCY, statistical=Statistical(warm_up="0s")))
    _, verdict = step(config, init(config, "new", history=PAST), waiting(30, 0))
    assert row(verdict, "latencyP95") == (30, 230)
    _, verdict = step(config, init(config, "new", history=PAST), waiting(0, 30))
    assert row(verdict, "latencyP95") == (0, 200), "who gave up sooner says nothing of the limit"


def test_the_literal_gate_counts_them_likewise() -> None:
    config = JudgeConfig.of(spec("literal", LATENCY))
    _, verdict = step(config, init(config, "new"), waiting(30, 0))
    (item,) = [item for item in verdict.evidence if item.metric == "latencyP95"]
    assert (item.samples, item.breached) == (230, True)
    _, verdict = step(config, init(config, "new"), waiting(0, 9))
    (item,) = [item for item in verdict.evidence if item.metric == "latencyP95"]
    assert (item.samples, item.breached) == (200, False)


# -- words and pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
def test_an_explanation_says_it_in_plain_words(gate: str) -> None:
    story = tuple(observe(number, (60, 40), (398, 2)) for number in range(12))
    found = explained(Recording("", Header(), story), spec(gate))
    assert found.kind is VerdictKind.ROLLBACK
    assert "Clients gave up on" in found.sentence
    assert "Blamed: abandonment rate" in found.sentence
    assert found.picture is not None
    assert found.picture.metric == "abandonmentRate"
    numbers = {number.name: number for number in found.numbers}
    assert numbers["canary"].value == "40 %"
    assert numbers["stable"].value == "0.5 %"
    assert "clients gave up on" in numbers["exposed"].meaning
    arrived = sum(o.canary.requests + o.canary.abandoned for o in story if o.t1 <= (found.at or START))
    assert numbers["exposed"].value == f"{arrived:,}"


def test_a_canary_that_answers_nobody_is_explained_without_a_picture_of_errors() -> None:
    story = tuple(observe(number, (0, 3), None, place=1) for number in range(6))
    found = explained(Recording("", Header(), story), spec("statistical"))
    assert found.kind is VerdictKind.HOLD
    assert "gave up" in found.sentence
    numbers = {number.name: number for number in found.numbers}
    assert numbers["exposed"].value == "18"
    (lacking,) = found.missing
    assert lacking.endswith("the canary answers nobody, clients gave up on 18 requests")


# -- the past --------------------------------------------------------------------------------------


def test_how_they_come_in_clusters_is_learnt_from_stables_past() -> None:
    def past(gone: Iterable[int]) -> list[Observation]:
        length = timedelta(minutes=2)
        return [
            observe(0, (0, 0), (1000 - number, number)).model_copy(
                update={"t0": START + place * length, "t1": START + (place + 1) * length - TICK}
            )
            for place, number in enumerate(gone)
        ]

    calm = learn(past([20, 21] * 30), Statistical())
    rough = learn(past([0, 40] * 30), Statistical())
    assert calm.abandoned is not None
    assert rough.abandoned is not None
    assert rough.abandoned > 3 * calm.abandoned
    assert calm.requests == 60_000 - 60 * 20 - 30
