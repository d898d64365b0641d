"""Tasks on a real Valkey: how they run, end, are retried, cancelled, limited and followed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.tasks.kinds import REGISTRY, lines

from phoenix_orch.kernel.errors import BadState, Invalid, NotFound
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.runtime.valkey_server import ServerInfo, ValkeyServer
from phoenix_orch.security import acting
from phoenix_orch.security.acting import Caller
from phoenix_orch.security.rights import Kind, Principal
from phoenix_orch.tasks.delivery import Delivery, delivering
from phoenix_orch.tasks.port import RunRequest
from phoenix_orch.tasks.record import ENDED, LogKind, State, TaskRecord
from phoenix_orch.tasks.schedule import Schedule, Timing
from phoenix_orch.tasks.service import TaskService
from phoenix_orch.tasks.store import Gone, Taken, TaskStore
from phoenix_orch.tasks.worker import TaskWorker, WorkerSettings

PATIENCE = 30.0
LEASE = timedelta(seconds=10)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    keeper = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    yield asyncio.run(keeper.ensure())
    asyncio.run(keeper.stop())


class Setting:
    """The queues and the service over them; workers as one needs them."""

    def __init__(self, store: TaskStore, delivery: Delivery) -> None:
        self.store = store
        self.delivery = delivery
        self.schedules: dict[str, Schedule] = {}
        self.tasks = TaskService(store, REGISTRY, lambda: self.schedules, lambda: delivery)

    @contextlib.asynccontextmanager
    async def worker(self, *, drain: float = 0.2, **settings: int) -> AsyncIterator[TaskWorker]:
        worker = TaskWorker(
            self.store,
            self.delivery,
            REGISTRY,
            lambda: self.schedules,
            WorkerSettings(lease=LEASE, drain=timedelta(seconds=drain), name="w", **settings),
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
    store = TaskStore(server.url, prefix=prefix, grace=timedelta(seconds=0.4))
    async with delivering(server.url, prefix=prefix) as delivery:
        yield Setting(store, delivery)
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


async def test_what_its_queue_has_lost_is_brought_again(setting: Setting) -> None:
    """The record is kept, and the process dies before it hands the task to a queue."""
    silent = TaskService(setting.store, REGISTRY)
    record = await silent.run(RunRequest(kind="nothing"), actor="ann")
    async with setting.worker():
        assert (await setting.ended(record.id)).state is State.SUCCEEDED


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
    slept = await setting.store.claim(task, "slow", LEASE)
    woke = await setting.store.claim(task, "quick", timedelta(0))
    assert isinstance(slept, Taken)
    assert isinstance(woke, Taken)
    assert not await setting.store.tell(slept.record, lines=["hello"])
    assert await setting.store.beat({task: slept.record.fence}) == {task: "lost"}
    assert await setting.store.tell(woke.record, lines=["hello"])
    assert woke.record.deaths == 1


async def test_a_task_whose_workers_die_too_often_is_dead(setting: Setting) -> None:
    task = await setting.run("deadly", path="")
    for _ in range(3):
        assert isinstance(await setting.store.claim(task, "dies", timedelta(0)), Taken)
    assert isinstance(await setting.store.claim(task, "refused", timedelta(0)), Gone)
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
    await setting.delivery.deliver_lost(await setting.store.sweep("nobody", LEASE))
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
