"""Tasks that are programs: how one is run.

A program runs without a shell, in a process group of its own. Its output goes to the task's log, line by
line; an exit status above 0 is a failure. Cancelled, or at its deadline, the whole group gets SIGTERM, and
SIGKILL when it has not gone in time. What a worker left behind when it died is ended before the next run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

import psutil

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.runtime.children import note
from phoenix_orch.tasks.command_spec import CommandTask
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.registry import TaskKind
from phoenix_orch.tasks.spec import LONGEST_CLEANUP, TaskSpec

MARK = "PHOENIX_TASK"
"""Variable in the environment of everything that a task runs: its id."""
_CHUNK = 64 * 1024
_LONGEST = 16 * 1024
"""Bytes after which a line without an end is taken for one."""


def kind_of(name: str, task: CommandTask) -> TaskKind:
    """The kind of task that runs it: one at a time."""

    async def run(context: TaskContext) -> None:
        await run_command(context, task)

    spec = TaskSpec(
        kind=name,
        summary=f"runs {task.command[0]}",
        deadline=task.deadline,
        cleanup=min(task.cleanup + timedelta(seconds=2), LONGEST_CLEANUP),  # the group is gone before
        retries=task.retries,
        keep=task.keep,
        single=True,
    )
    return TaskKind(spec, run)


def kinds_of(declared: Mapping[str, CommandTask]) -> dict[str, TaskKind]:
    return {name: kind_of(name, task) for name, task in declared.items()}


async def run_command(context: TaskContext, task: CommandTask) -> None:
    """Run the program to its end. Raises Retryable when it fails, Terminal when it cannot be started."""
    if context.record.deaths:
        await asyncio.to_thread(end_left_behind, context.id)
    try:
        process = await asyncio.create_subprocess_exec(
            *task.command,
            cwd=task.cwd,
            env={**os.environ, **task.env, MARK: context.id},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise Terminal(
            f"{task.command[0]!r} cannot be started: {error.strerror}", remedy="look at command and cwd"
        ) from None
    note(process.pid)
    try:
        assert process.stdout is not None
        await _keep_output(context, process.stdout)
        status = await process.wait()
    finally:
        await _end(process, task.cleanup)
    if status:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise Retryable(f"{task.command[0]} ended with {how}")


async def _keep_output(context: TaskContext, output: asyncio.StreamReader) -> None:
    rest = b""
    while chunk := await output.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST:
            lines, rest = [*lines, rest], b""
        await _log(context, lines)
    await _log(context, [rest] if rest else [])


async def _log(context: TaskContext, lines: Iterable[bytes]) -> None:
    texts = [line.decode(errors="replace").rstrip("\r") for line in lines]
    if texts:
        await context.log(*texts)


async def _end(process: asyncio.subprocess.Process, grace: timedelta) -> None:
    """End what is left of the group: in order, then at once."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace.total_seconds())
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end_left_behind(task: str) -> None:
    """Kill every process of an earlier run of the task, whose worker has died."""
    for process in _of(task):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _of(task: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == task:
                yield process
