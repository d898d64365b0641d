"""The rollout controller takes releases to their ends over fakes, and does no more than is due."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.unit.controller_setting import SHOP, World, revision

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.kernel.errors import Conflict, Unavailable
from phoenix_orch.rollout.controller import asks_nothing
from phoenix_orch.rollout.status import Command, CommandKind, Outcome, Rollout, State, Status
from phoenix_orch.workload.workload import InstanceState

pytestmark = pytest.mark.anyio
OLD, NEW = revision("1"), revision("2")


@pytest.fixture
def world() -> World:
    return World()


async def test_a_good_release_walks_to_promotion_and_the_old_revision_leaves(world: World) -> None:
    await world.progressing()
    await world.until(State.PROMOTED, advance=True)
    steps = [weight for stable, weight in world.weights() if stable == OLD]
    assert [w for i, w in enumerate(steps) if i == 0 or steps[i - 1] != w] == [0, 50, 100]
    assert (await world.router.read(SHOP)).stable.revision == NEW
    await world.passes(3)
    state = await world.workload.state(SHOP)
    assert (state.wanted, len(state.ready(NEW)), state.of(OLD)) == ({NEW: 2}, 2, ())
    (release,) = await world.store.history(SHOP)
    assert (release.outcome, release.version, release.replaced) == (Outcome.PROMOTED, "2", OLD)


async def test_a_bad_verdict_takes_the_release_back_and_the_history_says_why(world: World) -> None:
    await world.progressing()
    await world.judge(VerdictKind.ROLLBACK)
    await world.until(State.ROLLED_BACK)
    state = await world.router.read(SHOP)
    assert (state.stable.revision, state.weight, state.aborted) == (OLD, 0, (NEW,))
    (release,) = await world.store.history(SHOP)
    assert (release.outcome, release.version) == (Outcome.ROLLED_BACK, "2")
    assert release.verification is not None


def standing(state: State, target: str, canary: str | None = None) -> Rollout:
    status = Status(state=state, stable=OLD, canary=canary)
    return Rollout(name=SHOP, service=SHOP, route=SHOP, target=target, status=status)


def test_a_rollout_asks_for_something_while_a_release_is_on_its_way_or_wanted() -> None:
    at_rest, taken_back = standing(State.IDLE, OLD), standing(State.ROLLED_BACK, NEW, NEW)
    assert all(map(asks_nothing, (at_rest, taken_back, standing(State.INITIALIZING, OLD))))
    retry = Command(id="retry", kind=CommandKind.RETRY, actor="operator", at=ManualClock().now())
    told = taken_back.model_copy(update={"commands": (retry,)})
    wanted, under_way = standing(State.IDLE, NEW), standing(State.PROGRESSING, NEW, NEW)
    assert not any(map(asks_nothing, (wanted, told, under_way)))


async def test_verification_runs_once_for_a_release(world: World) -> None:
    await world.progressing()
    await world.until(State.PROMOTED, advance=True)
    await world.passes(5)
    assert world.verified == ["promotion"]


async def test_verification_runs_again_after_a_restart_that_lost_it(world: World) -> None:
    world.publishes = False
    await world.progressing()
    await world.until(State.BAKING, advance=True)
    await world.passes(2)
    assert world.verified
    before = len(world.verified)
    world.restarted()
    world.publishes = True
    await world.until(State.PROMOTED, advance=True)
    assert len(world.verified) == before + 1


async def test_a_verification_that_the_rollout_left_behind_is_ended(world: World) -> None:
    ended = asyncio.Event()

    async def endless(_: object, kind: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if kind == "promotion":
                ended.set()

    world.controller = type(world.controller)(
        world.store, world.router, world.workload, world.clock, endless, world.hands
    )
    await world.progressing()
    await world.until(State.BAKING, advance=True)
    await world.passes(2)
    assert not ended.is_set()
    await world.say(CommandKind.ABORT)
    await world.until(State.ROLLING_BACK)
    await world.passes(2)
    async with asyncio.timeout(1):
        await ended.wait()
    await world.store.remove(SHOP)
    await world.passes(2)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("verify")]


async def test_a_verification_that_breaks_off_is_told_and_keeps_nothing_from_going_on(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("this is a defect")

    world.controller = type(world.controller)(
        world.store, world.router, world.workload, world.clock, broken, world.hands
    )
    await world.progressing()
    await world.until(State.BAKING, advance=True)
    await world.passes(20)
    assert capsys.readouterr().err.count("ValueError: this is a defect") == 1
    assert (await world.status()).state is State.BAKING
    await world.store.remove(SHOP)
    await world.passes(2)


async def test_stable_with_nobody_ready_keeps_its_last_addresses(world: World) -> None:
    await world.serving()
    before = (await world.router.read(SHOP)).stable
    for instance in (await world.workload.state(SHOP)).instances:
        world.workload.make_unready(instance.name)
    await world.passes(3)
    assert (await world.router.read(SHOP)).stable == before


async def test_an_instance_that_is_no_longer_ready_leaves_the_traffic_object(world: World) -> None:
    await world.serving()
    first, second = (await world.workload.state(SHOP)).instances
    world.workload.make_unready(first.name)
    await world.passes()
    assert [b.instance for b in (await world.router.read(SHOP)).stable.backends] == [second.name]


async def test_draining_instances_stay_until_the_data_plane_forgot_them(world: World) -> None:
    await world.progressing()
    world.router.freeze()
    await world.judge(VerdictKind.ROLLBACK)
    await world.passes(10)
    assert len((await world.workload.state(SHOP)).of(NEW)) > 0
    world.router.blind()
    world.router.thaw()
    await world.passes(10)
    assert len((await world.workload.state(SHOP)).of(NEW)) > 0, "nobody has seen that it is forgotten"
    world.router.blind(False)
    await world.until(State.ROLLED_BACK)
    assert (await world.workload.state(SHOP)).of(NEW) == ()


async def test_draining_instances_stay_while_the_traffic_object_cannot_be_read(world: World) -> None:
    await world.serving()
    spare = (await world.workload.state(SHOP)).instances[-1].name
    rollout = await world.store.get(SHOP)
    await world.store.put(rollout.model_copy(update={"replicas": 1}))
    world.router.freeze()
    await world.passes(2)
    draining = [
        i.name for i in (await world.workload.state(SHOP)).instances if i.state is InstanceState.DRAINING
    ]
    assert draining == [spare]
    world.router.fail_next("read", Unavailable("away"), times=3)
    world.router.thaw()
    await world.passes(3)
    assert len((await world.workload.state(SHOP)).instances) == 2
    await world.passes(2)
    assert len((await world.workload.state(SHOP)).instances) == 1


async def test_fewer_replicas_are_obeyed_one_instance_after_the_other_leaving_the_router_first(
    world: World,
) -> None:
    await world.serving()
    rollout = await world.store.get(SHOP)
    await world.store.put(rollout.model_copy(update={"replicas": 1}))
    await world.passes(4)
    (left,) = (await world.workload.state(SHOP)).instances
    assert [b.instance for b in (await world.router.read(SHOP)).stable.backends] == [left.name]


async def test_drift_by_hand_is_told_once_and_put_back(world: World) -> None:
    await world.progressing()
    state = await world.router.read(SHOP)
    world.router.meddle(state.model_copy(update={"weight": 90}))
    await world.passes(4)
    assert (await world.router.read(SHOP)).weight == 50
    (message,) = await world.told("Drift")
    assert "90 % instead of 50 %" in message


@pytest.mark.parametrize("fault", ["conflict", "away", "lose_answers"])
async def test_drift_is_told_also_when_the_save_that_tells_of_it_fails(world: World, fault: str) -> None:
    await world.progressing()
    state = await world.router.read(SHOP)
    world.router.meddle(state.model_copy(update={"weight": 90}))
    getattr(world.store, fault)(1)
    world.clock.advance(timedelta(seconds=1))
    await world.passes(5)
    assert (await world.router.read(SHOP)).weight == 50
    assert len(await world.told("Drift")) == 1


async def test_drift_from_before_a_restart_is_told(world: World) -> None:
    await world.serving()
    state = await world.router.read(SHOP)
    world.router.meddle(state)
    world.restarted()
    await world.passes(3)
    assert len(await world.told("Drift")) == 1
    assert not (await world.router.read(SHOP)).drifted


async def test_drift_that_cannot_be_put_back_yet_is_not_told_again(world: World) -> None:
    await world.progressing()
    state = await world.router.read(SHOP)
    world.router.meddle(state.model_copy(update={"weight": 90}))
    world.router.fail_next("write", Unavailable("away"), times=5)
    await world.passes(8)
    assert len(await world.told("Drift")) == 1
    assert (await world.router.read(SHOP)).weight == 50


async def test_a_write_that_conflicts_is_decided_again(world: World) -> None:
    await world.serving()
    await world.want("2")
    world.router.fail_next("write", Conflict("somebody was quicker"), times=3)
    await world.until(State.PROGRESSING)
    while (await world.status()).step_clock is None:
        await world.passes()
    assert (await world.router.read(SHOP)).weight == 50


async def test_memory_does_not_grow_with_releases(world: World) -> None:
    await world.serving()
    for number in range(2, 8):
        await world.want(str(number))
        await world.until(State.PROGRESSING)
        await world.until(State.PROMOTED, advance=True)
        await world.passes(4)
    controller, templates = world.controller, world.hands._templates
    assert templates.revisions(SHOP) == {(await world.status()).stable}

    def sizes() -> dict[str, int]:
        return {
            name: len(value)
            for part in (controller, controller._records, templates, controller._drift)
            for name, value in vars(part).items()
            if isinstance(value, dict)
        }

    assert all(size <= 1 for size in sizes().values()), sizes()
    await world.store.remove(SHOP)
    await world.passes(2)
    assert not any(sizes().values()), sizes()
