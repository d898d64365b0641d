"""The literal gate, rules R1 and R6 on random stories: no evidence is never a pass, replay gives the same."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from phoenix_orch.health_validator.judge import JudgeConfig, JudgeState, init, step
from phoenix_orch.health_validator.observation import Arm, Observation, Quality, Verdict, VerdictKind
from phoenix_orch.rollout.spec import BusinessMetric, Evidence, Limits, Phase, Policy, RolloutSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
EDGES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75)
EDGES += (1.0, 1.5, 2.0, 2.5, 5.0, 10.0, math.inf)
LIMITS = Limits(error_rate="2%", latency_p95="100ms", latency_p99="500ms", cpu="80%", memory="512Mi")
SPEC = RolloutSpec(
    phases=(
        Phase(name="first", weight=20, duration="30s", limits=LIMITS),
        Phase(name="second", weight=60, duration="40s", limits=LIMITS),
    ),
    policy=Policy(bake="30s", min_requests=20, gate="literal"),
    evidence=Evidence(
        interval="10s",
        window="30s",
        business=(
            BusinessMetric(name="orders", counter="orders_total", min_per_request=0.1),
            BusinessMetric(name="refunds", counter="refunds_total", max_per_request=0.5),
        ),
    ),
)
CONFIG = JudgeConfig.of(SPEC)
WEIGHTS = (20, 60, 100)

healthy = st.booleans().flatmap(lambda often: st.just(1.0) if often else st.floats(0.5, 1.0))


@st.composite
def arms(draw: st.DrawFn, revision: str) -> Arm:
    requests = draw(st.sampled_from((0, 0, 1, 8, 15, 40, 200)))
    fast = round(requests * draw(healthy))
    return Arm(
        revision=revision,
        requests=requests,
        errors=requests - round(requests * draw(healthy)),
        abandoned=draw(st.sampled_from((0, 0, 0, 1, 3, 60))),
        buckets=draw(st.sampled_from(((), ((0.05, fast), (0.2, requests - fast), (math.inf, 0)))))
        if draw(st.integers(0, 9)) == 0
        else tuple(
            (edge, fast if edge == 0.05 else requests - fast if edge == 0.15 else 0) for edge in EDGES
        ),
        business={"orders": requests // 2, "refunds": 0} if draw(st.integers(0, 9)) else {},
        cpu=draw(st.sampled_from((None, 0.1, 0.1, 0.1, 0.9))),
        memory=draw(st.sampled_from((None, 10**8, 10**8, 10**9))),
        quality=draw(st.sampled_from((*[Quality.OK] * 8, *Quality))),
    )


@st.composite
def stories(draw: st.DrawFn) -> list[Observation]:
    """Observations as a rough life gives them: mostly in order, with holes, at any weight and step."""
    calm = draw(st.booleans())
    story, now, place = [], START, 0
    for _ in range(draw(st.integers(1, 25))):
        hole = 0 if calm else draw(st.sampled_from((0, 0, 0, 0, 15, 400, -25)))
        length = 10 if calm else draw(st.sampled_from((10, 10, 10, 9, 29, 31, 300)))
        t0 = now + timedelta(seconds=hole)
        now = t0 + timedelta(seconds=length)
        place = draw(st.sampled_from((place, place, place, place, min(place + 1, 2))))
        weight = WEIGHTS[place] if calm else draw(st.sampled_from((*[WEIGHTS[place]] * 6, 0, 5)))
        canary = draw(arms("new"))
        if calm:
            canary = canary.model_copy(
                update={
                    "quality": Quality.OK,
                    "errors": 0,
                    "abandoned": draw(st.sampled_from((0, 0, 0, canary.requests // 50, 1))),
                    "buckets": tuple((edge, canary.requests if edge == 0.05 else 0) for edge in EDGES),
                    "cpu": 0.1,
                    "memory": 10**8,
                    "business": {"orders": canary.requests // 2, "refunds": 0},
                }
            )
        stable = draw(st.none() | arms("old"))
        story.append(
            Observation(
                t0=t0,
                t1=now,
                revision="new",
                step=place,
                weight_applied=weight,
                canary=canary,
                stable=stable,
            )
        )
    return story


def replay(story: list[Observation]) -> list[Verdict]:
    state, verdicts = init(CONFIG, "new"), []
    for observation in story:
        state, verdict = step(CONFIG, state, observation)
        verdicts.append(verdict)
    return verdicts


def accepted(story: list[Observation]) -> list[Observation]:
    """What of the story comes after everything before it; the rest is to be ignored."""
    newest, kept = None, []
    for observation in story:
        if newest is None or observation.t1 > newest:
            kept.append(observation)
            newest = observation.t1
    return kept


def of_this_step(story: list[Observation]) -> tuple[list[Observation], Observation | None]:
    """The observations of the step that the last one is in, and the one before them."""
    place = story[-1].step
    count = next((n for n, o in enumerate(reversed(story)) if o.step != place), len(story))
    before = story[-count - 1] if count < len(story) else None
    return story[-count:], before


def time_at_weight(run: list[Observation], before: Observation | None, weight: int) -> timedelta:
    """Written anew, without the judge's own books."""
    covered, previous = timedelta(0), before
    for this in run:
        if (
            previous is not None
            and previous.weight_applied == this.weight_applied == weight
            and this.canary.quality is Quality.OK
            and not this.canary.unanswered
            and this.t0 <= previous.t1
            and this.t1 - this.t0 <= timedelta(seconds=30)
        ):
            covered += this.t1 - max(this.t0, previous.t1)
        previous = this
    return covered


