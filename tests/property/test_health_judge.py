"""The statistical gate on random stories: R1, R6, and what must make no difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.judge import JudgeConfig, JudgeState, init, step
from phoenix_orch.health_validator.observation import Arm, Observation, Quality, Verdict, VerdictKind
from phoenix_orch.rollout.spec import BusinessMetric, Evidence, Limits, Phase, Policy, RolloutSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
EDGES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75)
EDGES += (1.0, 1.5, 2.0, 2.5, 5.0, 10.0, math.inf)
LIMITS = Limits(error_rate="2%", latency_p95="100ms", latency_p99="500ms", cpu="80%", memory="512Mi")
BUSINESS = (
    BusinessMetric(name="orders", counter="orders_total", min_per_request=0.1),
    BusinessMetric(name="refunds", counter="refunds_total", max_per_request=0.5),
)
SPEC = RolloutSpec(
    phases=(
        Phase(name="first", weight=20, duration="1m", limits=LIMITS),
        Phase(name="second", weight=60, duration="1m", limits=LIMITS),
    ),
    policy=Policy(bake="30s"),
    evidence=Evidence(interval="10s", window="1m", business=BUSINESS),
)
CONFIG = JudgeConfig.of(SPEC)
WEIGHTS = (20, 60, 100)
HISTORY = History(
    windows=200,
    requests=10**6,
    errors=400,
    dispersion=1.0,
    abandoned=1.5,
    edges=EDGES[1:12],
    slower=(0.99, 0.9, 0.5, 0.2, 0.08, 0.02, 0.008, 0.004, 0.002, 0.001, 0.0005),
    spread=(1.3,) * 11,
)
COUNTED = (Quality.OK, Quality.MERGED, Quality.PARTIAL)


@st.composite
def arms(draw: st.DrawFn, revision: str, badness: float) -> Arm:
    requests = draw(st.sampled_from((0, 1, 8, 15, 40, 200, 3000)))
    shares = draw(st.tuples(*[st.floats(0, 1)] * 3))
    errors = round(requests * badness * shares[0])
    slow = round(requests * badness * shares[1])
    slower = round((requests - slow) * min(1.0, badness) * shares[2])
    counts = {0.05: requests - slow - slower, 0.2: slow, 1.0: slower}
    left = draw(st.sampled_from((0, 0, 0, 1, requests // 50, round(max(5, requests) * badness))))
    waited = {0.05: left // 2, 2.0: left - left // 2}
    return Arm(
        revision=revision,
        requests=requests,
        errors=errors,
        abandoned=left,
        waited=tuple((edge, waited.get(edge, 0)) for edge in EDGES) if left else (),
        buckets=tuple((edge, counts.get(edge, 0)) for edge in EDGES),
        business={"orders": requests // 2, "refunds": requests // 50},
        cpu=draw(st.sampled_from((0.1, 0.1, 0.3, 0.9))) if badness > 0.01 else 0.1,
        memory=draw(st.sampled_from((10**8, 10**8, 6 * 10**8))) if badness > 0.01 else 10**8,
        processes=1,
        quality=Quality.OK,
    )


def observation(t0: datetime, seconds: float, place: int, canary: Arm, stable: Arm | None) -> Observation:
    return Observation(
        t0=t0,
        t1=t0 + timedelta(seconds=seconds),
        revision="new",
        step=place,
        weight_applied=WEIGHTS[place],
        canary=canary,
        stable=stable,
    )


@st.composite
def calm(draw: st.DrawFn) -> list[Observation]:
    """Observations on the grid, without holes; of any health."""
    badness = draw(st.sampled_from((0.0, 0.001, 0.03, 0.1, 1.0)))
    outage = draw(st.sampled_from((0.0, 0.0, 0.03, 0.5)))
    story, place = [], 0
    for number in range(draw(st.integers(1, 24))):
        place = min(2, place + draw(st.sampled_from((*[0] * 9, 1))))
        shared = outage if 6 <= number < 12 else 0.0
        canary = draw(arms("new", max(badness, shared)))
        stable = draw(arms("old", shared)) if place < 2 else None
        story.append(observation(START + number * timedelta(seconds=10), 10, place, canary, stable))
    return story


@st.composite
def rough(draw: st.DrawFn) -> list[Observation]:
    """Observations as a rough life gives them: with holes, at any weight, of any quality."""
    story = []
    late = timedelta(0)
    for seen in draw(calm()):
        late += timedelta(seconds=draw(st.sampled_from((*[0] * 8, 7, 400, -25))))
        quality = draw(st.sampled_from((*[Quality.OK] * 8, *Quality)))
        theirs = draw(st.sampled_from((*[Quality.OK] * 8, *Quality)))
        canary = seen.canary.model_copy(update={"quality": quality})
        if draw(st.integers(0, 9)) == 0:
            canary = canary.model_copy(update={"buckets": (), "business": {}, "cpu": None, "memory": None})
        stable = seen.stable and seen.stable.model_copy(update={"quality": theirs})
        changes = {"t0": seen.t0 + late, "t1": seen.t1 + late, "canary": canary, "stable": stable}
        if draw(st.integers(0, 7)) == 0:
            changes["weight_applied"] = draw(st.sampled_from((0, 5, 60)))
        story.append(seen.model_copy(update=changes))
    return story


def judged(
    story: Sequence[Observation], config: JudgeConfig = CONFIG, history: History | None = HISTORY
) -> list[Verdict]:
    state, verdicts = init(config, "new", history=history), []
    for seen in story:
        state, verdict = step(config, state, seen)
        verdicts.append(verdict)
    return verdicts


Decision = tuple[object, ...]


def decision(verdict: Verdict) -> Decision:
    """What is done about a release, and how sure one is; without words."""
    return (
        verdict.kind,
        verdict.category,
        verdict.tier,
        verdict.blame,
        verdict.e,
        verdict.requests,
        [(item.metric, item.bad, item.samples, item.e_limit, item.e_stable) for item in verdict.evidence],
    )


# -- R1 and R6 -------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(rough())
def test_r1_no_evidence_is_never_a_pass(story: list[Observation]) -> None:
    """A pass stands on ten requests of this step at least, seen at its weight in answers that count, on the
    step's time, and on values within limits."""
    newest = START - timedelta(days=1)
    accepted: list[Observation] = []
    for seen, verdict in zip(story, judged(story), strict=True):
        if seen.t1 > newest:
            accepted.append(seen)
            newest = seen.t1
        if verdict.kind is not VerdictKind.ADVANCE:
            continue
        event("advanced")
        place = accepted[-1].step
        run = []
        for past in reversed(accepted):
            if past.step != place:
                break
            run.append(past)
        counted = [
            past for past in run if past.weight_applied == WEIGHTS[place] and past.canary.quality in COUNTED
        ]
        requests = sum(past.canary.requests for past in counted)
        assert requests >= 10
        assert accepted[-1].canary.quality in (Quality.OK, Quality.MERGED)
        assert accepted[-1].weight_applied == WEIGHTS[place]
        assert verdict.observed_for >= CONFIG.step(place).duration
        assert not accepted[-1].canary.unanswered
        watched = sum((past.t1 - past.t0 for past in run if not past.canary.unanswered), timedelta(0))
        assert verdict.observed_for <= watched
        assert verdict.tier is not None
        assert all(item.observed is not None for item in verdict.evidence)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(tuple(Quality)), st.booleans()), min_size=1, max_size=120
    )
)
def test_fewer_than_ten_requests_never_advance(course: list[tuple[int, Quality, bool]]) -> None:
    story, seen = [], 0
    for number, (requests, quality, known) in enumerate(course):
        count = requests if seen < 9 else 0
        seen += count
        buckets = ((0.05, count), (math.inf, 0)) if known else ()
        canary = Arm(revision="new", requests=count, buckets=buckets, quality=quality)
        stable = Arm(revision="old", requests=5 * count)
        story.append(observation(START + number * timedelta(seconds=10), 10, 0, canary, stable))
    for policy in ("pause", "promote"):
        config = JudgeConfig.of(SPEC.model_copy(update={"policy": Policy(on_no_decision=policy)}))
        assert all(verdict.kind is not VerdictKind.ADVANCE for verdict in judged(story, config))


