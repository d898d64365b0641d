"""The validator's loop: on fakes of everything around it."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.unit.validator_setting import SPEC, TICK, World

from phoenix_orch.health_validator.history import learn
from phoenix_orch.health_validator.judge import History, JudgeConfig
from phoenix_orch.health_validator.observation import Arm, Observation, Quality, VerdictKind
from phoenix_orch.health_validator.replay import effective, replay
from phoenix_orch.health_validator.resting import is_rest
from phoenix_orch.health_validator.service import HealthValidator
from phoenix_orch.health_validator.watch import UNLOGGED, Memory
from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.observability import metrics
from phoenix_orch.rollout.status import State


@pytest.fixture
def world() -> World:
    return World()


async def test_a_good_canary_is_observed_logged_and_judged(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 1)
    assert await world.store.verdict("web") is None  # counting begins with the first reading
    await world.ticks(rollout, 6)
    verdict = await world.verdict()
    assert (verdict.kind, verdict.revision, verdict.step) == (VerdictKind.CONTINUE, "new", 0)
    assert verdict.at == world.clock.now() - TICK
    await world.ticks(rollout, 1)
    assert (await world.verdict()).kind is VerdictKind.ADVANCE
    observations = await world.store.observations("web")
    assert [o.seconds for o in observations] == [10.0] * 7
    assert all(a.t1 == b.t0 for a, b in pairwise(observations))
    context = world.evidence.asked[-1]
    assert (context.route, context.revision, context.stable, context.weight) == ("web", "new", "old", 20)


async def test_verdicts_are_counted_and_the_last_one_is_shown(world: World) -> None:
    labels = {"verdict": VerdictKind.CONTINUE.value}
    before = metrics.REGISTRY.get_sample_value("phoenix_verdicts_total", labels) or 0
    await world.ticks(await world.rollout("counted"), 4)
    assert metrics.REGISTRY.get_sample_value("phoenix_verdicts_total", labels) == before + 3
    when = metrics.REGISTRY.get_sample_value("phoenix_verdict_timestamp_seconds", {"rollout": "counted"})
    assert when == (await world.verdict("counted")).at.timestamp()


async def test_a_bad_canary_is_told(world: World) -> None:
    rollout = await world.rollout()
    world.evidence.serve("new", 100, errors=30)
    await world.ticks(rollout, 3)
    verdict = await world.verdict()
    assert verdict.kind is VerdictKind.ROLLBACK
    assert verdict.blame == ("errorRate",)


async def test_what_stable_did_before_is_learnt_once_for_the_release(world: World) -> None:
    """Errors in clusters and slow requests of the last release are what is usual in this one."""
    rollout = await world.rollout()
    for number in range(400):
        errors = 40 if number % 25 == 0 else 0
        t0 = world.clock.now() - timedelta(days=1) + number * TICK
        busy = Arm(
            revision="old",
            requests=400,
            errors=errors,
            buckets=((0.05, 390), (0.1, 0), (0.3, 10), (math.inf, 0)),
        )
        await world.store.append_observation(
            "web",
            Observation(
                t0=t0, t1=t0 + TICK, revision="old", step=2, weight_applied=100, canary=busy, stable=None
            ),
        )
    await world.ticks(rollout, 2)
    kept = await world.store.verdict("web")
    assert kept is not None
    learnt = Memory.model_validate_json(kept[1]).judge.history
    assert (learnt.windows, learnt.requests, learnt.errors) == (34, 160_000, 640)
    assert learnt.dispersion is not None
    assert learnt.dispersion > 5
    assert learnt.edges
    await world.ticks(rollout, 3)
    kept = await world.store.verdict("web")
    assert kept is not None
    assert Memory.model_validate_json(kept[1]).judge.history == learnt


async def test_without_a_past_the_judge_knows_none(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 2)
    kept = await world.store.verdict("web")
    assert kept is not None
    assert Memory.model_validate_json(kept[1]).judge.history == History()


async def test_nothing_is_judged_before_the_canary_carries_traffic(world: World) -> None:
    rollout = await world.rollout(state=State.STARTING, weight=0)
    await world.ticks(rollout, 3)
    assert await world.store.verdict("web") is None
    await world.change(rollout, state=State.PROGRESSING, weight=20)
    await world.ticks(rollout, 1)
    assert (await world.verdict()).requests == 100  # counting had begun before


async def test_the_bake_judges_the_new_stable_alone(world: World) -> None:
    rollout = await world.rollout(
        state=State.BAKING, canary=None, stable="new", previous="old", step=4, weight=0
    )
    await world.traffic("web", 0, stable="new", canary=None)
    await world.ticks(rollout, 9)
    assert (world.evidence.asked[-1].stable, world.evidence.asked[-1].weight) == (None, 100)
    verdict = await world.verdict()
    assert (verdict.kind, verdict.revision, verdict.step) == (VerdictKind.ADVANCE, "new", 4)


async def test_nothing_is_watched_while_a_release_is_taken_away_or_gone(world: World) -> None:
    rollout = await world.rollout(state=State.ROLLING_BACK)
    assert await world.validator.observe_once(rollout) is False
    await world.store.remove("web")
    assert await world.validator.observe_once(rollout) is False
    assert not world.evidence.asked


@pytest.mark.parametrize("state", [State.IDLE, State.PROMOTED, State.ROLLED_BACK])
async def test_between_releases_the_past_of_stable_is_logged_and_not_judged(
    world: World, state: State
) -> None:
    rollout = await world.rollout(state=state)
    await world.ticks(rollout, 4)
    assert await world.store.verdict("web") is None
    found = await world.store.observations("web")
    assert len(found) == 3
    assert all(is_rest(observation) for observation in found)
    assert [o.stable.revision for o in found if o.stable] == ["old"] * 3
    assert [o.stable.requests for o in found if o.stable] == [400] * 3
    assert {(o.canary.requests, o.canary.quality) for o in found} == {(0, Quality.GAP)}
    context = world.evidence.asked[-1]
    assert (context.revision, context.stable) == ("old", None)


async def test_a_pause_between_releases_is_not_one_long_interval(world: World) -> None:
    rollout = await world.rollout(state=State.IDLE)
    await world.ticks(rollout, 3)
    assert isinstance(world.clock, ManualClock)
    world.clock.advance(timedelta(hours=5))
    await world.ticks(rollout, 3)
    assert {o.seconds for o in await world.store.observations("web")} == {10.0}


async def test_a_release_is_judged_by_what_stable_did_before_it(world: World) -> None:
    rollout = await world.rollout(state=State.IDLE)
    await world.ticks(rollout, 140)
    now = world.clock.now()
    await world.change(rollout, state=State.STARTING, release=2, release_started=now)
    await world.ticks(rollout, 2)
    await world.change(rollout, state=State.PROGRESSING)
    await world.ticks(rollout, 3)
    kept = await world.store.verdict("web")
    assert kept is not None
    memory = Memory.model_validate_json(kept[1])
    assert memory.judge.history.windows >= 10
    found = await world.store.observations("web", limit=10**6)
    past, own = [o for o in found if is_rest(o)], [o for o in found if not is_rest(o)]
    config = JudgeConfig.of(SPEC)
    history = learn(past, config.statistical)
    assert history == memory.judge.history
    assert list(replay(config, own, history=history))[-1] == kept[0]


async def test_a_past_that_cannot_be_read_delays_no_verdict(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise Retryable("the store is away")

    monkeypatch.setattr(world.store, "observations", away)
    await world.ticks(await world.rollout(), 3)
    assert (await world.verdict()).requests == 200


async def test_a_release_begins_counting_anew_after_the_rest(world: World) -> None:
    rollout = await world.rollout(state=State.IDLE)
    await world.ticks(rollout, 3)
    await world.change(rollout, state=State.PROGRESSING, release=2)
    await world.ticks(rollout, 3)
    verdict = await world.verdict()
    assert (verdict.revision, verdict.requests) == ("new", 200)


async def test_a_restart_goes_on_exactly_there(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 4)
    world.validator = world.another_validator()
    await world.ticks(rollout, 4)
    verdict = await world.verdict()
    assert (verdict.kind, verdict.requests, verdict.observed_for) == (
        VerdictKind.ADVANCE,
        700,
        timedelta(minutes=1),
    )


async def test_replaying_the_log_gives_the_published_verdict(world: World) -> None:
    """R6, with a crash between the log and the verdict, an answer lost, and a gap on the way."""
    rollout = await world.rollout()
    await world.ticks(rollout, 3)
    world.evidence.silence("new")
    await world.ticks(rollout, 1)
    world.evidence.serve("new", 100)
    world.store.lose_answers(1)
    await world.ticks(rollout, 2)
    published = await world.store.verdict("web")
    assert published is not None
    await world.ticks(rollout, 1)
    await world.store.put_verdict("web", *published, clock_back=True)  # as if the last one never got there
    world.validator = world.another_validator()
    await world.ticks(rollout, 3)
    log = await world.store.observations("web")
    config = JudgeConfig.of(SPEC)
    *_, last = replay(config, log)
    assert last == await world.verdict()
    assert len(effective(log)) < len(log)


async def test_an_hour_without_the_validator_is_not_observed(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 4)
    before = await world.verdict()
    world.validator = world.another_validator()
    assert isinstance(world.clock, ManualClock)
    world.clock.advance(timedelta(hours=1))
    await world.ticks(rollout, 1)
    after = await world.verdict()
    assert after.observed_for == before.observed_for
    assert after.kind is VerdictKind.CONTINUE


async def test_a_retry_of_the_same_revision_is_judged_anew(world: World) -> None:
    rollout = await world.rollout()
    world.evidence.serve("new", 100, errors=30)
    await world.ticks(rollout, 3)
    assert (await world.verdict()).kind is VerdictKind.ROLLBACK
    world.evidence.serve("new", 100)
    await world.ticks(rollout, 3)
    assert (await world.verdict()).kind is VerdictKind.ROLLBACK
    await world.change(rollout, release=2)
    await world.ticks(rollout, 2)
    verdict = await world.verdict()
    assert (verdict.kind, verdict.requests) == (VerdictKind.CONTINUE, 100)


async def test_unreadable_memory_begins_anew(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 3)
    await world.store.put_verdict("web", await world.verdict(), '{"version": 99}')
    world.validator = world.another_validator()
    await world.ticks(rollout, 2)
    assert (await world.verdict()).requests == 100


async def test_a_clock_set_back_does_not_stop_the_judge(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 4)
    assert isinstance(world.clock, ManualClock)
    world.clock.advance(-timedelta(hours=5))
    await world.ticks(rollout, 3)
    assert (await world.verdict()).at == world.clock.now() - TICK


# -- faults ----------------------------------------------------------------------------------------


async def test_a_source_that_raises_is_a_gap(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 3)
    world.evidence.raise_next(ValueError("a defect of the source"))
    await world.ticks(rollout, 1)
    verdict = await world.verdict()
    assert verdict.kind is VerdictKind.HOLD
    assert "a defect of the source" in verdict.reason
    assert (await world.store.observations("web"))[-1].canary.quality is Quality.GAP
    await world.ticks(rollout, 1)
    assert (await world.verdict()).kind is VerdictKind.CONTINUE


async def test_an_unknown_source_is_a_gap_too(world: World) -> None:
    rollout = await world.rollout()
    world.validator = HealthValidator(world.store, world.router, world.workload, {}, world.clock)
    await world.ticks(rollout, 2)
    assert (await world.verdict()).kind is VerdictKind.HOLD


async def test_no_evidence_is_never_a_pass(world: World) -> None:
    """R1, through the whole service: silence, for ten times as long as the step lasts."""
    rollout = await world.rollout()
    world.evidence.silence("new")
    for _ in range(60):
        await world.ticks(rollout, 1)
        kept = await world.store.verdict("web")
        assert kept is None or kept[0].kind is VerdictKind.HOLD


async def test_a_router_or_workload_that_is_away_stops_the_clock_only(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 3)
    before = (await world.verdict()).observed_for
    world.router.blind()
    world.workload.away = True
    await world.ticks(rollout, 2)
    verdict = await world.verdict()
    assert (verdict.kind, verdict.observed_for) == (VerdictKind.CONTINUE, before)
    assert "waiting for 20 % on the data plane" in verdict.reason
    assert "the router does not say what it sends" in verdict.reason
    world.evidence.serve("new", 100, errors=90)
    await world.ticks(rollout, 1)
    assert (await world.verdict()).kind is VerdictKind.ROLLBACK


async def test_nothing_is_lost_while_the_store_is_away(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 3)
    world.store.away(10**6)
    await world.ticks(rollout, 4)
    world.store.away(0)
    before = await world.verdict()
    assert before.requests == 200
    await world.ticks(rollout, 1)
    verdict = await world.verdict()
    assert (verdict.kind, verdict.requests) == (VerdictKind.ADVANCE, 700)
    assert len(await world.store.observations("web")) == 7


async def test_a_store_away_at_the_start_is_waited_for(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 4)
    world.validator = world.another_validator()
    world.store.away(10**6)
    asked = len(world.evidence.asked)
    await world.ticks(rollout, 3)
    assert len(world.evidence.asked) == asked  # what was judged before is not known yet
    world.store.away(0)
    await world.ticks(rollout, 1)
    assert (await world.verdict()).requests == 400


async def test_answers_lost_on_the_way_do_no_harm(world: World) -> None:
    rollout = await world.rollout()
    for _ in range(10):
        world.store.lose_answers(1)
        await world.ticks(rollout, 1)
    world.store.lose_answers(0)
    await world.ticks(rollout, 1)
    assert (await world.verdict()).requests == 1000
    ends = [o.t1 for o in await world.store.observations("web")]
    assert len(set(ends)) == 10
    assert ends == sorted(ends)


async def test_what_waits_for_the_store_is_bounded(world: World) -> None:
    rollout = await world.rollout()
    await world.ticks(rollout, 2)
    world.store.away(10**9)
    await world.ticks(rollout, UNLOGGED + 50)
    world.store.away(0)
    await world.ticks(rollout, 1)
    assert len(await world.store.observations("web", limit=10**6)) == UNLOGGED + 1
