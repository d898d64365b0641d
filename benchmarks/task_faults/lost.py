"""None of 100,000 tasks is lost, while their workers are killed now and then.

Each run adds the number of its task to a file of its worker process; tasks are handed in while workers run.
A task whose worker is killed between its work and the word of it runs again: that is counted, and no fault.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.task_engines.engine import called
from pydantic import BaseModel

from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.port import RunRequest
from phoenix_orch.tasks.process import run_worker
from phoenix_orch.tasks.record import ENDED, State
from phoenix_orch.tasks.registry import Registry, task
from phoenix_orch.tasks.service import TaskService
from phoenix_orch.tasks.store import TaskStore
from phoenix_orch.tasks.worker import WorkerSettings

WORKERS = 2
KILL_EVERY = (4.0, 10.0)
"""Seconds between two kills, evenly spread; a worker is killed only once it has run tasks."""
_PATIENCE = 120.0
"""Seconds without any task that ends, after which what is left is lost."""
_PREFIX = "bench:lost:"


class Place(BaseModel):
    directory: str
    number: int


@task(kind="mark", summary="Adds its number to a file of its process", deaths=10)
async def mark(context: TaskContext, arguments: Place) -> None:  # noqa: ARG001
    file = os.open(f"{arguments.directory}/{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{arguments.number}\n".encode())
    os.close(file)


async def lost(url: str, directory: Path, count: int, seed: int) -> dict[str, Any]:
    """Counts of tasks, of those that never ran, and of kills; seconds that all took."""
    marks, numbers, begun = directory / "marks", iter(range(count)), time.monotonic()
    marks.mkdir()
    store = TaskStore(url, prefix=_PREFIX)
    tasks = TaskService(store, Registry(mark))

    async def hand_in() -> None:
        place = {"directory": str(marks), "number": next(numbers)}
        await tasks.run(RunRequest(kind="mark", arguments=place), actor="ann")

    killing = asyncio.create_task(_killing(url, marks, random.Random(seed)))
    try:
        await called(count, hand_in)
        counts = await _all_over(store, count)
    finally:
        killing.cancel()
        await asyncio.wait({killing})
        await store.close()
    ran = Counter(line for file in marks.iterdir() for line in file.read_text().splitlines())
    return {
        "tasks": count,
        "seconds": round(time.monotonic() - begun),
        "workers": WORKERS,
        "secondsBetweenKills": list(KILL_EVERY),
        "kills": killing.result(),
        "neverRan": sum(str(number) not in ran for number in range(count)),
        "notSucceeded": count - counts[State.SUCCEEDED],
        "ranAgainAfterAKill": sum(times - 1 for times in ran.values()),
    }


async def _all_over(store: TaskStore, count: int) -> dict[State, int]:
    """How many tasks there are in each state, once all ended, or none has for a long time."""
    ended, since = -1, time.monotonic()
    while True:
        counts = await store.counts()
        now = sum(counts[state] for state in ENDED)
        if now != ended:
            ended, since = now, time.monotonic()
        if now >= count or time.monotonic() - since > _PATIENCE:
            return counts
        await asyncio.sleep(0.5)


async def _killing(url: str, marks: Path, chance: random.Random) -> int:
    """Keep workers, and kill one of them again and again, until cancelled; how many were killed."""
    workers, kills = [_worker(url) for _ in range(WORKERS)], 0
    try:
        while True:
            await asyncio.sleep(chance.uniform(*KILL_EVERY))
            index = chance.randrange(WORKERS)
            while not (marks / str(workers[index].pid)).exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.1)
            workers[index].kill()
            workers[index].wait()
            workers[index] = _worker(url)
            kills += 1
    except asyncio.CancelledError:
        return kills
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _worker(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.task_faults.lost", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    run_worker(sys.argv[1], Registry(mark), settings=WorkerSettings(), prefix=_PREFIX)