@settings(max_examples=60)
@given(rough())
def test_r6_replay_gives_the_same_verdicts(story: list[Observation]) -> None:
    """Also when the judge is stored and read again before every observation."""
    recorded = [Observation.model_validate_json(seen.model_dump_json()) for seen in story]
    config = JudgeConfig.model_validate_json(CONFIG.model_dump_json())
    state, verdicts = init(config, "new", history=HISTORY), []
    for seen in recorded:
        state = JudgeState.model_validate_json(state.model_dump_json())
        state, verdict = step(config, state, seen)
        verdicts.append(verdict)
    assert verdicts == judged(story)


@settings(max_examples=60)
@given(rough())
def test_verdicts_can_be_stored(story: list[Observation]) -> None:
    for verdict in judged(story):
        assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


@settings(max_examples=60)
@given(rough())
def test_a_rollback_is_never_taken_back_and_blames_only_for_evidence(story: list[Observation]) -> None:
    verdicts = judged(story)
    kinds = [verdict.kind for verdict in verdicts]
    if VerdictKind.ROLLBACK in kinds:
        first = kinds.index(VerdictKind.ROLLBACK)
        event(verdicts[first].category.value)
        assert set(kinds[first:]) == {VerdictKind.ROLLBACK}
        assert bool(verdicts[first].blame) is (verdicts[first].category.value in ("evidence", "gate"))


