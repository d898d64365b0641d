"""The process workload with real processes: the contract, and what only processes can do."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest
from structlog.testing import capture_logs
from tests.workload.kit import (
    HEALTH,
    SERVICE,
    ProcessStage,
    eventually,
    get,
    marked_pids,
    settings,
    shop,
    supervised,
)

from phoenix_orch.kernel.errors import BadState, NotFound, Retryable
from phoenix_orch.testing.workload_contract import CONTRACT, Check, running, until
from phoenix_orch.workload.logs import ServiceLogs
from phoenix_orch.workload.process import ProcessWorkload
from phoenix_orch.workload.resources import ResourceSampler
from phoenix_orch.workload.spec import ServiceSpec
from phoenix_orch.workload.view import FileWorkloadView
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

pytestmark = pytest.mark.anyio


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "data"


@pytest.fixture
async def stage(data_dir: Path) -> AsyncIterator[ProcessStage]:
    async with supervised(data_dir) as workload:
        yield ProcessStage(workload)


async def start(workload: ProcessWorkload, spec: ServiceSpec, count: int = 1) -> None:
    await workload.declare(SERVICE, spec)
    await workload.scale(SERVICE, spec.template(), count)


async def ready(workload: ProcessWorkload, spec: ServiceSpec, count: int = 1) -> tuple[Instance, ...]:
    await start(workload, spec, count)
    revision = spec.template().revision
    return (await until(workload, lambda state: len(state.ready(revision)) == count)).instances


def some_ready(state: WorkloadState) -> bool:
    return any(instance.state is InstanceState.READY for instance in state.instances)


def repaired(ends: int) -> Callable[[WorkloadState], bool]:
    """As many unexpected ends were seen, and one is ready again."""
    return lambda state: len(state.exits) == ends and some_ready(state)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, stage: ProcessStage) -> None:
    await check(stage)


# -- starting --------------------------------------------------------------------------------------


async def test_an_instance_sees_its_mark_its_template_and_none_of_our_secrets(
    stage: ProcessStage, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    spec = shop(
        version="2.1", env={"COLOUR": "red", "PORT": "1", "LANG": "xx", "SELF": "127.0.0.1:{port}/{{v}}"}
    )
    (instance,) = await ready(stage.workload, spec)
    seen = json.loads(await get(instance))
    environment = seen["environment"]
    assert "DATABASE_PASSWORD" not in environment
    assert environment["PATH"] == os.environ["PATH"]
    assert (environment["COLOUR"], environment["LANG"]) == ("red", "xx")
    assert environment["PORT"] == str(instance.port)
    assert environment["SELF"] == f"127.0.0.1:{instance.port}/{{v}}"
    assert environment["PHOENIX_DATA_DIR"] == str(data_dir)
    assert environment["PHOENIX_INSTANCE"] == instance.name
    assert environment["PHOENIX_REVISION"] == instance.revision
    assert (environment["PHOENIX_SERVICE"], environment["PHOENIX_VERSION"]) == (SERVICE, "2.1")
    assert seen["arguments"] == ["--port", str(instance.port), "--version", "2.1"]
    assert seen["pid"] == instance.pid
    assert os.getsid(instance.pid or 0) == instance.pid


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"command": ("no-such-program", "{port}")}, "there is no program 'no-such-program'"),
        ({"command": ("/", "{port}")}, "'/' may not be executed"),
        ({"cwd": "/no/such/directory"}, "working directory /no/such/directory does not exist"),
    ],
    ids=["no program", "not executable", "no directory"],
)
async def test_what_cannot_be_started_says_why_and_harms_nobody(
    stage: ProcessStage, changes: dict[str, object], reason: str
) -> None:
    await running(stage, 1)
    spec = shop(version="9", **changes)
    await stage.workload.scale(SERVICE, spec.template(), 1)
    revision = spec.template().revision
    state = await until(stage.workload, lambda state: len(state.exits) == 2)
    assert all(end.text.startswith("cannot start: ") and reason in end.text for end in state.exits)
    assert state.exits[0].code is None
    assert [i.state for i in state.of(revision)] == [InstanceState.BACKOFF]
    await stage.workload.scale(SERVICE, spec.template(), 0)
    state = await until(stage.workload, lambda state: not state.of(revision))
    assert [i.state for i in state.instances] == [InstanceState.READY]


async def test_a_slow_start_is_left_in_peace(stage: ProcessStage) -> None:
    began = time.monotonic()
    await start(stage.workload, shop("--ready-after", "1"))
    state = await until(stage.workload, lambda s: [i.state for i in s.instances] == [InstanceState.STARTING])
    pid = (await until(stage.workload, lambda s: s.instances[0].pid is not None)).instances[0].pid
    state = await until(stage.workload, lambda s: s.instances[0].state is InstanceState.READY)
    assert time.monotonic() - began >= 1
    assert (state.instances[0].pid, state.exits) == (pid, ())


async def test_one_that_never_becomes_ready_is_started_again_after_the_deadline(data_dir: Path) -> None:
    async with supervised(data_dir, start_deadline=0.5) as workload:
        await start(workload, shop("--ready-after", "-1"))
        state = await until(workload, lambda state: bool(state.exits))
        assert state.exits[0].reason == "never-ready"
        assert state.exits[0].text == "ended by Phoenix: it was not ready within 500ms of its start"


async def test_a_port_that_somebody_took_is_exchanged(stage: ProcessStage) -> None:
    (first,) = await ready(stage.workload, shop())
    await stage.crash(first)
    (second,) = (
        await until(stage.workload, lambda s: bool(s.exits) and bool(s.ready(first.revision)))
    ).instances
    assert second.port == first.port
    await stage.crash(second)  # the second end in a row: a second of back-off
    await until(stage.workload, lambda state: state.instances[0].state is InstanceState.BACKOFF)
    with socket.create_server(("127.0.0.1", first.port)):
        state = await until(stage.workload, lambda state: bool(state.ready(first.revision)))
        assert state.instances[0].port != first.port


# -- ends ------------------------------------------------------------------------------------------


async def test_an_end_is_published_within_50_milliseconds(stage: ProcessStage, data_dir: Path) -> None:
    view, taken = FileWorkloadView(data_dir), []
    await ready(stage.workload, shop())
    for count in range(1, 4):
        (instance,) = (await until(stage.workload, some_ready)).instances
        os.kill(instance.pid or 0, signal.SIGKILL)
        began = time.monotonic()
        while len((await view.state(SERVICE)).exits) < count:
            assert time.monotonic() < began + 5
        taken.append(time.monotonic() - began)
    assert min(taken) < 0.05, taken


async def test_signals_from_elsewhere_are_told_apart(stage: ProcessStage) -> None:
    (instance,) = await ready(stage.workload, shop())
    os.kill(instance.pid or 0, signal.SIGKILL)
    state = await until(stage.workload, repaired(1))
    assert (state.exits[0].code, state.exits[0].reason) == (-9, "killed")
    with pytest.raises(httpx.HTTPError):
        await get(state.instances[0], "/crash?code=7")
    state = await until(stage.workload, lambda state: len(state.exits) == 2)
    assert (state.exits[1].code, state.exits[1].reason) == (7, "exited")


async def test_a_crash_loop_slows_down(stage: ProcessStage) -> None:
    await start(stage.workload, shop("--exit-after", "0"))
    state = await until(stage.workload, lambda state: len(state.exits) == 4)
    moments = [end.at for end in state.exits]
    gaps = [(after - before).total_seconds() for before, after in pairwise(moments)]
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[1] >= 1
    assert gaps[2] >= 2
    assert {end.code for end in state.exits} == {3}


async def test_a_sick_instance_is_replaced_and_only_one_at_a_time(stage: ProcessStage) -> None:
    spec = shop(health=HEALTH.model_copy(update={"failures": 2}))
    for instance in await ready(stage.workload, spec, 2):
        await stage.sicken(instance)
    state = await until(stage.workload, lambda state: len(state.exits) == 1)
    assert state.exits[0].reason == "unhealthy"
    assert "ended by Phoenix: its health path /healthz failed " in state.exits[0].text
    others = [i for i in state.instances if i.name != state.exits[0].instance]
    assert [i.state for i in others] == [InstanceState.UNREADY]
    state = await until(stage.workload, lambda s: len(s.ready(spec.template().revision)) == 2)
    assert len({end.instance for end in state.exits}) == 2
    assert (state.exits[1].at - state.exits[0].at).total_seconds() > 0.4


async def test_one_above_its_memory_limit_is_unready_first_and_then_replaced(stage: ProcessStage) -> None:
    (instance,) = await ready(stage.workload, shop(memory_limit="120Mi"))
    seen: list[InstanceState] = []

    def over(state: WorkloadState) -> bool:
        seen.append(state.instances[0].state)
        return bool(state.exits)

    await get(instance, "/grow?mb=150")
    state = await until(stage.workload, over)
    assert InstanceState.UNREADY in seen
    assert state.exits[0].reason == "oom"
    state = await until(stage.workload, lambda state: bool(state.ready(instance.revision)))
    assert len(state.exits) == 1


async def test_what_an_instance_started_does_not_outlive_it(stage: ProcessStage, data_dir: Path) -> None:
    (instance,) = await ready(stage.workload, shop())
    child = int(await get(instance, "/child"))
    await stage.crash(instance)
    await eventually(lambda: not psutil.pid_exists(child) or _zombie(child))
    (again,) = (
        await until(stage.workload, lambda s: bool(s.exits) and bool(s.ready(instance.revision)))
    ).instances
    escaped = int(await get(again, "/escape"))
    await stage.workload.scale(SERVICE, shop().template(), 0)
    await stage.workload.release(SERVICE, frozenset())
    await until(stage.workload, lambda state: state.instances[0].state is InstanceState.DRAINING)
    await stage.workload.release(SERVICE, frozenset())
    await eventually(lambda: not psutil.pid_exists(escaped) or _zombie(escaped))
    assert not marked_pids(data_dir)


def _zombie(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


# -- leaving ---------------------------------------------------------------------------------------


async def test_a_request_in_flight_is_answered_while_the_instance_leaves(stage: ProcessStage) -> None:
    (instance,) = await ready(stage.workload, shop())
    request = asyncio.create_task(get(instance, "/hold?s=1"))
    await eventually(lambda: "holding" in Path(instance.log).read_text())
    await stage.workload.scale(SERVICE, shop().template(), 0)
    await until(stage.workload, lambda state: state.instances[0].state is InstanceState.DRAINING)
    await stage.workload.release(SERVICE, frozenset())
    await eventually(lambda: "ending" in Path(instance.log).read_text())
    with pytest.raises(httpx.HTTPError):
        await get(instance)  # it takes no new ones
    assert await request == "/hold"
    state = await until(stage.workload, lambda state: not state.instances)
    assert state.exits == ()


async def test_one_that_ignores_sigterm_is_killed_after_the_drain_time(stage: ProcessStage) -> None:
    await ready(stage.workload, shop("--ignore-sigterm", drain=0.5))
    await stage.workload.scale(SERVICE, shop("--ignore-sigterm", drain=0.5).template(), 0)
    await until(stage.workload, lambda state: state.instances[0].state is InstanceState.DRAINING)
    began = time.monotonic()
    await stage.workload.release(SERVICE, frozenset())
    state = await until(stage.workload, lambda state: not state.instances)
    assert 0.5 <= time.monotonic() - began < 3
    assert state.exits == ()


# -- one supervisor, and what it leaves behind -----------------------------------------------------


async def test_a_second_supervisor_is_refused(stage: ProcessStage, data_dir: Path) -> None:
    await stage.workload.services()
    second = ProcessWorkload(data_dir, settings=settings())
    for call in (second.run(), second.stop(), second.declare(SERVICE, shop())):
        with pytest.raises(BadState, match="another Phoenix supervises") as refusal:
            await call
        assert refusal.value.remedy


async def test_cancelled_it_leaves_processes_running_and_the_next_adopts_them(data_dir: Path) -> None:
    first = ProcessWorkload(data_dir, settings=settings())
    supervision = asyncio.create_task(first.run())
    before = await ready(first, shop(), 2)
    supervision.cancel()
    with pytest.raises(asyncio.CancelledError):
        await supervision
    first.close()
    async with supervised(data_dir) as second:
        state = await second.state(SERVICE)
        assert state.instances == before
        assert state.wanted == {before[0].revision: 2}
        os.kill(before[0].pid or 0, signal.SIGKILL)
        state = await until(second, lambda s: len(s.exits) == 1 and len(s.ready(before[0].revision)) == 2)
        assert state.exits[0].instance == before[0].name


@pytest.mark.parametrize("cancelled", [False, True], ids=["beside run", "after a cancelled run"])
async def test_stop_ends_everything_and_wants_nothing_more(data_dir: Path, cancelled: bool) -> None:
    workload = ProcessWorkload(data_dir, settings=settings())
    supervision = asyncio.create_task(workload.run())
    await ready(workload, shop(), 2)
    if cancelled:
        supervision.cancel()
        await asyncio.wait([supervision])
    await workload.stop()
    await asyncio.wait([supervision])
    assert not marked_pids(data_dir)
    state = await FileWorkloadView(data_dir).state(SERVICE)
    assert (state.wanted, state.instances, state.exits) == ({}, (), ())


async def test_stop_ends_what_a_dead_phoenix_left(data_dir: Path) -> None:
    first = ProcessWorkload(data_dir, settings=settings())
    supervision = asyncio.create_task(first.run())
    await ready(first, shop(), 2)
    supervision.cancel()
    await asyncio.wait([supervision])
    first.close()
    assert marked_pids(data_dir)
    await ProcessWorkload(data_dir, settings=settings()).stop()
    assert not marked_pids(data_dir)


# -- the published state ---------------------------------------------------------------------------


async def test_other_processes_see_the_same_state(stage: ProcessStage, data_dir: Path) -> None:
    view = FileWorkloadView(data_dir)
    with pytest.raises(NotFound):
        await view.state(SERVICE)
    await ready(stage.workload, shop(), 2)
    own, seen = await stage.workload.state(SERVICE), await view.state(SERVICE)
    assert seen.model_copy(update={"at": own.at}) == own
    assert await view.services() == (SERVICE,)
    file = data_dir / "services" / SERVICE / "instances.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("{")
    with pytest.raises(Retryable, match="cannot be read"):
        await view.state(SERVICE)


async def test_without_a_supervisor_the_view_does_not_take_the_dead_for_ready(data_dir: Path) -> None:
    workload = ProcessWorkload(data_dir, settings=settings())
    supervision = asyncio.create_task(workload.run())
    first, second = await ready(workload, shop(), 2)
    supervision.cancel()
    await asyncio.wait([supervision])
    os.kill(first.pid or 0, signal.SIGKILL)
    await asyncio.to_thread(os.waitpid, first.pid or 0, 0)
    state = await FileWorkloadView(data_dir).state(SERVICE)
    assert [i.state for i in state.instances] == [InstanceState.BACKOFF, InstanceState.READY]
    assert state.ready(first.revision) == (second,)
    await workload.stop()


async def test_supervision_goes_on_while_the_state_cannot_be_written(
    stage: ProcessStage, data_dir: Path
) -> None:
    (instance,) = await ready(stage.workload, shop())
    obstacle = data_dir / "services" / SERVICE / ".instances.json.new"
    with capture_logs() as logged:
        obstacle.mkdir()
        await stage.crash(instance)
        await until(stage.workload, repaired(1))
        view = FileWorkloadView(data_dir)
        assert (await view.state(SERVICE)).exits == ()
        obstacle.rmdir()
        await eventually(lambda: any(e["event"] == "state is written again" for e in logged))
    assert len((await view.state(SERVICE)).exits) == 1
    assert sum(entry["log_level"] == "error" for entry in logged) == 1


async def test_a_state_file_that_cannot_be_read_leaves_no_orphan(data_dir: Path) -> None:
    first = ProcessWorkload(data_dir, settings=settings())
    supervision = asyncio.create_task(first.run())
    await ready(first, shop(), 2)
    supervision.cancel()
    await asyncio.wait([supervision])
    first.close()
    (data_dir / "services" / SERVICE / "instances.json").write_text('{"format": 1')
    old = marked_pids(data_dir)
    async with supervised(data_dir) as second:
        with pytest.raises(NotFound):
            await second.state(SERVICE)
        await start(second, shop(), 1)
        await until(
            second, lambda state: [i.state for i in state.instances].count(InstanceState.DRAINING) == 1
        )
        await second.release(SERVICE, frozenset())
        state = await until(second, lambda state: len(state.instances) == 1 and some_ready(state))
        await eventually(lambda: marked_pids(data_dir) == {state.instances[0].pid})
        assert state.instances[0].pid in old


async def test_changes_are_announced(stage: ProcessStage) -> None:
    (instance,) = await ready(stage.workload, shop())
    stage.workload.changed.clear()
    await stage.sicken(instance)
    async with asyncio.timeout(5):
        await stage.workload.changed.wait()
    assert (await stage.workload.state(SERVICE)).instances[0].state is InstanceState.UNREADY


# -- logs and resources ----------------------------------------------------------------------------


async def test_rotation_loses_no_line_of_a_running_instance(data_dir: Path) -> None:
    async with supervised(data_dir, log_size=200_000, log_keep=10_000) as workload:
        (instance,) = await ready(workload, shop("--count", "0"))
        log = Path(instance.log)
        await eventually(lambda: len(list(log.parent.glob("*.log.0*"))) >= 4)
        await workload.scale(SERVICE, shop("--count", "0").template(), 0)
        await until(workload, lambda state: state.instances[0].state is InstanceState.DRAINING)
        await workload.release(SERVICE, frozenset())
        await until(workload, lambda state: not state.instances)
        lines = [line.text for line in ServiceLogs(data_dir, SERVICE).read(instance.name)]
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 5000


async def test_resources_of_an_instance_are_those_of_its_whole_session(stage: ProcessStage) -> None:
    (instance,) = await ready(stage.workload, shop())
    sampler = ResourceSampler()
    first = sampler.sample([instance])[instance.name]
    assert first.cpu is None
    assert first.memory > 5_000_000
    await get(instance, "/grow?mb=50")
    await get(instance, "/child")
    await asyncio.sleep(0.2)
    second = sampler.sample([instance])[instance.name]
    assert second.cpu is not None
    assert 0 < second.cpu <= 1
    assert second.memory > first.memory + 55_000_000
    gone = instance.model_copy(update={"started": (instance.started or 0) + 5})
    assert sampler.sample([gone]) == {}


async def test_health_has_its_own_time_limit(stage: ProcessStage) -> None:
    """A health path that hangs is a failure, not a probe that waits for ever."""
    health = HEALTH.model_copy(update={"path": "/hold?s=5", "timeout": timedelta(milliseconds=100)})
    await start(stage.workload, shop(health=health, drain=0.2))
    await until(stage.workload, lambda state: bool(state.instances) and state.instances[0].pid is not None)
    log = (await stage.workload.state(SERVICE)).instances[0].log
    await eventually(lambda: Path(log).exists() and Path(log).read_text().count("holding") >= 2)
    assert (await stage.workload.state(SERVICE)).instances[0].state is InstanceState.STARTING
