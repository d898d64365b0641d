"""Phoenix killed with SIGKILL: instances serve on, the next Phoenix takes over, no orphan stays."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from tests.workload.kit import SERVICE, eventually, marked_pids, settings, shop, supervised

from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.testing.workload_contract import until
from phoenix_orch.workload import state_file
from phoenix_orch.workload.process import ProcessWorkload
from phoenix_orch.workload.view import FileWorkloadView
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

pytestmark = pytest.mark.anyio

SUPERVISOR = Path(__file__).parents[1] / "workload" / "supervisor.py"
OLD, NEW = shop(version="1").template().revision, shop(version="2").template().revision


@pytest.fixture
async def data_dir(tmp_path: Path) -> AsyncIterator[Path]:
    directory = tmp_path / "data"
    yield directory
    await ProcessWorkload(directory, settings=settings()).stop()
    assert not marked_pids(directory)


@contextlib.contextmanager
def phoenix(data_dir: Path, wanted: dict[str, int], *dying: str) -> Iterator[subprocess.Popen[bytes]]:
    """A supervising process; killed with SIGKILL at the end of the body if it still lives."""
    command = [sys.executable, str(SUPERVISOR), str(data_dir), json.dumps(wanted), *dying]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


async def settled(data_dir: Path, wanted: dict[str, int]) -> WorkloadState:
    """Wait until exactly what is wanted is ready and nothing else bears our mark."""
    view = FileWorkloadView(data_dir)
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(NotFound, Retryable):
                state = await view.state(SERVICE)
                ready = Counter(i.revision for i in state.instances if i.state is InstanceState.READY)
                as_wanted = ready == wanted and len(state.instances) == ready.total()
                if as_wanted and marked_pids(data_dir) == {i.pid for i in state.instances}:
                    return state
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("function", "nth"),
    [("start", 1), ("start", 2)]
    + [("write", nth) for nth in (1, 2, 3, 5, 8)]
    + [("signal_group", nth) for nth in (1, 2, 4)],
)
async def test_killed_at_any_step_the_next_one_finishes(
    data_dir: Path, function: str, when: str, nth: int
) -> None:
    """First 3 of the old revision, then 2 of the new one instead: starts, drains and ends."""
    with phoenix(data_dir, {"1": 3}):
        await settled(data_dir, {OLD: 3})
    with phoenix(data_dir, {"2": 2, "1": 0}, function, when, str(nth)) as doomed:
        await eventually(lambda: doomed.poll() is not None)
        assert doomed.returncode == -signal.SIGKILL
    with phoenix(data_dir, {"2": 2, "1": 0}):
        state = await settled(data_dir, {NEW: 2})
    assert state.exits == ()


async def test_killed_between_fork_and_writing_it_down_leaves_no_second_process(data_dir: Path) -> None:
    with phoenix(data_dir, {"1": 1}, "start", "after", "1") as doomed:
        await eventually(lambda: doomed.poll() is not None)
    (unwritten,) = await eventually(lambda: marked_pids(data_dir))
    (record,) = state_file.read(data_dir / "services" / SERVICE / "instances.json").state.instances
    assert record.pid is None
    with phoenix(data_dir, {"1": 1}):
        state = await settled(data_dir, {OLD: 1})
    assert state.instances[0].pid == unwritten
    assert state.exits == ()


async def test_a_storm_of_kills_costs_no_request_and_no_instance(data_dir: Path) -> None:
    with phoenix(data_dir, {"1": 2}):
        before = (await settled(data_dir, {OLD: 2})).instances
    failures: list[str] = []
    done = asyncio.Event()
    chance = random.Random(20)
    async with asyncio.TaskGroup() as users:
        asked = [users.create_task(use(instance, done, failures)) for instance in before]
        for _ in range(12):
            with phoenix(data_dir, {"1": 2}):
                await asyncio.sleep(chance.uniform(0.05, 1.2))
        with phoenix(data_dir, {"1": 2}):
            state = await settled(data_dir, {OLD: 2})
        done.set()
    assert failures == []
    assert min(task.result() for task in asked) > 100
    assert [(i.pid, i.port) for i in state.instances] == [(i.pid, i.port) for i in before]
    assert state.exits == ()


async def use(instance: Instance, done: asyncio.Event, failures: list[str]) -> int:
    """Ask one instance without a pause; returns how often."""
    asked = 0
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        while not done.is_set():
            try:
                answer = await client.get(f"http://127.0.0.1:{instance.port}/")
                answer.raise_for_status()
            except httpx.HTTPError as error:
                failures.append(repr(error))
            asked += 1
            await asyncio.sleep(0.01)
    return asked


async def test_the_end_of_an_adopted_instance_is_seen_at_once(data_dir: Path) -> None:
    with phoenix(data_dir, {"1": 2}):
        before = (await settled(data_dir, {OLD: 2})).instances
    async with supervised(data_dir) as workload:
        assert (await workload.state(SERVICE)).instances == before
        loop = asyncio.get_running_loop()
        os.kill(before[0].pid or 0, signal.SIGKILL)
        began = loop.time()
        state = await until(workload, lambda state: bool(state.exits))
        assert loop.time() - began < 1
        assert (state.exits[0].instance, state.exits[0].code) == (before[0].name, None)
        await until(workload, lambda state: len(state.ready(OLD)) == 2)


async def test_one_that_died_while_nobody_looked_is_counted_and_replaced(data_dir: Path) -> None:
    with phoenix(data_dir, {"1": 2}):
        before = (await settled(data_dir, {OLD: 2})).instances
    os.kill(before[0].pid or 0, signal.SIGKILL)
    await eventually(lambda: before[0].pid not in marked_pids(data_dir))
    with phoenix(data_dir, {"1": 2}):
        state = await settled(data_dir, {OLD: 2})
    assert [end.instance for end in state.exits] == [before[0].name]
    assert state.instances[1] == before[1]


async def test_one_that_was_told_to_leave_is_killed_in_time_by_the_next(data_dir: Path) -> None:
    """The drain time runs on while nobody supervises; a request in flight gets what is left of it."""
    stubborn = shop("--ignore-sigterm", drain=1.0)
    first = ProcessWorkload(data_dir, settings=settings())
    supervision = asyncio.create_task(first.run())
    await first.declare(SERVICE, stubborn)
    await first.scale(SERVICE, stubborn.template(), 1)
    revision = stubborn.template().revision
    await until(first, lambda state: len(state.ready(revision)) == 1)
    await first.scale(SERVICE, stubborn.template(), 0)
    await until(first, lambda state: state.instances[0].state is InstanceState.DRAINING)
    await first.release(SERVICE, frozenset())
    record = state_file.Layout(data_dir, SERVICE).state
    await eventually(lambda: all(r.kill_at for r in state_file.read(record).records.values()))
    supervision.cancel()
    await asyncio.wait([supervision])
    first.close()
    assert len(marked_pids(data_dir)) == 1
    async with supervised(data_dir) as second:
        state = await until(second, lambda state: not state.instances)
        assert state.exits == ()


async def test_two_started_at_once_only_one_supervises(data_dir: Path) -> None:
    with phoenix(data_dir, {"1": 2}) as one, phoenix(data_dir, {"1": 2}) as other:
        await settled(data_dir, {OLD: 2})
        await eventually(lambda: (one.poll() is None) != (other.poll() is None))
        await settled(data_dir, {OLD: 2})