# -- what must make no difference ------------------------------------------------------------------


def same(changed: Callable[[list[Observation]], list[Observation]], story: list[Observation]) -> None:
    before, after = judged(story), judged(changed(story))
    assert [decision(verdict) for verdict in after] == [decision(verdict) for verdict in before]


@settings(max_examples=60)
@given(calm(), st.sampled_from((1000.0, 1024.0, 0.001)))
def test_the_unit_of_latency_makes_no_difference(story: list[Observation], factor: float) -> None:
    """Limits, edges and history in milliseconds instead of seconds."""

    def scaled(arm: Arm | None) -> Arm | None:
        if arm is None:
            return None
        scaled = {
            name: tuple((edge * factor, n) for edge, n in getattr(arm, name))
            for name in ("buckets", "waited")
        }
        return arm.model_copy(update=scaled)

    def limits(given: Limits) -> Limits:
        assert given.latency_p95 is not None
        assert given.latency_p99 is not None
        return given.model_copy(
            update={"latency_p95": given.latency_p95 * factor, "latency_p99": given.latency_p99 * factor}
        )

    other = JudgeConfig.of(
        SPEC.model_copy(
            update={"phases": tuple(p.model_copy(update={"limits": limits(p.limits)}) for p in SPEC.phases)}
        )
    )
    past = HISTORY.model_copy(update={"edges": tuple(edge * factor for edge in HISTORY.edges)})
    moved = [
        seen.model_copy(update={"canary": scaled(seen.canary), "stable": scaled(seen.stable)})
        for seen in story
    ]
    before, after = judged(story), judged(moved, other, past)
    for first, second in zip(before, after, strict=True):
        assert (first.kind, first.category, first.tier, first.blame) == (
            second.kind,
            second.category,
            second.tier,
            second.blame,
        )
        assert first.e is not None
        assert second.e is not None
        assert math.isclose(first.e, second.e, rel_tol=1e-3)


@settings(max_examples=60)
@given(calm(), st.sampled_from((0.1, 2.0, 60.0)))
def test_the_scale_of_time_makes_no_difference(story: list[Observation], factor: float) -> None:
    """Ten times as fast, with every duration of the spec a tenth: the same decisions."""
    policy = SPEC.policy
    given_ = policy.statistical
    slow = SPEC.model_copy(
        update={
            "phases": tuple(
                p.model_copy(update={"duration": (p.duration or TICK) * factor}) for p in SPEC.phases
            ),
            "policy": policy.model_copy(
                update={
                    "bake": policy.bake * factor,
                    "statistical": given_.model_copy(update={"warm_up": given_.warm_up * factor}),
                }
            ),
            "evidence": SPEC.evidence.model_copy(
                update={"interval": TICK * factor, "window": SPEC.evidence.window * factor}
            ),
        }
    )

    def moved(moment: datetime) -> datetime:
        return START + (moment - START) * factor

    stretched = [seen.model_copy(update={"t0": moved(seen.t0), "t1": moved(seen.t1)}) for seen in story]
    before, after = judged(story), judged(stretched, JudgeConfig.of(slow))
    for first, second in zip(before, after, strict=True):
        assert decision(first) == decision(second)


TICK = timedelta(seconds=10)


@settings(max_examples=40)
@given(calm(), st.permutations(range(2)))
def test_the_order_of_metrics_makes_no_difference(story: list[Observation], order: list[int]) -> None:
    swapped = tuple(BUSINESS[place] for place in order)
    evidence = SPEC.evidence.model_copy(update={"business": swapped})
    config = JudgeConfig.of(SPEC.model_copy(update={"evidence": evidence}))
    for first, second in zip(judged(story), judged(story, config), strict=True):
        assert (first.kind, first.category, first.tier) == (second.kind, second.category, second.tier)
        assert set(first.blame) == set(second.blame)
        assert math.isclose(first.e or 0.0, second.e or 0.0, rel_tol=1e-9)


