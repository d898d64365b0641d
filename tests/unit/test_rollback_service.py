"""The rollback controller's look: every trigger latches at once, whatever else fails, and says why once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.controller_setting import FOREVER, SHOP, revision, service, template

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.kernel.clock import ManualClock, ScaledClock
from phoenix_orch.kernel.errors import Terminal, Unavailable
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollback_controller.service import RollbackController
from phoenix_orch.rollout.spec import Check, CommandCheck, Policy, RolloutSpec
from phoenix_orch.rollout.status import Cause, Event, Revision, Rollout, State, Status
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.testing.fake_router import FakeRouter
from phoenix_orch.testing.fake_workload import FakeWorkload
from phoenix_orch.traffic.router import Backend, Group, TrafficState

pytestmark = pytest.mark.anyio
OLD, NEW = revision("1"), revision("2")
FAILS = Check(
    name="cart", exec=CommandCheck(command=("false",)), interval=timedelta(milliseconds=10), threshold=2
)
HANGS = Check(
    name="slow",
    exec=CommandCheck(command=("sleep", "60")),
    interval=timedelta(milliseconds=10),
    timeout=timedelta(seconds=30),
)


class WallClock(ManualClock):
    """Moves by hand from now on: exits carry the time of the wall."""

    def __init__(self) -> None:
        super().__init__(datetime.now(UTC))


def group(name: str) -> Group:
    return Group(revision=name, backends=(Backend(instance=f"{name}-1", url=f"http://127.0.0.1/{name}"),))


class World:
    """Version 2 carries 5 % of the traffic of `shop`."""

    def __init__(self, clock: ManualClock | ScaledClock | None = None) -> None:
        self.clock = clock or WallClock()
        self.store = MemoryStore()
        self.router = FakeRouter()
        self.workload = FakeWorkload()
        self.controller = RollbackController(
            self.store, self.router, self.workload, self.clock, route=lambda _: Route("http://127.0.0.1:1")
        )

    async def prepare(self, *checks: Check, name: str = SHOP, **policy: object) -> None:
        await self.workload.declare(name, service("1"))
        for version in ("1", "2"):
            await self.workload.scale(name, template(version), 1)
        await self.router.write(TrafficState(route=name, stable=group(OLD), canary=group(NEW), weight=5))
        spec = RolloutSpec(checks=checks, policy=Policy(**policy))  # type: ignore[arg-type]
        await self.store.put(Rollout(name=name, service=name, route=name, spec=spec, target=NEW))
        await self.set(name=name)

    async def set(self, *, name: str = SHOP, **changes: object) -> None:
        """Put the rollout into a state, by default 5 % of release 1."""
        now = self.clock.now()
        fields = {
            "state": State.PROGRESSING,
            "stable": OLD,
            "canary": NEW,
            "release": 1,
            "release_started": now,
            "step_clock": now,
            "weight": 5,
        }
        await self.store.save(await self.store.get(name), Status.model_validate(fields | changes))

    async def crash(self, times: int = 1, *, name: str = SHOP, reason: str = "exited") -> None:
        for _ in range(times):
            (instance,) = (await self.workload.state(name)).of(NEW)
            self.workload.crash(instance.name, reason=reason)

    async def say(self, kind: VerdictKind, revision: str = NEW) -> None:
        verdict = Verdict(kind=kind, revision=revision, step=0, at=self.clock.now(), reason="too many errors")
        await self.store.put_verdict(SHOP, verdict, "")

    async def latched(self, name: str = SHOP) -> bool:
        state = await self.router.read(name)
        return NEW in state.aborted and (state.weight == 0 or state.canary is None)

    async def until_latched(self, seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not await self.latched():
            assert time.monotonic() < deadline, "not latched"
            await self.controller.look()
            await asyncio.sleep(0.01)

    async def told(self) -> list[Event]:
        return [event for event in await self.store.events(SHOP) if event.reason == "Latched"]


@asynccontextmanager
async def world(
    *checks: Check, clock: ManualClock | ScaledClock | None = None, **policy: object
) -> AsyncIterator[World]:
    made = World(clock)
    await made.prepare(*checks, **policy)
    try:
        yield made
    finally:
        await made.controller.stop()


async def test_nothing_is_taken_back_without_a_reason() -> None:
    async with world() as w:
        await w.say(VerdictKind.HOLD)
        await w.controller.look()
        assert not await w.latched()
        assert await w.told() == []


async def test_a_rollback_verdict_latches_in_one_look_and_says_why() -> None:
    async with world() as w:
        await w.say(VerdictKind.ROLLBACK)
        await w.controller.look()
        assert await w.latched()
        (event,) = await w.told()
        assert (event.message, event.release, event.actor) == (
            "verdict: too many errors",
            1,
            "rollback-controller",
        )
        cause = await w.store.cause(SHOP, NEW)
        assert cause is not None
        assert (cause.trigger, cause.weight) == ("verdict", 5)


async def test_a_crash_loop_latches_in_one_look() -> None:
    async with world() as w:
        await w.crash()
        await w.controller.look()
        assert not await w.latched(), "one exit is no loop"
        await w.crash()
        await w.controller.look()
        assert await w.latched()


async def test_out_of_memory_latches_in_one_look() -> None:
    async with world() as w:
        await w.crash(reason="oom")
        await w.controller.look()
        assert await w.latched()


async def test_silence_of_the_validator_latches_where_the_policy_says_so() -> None:
    clock = WallClock()
    async with world(clock=clock, on_stale_verdict="rollback") as w:
        clock.advance(timedelta(minutes=1))
        await w.controller.look()
        assert not await w.latched()
        clock.advance(timedelta(minutes=2))
        await w.controller.look()
        assert await w.latched()


async def test_a_failing_check_latches_and_ends() -> None:
    async with world(FAILS) as w:
        await w.until_latched()
        cause = await w.store.cause(SHOP, NEW)
        assert cause is not None
        assert cause.trigger == "check/cart"
        await w.controller.look()
        await asyncio.sleep(0.05)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("check ")]


TALKS = Check(
    name="cart",
    exec=CommandCheck(command=("sh", "-c", "echo the key s3cr3tCanary is refused; exit 1")),
    interval=timedelta(milliseconds=10),
    threshold=2,
)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (True, "sh: exit status 1: the key <masked> is refused"),
        (False, "sh: exit status 1; its output is not shown while the store is away"),
    ],
)
async def test_what_a_check_says_is_told_without_the_secrets_of_its_revision(stored: bool, said: str) -> None:
    async with world(TALKS) as w:
        if stored:
            secretive = template("2").model_copy(update={"env": {"API_KEY": "s3cr3tCanary"}})
            kept = Revision(
                revision=NEW,
                number=0,
                version="2",
                at=w.clock.now(),
                template=secretive.model_dump(mode="json", by_alias=True),
            )
            await w.store.add_revision(SHOP, kept)
        await w.until_latched()
        (event,) = await w.told()
        assert event.message.startswith("check/cart: check cart failed ")
        assert event.message.endswith(f" times in a row: {said}")
        cause = await w.store.cause(SHOP, NEW)
        assert cause is not None
        assert cause.reason.endswith(said)


async def test_a_bake_is_watched_and_the_previous_group_takes_over() -> None:
    async with world() as w:
        state = await w.router.read(SHOP)
        await w.router.write(
            state.model_copy(
                update={"stable": group(NEW), "canary": None, "previous": group(OLD), "weight": 0}
            )
        )
        await w.set(state=State.BAKING, stable=NEW, canary=None, previous=OLD)
        await w.say(VerdictKind.ROLLBACK)
        await w.controller.look()
        assert (await w.router.read(SHOP)).stable.revision == OLD


async def test_a_canary_that_hangs_and_a_new_stable_that_hangs_latch_in_one_look() -> None:
    async with world() as w:
        (instance,) = (await w.workload.state(SHOP)).of(NEW)
        w.workload.make_unready(instance.name)
        await w.controller.look()
        assert await w.latched()
        cause = await w.store.cause(SHOP, NEW)
        assert cause is not None
        assert cause.trigger == "unready"
    async with world() as w:
        state = await w.router.read(SHOP)
        baking = {"stable": group(NEW), "canary": None, "previous": group(OLD), "weight": 0}
        await w.router.write(state.model_copy(update=baking))
        await w.set(state=State.BAKING, stable=NEW, canary=None, previous=OLD, weight=0)
        await w.controller.look()
        assert (await w.router.read(SHOP)).stable.revision == NEW
        (instance,) = (await w.workload.state(SHOP)).of(NEW)
        w.workload.make_unready(instance.name)
        await w.controller.look()
        assert (await w.router.read(SHOP)).stable.revision == OLD


@pytest.mark.parametrize("crash", [True, False], ids=["crash-loop", "check"])
async def test_it_latches_while_the_store_is_away_and_says_why_when_it_is_back(crash: bool) -> None:
    async with world(*([] if crash else [FAILS])) as w:
        await w.controller.look()
        w.store.away(FOREVER)
        if crash:
            await w.crash(2)
            await w.controller.look()
            assert await w.latched()
        else:
            await w.until_latched()
        for _ in range(3):
            await w.controller.look()
        w.store.away(0)
        for _ in range(3):
            await w.controller.look()
        assert len(await w.told()) == 1
        assert await w.store.cause(SHOP, NEW) is not None


async def test_a_store_that_hangs_delays_no_latch(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        await w.controller.look()

        async def hangs(*_: object) -> object:
            await asyncio.Event().wait()
            raise AssertionError

        for name in ("rollouts", "verdict", "put_cause", "append_events"):
            monkeypatch.setattr(w.store, name, hangs)
        await w.crash(2)
        before = time.monotonic()
        await w.controller.look()
        assert await w.latched()
        await w.controller.look()
        assert time.monotonic() - before < 2


@pytest.mark.parametrize(
    "error", [Terminal("damaged"), ValueError("a defect")], ids=["terminal", "unforeseen"]
)
async def test_a_store_that_cannot_be_read_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with world() as w:
        await w.controller.look()

        async def broken(*_: object) -> object:
            raise error

        monkeypatch.setattr(w.store, "rollouts", broken)
        await w.crash(2)
        await w.controller.look()
        assert await w.latched()


async def test_an_abort_that_fails_is_made_by_the_next_look_and_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with world() as w:
        await w.say(VerdictKind.ROLLBACK)
        w.router.fail_next("abort", Unavailable("the disk is away"), times=3)
        for _ in range(3):
            await w.controller.look()
            assert not await w.latched()
            assert await w.told() == []
        await w.controller.look()
        assert await w.latched()
        assert len(await w.told()) == 1
        output = capsys.readouterr().err
        assert output.count("the disk is away") == 1
        assert output.count("works again") == 1


async def test_the_cause_is_told_once_though_answers_get_lost() -> None:
    async with world() as w:
        await w.say(VerdictKind.ROLLBACK)
        await w.controller.look()
        w.store.lose_answers(2)
        for _ in range(5):
            await w.controller.look()
        assert len(await w.told()) == 1


async def test_a_defect_in_one_rollout_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        await w.prepare(name="a")
        original = w.workload.state

        async def broken(name: str) -> object:
            if name == "a":
                raise ValueError("a defect nobody foresaw")
            return await original(name)

        monkeypatch.setattr(w.workload, "state", broken)
        await w.say(VerdictKind.ROLLBACK)
        await w.controller.look()
        assert await w.latched()


async def test_one_rollout_that_hangs_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        await w.prepare(name="a")
        original = w.workload.state

        async def hangs(name: str) -> object:
            if name == "a":
                await asyncio.Event().wait()
            return await original(name)

        monkeypatch.setattr(w.workload, "state", hangs)
        await w.controller.look()
        await w.say(VerdictKind.ROLLBACK)
        async with asyncio.timeout(5):
            await w.controller.look()
        assert await w.latched()


async def test_a_hanging_check_delays_neither_the_look_nor_its_own_end() -> None:
    async with world(HANGS) as w:
        await w.controller.look()
        await w.say(VerdictKind.ROLLBACK)
        async with asyncio.timeout(5):
            await w.controller.look()
            assert await w.latched()
            await w.controller.stop()


async def test_checks_end_when_the_revision_is_not_judged_any_more() -> None:
    async with world(HANGS) as w:
        async with asyncio.timeout(5):
            while not [task for task in asyncio.all_tasks() if task.get_name() == "check slow"]:
                await w.controller.look()
        await w.set(state=State.PROMOTED, stable=NEW, canary=None)
        async with asyncio.timeout(5):
            while [task for task in asyncio.all_tasks() if task.get_name() == "check slow"]:
                await w.controller.look()
                await asyncio.sleep(0.01)


async def test_checks_that_are_changed_under_way_begin_anew() -> None:
    async with world(HANGS) as w:
        await w.controller.look()
        rollout = await w.store.get(SHOP)
        await w.store.put(rollout.model_copy(update={"spec": RolloutSpec(checks=(FAILS,))}))
        await w.until_latched()


async def test_a_retry_is_judged_anew() -> None:
    """Neither the exits nor the failures of the checks of the first try count for the second."""
    slow = FAILS.model_copy(update={"interval": timedelta(hours=1)})
    async with world(slow) as w:
        await w.crash(2)
        await w.controller.look()
        assert await w.latched()
        await w.router.clear_latch(SHOP, NEW)
        await w.store.clear_cause(SHOP, NEW)
        started = datetime.now(UTC)
        await w.set(release=2, release_started=started)
        for _ in range(3):
            await w.controller.look()
        assert not await w.latched()
        await w.crash(2)
        await w.controller.look()
        assert await w.latched()
        assert [event.release for event in await w.told()] == [1, 2]


async def test_while_a_retry_lifts_the_latch_it_is_not_set_again() -> None:
    async with world() as w:
        await w.crash(2)
        await w.set(clear_latch=True)
        await w.controller.look()
        assert not await w.latched()


@pytest.mark.parametrize("speed", [0.5, 60.0, 600.0])
async def test_exits_are_counted_in_the_time_of_the_wall_however_fast_the_rollout_goes(speed: float) -> None:
    """Compressed time has run ahead for days; exits of this minute belong to this release."""
    epoch = datetime.now(UTC) - timedelta(hours=5)
    async with world(clock=ScaledClock(speed, epoch)) as w:
        await w.crash(2)
        await w.controller.look()
        assert await w.latched()


async def test_exits_before_the_release_do_not_count_on_a_scaled_clock() -> None:
    clock = ScaledClock(600.0, datetime.now(UTC) - timedelta(hours=5))
    async with world(clock=clock) as w:
        await w.crash(2)
        await w.set(release=2, release_started=clock.now() + timedelta(minutes=10))  # a second on the wall
        await w.controller.look()
        assert not await w.latched()


async def test_memory_does_not_grow() -> None:
    async with world(FAILS) as w:
        await w.until_latched()
        await w.store.remove(SHOP)
        for _ in range(3):
            await w.controller.look()
            await asyncio.sleep(0.05)
        sizes = {
            name: len(value)
            for name, value in vars(w.controller).items()
            if isinstance(value, dict | set | list) and name not in {"_beside", "_routes"}
        }
        assert set(sizes.values()) == {0}, sizes


async def test_run_looks_at_once_when_the_store_changes_and_leaves_nothing_running() -> None:
    async with world(FAILS) as w:
        before = asyncio.all_tasks()
        running = asyncio.create_task(w.controller.run())
        async with asyncio.timeout(5):
            while not await w.latched():
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize("fault", [Unavailable("the store is away"), KeyError("cause")])
async def test_a_cause_that_cannot_be_written_keeps_no_other_waiting(fault: Exception) -> None:
    class Faulty(MemoryStore):
        broken = True

        async def put_cause(self, rollout: str, cause: Cause) -> None:
            if self.broken and rollout == SHOP:
                raise fault
            await super().put_cause(rollout, cause)

    w = World()
    w.store = store = Faulty()
    w.controller = RollbackController(
        store, w.router, w.workload, w.clock, route=lambda _: Route("http://127.0.0.1:1")
    )
    names = (SHOP, "cart")
    try:
        for name in names:
            await w.prepare(name=name)
            verdict = Verdict(
                kind=VerdictKind.ROLLBACK, revision=NEW, step=0, at=w.clock.now(), reason="too many errors"
            )
            await store.put_verdict(name, verdict, "")
        await w.controller.look()
        assert [await w.latched(name) for name in names] == [True, True]
        assert [await store.cause(name, NEW) is not None for name in names] == [False, True]
        store.broken = False
        await w.controller.look()
        assert await store.cause(SHOP, NEW) is not None
        assert len(await w.told()) == 1
    finally:
        await w.controller.stop()
