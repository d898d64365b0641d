"""Kinds of tasks for tests, and a worker that runs them: `python -m tests.tasks.kinds URL PREFIX LEASE`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, field_serializer

from phoenix_orch.kernel.errors import Invalid, Retryable
from phoenix_orch.security import acting
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.process import run_worker
from phoenix_orch.tasks.registry import Registry, task
from phoenix_orch.tasks.schedule import Schedule, Timing
from phoenix_orch.tasks.spec import Priority, Retries
from phoenix_orch.tasks.worker import WorkerSettings


class Number(BaseModel):
    n: int = 0


class Place(BaseModel):
    path: str
    """A file that gets a line for each step."""
    kills: int = 0
    """How often the task kills its worker."""


@task(kind="double", summary="Twice a number")
async def double(context: TaskContext, arguments: Number) -> Number:
    await context.progress(0.5, "half done")
    await context.log("doubling", "with password=hunter2")
    await context.progress(1.0)
    return Number(n=2 * arguments.n)


class Who(BaseModel):
    name: str
    request: str


@task(kind="who")
async def who(context: TaskContext) -> Who:
    """Whom it acts for."""
    caller = acting.current.get()
    assert caller is not None
    return Who(name=caller.name, request=caller.request_id)


@task(kind="nothing")
async def nothing(context: TaskContext) -> None:
    """Ends at once."""


@task(kind="flaky", retries=Retries(attempts=3, wait=timedelta(milliseconds=50)))
async def flaky(context: TaskContext, arguments: Number) -> None:
    """Fails before attempt number `n`."""
    if context.attempt < arguments.n:
        raise Retryable("not yet")


@task(kind="hopeless", retries=Retries(attempts=3))
async def hopeless(context: TaskContext) -> None:
    raise Invalid("postgres://ann:hunter2@db/x is wrong")


@task(kind="exits")
async def exits(context: TaskContext) -> None:
    raise SystemExit(3)


class Odd(BaseModel):
    text: str

    @field_serializer("text")
    def _written(self, text: str) -> str:
        raise OSError(text)


@task(kind="odd")
async def odd(context: TaskContext) -> Odd:
    """Its result cannot be written."""
    return Odd(text="not to be written")


class Share(BaseModel):
    share: float


@task(kind="endless")
async def endless(context: TaskContext) -> Share:
    """Its result is no number of JSON."""
    return Share(share=float("nan"))


@task(kind="wait", cleanup=timedelta(seconds=2))
async def wait(context: TaskContext, arguments: Place) -> None:
    """Runs until it is stopped, and puts things in order then."""
    await write(arguments.path, f"begin {context.attempt}")
    try:
        await asyncio.Event().wait()
    finally:
        await write(arguments.path, "cleaned")


@task(kind="stubborn", cleanup=timedelta(milliseconds=200))
async def stubborn(context: TaskContext, arguments: Place) -> None:
    """Takes longer to clean up than it may."""
    try:
        await asyncio.Event().wait()
    finally:
        await write(arguments.path, "cleaning")
        await asyncio.sleep(20)


@task(kind="late", deadline=timedelta(milliseconds=100))
async def late(context: TaskContext, arguments: Place) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await write(arguments.path, "cleaned")


@task(kind="one", limit=1)
async def one(context: TaskContext, arguments: Place) -> None:
    await overlapping(arguments.path)


@task(kind="one-each", limit=3, limit_per_target=1)
async def one_each(context: TaskContext, arguments: Place) -> None:
    await overlapping(f"{arguments.path}.{context.target}")


async def overlapping(path: str) -> None:
    await write(path, "in")
    await asyncio.sleep(0.02)
    await write(path, "out")


@task(kind="restore", priority=Priority.URGENT)
async def restore(context: TaskContext, arguments: Place) -> None:
    await write(arguments.path, "restored")


@task(kind="deadly", deaths=2)
async def deadly(context: TaskContext, arguments: Place) -> None:
    """Kills the worker it runs in, the first times."""
    await write(arguments.path, "begin")
    if lines(arguments.path).count("begin") <= arguments.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    await write(arguments.path, "end")


@task(kind="tick")
async def tick(context: TaskContext, arguments: Place) -> None:
    """One slot of a schedule: a line with slot, id, and the process that ran it."""
    slot = context.record.slot
    assert slot is not None
    await asyncio.sleep(0.05)
    await write(arguments.path, f"{slot.isoformat()} {context.id} {os.getpid()}")


async def write(path: str, line: str) -> None:
    """On the disk at once, whatever becomes of this process."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def lines(path: str | Path) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


REGISTRY = Registry(
    double,
    who,
    nothing,
    exits,
    odd,
    endless,
    flaky,
    hopeless,
    wait,
    stubborn,
    late,
    one,
    one_each,
    restore,
    deadly,
    tick,
)


def ticks(path: str, every: str) -> dict[str, Schedule]:
    timing = Timing.model_validate({"every": every})
    return {"tick": Schedule(name="tick", kind="tick", timing=timing, arguments={"path": path})}


if __name__ == "__main__":
    url, prefix, lease, *ticking = sys.argv[1:]
    run_worker(
        url,
        REGISTRY,
        (lambda: ticks(*ticking)) if ticking else dict,
        WorkerSettings(lease=timedelta(seconds=float(lease)), drain=timedelta(seconds=0.5)),
        prefix=prefix,
    )
