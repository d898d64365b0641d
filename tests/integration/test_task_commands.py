"""Programs as tasks: what they write, how they fail, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.tasks import context as context_module
from phoenix_orch.tasks.command import MARK, end_left_behind, run_command
from phoenix_orch.tasks.command_spec import CommandTask, schedules_of
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.record import State, TaskRecord

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Heard:
    """Stands for the store: what a task says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def tell(self, record: TaskRecord, *, lines: list[str], **_: object) -> bool:
        self.lines += lines
        return True


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[TaskContext]:
    record = TaskRecord(
        id=tmp_path.name, kind="k", key="k", created=NOW, due=NOW, state=State.RUNNING, attempt=1
    )
    yield TaskContext(record, Heard(), deadline=NOW)  # type: ignore[arg-type]
    end_left_behind(record.id)


def task(code: str, **fields: object) -> CommandTask:
    return CommandTask.model_validate({"command": [sys.executable, "-c", code], "cwd": "/", **fields})


async def test_output_goes_to_the_log_line_by_line_and_masked(context: TaskContext) -> None:
    code = "import sys; print('one\\ntwo'); print('password=hunter2', file=sys.stderr); print('end', end='')"
    await run_command(context, task(code, env={"PYTHONUNBUFFERED": "1"}))
    assert context.store.lines == ["one", "two", "password=<masked>", "end"]


async def test_a_status_above_0_is_a_failure_that_may_be_tried_again(context: TaskContext) -> None:
    with pytest.raises(Retryable, match="ended with exit status 3"):
        await run_command(context, task("raise SystemExit(3)"))


async def test_a_program_that_is_not_there_is_not_tried_again(context: TaskContext) -> None:
    with pytest.raises(Terminal, match="cannot be started"):
        await run_command(context, CommandTask(command=("/no/such/program",)))


@pytest.mark.parametrize("signals", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "])
async def test_cancelled_its_whole_group_is_gone(context: TaskContext, signals: str) -> None:
    code = f"{signals}import subprocess; subprocess.run(['sleep', '1000'])"
    running = asyncio.create_task(run_command(context, task(code, cleanup="300ms")))
    async with asyncio.timeout(30):
        while len(_marked(context.id)) < 2:
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.wait({running})
    async with asyncio.timeout(30):
        while _marked(context.id):
            await asyncio.sleep(0.02)


async def test_what_a_dead_worker_left_behind_is_ended_before_the_next_run(context: TaskContext) -> None:
    left = await asyncio.create_subprocess_exec("sleep", "1000", env={**os.environ, MARK: context.id})
    async with asyncio.timeout(30):
        while not _marked(context.id):
            await asyncio.sleep(0.02)
    context.record = context.record.model_copy(update={"deaths": 1})
    await run_command(context, task("print('again')"))
    assert await left.wait() < 0
    assert context.store.lines == ["again"]


SLEEPER = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True); "


async def test_cancelled_what_it_started_in_sessions_of_their_own_is_gone_too(context: TaskContext) -> None:
    running = asyncio.create_task(run_command(context, task(SLEEPER + "import time; time.sleep(1000)")))
    async with asyncio.timeout(30):
        while len(_marked(context.id)) < 2:
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.wait({running})
    assert _marked(context.id) == []


async def test_failed_what_it_started_in_sessions_of_their_own_is_gone_too(context: TaskContext) -> None:
    with pytest.raises(Retryable):
        await run_command(context, task(SLEEPER + "raise SystemExit(3)"))
    assert _marked(context.id) == []


async def test_a_program_is_over_although_a_daemon_of_it_holds_its_output(context: TaskContext) -> None:
    async with asyncio.timeout(60):
        await run_command(context, task(SLEEPER + "print('started')"))
    assert context.store.lines == ["started"]
    assert len(_marked(context.id)) == 1  # what succeeded may leave a daemon behind


async def test_what_its_group_writes_after_it_is_kept(context: TaskContext) -> None:
    command = ("sh", "-c", "(sleep 0.3; echo late) & echo early")
    await run_command(context, CommandTask(command=command))
    assert context.store.lines == ["early", "late"]


async def test_a_flood_is_read_to_its_end_and_its_newest_lines_are_kept(context: TaskContext) -> None:
    """It was masked in the loop of all of Phoenix: the store seemed away, releases stood still."""
    async with asyncio.timeout(120):
        await run_command(context, task("for n in range(300_000): print(n)"))
    lines = context.store.lines
    numbers = [int(line) for line in lines if line.isdecimal()]
    left_out = [int(line.split()[0].replace(",", "")) for line in lines if "are left out" in line]
    assert numbers[-1] == 299_999
    assert numbers == sorted(numbers)
    assert len(numbers) + sum(left_out) == 300_000


@pytest.mark.parametrize(
    "code",
    [
        "import os, sys; sys.stdout.buffer.write(os.urandom(3_000_000))",
        "print('x' * 5_000_000)",
        "print('\\n' * 1_000_000)",
    ],
)
async def test_whatever_a_program_writes_the_loop_looks_for_secrets_in_little_of_it(
    context: TaskContext, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    masked = context_module._lines
    in_the_loop: list[Sequence[str]] = []

    def watched(texts: Sequence[str]) -> list[str]:
        if threading.current_thread() is threading.main_thread():
            in_the_loop.append(texts)
        return masked(texts)

    monkeypatch.setattr(context_module, "_lines", watched)
    await run_command(context, task(code))
    assert context.store.lines
    assert all(len(texts) < 100 and sum(map(len, texts)) < 10_000 for texts in in_the_loop)


def test_schedules_come_from_what_is_declared() -> None:
    declared = {
        "nightly": CommandTask(command=("true",), schedule="30 2 * * *"),
        "often": CommandTask(command=("true",), every="10s"),  # type: ignore[arg-type]
        "by-hand": CommandTask(command=("true",)),
    }
    assert {name: str(one.timing) for name, one in schedules_of(declared).items()} == {
        "nightly": "30 2 * * *",
        "often": "every 10s",
    }


def _marked(task_id: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == task_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
