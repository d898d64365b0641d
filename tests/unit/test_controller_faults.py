"""The rollout controller while store, router or workload fail: abort first, lose nothing, twice nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from tests.unit.controller_setting import FOREVER, MINUTE, SHOP, World, kept, revision

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.kernel.errors import Conflict, Latched, Terminal, Unavailable
from phoenix_orch.rollout import attempts, controller
from phoenix_orch.rollout.status import CommandKind, Outcome, State
from phoenix_orch.rollout.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
OLD, NEW = revision("1"), revision("2")


@pytest.fixture
def world() -> World:
    return World()


class Calls:
    """Notes the order of calls of some methods."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self._monkeypatch = monkeypatch

    def watch(self, owner: object, *names: str) -> None:
        for name in names:
            original = getattr(owner, name)

            async def noted(
                *args: object, _name: str = name, _call: object = original, **more: object
            ) -> object:
                self.made.append(_name)
                return await _call(*args, **more)  # type: ignore[operator]

            self._monkeypatch.setattr(owner, name, noted)


async def test_the_abort_comes_before_every_other_action(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.progressing()
    await world.judge(VerdictKind.ROLLBACK)
    calls = Calls(monkeypatch)
    calls.watch(world.router, "abort", "write", "clear_latch")
    calls.watch(world.store, "save")
    calls.watch(world.workload, "scale", "release")
    await world.passes()
    assert calls.made[0] == "abort"


async def test_an_abort_is_made_though_nothing_else_works(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.progressing()
    world.store.conflict(FOREVER)
    world.router.fail_next("abort", Unavailable("away"), times=1)
    await world.judge(VerdictKind.ROLLBACK)

    async def unreadable(_: str) -> object:
        raise Unavailable("the workload cannot be read")

    monkeypatch.setattr(world.workload, "state", unreadable)
    await world.passes(2)
    assert (await world.router.read(SHOP)).aborted == (NEW,)
    assert (await world.router.read(SHOP)).weight == 0
    assert (await world.status()).state is State.PROGRESSING, "the save conflicted"


async def test_words_that_hang_are_waited_for_side_by_side_and_not_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R2: the store answers and its log hangs, as a Redis does that was stopped."""
    await world.progressing()
    waiting: set[str] = set()
    most: list[int] = []

    def hang(word: str) -> None:
        async def call(*_: object) -> object:
            waiting.add(word)
            most.append(len(waiting))
            try:
                await asyncio.Event().wait()
            finally:
                waiting.discard(word)
            raise AssertionError

        monkeypatch.setattr(world.store, word, call)

    for word in ("judged", "cause", "verification"):
        hang(word)
    monkeypatch.setattr(attempts, "HEARING", 0.05)
    monkeypatch.setattr(controller, "PASS_LIMIT", 1.0)  # what comes after the abort may wait for the log
    await world.say(CommandKind.ABORT)
    await world.passes()
    assert (await world.router.read(SHOP)).aborted == (NEW,)
    assert max(most) == 3


async def test_an_abort_under_way_goes_on_while_the_store_is_away(world: World) -> None:
    await world.progressing()
    world.router.fail_next("abort", Unavailable("away"), times=3)
    await world.judge(VerdictKind.ROLLBACK)
    await world.passes()
    world.store.away(FOREVER)
    assert (await world.router.read(SHOP)).weight == 50
    await world.passes(4)
    assert (await world.router.read(SHOP)).weight == 0
    world.store.away(0)
    await world.until(State.ROLLED_BACK)


async def test_an_abort_that_fails_is_tried_again_soon_and_without_spinning(world: World) -> None:
    await world.progressing()
    await world.judge(VerdictKind.ROLLBACK)
    world.router.fail_next("abort", Unavailable("away"), times=50)
    waits = [await world.controller.reconcile_all() for _ in range(5)]
    assert all(0.01 <= wait.total_seconds() <= 0.1 for wait in waits)


@pytest.mark.parametrize("kind", [VerdictKind.ADVANCE, VerdictKind.ROLLBACK])
async def test_after_a_conflict_nothing_but_the_abort_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: VerdictKind
) -> None:
    await world.progressing()
    world.clock.advance(2 * MINUTE)
    await world.judge(kind)
    world.store.conflict(1)
    calls = Calls(monkeypatch)
    calls.watch(world.router, "abort", "write", "clear_latch")
    calls.watch(world.workload, "scale", "release")
    await world.controller.reconcile_all()
    assert calls.made == (["abort"] if kind is VerdictKind.ROLLBACK else [])


async def test_a_conflict_is_no_fault_to_complain_of(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.progressing()
    world.clock.advance(2 * MINUTE)
    await world.judge(VerdictKind.ADVANCE)
    world.store.conflict(1)
    await world.passes(2)
    output = capsys.readouterr().err
    assert "warning" not in output
    assert output.count("step 2 of 2") == 1, "what was not recorded was not told either"


async def test_a_latch_written_meanwhile_is_followed(world: World) -> None:
    await world.serving()
    await world.want("2")
    while (await world.workload.state(SHOP)).of(NEW) == ():
        await world.passes()
    world.router.fail_next("write", Latched("latched meanwhile"))
    await world.router.abort(SHOP, NEW)
    await world.until(State.ROLLED_BACK)
    assert all(weight == 0 for _, weight in world.weights())


async def test_a_release_goes_on_from_what_was_decided_while_the_store_was_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory of it a fast return would be swapped back and then in again."""
    monkeypatch.setattr("phoenix_orch.rollout.verifications.PAUSE", 0)
    await world.serving()
    await world.want("2")
    await world.until(State.PROMOTED, advance=True)
    await world.passes(3)
    await world.want("1", fast=True)
    await world.until(State.STARTING)
    world.store.away(FOREVER)
    await world.passes(30)
    world.store.away(0)
    await world.until(State.PROMOTED, advance=True)
    stables = [stable for stable, _ in world.weights()]
    assert [s for i, s in enumerate(stables) if i == 0 or s != stables[i - 1]] == [OLD, NEW, OLD]


@pytest.mark.parametrize("outage", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("begins", [0, 1, 2, 3, 5])
async def test_an_outage_of_the_store_loses_no_event_and_writes_none_twice(
    world: World, begins: int, outage: int
) -> None:
    await world.serving()
    await world.want("2")
    await world.passes(begins)
    world.store.lose_answers(1 if begins % 2 else 0)
    await world.passes()
    world.store.away(outage * 4)
    await world.passes(outage)
    world.store.away(0)
    world.store.lose_answers(0)
    await world.until(State.PROGRESSING)
    await world.until(State.BAKING, advance=True)
    await world.say(CommandKind.ABORT)
    await world.until(State.ROLLED_BACK)
    reasons = Counter(e.reason for e in await world.store.events(SHOP, limit=1000))
    once = ("Idle", "Starting", "Progressing", "Step", "Promoting", "Baking", "RollingBack", "RolledBack")
    assert {reason: reasons[reason] for reason in once} == dict.fromkeys(once, 1)
    (release,) = await world.store.history(SHOP)
    assert release.outcome is Outcome.ROLLED_BACK


async def test_every_save_may_lose_its_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.serving()
    original = MemoryStore.save

    async def lossy(self: MemoryStore, *args: object, **more: object) -> object:
        self.lose_answers(1)
        return await original(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryStore, "save", lossy)
    await world.want("2")
    await world.until(State.PROMOTED, advance=True)
    reasons = Counter(e.reason for e in await world.store.events(SHOP, limit=1000))
    once = ("Starting", "Progressing", "Step", "Promoting", "Baking", "Promoted")
    assert {reason: reasons[reason] for reason in once} == dict.fromkeys(once, 1)
    assert len(await world.store.history(SHOP)) == 1


async def test_decisions_are_void_for_a_rollout_that_was_made_anew_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.progressing()
    await world.judge(VerdictKind.ROLLBACK)

    async def away(*_: object, **__: object) -> object:
        raise Unavailable("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "save", away)
        await world.passes(2)
    await world.store.remove(SHOP)
    await world.create(version="3")
    await world.passes(3)
    status = await world.status()
    assert status.state in {State.INITIALIZING, State.IDLE}
    assert status.stable == revision("3")


async def test_while_the_store_is_away_instances_are_still_routed(world: World) -> None:
    await world.serving()
    await world.passes()
    world.store.away(FOREVER)
    gone, other = (await world.workload.state(SHOP)).instances
    world.workload.crash(gone.name, restart=False)
    await world.passes(2)
    assert [b.instance for b in (await world.router.read(SHOP)).stable.backends] == [other.name]


async def test_a_damaged_verdict_or_record_delays_no_abort(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.progressing()

    async def damaged(*_: object) -> object:
        raise Terminal("the store holds something else here")

    for name in ("verdict", "cause", "verification"):
        monkeypatch.setattr(world.store, name, damaged)
    await world.say(CommandKind.ABORT)
    await world.passes()
    assert (await world.router.read(SHOP)).aborted == (NEW,)
    for name in ("rollouts", "get", "save"):
        monkeypatch.setattr(world.store, name, damaged)
    await world.passes(3)


async def test_one_revision_that_cannot_be_read_keeps_no_other_from_serving(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.create()
    damaged = kept("2").model_copy(update={"template": {"command": ["x"], "env": {"TOKEN": "hidden"}}})
    await world.store.add_revision(SHOP, damaged)
    await world.until(State.IDLE)
    rollout = await world.store.get(SHOP)
    await world.store.put(rollout.model_copy(update={"target": NEW}))
    first, second = (await world.workload.state(SHOP)).instances
    world.workload.make_unready(first.name)
    await world.passes(10)
    output = capsys.readouterr().err
    assert output.count("cannot be read from the store") == 1
    assert "hidden" not in output
    assert [b.instance for b in (await world.router.read(SHOP)).stable.backends] == [second.name]


async def test_an_unknown_revision_is_told_with_a_remedy_and_stable_serves(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.serving()
    rollout = await world.store.get(SHOP)
    await world.store.put(rollout.model_copy(update={"target": "0123456789"}))
    await world.passes(10)
    output = capsys.readouterr().err
    assert output.count("0123456789 of shop is not in the store (apply the configuration") == 1
    assert len((await world.workload.state(SHOP)).ready(OLD)) == 2


async def test_no_fault_of_one_rollout_stops_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.create("a")
    await world.create("b")
    original = world.router.observe

    async def broken(route: str) -> object:
        if route == "a":
            raise AssertionError("a defect nobody foresaw")
        return await original(route)

    monkeypatch.setattr(world.router, "observe", broken)
    await world.passes(4)
    assert (await world.status("b")).state is State.IDLE
    assert (await world.status("a")).state is State.INITIALIZING
    monkeypatch.setattr(world.router, "observe", original)
    await world.passes(3)
    assert (await world.status("a")).state is State.IDLE


async def test_a_rollout_that_hangs_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phoenix_orch.rollout.controller.PASS_LIMIT", 0.05)
    await world.create("a")
    await world.create("b")
    original = world.router.read

    async def hangs(route: str) -> object:
        if route == "a":
            await asyncio.Event().wait()
        return await original(route)

    monkeypatch.setattr(world.router, "read", hangs)
    async with asyncio.timeout(5):
        await world.passes(4)
    assert (await world.status("b")).state is State.IDLE


async def test_a_fault_is_told_once_and_again_after_it_was_over(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.serving()
    capsys.readouterr()
    for _ in range(2):
        world.router.fail_next("read", Unavailable("traefik is away"), times=4)
        await world.passes(4)
        output = capsys.readouterr().err
        assert output.count("traefik is away") == 1
        await world.passes(2)
        assert capsys.readouterr().err.count("works again") == 1


async def test_an_outage_of_the_store_is_told_once_for_each_rollout(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.create("a")
    await world.create("b")
    await world.passes(3)
    capsys.readouterr()
    world.store.away(FOREVER)
    await world.passes(5)
    assert capsys.readouterr().err.count("is away") == 3  # a, b and the list of them
    world.store.away(0)
    await world.passes(2)
    assert capsys.readouterr().err.count("works again") == 3


async def test_run_passes_again_when_woken_and_leaves_nothing_behind(world: World) -> None:
    await world.create()
    before = asyncio.all_tasks()
    running = asyncio.create_task(world.controller.run())
    async with asyncio.timeout(10):
        while (await world.status()).state is not State.IDLE:
            await asyncio.sleep(0.005)
    await world.want("2")
    world.controller.wake()
    async with asyncio.timeout(0.9):  # a resting tick is a second
        while (await world.status()).state is State.IDLE:
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert asyncio.all_tasks() == before


async def test_a_change_of_a_service_is_looked_at_before_others_are_due(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create()
    await world.create("other")
    await world.until(State.IDLE)
    passed: list[str] = []
    reconcile = world.controller.reconcile

    async def noted(name: str) -> timedelta:
        passed.append(name)
        return await reconcile(name)

    monkeypatch.setattr(world.controller, "reconcile", noted)
    running = asyncio.create_task(world.controller.run())
    async with asyncio.timeout(10):
        while len(passed) < 2:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        passed.clear()
        world.controller.wake(SHOP)
        while not passed:
            await asyncio.sleep(0.005)
    assert passed[0] == SHOP  # woken together they would come in order, this one last
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_persistent_conflict_does_not_spin(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.serving()
    await world.want("2")
    count = 0

    async def conflict(*_: object, **__: object) -> object:
        nonlocal count
        count += 1
        raise Conflict("always somebody else")

    monkeypatch.setattr(world.store, "save", conflict)
    running = asyncio.create_task(world.controller.run())
    await asyncio.sleep(0.3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert 1 <= count <= 31


async def test_what_keeps_an_abort_from_being_made_can_be_asked_until_it_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.progressing()
    await world.judge(VerdictKind.ROLLBACK)
    fault = Unavailable("the routes cannot be written", remedy="free some space")
    with monkeypatch.context() as patch:

        async def refuse(*_: object) -> object:
            raise fault

        patch.setattr(world.router, "abort", refuse)
        await world.passes(2)
        assert world.controller.faults(SHOP)["abort"] is fault
        assert world.controller.faults("another") == {}
    await world.router.abort(SHOP, NEW)  # by hand, from a command line
    await world.passes()
    assert world.controller.faults(SHOP) == {}
