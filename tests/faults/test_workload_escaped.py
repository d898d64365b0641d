"""What a service started in a session of its own, with nothing in its environment, ends with its instance.

Nothing marks such a process. It is known because it was seen to descend from the instance while it did.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs
from tests.faults.story import NAME, Story, story
from tests.faults.story import until as until_true
from tests.faults.test_workload_killed import phoenix, settled
from tests.workload.kit import SERVICE, SHOP, eventually, get, marked_pids, settings, shop, supervised

from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.runtime import detached
from phoenix_orch.testing.workload_contract import until
from phoenix_orch.workload import descendants
from phoenix_orch.workload.process import ProcessWorkload
from phoenix_orch.workload.workload import Instance

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="orphans come to Phoenix on Linux"),
]
ONE = shop(version="1")
OLD = ONE.template().revision


@pytest.fixture
async def data_dir(tmp_path: Path) -> AsyncIterator[Path]:
    directory = tmp_path / "data"
    yield directory
    await ProcessWorkload(directory, settings=settings()).stop()
    assert not marked_pids(directory)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def written(data_dir: Path, pid: int) -> bool:
    """The process is in the file that outlives Phoenix."""
    path = data_dir / "services" / "descendants.json"
    return path.exists() and f'"pid":{pid},' in path.read_text().replace(" ", "")


async def hidden(instance: Instance, data_dir: Path) -> int:
    """A process that only its parent is a sign of, and that Phoenix has seen."""
    pid = int(await get(instance, "/hide"))
    assert "PHOENIX_INSTANCE" not in psutil.Process(pid).environ()
    await eventually(lambda: written(data_dir, pid))
    return pid


async def one(workload: ProcessWorkload) -> Instance:
    await workload.declare(SERVICE, ONE)
    await workload.scale(SERVICE, ONE.template(), 1)
    return (await until(workload, lambda state: len(state.ready(OLD)) == 1)).ready(OLD)[0]


async def test_it_ends_when_its_instance_is_replaced_and_not_before(data_dir: Path) -> None:
    async with supervised(data_dir) as workload:
        first = await one(workload)
        pid = int(await get(first, "/hide"))  # a moment before: nobody has looked yet
        await workload.restart(SERVICE)
        state = await until(workload, lambda s: any(i.name != first.name for i in s.ready(OLD)))
        second = next(i for i in state.ready(OLD) if i.name != first.name)
        kept = await hidden(second, data_dir)
        assert lives(pid), "it serves with its instance for as long as that does"
        await workload.release(SERVICE, frozenset())
        await eventually(lambda: not lives(pid))
        assert lives(kept)
    assert not lives(kept)


async def test_it_ends_when_its_instance_crashes(data_dir: Path) -> None:
    async with supervised(data_dir) as workload:
        first = await one(workload)
        pid = await hidden(first, data_dir)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        await eventually(lambda: not lives(pid))
        state = await until(workload, lambda s: len(s.ready(OLD)) == 1 and bool(s.exits))
        assert state.ready(OLD)[0].pid != first.pid


async def test_many_that_do_not_listen_delay_nobody_and_end_all_the_same(data_dir: Path) -> None:
    async with supervised(data_dir) as workload:
        first = await one(workload)
        deaf = [int(await get(first, "/hide?deaf=1")) for _ in range(30)]
        await eventually(lambda: all(written(data_dir, pid) for pid in deaf))
        assert first.pid is not None
        with capture_logs() as logs:
            os.kill(first.pid, signal.SIGKILL)
            await eventually(lambda: sum("left is ended" in entry["event"] for entry in logs) >= len(deaf))
        begun = time.monotonic()
        await asyncio.gather(*(asyncio.to_thread(os.getpid) for _ in range(100)))
        assert any(lives(pid) for pid in deaf)
        assert time.monotonic() - begun < 0.9, "threads are free: an abort needs one"
        await eventually(lambda: not any(lives(pid) for pid in deaf))


@pytest.mark.parametrize("crashed", [False, True])
async def test_it_is_known_after_phoenix_was_killed(data_dir: Path, crashed: bool) -> None:
    with phoenix(data_dir, {"1": 1}):
        (instance,) = (await settled(data_dir, {OLD: 1})).instances
        pid = await hidden(instance, data_dir)
    if crashed:
        assert instance.pid is not None
        os.kill(instance.pid, signal.SIGKILL)
        await eventually(lambda: not lives(instance.pid or 0))
    assert lives(pid)
    if crashed:  # its instance is gone, and so it goes
        async with supervised(data_dir):
            await eventually(lambda: not lives(pid))
    else:
        async with supervised(data_dir) as workload:
            (data_dir / "services" / "descendants.json").unlink()
            await eventually(lambda: written(data_dir, pid))
            assert len((await workload.state(SERVICE)).ready(OLD)) == 1
            assert lives(pid)
        assert not lives(pid)


@pytest.mark.parametrize("text", [None, "", '{"instances":', '{"instances": 7}', "[]"])
async def test_a_lost_file_is_written_again(data_dir: Path, text: str | None) -> None:
    async with supervised(data_dir) as workload:
        pid = await hidden(await one(workload), data_dir)
        path = data_dir / "services" / "descendants.json"
        path.unlink() if text is None else path.write_text(text)
        await eventually(lambda: written(data_dir, pid))
    path.write_text(text or "")
    await ProcessWorkload(data_dir, settings=settings()).stop()


async def test_a_pid_that_is_somebody_elses_now_is_left_alone(data_dir: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    try:
        real = detached.find(stranger.pid)
        assert real is not None
        boot, _, ticks = real.started.partition("/")
        other = real.model_copy(update={"started": f"{boot}/{int(ticks) - 1}"})
        gone = detached.Process(pid=2**22 + 1, started=f"{boot}/1")
        families = (descendants.Family(instance="web-1-1", leader=gone, members=(other,)),)
        path = data_dir / "services" / "descendants.json"
        path.parent.mkdir(parents=True)
        path.write_text(descendants.Kept(families=families, orphans=(other,)).model_dump_json())
        await ProcessWorkload(data_dir, settings=settings()).stop()
        assert real.alive
    finally:
        stranger.kill()
        await stranger.wait()


# -- a whole Phoenix -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running() -> Iterator[Story]:
    command = [sys.executable, str(SHOP), "--port", "{port}", "--version", "{version}"]
    with story(settings={"service": {"command": command}}, rate=20.0) as made:
        yield made


def ready(view: RolloutView) -> bool:
    return view.workload is not None and len(view.workload.ready(view.rollout.target)) == 2


def started(made: Story, path: str) -> int:
    workload = made.client.service(NAME).workload
    assert workload is not None
    return int(asyncio.run(get(workload.instances[0], path)))


@pytest.mark.slow
def test_a_daemon_that_nobody_saw_begin_comes_to_phoenix_and_ends_with_it(running: Story) -> None:
    pid = started(running, "/daemon")
    assert psutil.Process(pid).ppid() == running.phoenix.pid
    until_true("it is written down", lambda: written(running.data, pid))
    short = started(running, "/daemon")
    os.kill(short, signal.SIGKILL)
    until_true("an orphan that ended is put to rest", lambda: not psutil.pid_exists(short))
    assert lives(pid)
    assert running.stop() == 0
    assert not lives(pid)
    running.restart()


def test_down_ends_what_a_killed_phoenix_had_seen(running: Story) -> None:
    running.until_view("both are ready", ready)
    pids = [started(running, path) for path in ("/daemon", "/hide")]
    until_true("they are written down", lambda: all(written(running.data, pid) for pid in pids))
    running.kill(running.phoenix.pid)
    assert all(lives(pid) for pid in pids)
    done = running.cli("down")
    assert done.returncode == 0, done.stderr
    assert not any(lives(pid) for pid in pids)
    assert all(f"(pid {pid})" in done.stdout for pid in pids)
    running.restart()


def test_checks_and_what_phoenix_itself_started_are_no_orphans(running: Story) -> None:
    running.until_view("both are ready", ready)
    mine = {running.router_pid(), running.valkey_pid()}
    pid = started(running, "/hide")
    until_true("Phoenix has looked", lambda: written(running.data, pid))
    kept = json.loads((running.data / "services" / "descendants.json").read_bytes())
    workload = running.client.service(NAME).workload
    assert workload is not None
    mine |= {one.pid for one in workload.instances if one.pid}
    assert not mine & {orphan["pid"] for orphan in kept["orphans"]}