@settings(max_examples=80)
@given(calm(), st.data())
def test_splitting_observations_makes_no_difference(story: list[Observation], data: st.DataObject) -> None:
    """Each interval's numbers in one observation, or in two that share it in any way."""
    before = judged(story)
    state = init(CONFIG, "new", history=HISTORY)
    for seen, verdict in zip(story, before, strict=True):
        if data.draw(st.booleans()):
            for part in halves(seen, data.draw(st.floats(0.01, 0.99)), data.draw(st.floats(0, 1))):
                state, after = step(CONFIG, state, part)
                if after.kind is VerdictKind.ROLLBACK and verdict.kind is not VerdictKind.ROLLBACK:
                    return  # the first part alone convicted: earlier than the whole could
        else:
            state, after = step(CONFIG, state, seen)
        if verdict.kind is VerdictKind.ROLLBACK or after.kind is VerdictKind.ROLLBACK:
            assert after.kind is verdict.kind
            return
        assert decision(after) == decision(verdict)


def halves(seen: Observation, time: float, share: float) -> list[Observation]:
    """Two observations that add up to one."""
    middle = seen.t0 + (seen.t1 - seen.t0) * time

    def part(arm: Arm | None, *, first: bool) -> Arm | None:
        if arm is None:
            return None

        def of(number: int) -> int:
            return math.floor(number * share) if first else number - math.floor(number * share)

        return arm.model_copy(
            update={
                "requests": of(arm.requests),
                "errors": of(arm.errors),
                "abandoned": of(arm.abandoned),
                "buckets": tuple((edge, of(number)) for edge, number in arm.buckets),
                "waited": tuple((edge, of(number)) for edge, number in arm.waited),
                "business": {name: of(number) for name, number in arm.business.items()},
            }
        )

    return [
        seen.model_copy(
            update={
                "t0": seen.t0 if first else middle,
                "t1": middle if first else seen.t1,
                "canary": part(seen.canary, first=first),
                "stable": part(seen.stable, first=first),
            }
        )
        for first in (True, False)
    ]


@settings(max_examples=40)
@given(calm(), st.integers(2, 9))
def test_merging_processes_makes_no_difference(story: list[Observation], processes: int) -> None:
    """The sums of an arm are what counts, not how many processes they came from."""
    same(
        lambda seen: [
            o.model_copy(update={"canary": o.canary.model_copy(update={"processes": processes})})
            for o in seen
        ],
        story,
    )


@settings(max_examples=40)
@given(calm(), st.integers(0, 23))
def test_a_restart_makes_no_difference(story: list[Observation], place: int) -> None:
    state, verdicts = init(CONFIG, "new", history=HISTORY), []
    for number, seen in enumerate(story):
        if number == place:
            again = JudgeState.model_validate_json(state.model_dump_json())
            assert again == state
            state = again
        state, verdict = step(CONFIG, state, seen)
        verdicts.append(verdict)
    assert verdicts == judged(story)


# -- size ------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 9999), min_size=20, max_size=20), min_size=20, max_size=20))
@example([[9999] * 20] * 20)
def test_the_state_stays_below_four_kilobytes(counts: list[list[int]]) -> None:
    """Whatever the traffic, with two latency limits, CPU, memory and two business metrics."""
    tolerant = Limits(error_rate="90%", latency_p95="200ms", latency_p99="400ms", cpu="100%", memory="1Ti")
    phase = Phase(name="only", weight=20, duration="10h", limits=tolerant)
    config = JudgeConfig.of(SPEC.model_copy(update={"phases": (phase,)}))
    long = HISTORY.model_copy(update={"edges": EDGES[:10], "slower": (0.1234,) * 10, "spread": (1.234,) * 10})
    state = init(config, "0123456789", release=12345, history=long)
    largest = 0
    for number in range(200):
        row = [*counts[number % len(counts)][:6], *(count % 10 for count in counts[0][6:])]
        arm = Arm(
            revision="0123456789",
            requests=sum(row),
            errors=sum(row) // 3,
            abandoned=sum(row) // 4,
            buckets=tuple(zip(EDGES, row, strict=True)),
            business={"orders": sum(row), "refunds": 0},
            cpu=0.123456,
            memory=10**11 + number,
            processes=number,
        )
        begin = START + number * timedelta(seconds=2.5)
        seen = Observation(
            t0=begin,
            t1=begin + timedelta(seconds=2.5),
            revision="0123456789",
            step=0,
            weight_applied=20,
            canary=arm,
            stable=arm,
            notes=("x" * 500,),
        )
        state, _ = step(config, state, seen)
        largest = max(largest, len(state.model_dump_json()))
    assert largest <= 4096, largest