@settings(max_examples=150)
@given(stories())
def test_r1_no_evidence_is_never_a_pass(story: list[Observation]) -> None:
    for number, verdict in enumerate(replay(story), start=1):
        if verdict.kind is not VerdictKind.ADVANCE:
            continue
        seen = accepted(story[:number])
        run, before = of_this_step(seen)
        place = run[-1].step
        weight, duration = WEIGHTS[place], CONFIG.step(place).duration
        event("advanced")
        counted = [o for o in run if o.weight_applied == weight]
        counted = [o for o in counted if o.canary.quality not in (Quality.GAP, Quality.STALE)]
        requests = sum(o.canary.requests for o in counted)
        errors = sum(o.canary.errors for o in counted)
        slow = sum(count for o in counted for edge, count in o.canary.buckets if edge > 0.1)
        timed = sum(count for o in counted for _, count in o.canary.buckets)
        assert requests >= 20
        assert errors / requests <= 0.02
        assert timed >= 20
        assert slow <= 0.05 * timed
        assert any(o.canary.memory for o in counted)
        assert all((o.canary.memory or 0) <= 512 * 1024**2 for o in counted)
        assert time_at_weight(run, before, weight) >= duration
        assert run[-1].canary.quality in (Quality.OK, Quality.MERGED)
        assert run[-1].weight_applied == weight
        assert not run[-1].canary.unanswered
        assert not any(item.breached or item.observed is None for item in verdict.evidence)


@given(stories())
def test_r6_replay_gives_the_same_verdicts(story: list[Observation]) -> None:
    """Also when the judge is stored and read again before every observation."""
    recorded = [Observation.model_validate_json(o.model_dump_json()) for o in story]
    config = JudgeConfig.model_validate_json(CONFIG.model_dump_json())
    state, verdicts = init(config, "new"), []
    for observation in recorded:
        state = JudgeState.model_validate_json(state.model_dump_json())
        state, verdict = step(config, state, observation)
        verdicts.append(verdict)
    assert verdicts == replay(story)


@given(stories())
def test_a_rollback_is_never_taken_back(story: list[Observation]) -> None:
    kinds = [verdict.kind for verdict in replay(story)]
    if VerdictKind.ROLLBACK in kinds:
        after = kinds[kinds.index(VerdictKind.ROLLBACK) :]
        assert set(after) == {VerdictKind.ROLLBACK}


@given(stories())
def test_a_rollback_stands_on_enough_requests_beyond_a_limit(story: list[Observation]) -> None:
    for verdict in replay(story):
        breached = [item for item in verdict.evidence if item.breached]
        if breached and verdict.kind is VerdictKind.HOLD:
            event("environment")
            assert all(item.stable is not None and item.stable > item.limit for item in breached)
            assert not verdict.blame
            continue
        assert bool(breached) is (verdict.kind is VerdictKind.ROLLBACK)
        assert set(verdict.blame) == {item.metric for item in breached}
        for item in breached:
            assert item.metric in ("cpu", "memory") or item.samples >= 20


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9999), min_size=20, max_size=20), min_size=20, max_size=20))
@example([[9999] * 20] * 20)
def test_the_state_stays_below_four_kilobytes(counts: list[list[int]]) -> None:
    """Whatever the traffic, with two business metrics, after more than a window at a fine interval."""
    huge = Limits(latency_p95="1h", latency_p99="1h", memory="1Ti")
    phase = Phase(name="only", weight=20, duration="10h", limits=huge)
    config = JudgeConfig.of(SPEC.model_copy(update={"phases": (phase,)}))
    state = init(config, "0123456789", release=12345)
    for number in range(200):
        row = counts[number % len(counts)]
        arm = Arm(
            revision="0123456789",
            requests=sum(row),
            errors=sum(row),
            abandoned=sum(row),
            buckets=tuple(zip(EDGES, row, strict=True)),
            business={"orders": sum(row), "refunds": 0},
            cpu=0.123456,
            memory=10**11,
        )
        begin = START + number * timedelta(seconds=2.5)
        observation = Observation(
            t0=begin,
            t1=begin + timedelta(seconds=2.5),
            revision="0123456789",
            step=0,
            weight_applied=20,
            canary=arm,
            stable=arm,
            notes=("x" * 500,),
        )
        state, _ = step(config, state, observation)
        assert len(state.model_dump_json()) <= 4096
