"""Tasks on a real Valkey: how they run, end, are retried, cancelled, limited and followed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.tasks.kinds import REGISTRY, lines

from phoenix_orch.kernel.errors import BadState, Invalid, NotFound, Terminal
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.runtime.valkey_server import ServerInfo
from phoenix_orch.security import acting
from phoenix_orch.security.acting import Caller
from phoenix_orch.security.rights import Kind, Principal
from phoenix_orch.tasks.outcome import Settled
from phoenix_orch.tasks.port import RunRequest
from phoenix_orch.tasks.record import ENDED, LogKind, State, TaskRecord
from phoenix_orch.tasks.schedule import Schedule, Timing
from phoenix_orch.tasks.scheduler import Scheduler
from phoenix_orch.tasks.service import TaskService
from phoenix_orch.tasks.spec import Priority
from phoenix_orch.tasks.store import Due, Heard, TaskStore, Unwanted
from phoenix_orch.tasks.worker import TaskWorker, WorkerSettings

PATIENCE = 30.0
LEASE = timedelta(seconds=10)
SWEEP = timedelta(seconds=0.2)
NORMAL = {Priority.NORMAL: 1}
_numbers = itertools.count()


class Setting:
    """The store and the service over it; workers as one needs them."""

    def __init__(self, store: TaskStore) -> None:
        self.store = store
        self.schedules: dict[str, Schedule] = {}
        self.tasks = TaskService(store, REGISTRY, lambda: self.schedules)

    @contextlib.asynccontextmanager
    async def worker(self, *, drain: float = 0.2, **settings: int) -> AsyncIterator[TaskWorker]:
        worker = TaskWorker(
            self.store,
            REGISTRY,
            lambda: self.schedules,
            WorkerSettings(lease=LEASE, sweep=SWEEP, drain=timedelta(seconds=drain), name="w", **settings),
        )
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def run(self, kind: str, target: str = "", key: str | None = None, **arguments: object) -> str:
        request = RunRequest(kind=kind, target=target, key=key, arguments=arguments)
        return (await self.tasks.run(request, actor="ann")).id

    async def taken(self, worker: str, lease: timedelta = LEASE) -> TaskRecord:
        """The task that a worker takes, which runs nowhere."""
        [record] = (await self.store.take(worker, lease, NORMAL)).records
        return record

    async def taken_from_the_dead(self, worker: str) -> TaskRecord:
        """The same, as if the lease of whoever has it were over."""
        await self.swept(timedelta(0))
        return await self.taken(worker, timedelta(0))

    async def swept(self, lease: timedelta) -> None:
        await self.store.client.delete(f"{self.store.prefix}sweeper")
        await self.store.sweep("nobody", lease, SWEEP)

    async def ended(self, task: str) -> TaskRecord:
        await until(lambda: self._is(task, *ENDED))
        return await self.tasks.show(task)

    async def _is(self, task: str, *states: State) -> bool:
        return (await self.tasks.show(task)).state in states

    async def running(self, task: str) -> None:
        await until(lambda: self._is(task, State.RUNNING))


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await found():
            await asyncio.sleep(0.02)


async def until_lines(path: Path, count: int) -> None:
    async def there() -> bool:
        return len(lines(path)) >= count

    await until(there)


@pytest.fixture
async def setting(server: ServerInfo) -> AsyncIterator[Setting]:
    prefix = f"test{next(_numbers)}:"
    store = TaskStore(server.url, prefix=prefix)
    yield Setting(store)
    await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines"


async def test_a_task_runs_and_says_what_it_did(setting: Setting) -> None:
    async with setting.worker():
        task = await setting.run("double", n=21)
        said = [entry async for entry in setting.tasks.follow(task)]
    found = await setting.tasks.show(task)
    assert (found.state, found.result, found.progress) == (State.SUCCEEDED, {"n": 42}, 1.0)
    assert (found.attempt, found.actor, found.worker) == (1, "ann", "w")
    assert [entry.state for entry in said if entry.kind is LogKind.STATE] == [
        State.QUEUED,
        State.RUNNING,
        State.SUCCEEDED,
    ]
    assert [entry.text for entry in said if entry.kind is LogKind.LOG] == [
        "doubling",
        "with password=<masked>",
    ]
    assert [entry.progress for entry in said if entry.kind is LogKind.PROGRESS] == [0.5, 1.0]


async def test_a_task_acts_for_whoever_wanted_it(setting: Setting) -> None:
    acting.current.set(Caller(Principal("ann", Kind.USER), "r-1", "unix"))
    task = await setting.run("who")
    acting.current.set(None)
    async with setting.worker():
        assert (await setting.ended(task)).result == {"name": "ann", "request": "r-1"}


async def test_following_goes_on_behind_an_entry(setting: Setting) -> None:
    async with setting.worker():
        task = await setting.run("double", n=1)
        said = [entry async for entry in setting.tasks.follow(task)]
        rest = [entry async for entry in setting.tasks.follow(task, after=said[2].id)]
        assert rest == said[3:]
        assert [entry async for entry in setting.tasks.follow(task, after=said[-1].id)] == []


async def test_a_task_is_tried_again_with_growing_pauses(setting: Setting) -> None:
    async with setting.worker():
        good, bad = await setting.run("flaky", n=3), await setting.run("flaky", n=4)
        found = await setting.ended(good)
        assert (found.state, found.attempt) == (State.SUCCEEDED, 3)
        found = await setting.ended(bad)
        assert (found.state, found.attempt, found.error) == (State.FAILED, 3, "not yet")


async def test_what_no_attempt_can_help_is_not_tried_again_and_tells_no_secret(setting: Setting) -> None:
    async with setting.worker():
        found = await setting.ended(await setting.run("hopeless"))
    assert (found.state, found.attempt) == (State.FAILED, 1)
    assert "hunter2" not in found.error
    assert "is wrong" in found.error


async def test_a_person_retries_what_failed(setting: Setting) -> None:
    async with setting.worker():
        task = await setting.run("flaky", n=4)
        await setting.ended(task)
        await setting.tasks.retry(task, actor="ann")
        found = await setting.ended(task)
        assert (found.state, found.attempt) == (State.FAILED, 3)
        done = await setting.run("nothing")
        await setting.ended(done)
        with pytest.raises(BadState, match="succeeded"):
            await setting.tasks.retry(done, actor="ann")


async def test_one_task_is_active_for_each_key(setting: Setting, path: Path) -> None:
    first = await setting.run("wait", key="deploy", path=str(path))
    assert await setting.run("wait", key="deploy", path=str(path)) == first
    async with setting.worker():
        await setting.running(first)
        assert await setting.run("nothing", key="deploy") == first
        await setting.tasks.cancel(first, actor="bob")
        await setting.ended(first)
        second = await setting.run("nothing", key="deploy")
        assert second != first
        with pytest.raises(NotFound):
            await setting.tasks.show("unknown")


async def test_a_cancelled_task_cleans_up_first(setting: Setting, path: Path) -> None:
    async with setting.worker():
        task = await setting.run("wait", path=str(path))
        await until_lines(path, 1)
        assert (await setting.tasks.cancel(task, actor="bob")).cancelling == "bob"
        found = await setting.ended(task)
    assert (found.state, found.error) == (State.CANCELLED, "cancelled by bob")
    assert lines(path) == ["begin 1", "cleaned"]


async def test_what_waits_is_cancelled_at_once_and_never_runs(setting: Setting, path: Path) -> None:
    task = await setting.run("wait", path=str(path))
    assert (await setting.tasks.cancel(task, actor="bob")).state is State.CANCELLED
    async with setting.worker():
        await setting.ended(await setting.run("nothing"))
    assert lines(path) == []
    with pytest.raises(BadState, match="is over"):
        await setting.tasks.cancel(task, actor="bob")


async def test_a_clean_up_that_does_not_end_is_left_to_itself(setting: Setting, path: Path) -> None:
    async with setting.worker():
        task = await setting.run("stubborn", path=str(path))
        await setting.running(task)
        await setting.tasks.cancel(task, actor="bob")
        found = await setting.ended(task)
    assert found.error == "cancelled by bob; its clean-up did not end within 0.2 s"


async def test_a_task_that_takes_too_long_is_cancelled_and_has_failed(setting: Setting, path: Path) -> None:
    async with setting.worker():
        found = await setting.ended(await setting.run("late", path=str(path)))
    assert (found.state, found.error) == (State.FAILED, "not done within its deadline of 0.1 s")
    assert lines(path) == ["cleaned"]


async def test_a_worker_that_ends_puts_back_what_it_runs(setting: Setting, path: Path) -> None:
    task = await setting.run("wait", path=str(path))
    async with setting.worker():
        await until_lines(path, 1)
    found = await setting.tasks.show(task)
    assert (found.state, found.attempt, found.deaths) == (State.QUEUED, 0, 0)
    assert lines(path) == ["begin 1", "cleaned"]
    async with setting.worker():
        await until_lines(path, 3)


@pytest.mark.parametrize(("kind", "targets"), [("one", 1), ("one-each", 3)])
async def test_no_more_run_at_once_than_may(
    setting: Setting, tmp_path: Path, kind: str, targets: int
) -> None:
    path = tmp_path / "lines"
    async with setting.worker():
        ids = [await setting.run(kind, target=f"t{n % targets}", path=str(path)) for n in range(12)]
        assert {(await setting.ended(task)).state for task in ids} == {State.SUCCEEDED}
    files = [path] if targets == 1 else [tmp_path / f"lines.t{n}" for n in range(targets)]
    for file in files:
        assert lines(file) == ["in", "out"] * (12 // targets)


async def test_urgent_tasks_do_not_wait_for_others(setting: Setting, path: Path) -> None:
    async with setting.worker(slots=2):
        for n in range(4):
            await setting.run("wait", path=f"{path}{n}")
        await until_lines(Path(f"{path}1"), 1)
        found = await setting.ended(await setting.run("restore", path=str(path)))
        assert found.state is State.SUCCEEDED
        assert (await setting.store.counts())[State.QUEUED] == 2


async def test_a_task_waits_for_its_time(setting: Setting) -> None:
    begin = datetime.now(UTC)
    request = RunRequest(kind="nothing", after=begin + timedelta(seconds=1))
    async with setting.worker():
        record = await setting.tasks.run(request, actor="ann")
        assert record.state is State.SCHEDULED
        found = await setting.ended(record.id)
    assert found.started is not None
    assert found.started - begin >= timedelta(seconds=0.99)


async def test_a_kind_that_nobody_knows_any_more_is_dead(setting: Setting) -> None:
    record = await setting.tasks.run(RunRequest(kind="nothing"), actor="ann", dry_run=True)
    unknown = record.model_copy(update={"kind": "gone"})
    await setting.store.create(unknown, REGISTRY.get("nothing").spec)
    async with setting.worker():
        found = await setting.ended(unknown.id)
    assert found.state is State.DEAD
    assert "no kind of task 'gone'" in found.error


async def test_bad_arguments_and_kinds_are_refused_with_what_is_allowed(setting: Setting) -> None:
    with pytest.raises(Invalid, match="n: "):
        await setting.run("double", n="hunter2")
    with pytest.raises(Invalid, match="takes no arguments; found x"):
        await setting.run("nothing", x=1)
    with pytest.raises(NotFound, match="no kind of task 'doubl'") as refused:
        await setting.run("doubl")
    assert refused.value.remedy == "did you mean 'double'?"


async def test_an_earlier_claim_is_not_heard(setting: Setting) -> None:
    """A worker that slept through its lease says nothing over the one that has the task now."""
    task = await setting.run("nothing")
    slept = await setting.taken("slow")
    assert slept.id == task
    assert (await setting.store.take("early", LEASE, NORMAL)).records == ()
    woke = await setting.taken_from_the_dead("quick")
    assert woke.id == task
    assert not await setting.store.tell(slept, lines=["hello"])
    assert not await setting.store.settle(slept, Settled(State.SUCCEEDED))
    assert await setting.store.beat({task: slept.fence}) == {task: "lost"}
    assert await setting.store.tell(woke, lines=["hello"])
    assert woke.deaths == 1


async def test_what_a_dead_worker_had_comes_before_what_was_wanted_later(setting: Setting) -> None:
    first = await setting.run("nothing")
    await setting.taken("dies")
    for _ in range(3):
        await setting.run("nothing")
    assert (await setting.taken_from_the_dead("w")).id == first


async def test_workers_hear_of_what_is_next_and_not_of_what_waits_behind_it(setting: Setting) -> None:
    news = setting.store.hear(silence=0.2)
    assert await anext(news) is None
    await setting.run("nothing")
    assert await heard(news) == [Due()]
    await setting.run("nothing")
    assert await heard(news) == []
    task = await setting.run("restore", path="")  # of another queue
    assert await heard(news) == [Due()]
    found = await setting.store.take("w", LEASE, {Priority.URGENT: 1})
    assert [record.id for record in found.records] == [task]
    await setting.tasks.cancel(task, actor="ann")
    assert await heard(news) == [Unwanted(task)]
    await news.aclose()


async def heard(news: AsyncIterator[Heard | None]) -> list[Heard]:
    """What comes before it is silent for a while."""
    found = []
    while (one := await anext(news)) is not None:
        found.append(one)
    return found


async def test_those_that_wait_for_room_do_not_keep_others_from_running(setting: Setting) -> None:
    held = await setting.run("one", path="")
    assert (await setting.taken("w")).id == held
    await asyncio.gather(*(setting.run("one", path="") for _ in range(300)))
    other = await setting.run("nothing")
    found = await setting.store.take("w", LEASE, NORMAL)
    assert (found.records, found.wait) == ((), 0)  # enough looked at for one script
    assert (await setting.taken("w")).id == other
    assert (await setting.store.take("w", LEASE, NORMAL)).wait is None


async def test_a_worker_is_told_when_the_next_one_is_due(setting: Setting) -> None:
    for seconds in (20, 10):
        after = datetime.now(UTC) + timedelta(seconds=seconds)
        await setting.tasks.run(RunRequest(kind="nothing", after=after), actor="ann")
    found = await setting.store.take("w", LEASE, NORMAL)
    assert found.records == ()
    assert found.wait is not None
    assert 0 < found.wait <= 10


async def test_a_worker_that_was_only_slow_keeps_its_task(setting: Setting) -> None:
    """It is queued as that of a dead worker; then comes the sign of life, before anybody takes it."""
    task = await setting.run("nothing")
    slow = await setting.taken("slow")
    await setting.swept(timedelta(0))
    await setting.store.beat({task: slow.fence})
    assert (await setting.store.take("quick", LEASE, NORMAL)).records == ()
    assert await setting.store.settle(slow, Settled(State.SUCCEEDED))
    assert (await setting.tasks.show(task)).deaths == 0


async def test_a_worker_that_is_given_what_it_still_runs_goes_on_with_it(
    setting: Setting, path: Path
) -> None:
    async with setting.worker() as worker:
        task = await setting.run("wait", path=str(path))
        await until_lines(path, 1)

        async def taken_again() -> bool:
            if worker.runner.running[0].fence == 1:
                await setting.store.client.zadd(f"{setting.store.prefix}beat", {task: 0})
            return worker.runner.running[0].fence == 2

        await until(taken_again)
        await setting.tasks.cancel(task, actor="bob")
        found = await setting.ended(task)
    assert (found.state, found.fence, found.deaths) == (State.CANCELLED, 2, 1)
    assert lines(path) == ["begin 1", "cleaned"]


async def test_a_task_whose_workers_die_too_often_is_dead(setting: Setting) -> None:
    task = await setting.run("deadly", path="")
    await setting.taken("dies")
    for _ in range(2):
        await setting.taken_from_the_dead("dies")
    await setting.swept(timedelta(0))
    found = await setting.store.take("refused", timedelta(0), NORMAL)
    assert (found.records, found.ended) == ((), (("deadly", "dead"),))
    found = await setting.tasks.show(task)
    assert (found.state, found.error) == (State.DEAD, "its worker died 3 times while it ran")
    revived = await setting.tasks.retry(task, actor="ann")
    assert (revived.state, revived.deaths, revived.error) == (State.QUEUED, 0, "")


async def test_tasks_are_listed_by_state_kind_and_page(setting: Setting) -> None:
    ids = [await setting.run(kind) for kind in ("nothing", "hopeless") * 3]
    page = await setting.tasks.page(state=None, kind=None, before="", limit=4)
    rest = await setting.tasks.page(state=None, kind=None, before=page.next, limit=4)
    assert [record.id for record in (*page.items, *rest.items)] == sorted(ids, reverse=True)
    assert rest.next == ""
    some = await setting.tasks.page(state=State.QUEUED, kind="nothing", before="", limit=2)
    more = await setting.tasks.page(state=State.QUEUED, kind="nothing", before=some.next, limit=2)
    assert [record.kind for record in (*some.items, *more.items)] == ["nothing"] * 3
    assert (await setting.tasks.page(state=State.DEAD, kind=None, before="", limit=2)).items == []


async def test_what_is_kept_long_enough_is_forgotten(setting: Setting) -> None:
    record = await setting.tasks.run(RunRequest(kind="nothing"), actor="ann", dry_run=True)
    spec = REGISTRY.get("nothing").spec.model_copy(update={"keep": timedelta(milliseconds=1)})
    await setting.store.create(record, spec)
    async with setting.worker():

        async def forgotten() -> bool:
            return (await setting.tasks.page(state=None, kind=None, before="", limit=1)).items == []

        await until(forgotten)
    left = [key async for key in setting.store.client.scan_iter(f"{setting.store.prefix}*{record.id}*")]
    assert left == []


async def test_a_schedule_runs_its_slots_pauses_and_counts_what_it_missed(setting: Setting) -> None:
    tidy = Schedule(name="tidy", kind="nothing", timing=Timing(every=timedelta(seconds=1)))
    setting.schedules = {"tidy": tidy}
    await setting.store.begin_schedule("tidy", datetime.now(UTC) - timedelta(minutes=1))

    async def ran(count: int) -> bool:
        return (await setting.tasks.schedule("tidy")).runs >= count

    async with setting.worker():
        await until(lambda: ran(2))
        view = await setting.tasks.pause("tidy", actor="ann")
        assert (view.paused, view.next) == (True, None)
        assert 58 <= view.missed <= 60
        found = await setting.ended(view.task)
        assert (found.schedule, found.slot, found.actor) == ("tidy", view.last, "schedule tidy")
        by_hand = await setting.tasks.run_schedule("tidy", actor="ann")
        assert (await setting.ended(by_hand.id)).actor == "ann"
        await setting.tasks.resume("tidy", actor="ann")
        await until(lambda: ran(view.runs + 1))
        assert (await setting.tasks.schedule("tidy")).missed == view.missed


async def test_a_schedule_goes_on_when_a_clock_that_was_ahead_is_right_again(setting: Setting) -> None:
    setting.schedules = {
        "tidy": Schedule(name="tidy", kind="nothing", timing=Timing(every=timedelta(seconds=1)))
    }
    ahead = datetime.now(UTC) + timedelta(days=1)
    await setting.store.begin_schedule("tidy", ahead)
    assert not await setting.store.rewind_schedule("tidy", ahead + timedelta(seconds=1), datetime.now(UTC))

    async def ran() -> bool:
        return (await setting.tasks.schedule("tidy")).runs >= 2

    async with setting.worker():
        await until(ran)
    assert (await setting.tasks.schedule("tidy")).missed < 60


async def test_clocks_that_differ_a_little_run_no_slot_twice(setting: Setting) -> None:
    tidy = Schedule(name="tidy", kind="nothing", timing=Timing(every=timedelta(minutes=1)))
    setting.schedules = {"tidy": tidy}
    scheduler = Scheduler(setting.store, REGISTRY, lambda: setting.schedules)
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    await setting.store.begin_schedule("tidy", now - timedelta(seconds=30))
    await scheduler.look(now)
    for behind in range(1, 600, 7):
        await scheduler.look(now - timedelta(seconds=behind))
    assert (await setting.tasks.schedule("tidy")).runs == 1


async def test_a_slot_is_skipped_while_the_run_before_goes_on(setting: Setting, path: Path) -> None:
    timing = Timing(every=timedelta(seconds=1))
    setting.schedules = {
        "long": Schedule(name="long", kind="wait", timing=timing, arguments={"path": str(path)})
    }
    async with setting.worker():

        async def skipped() -> bool:
            return (await setting.tasks.schedule("long")).skipped >= 1

        await until(skipped)
        assert (await setting.tasks.schedule("long")).runs == 1


def counted(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


async def test_tasks_are_counted_by_what_came_of_them_and_go_on_with_their_trace(setting: Setting) -> None:
    succeeded = {"kind": "double", "outcome": "succeeded"}
    before = counted("tasks_total", **succeeded), counted("tasks_total", kind="hopeless", outcome="failed")
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with tracing.span("request", serves=True, caller=caller):
        good = await setting.run("double", n=1)
    async with setting.worker():
        await setting.ended(good)
        await setting.ended(await setting.run("hopeless"))
        await until(lambda: _equal(lambda: counted("phoenix_task_running", kind="double"), 0))
    assert (await setting.tasks.show(good)).trace == caller
    after = counted("tasks_total", **succeeded), counted("tasks_total", kind="hopeless", outcome="failed")
    assert after == (before[0] + 1, before[1] + 1)
    assert counted("phoenix_task_duration_seconds_count", kind="double") >= 1
    assert counted("phoenix_task_wait_seconds_count", kind="double") >= 1


async def _equal(found: Callable[[], float], wanted: float) -> bool:
    return found() == wanted


# -- what tasks and stores do that nobody meant ------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "state", "error"),
    [
        ("exits", State.FAILED, "it wanted to end the worker: SystemExit: 3"),
        ("odd", State.FAILED, "its result cannot be kept: "),
        ("endless", State.SUCCEEDED, ""),
    ],
)
async def test_a_function_cannot_end_or_keep_busy_its_worker(
    setting: Setting, kind: str, state: State, error: str
) -> None:
    async with setting.worker():
        found = await setting.ended(await setting.run(kind))
        assert (found.state, found.deaths) == (state, 0)
        assert error in found.error
        assert (await setting.ended(await setting.run("double", n=1))).state is State.SUCCEEDED


@pytest.mark.parametrize(("field", "text"), [("attempts", "many"), ("created", "9" * 30)])
async def test_what_cannot_be_read_is_given_up_and_keeps_nobody_from_the_rest(
    setting: Setting, field: str, text: str
) -> None:
    strange, fine = await setting.run("double", n=1), await setting.run("double", n=2)
    await setting.store.client.hset(f"{setting.store.prefix}record:{strange}", field, text)
    assert [record.id for record in await setting.store.page(None, "", 10)] == [fine]
    with pytest.raises(Terminal, match=f"task {strange} cannot be read"):
        await setting.tasks.show(strange)
    async with setting.worker():
        found = await setting.ended(fine)
    assert (found.result, found.deaths) == ({"n": 4}, 0)
    assert await setting.store.client.hget(f"{setting.store.prefix}record:{strange}", "state") == b"dead"


async def test_a_running_task_whose_record_was_spoilt_is_stopped_and_its_worker_goes_on(
    setting: Setting, path: Path
) -> None:
    async with setting.worker() as worker:
        task = await setting.run("wait", path=str(path))
        await until_lines(path, 1)
        key = f"{setting.store.prefix}record:{task}"
        await setting.store.client.hset(key, mapping={"attempts": "many", "cancelling": "ann"})
        await worker.runner.say_alive()
        await until_lines(path, 2)
        await setting.ended(await setting.run("nothing"))
    assert lines(path) == ["begin 1", "cleaned"]
    assert await setting.store.client.hget(key, "state") == b"cancelled"


@pytest.mark.parametrize("text", ["yesterday", "9" * 30])
async def test_a_schedule_whose_state_was_spoilt_is_told_and_stops_no_task(
    setting: Setting, text: str
) -> None:
    setting.schedules = {
        "tidy": Schedule(name="tidy", kind="nothing", timing=Timing(every=timedelta(seconds=1)))
    }
    await setting.store.client.hset(f"{setting.store.prefix}schedule:tidy", "last", text)
    with pytest.raises(Terminal, match="schedule:tidy cannot be read"):
        await setting.tasks.schedule("tidy")
    async with setting.worker():
        for _ in range(2):  # by the second one the schedules were looked at
            await setting.ended(await setting.run("nothing"))


async def test_following_ends_when_the_store_has_lost_the_task(setting: Setting) -> None:
    task = await setting.run("double")
    said = setting.tasks.follow(task)
    assert (await anext(said)).state is State.QUEUED
    await setting.store.client.flushdb()
    async with asyncio.timeout(PATIENCE):
        assert [entry async for entry in said] == []


async def test_a_worker_does_not_take_its_own_tasks_from_itself_after_silence(
    setting: Setting, path: Path
) -> None:
    """Each time would count as a death, and a task that runs for days would be given up in the end."""
    async with setting.worker():
        task = await setting.run("wait", path=str(path))
        await until_lines(path, 1)
        for _ in range(5):
            await setting.store.client.zadd(f"{setting.store.prefix}beat", {task: 1})
            await until(lambda: _alive(setting, task))
        found = await setting.tasks.show(task)
    assert (found.state, found.deaths, found.fence) == (State.RUNNING, 0, 1)


async def _alive(setting: Setting, task: str) -> bool:
    score = await setting.store.client.zscore(f"{setting.store.prefix}beat", task)
    return score is not None and score > 1
