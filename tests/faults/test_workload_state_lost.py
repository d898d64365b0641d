"""What was written down of the instances is lost: their processes say themselves what they are.

Nobody who serves is ended; what nobody knows goes only when the router does not send to it any more and
everybody who is wanted is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.faults.test_workload_killed import phoenix, settled, use
from tests.workload.kit import SERVICE, eventually, get, marked_pids, settings, shop, supervised

from phoenix_orch.testing.workload_contract import until
from phoenix_orch.workload import state_file
from phoenix_orch.workload.process import ProcessWorkload
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

pytestmark = pytest.mark.anyio
ONE, TWO = shop(version="1"), shop(version="2")
OLD, NEW = ONE.template().revision, TWO.template().revision


@pytest.fixture
async def data_dir(tmp_path: Path) -> AsyncIterator[Path]:
    directory = tmp_path / "data"
    yield directory
    await ProcessWorkload(directory, settings=settings()).stop()
    assert not marked_pids(directory)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def deleted(path: Path) -> None:
    path.unlink()


def strange(path: Path) -> None:
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps(record | {"format": 99}))


async def left(data_dir: Path, wanted: dict[str, int], lose: Callable[[Path], None] = cut) -> WorkloadState:
    """A Phoenix that was killed, and its state damaged."""
    with phoenix(data_dir, wanted):
        state = await settled(data_dir, {shop(version=v).template().revision: n for v, n in wanted.items()})
    lose(state_file.Layout(data_dir, SERVICE).state)
    return state


def pids(state: WorkloadState) -> dict[str, int | None]:
    return {instance.name: instance.pid for instance in state.instances}


@contextlib.asynccontextmanager
async def users(instances: tuple[Instance, ...]) -> AsyncIterator[list[str]]:
    """Ask all instances all the time; what failed."""
    failures: list[str] = []
    done = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for instance in instances:
            tasks.create_task(use(instance, done, failures))
        try:
            yield failures
        finally:
            done.set()


@pytest.mark.parametrize("lose", [cut, emptied, deleted, strange])
async def test_two_revisions_are_adopted_by_their_marks(data_dir: Path, lose: Callable[[Path], None]) -> None:
    before = await left(data_dir, {"1": 2, "2": 1}, lose)
    async with users(before.instances) as failures, supervised(data_dir) as workload:
        await workload.declare(SERVICE, ONE)
        state = await workload.state(SERVICE)
        assert pids(state) == pids(before), "known at once, whatever is known of their templates"
        assert state.wanted == {OLD: 2}, "what the declared service is made of goes on as it is"
        await workload.scale(SERVICE, TWO.template(), 1)
        await workload.scale(SERVICE, ONE.template(), 2)
        state = await until(workload, lambda s: (len(s.ready(OLD)), len(s.ready(NEW))) == (2, 1))
        assert pids(state) == pids(before)
        assert {i.name: i.port for i in state.instances} == {i.name: i.port for i in before.instances}
        assert state.exits == ()
        await workload.scale(SERVICE, ONE.template(), 3)
        state = await until(workload, lambda s: len(s.ready(OLD)) == 3)
        assert len(pids(state)) == len({i.port for i in state.instances}) == 4
        assert failures == []


async def test_what_nobody_knows_serves_until_others_are_ready_and_the_router_lets_go(data_dir: Path) -> None:
    before = await left(data_dir, {"1": 2})
    names = frozenset(pids(before))
    async with supervised(data_dir) as workload:
        async with users(before.instances) as failures:
            await workload.declare(SERVICE, TWO)
            assert [i.state for i in (await workload.state(SERVICE)).instances] == [
                InstanceState.DRAINING
            ] * 2
            await workload.release(SERVICE, frozenset())
            await workload.scale(SERVICE, TWO.template(), 1)
            await workload.release(SERVICE, frozenset())
            state = await until(workload, lambda s: len(s.ready(NEW)) == 1)
            await workload.release(SERVICE, names)
            for instance in before.instances:
                await get(instance)
            assert failures == []
            assert names < set(pids(state))
        await workload.release(SERVICE, frozenset())
        await until(workload, lambda s: {i.revision for i in s.instances} == {NEW})
        await eventually(lambda: not marked_pids(data_dir) & {i.pid for i in before.instances})


async def test_they_are_held_over_another_death_of_phoenix(data_dir: Path) -> None:
    before = await left(data_dir, {"1": 2})
    for _ in range(2):
        first = ProcessWorkload(data_dir, settings=settings())
        supervision = asyncio.create_task(first.run())
        await first.declare(SERVICE, TWO)
        await eventually(lambda: state_file.services(data_dir))
        assert pids(await first.state(SERVICE)) == pids(before)
        supervision.cancel()
        await asyncio.wait([supervision])
        first.close()
    async with supervised(data_dir) as workload:
        await workload.scale(SERVICE, ONE.template(), 2)
        state = await until(workload, lambda s: len(s.ready(OLD)) == 2)
        assert pids(state) == pids(before)


async def test_a_service_that_is_not_declared_serves_on_and_ends_with_the_rest(data_dir: Path) -> None:
    before = await left(data_dir, {"1": 2})
    async with supervised(data_dir) as workload:
        await workload.declare("other", TWO)
        await workload.scale("other", TWO.template(), 1)
        await until_ready(workload)
        assert set(pids(before).values()) <= marked_pids(data_dir)


async def until_ready(workload: ProcessWorkload) -> None:
    while not (await workload.state("other")).ready(NEW):
        await asyncio.sleep(0.02)


async def test_what_one_started_in_a_session_of_its_own_is_not_taken_for_it(data_dir: Path) -> None:
    with phoenix(data_dir, {"1": 1}):
        before = await settled(data_dir, {OLD: 1})
        escaped = int(await get(before.instances[0], "/escape"))
    cut(state_file.Layout(data_dir, SERVICE).state)
    async with supervised(data_dir) as workload:
        await workload.declare(SERVICE, ONE)
        state = await until(workload, lambda s: len(s.ready(OLD)) == 1)
        assert pids(state) == pids(before)
        assert escaped in marked_pids(data_dir)


async def test_one_that_ends_while_nobody_knows_it_is_forgotten(data_dir: Path) -> None:
    before = await left(data_dir, {"1": 2})
    async with supervised(data_dir) as workload:
        await workload.declare(SERVICE, TWO)
        with contextlib.suppress(Exception):
            await get(before.instances[0], "/crash")
        state = await until(workload, lambda s: len(s.instances) == 1)
        assert state.instances[0].pid == before.instances[1].pid
