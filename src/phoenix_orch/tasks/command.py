"""Tasks that are programs: how one is run.

A program runs without a shell, in a process group of its own. Its output goes to the task's log, line by
line; an exit status above 0 is a failure. Cancelled, or at its deadline, the whole group gets SIGTERM, and
SIGKILL when it has not gone in time, and so does at last what it started in groups of their own. What a
worker left behind when it died is ended before the next run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from datetime import timedelta

import psutil

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.runtime.children import note
from phoenix_orch.tasks.command_spec import CommandTask
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.output import Output
from phoenix_orch.tasks.registry import TaskKind
from phoenix_orch.tasks.spec import LONGEST_CLEANUP, TaskSpec

MARK = "PHOENIX_TASK"
"""Variable in the environment of everything that a task runs: its id."""
_LOOK = 0.1
"""Seconds between two looks whether somebody of the group is left, while somebody holds its output."""
_LAST_WORDS = 30.0
"""Seconds in which what a program wrote before its end is kept."""
_LAST_WORDS_ENDED = 1.0
"""The same for one that was ended."""


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
    output = Output.open(context)
    try:
        process = await _begun(context, task, output.writing)
    except BaseException:
        await output.close(0)
        raise
    finally:
        output.given()
    status: int | None = None
    try:
        status = await process.wait()
        await _group_is_silent(process.pid, output)
        await output.close(_LAST_WORDS)
    finally:
        await _end(process, task.cleanup)
        if status != 0:  # what runs on after success is meant to; after anything else it is in the way
            await asyncio.to_thread(end_left_behind, context.id)
        await output.close(_LAST_WORDS_ENDED)
    if status:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise Retryable(f"{task.command[0]} ended with {how}")


async def _begun(context: TaskContext, task: CommandTask, writing: int) -> asyncio.subprocess.Process:
    """The program, on its way. Raises Terminal when it cannot be started."""
    try:
        process = await asyncio.create_subprocess_exec(
            *task.command,
            cwd=task.cwd,
            env={**os.environ, **task.env, MARK: context.id},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
    except OSError as error:
        raise Terminal(
            f"{task.command[0]!r} cannot be started: {error.strerror}", remedy="look at command and cwd"
        ) from None
    note(process.pid)
    return process


async def _group_is_silent(group: int, output: Output) -> None:
    """Wait until nobody of the group can write any more. Who has left it, as a daemon does, may hold the
    output for ever: nobody waits for that."""
    while not output.read.done() and _signal(group, 0):
        await asyncio.wait({output.read}, timeout=_LOOK)
    await asyncio.wait({output.read}, timeout=_LOOK)


async def _end(process: asyncio.subprocess.Process, grace: timedelta) -> None:
    """End what is left of the group: in order, then at once."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace.total_seconds())
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(group: int, number: int) -> bool:
    """Whether there is anybody in the group."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_left_behind(task: str) -> None:
    """Kill every process that the task has started, in whatever group."""
    for process in _of(task):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _of(task: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == task:
                yield process
