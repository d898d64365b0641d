"""Workers and their Valkey are killed while tasks run: nothing is lost, nothing runs twice at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.tasks.kinds import REGISTRY, lines, ticks
from tests.tasks.workers import workers

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.tasks.port import RunRequest
from phoenix_orch.tasks.record import ENDED, State, TaskRecord
from phoenix_orch.tasks.service import TaskService
from phoenix_orch.tasks.store import TaskStore

PATIENCE = 60.0
LEASE = "1.5"


class Setting:
    def __init__(self, server: ValkeyServer, url: str, tasks: TaskService, path: Path) -> None:
        self.server = server
        self.url = url
        self.tasks = tasks
        self.path = path

    @contextlib.contextmanager
    def workers(self, count: int, *ticking: str):
        with workers(count, self.url, "t:", LEASE, *ticking) as found:
            yield found

    async def run(self, kind: str, **arguments: object) -> str:
        request = RunRequest(kind=kind, arguments={"path": str(self.path), **arguments})
        return (await self.tasks.run(request, actor="ann")).id

    async def ended(self, task: str, meanwhile: Callable[[], None] = lambda: None) -> TaskRecord:
        async def over() -> bool:
            meanwhile()
            return (await self.tasks.show(task)).state in ENDED

        await until(over)
        return await self.tasks.show(task)

    async def begun(self, times: int = 1) -> None:
        async def there() -> bool:
            return len(lines(self.path)) >= times

        await until(there)


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(PhoenixError):  # Valkey is away
                if await found():
                    return
            await asyncio.sleep(0.05)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    server = ValkeyServer(tmp_path / "v")
    info = await server.ensure()
    store = TaskStore(info.url, prefix="t:")
    try:
        tasks = TaskService(store, REGISTRY, lambda: ticks("", "1s"))
        yield Setting(server, info.url, tasks, tmp_path / "lines")
    finally:
        await store.close()
        await server.stop()


async def test_a_task_whose_worker_was_killed_is_run_by_another_one(setting: Setting) -> None:
    with setting.workers(2) as running:
        task = await setting.run("wait")
        await setting.begun()
        holder = (await setting.tasks.show(task)).worker
        killed = time.monotonic()
        for process in running.processes:
            if holder.endswith(f"-{process.pid}"):
                running.kill(process)
        await setting.begun(2)
        assert time.monotonic() - killed < 30
        found = await setting.tasks.show(task)
        assert (found.state, found.deaths, found.attempt) == (State.RUNNING, 1, 1)
        await setting.tasks.cancel(task, actor="ann")
        assert (await setting.ended(task)).state is State.CANCELLED
    assert lines(setting.path) == ["begin 1", "begin 1", "cleaned"]


@pytest.mark.slow
async def test_a_task_that_kills_its_workers_is_dead_until_a_person_retries_it(setting: Setting) -> None:
    with setting.workers(1) as running:
        task = await setting.run("deadly", kills=3)
        found = await setting.ended(task, running.replace_dead)
        assert (found.state, found.deaths) == (State.DEAD, 3)
        assert found.error == "its worker died 3 times while it ran"
        assert lines(setting.path) == ["begin"] * 3
        await setting.tasks.retry(task, actor="ann")
        found = await setting.ended(task, running.replace_dead)
        assert (found.state, found.deaths) == (State.SUCCEEDED, 0)


async def test_a_worker_killed_while_a_task_cleans_up_leaves_it_cancelled(setting: Setting) -> None:
    with setting.workers(1) as running:
        task = await setting.run("stubborn")
        await until(lambda: _running(setting, task))
        os.kill(running.processes[0].pid, signal.SIGSTOP)  # it hears of the cancellation, and no more
        await setting.tasks.cancel(task, actor="ann")
        running.kill(running.processes[0])
        found = await setting.ended(task, running.replace_dead)
    assert found.error == "cancelled by ann; its worker died while it cleaned up"
    assert found.state is State.CANCELLED


async def _running(setting: Setting, task: str) -> bool:
    return (await setting.tasks.show(task)).state is State.RUNNING


async def test_tasks_go_on_while_their_valkey_is_killed_and_started_again(setting: Setting) -> None:
    with setting.workers(1):
        task = await setting.run("wait")
        await setting.begun()
        for number in itertools.count(1):
            process = setting.server.process()
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            await setting.server.ensure()
            other = await _tried(lambda n=number: setting.run("restore", path=f"{setting.path}{n}"))
            assert (await setting.ended(other)).state is State.SUCCEEDED
            if number == 2:
                break
        found = await setting.tasks.show(task)
        assert (found.state, found.deaths) == (State.RUNNING, 0)
        await _tried(lambda: setting.tasks.cancel(task, actor="ann"))
        assert (await setting.ended(task)).state is State.CANCELLED
    assert lines(setting.path) == ["begin 1", "cleaned"]


async def _tried(call):
    """The answer, as soon as there is one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(PhoenixError):
                return await call()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "seconds", [5, pytest.param(120, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
async def test_every_slot_runs_once_with_four_workers_that_are_killed_at_random(
    setting: Setting, seconds: int
) -> None:
    chance = random.Random(5)
    with setting.workers(4, str(setting.path), "1s") as running:
        await setting.begun(2)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            running.kill(chance.choice(running.processes))
            running.replace_dead()
            await asyncio.sleep(chance.uniform(0.5, 1.5))
        await setting.tasks.pause("tick", actor="ann")
        await until(lambda: _all_over(setting))
        view = await setting.tasks.schedule("tick")
    records = (await setting.tasks.page(state=None, kind="tick", before="", limit=500)).items
    slots = [record.slot for record in records]
    assert {record.state for record in records} == {State.SUCCEEDED}
    assert len(set(slots)) == len(slots) == view.runs
    span = (max(slots) - min(slots)) / timedelta(seconds=1) + 1
    assert view.runs + view.missed + view.skipped == pytest.approx(span, abs=2)
    finished = [tuple(line.split()) for line in lines(setting.path)]
    assert {datetime.fromisoformat(slot) for slot, _, _ in finished} == set(slots)
    assert {task for _, task, _ in finished} == {record.id for record in records}


async def _all_over(setting: Setting) -> bool:
    page = await setting.tasks.page(state=None, kind="tick", before="", limit=500)
    return all(record.over for record in page.items)
