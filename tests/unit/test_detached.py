"""Processes that outlive Phoenix: known again, never confused, kept running."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.runtime import detached
from phoenix_orch.runtime.detached import Process


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = spawn(tmp_path, "exec sleep 60")
    yield process
    detached.end(process, grace=0.0, name="sleep")


def spawn(tmp_path: Path, script: str, **options: list[int]) -> Process:
    return detached.spawn(
        ("/bin/sh", "-c", script),
        output=tmp_path / "out",
        environment=detached.harmless_environment(),
        **options,
    )


def test_a_process_is_known_by_pid_and_start(sleeper: Process) -> None:
    assert sleeper.alive
    assert detached.find(sleeper.pid) == sleeper
    assert Process.model_validate_json(sleeper.model_dump_json()).alive
    other = sleeper.model_copy(update={"started": "before the last boot"})
    assert not other.alive
    detached.send(other, signal.SIGKILL)
    detached.end(other, grace=0.0, name="other")
    assert detached.wait(other, 0.0)
    assert sleeper.alive


def test_a_zombie_does_not_count_as_alive(tmp_path: Path) -> None:
    process = spawn(tmp_path, "exit 3")
    deadline = time.monotonic() + 10
    while process.alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Path(f"/proc/{process.pid}/stat").exists()
    assert detached.find(process.pid) is None
    assert detached.wait(process, 1.0)  # and reaps it
    assert not Path(f"/proc/{process.pid}/stat").exists()


def test_a_program_being_loaded_lives(tmp_path: Path) -> None:
    """What the kernel tells of a process changes while its program is loaded, but not its start."""
    for _ in range(50):
        process = spawn(tmp_path, "exec sleep 60")
        assert all(process.alive for _ in range(20))
        detached.send(process, signal.SIGKILL)
        assert detached.wait(process, 10.0)


def test_it_has_a_session_of_its_own_and_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: Process
) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid
    monkeypatch.setenv("PHOENIX_TOKEN", "hush")
    process = spawn(tmp_path, "env; ls -l /proc/self/fd")
    assert detached.wait(process, 10.0)
    said = (tmp_path / "out").read_text()
    assert "PATH=" in said
    assert "hush" not in said
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_a_lock_is_held_until_the_process_that_inherited_it_ends(tmp_path: Path) -> None:
    descriptors = [os.open(tmp_path / f"lock{number}", os.O_RDWR | os.O_CREAT) for number in range(3)]
    for descriptor in descriptors:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    process = spawn(tmp_path, "exec sleep 60", keep_open=descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    again = [os.open(tmp_path / f"lock{number}", os.O_RDWR) for number in range(3)]
    for descriptor in again:
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    detached.end(process, grace=5.0, name="sleep")
    for descriptor in again:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_end_kills_what_does_not_listen(tmp_path: Path) -> None:
    process = spawn(tmp_path, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    deadline = time.monotonic() + 10
    while "ready" not in (tmp_path / "out").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    begun = time.monotonic()
    detached.end(process, grace=0.2, name="deaf")
    assert not process.alive
    assert 0.2 <= time.monotonic() - begun < 3


@pytest.mark.parametrize("without_pidfd", [False, True])
async def test_its_end_is_noticed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pidfd: bool
) -> None:
    if without_pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    process = spawn(tmp_path, "exec sleep 60")
    waiting = asyncio.create_task(detached.ended(process))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    detached.send(process, signal.SIGKILL)
    async with asyncio.timeout(1):
        await waiting
    await detached.ended(process)
    assert not process.alive


async def test_keep_starts_again_and_goes_on_after_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "SLOWEST_RESTART", 0.02)
    starts: list[float] = []
    enough = asyncio.Event()

    async def ensure() -> Process:
        starts.append(time.monotonic())
        if len(starts) == 6:
            enough.set()
        if len(starts) % 2 == 0:
            raise Retryable("not now", remedy="later")
        return Process(pid=1, started="never")

    async def gone(process: Process) -> str:
        return f"{process.pid} died"

    with capture_logs() as logs:
        keeping = asyncio.create_task(detached.keep("thing", ensure, gone))
        async with asyncio.timeout(5):
            await enough.wait()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    assert all(later - earlier >= 0.015 for earlier, later in itertools.pairwise(starts))
    assert {(log["event"], log["reason"]) for log in logs} == {
        ("thing ended", "1 died"),
        ("thing does not start", "not now"),
    }


async def test_keep_tells_a_fault_once_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "SLOWEST_RESTART", 0.0)
    results = iter(["full", "full", "locked", "locked", None, "locked"])
    enough = asyncio.Event()

    async def ensure() -> Process:
        try:
            fault = next(results)
        except StopIteration:
            enough.set()
            fault = "locked"
        if fault is not None:
            raise Retryable(fault, remedy="later")
        return Process(pid=1, started="never")

    async def gone(_process: Process) -> str:
        return "died"

    with capture_logs() as logs:
        keeping = asyncio.create_task(detached.keep("thing", ensure, gone))
        async with asyncio.timeout(5):
            await enough.wait()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    assert [log["reason"] for log in logs] == ["full", "locked", "died", "locked"]


LEADER_ENDS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
print("alone", flush=True)
ctypes.CDLL(None).syscall(number, 0)  # exit: of this thread, not of the process
"""


def test_a_process_lives_as_long_as_any_of_its_threads(tmp_path: Path) -> None:
    """In the moment in which one is killed, its first thread may be gone and the process not to be reaped."""
    (tmp_path / "program.py").write_text(LEADER_ENDS)
    process = spawn(tmp_path, f"exec {sys.executable} {tmp_path}/program.py")
    try:
        stat = Path(f"/proc/{process.pid}/stat")
        deadline = time.monotonic() + 30
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline, "the first thread did not end"
            time.sleep(0.01)
        assert process.alive
        assert not detached.wait(process, 0.1)
    finally:
        detached.send(process, signal.SIGKILL)
        assert detached.wait(process, 10.0)
    assert not stat.exists(), "it was put to rest"
