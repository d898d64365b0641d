"""Every slot of a schedule runs once, while its four workers are killed at random.

The schedule is compressed: a slot every second. What ran is told by a file to which each run adds a line
(`tests/tasks/kinds.py`), what was counted by the store. A killed worker is replaced at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.tasks.kinds import REGISTRY, lines, ticks
from tests.tasks.workers import Workers, workers

from phoenix_orch.tasks.delivery import delivering
from phoenix_orch.tasks.port import RunRequest
from phoenix_orch.tasks.record import State, TaskRecord
from phoenix_orch.tasks.service import TaskService
from phoenix_orch.tasks.store import TaskStore

WORKERS = 4
LEASE = 10.0
"""Seconds; as a worker has it by default."""
REDELIVERIES = 3
_PATIENCE = 60.0
_PREFIX = "bench:slots:"


async def slots(url: str, directory: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Counts of slots and of kills; seconds until a task ran again whose worker was killed."""
    path, chance = directory / "ticks", random.Random(seed)
    store = TaskStore(url, prefix=_PREFIX)
    try:
        async with delivering(url, prefix=_PREFIX) as delivery:
            tasks = TaskService(store, REGISTRY, lambda: ticks("", "1s"), lambda: delivery)
            with workers(WORKERS, url, _PREFIX, str(LEASE), str(path), "1s") as running:
                kills = await _killing(running, chance, path, minutes * 60)
                await tasks.pause("tick", actor="ann")
                records = await _all_over(tasks)
                view = await tasks.schedule("tick")
                redelivered = [await _redelivery(tasks, running, directory, n) for n in range(REDELIVERIES)]
    finally:
        await store.close()
    planned = {record.slot for record in records}
    finished = Counter(datetime.fromisoformat(line.split()[0]) for line in lines(path))
    span = round((max(planned) - min(planned)) / timedelta(seconds=1)) + 1  # type: ignore[type-var, operator]
    return {
        "minutes": minutes,
        "workers": WORKERS,
        "leaseSeconds": LEASE,
        "kills": kills,
        "slots": span,
        "runs": view.runs,
        "missed": view.missed,
        "skipped": view.skipped,
        "givenTwice": len(records) - len(planned),
        "ranTwice": sum(times - 1 for times in finished.values()),
        "workersDiedInTheMiddle": sum(record.deaths for record in records),
        "neverRan": len(planned - set(finished)),
        "lostUncounted": max(0, span - view.runs - view.missed - view.skipped),
        "notSucceeded": sum(record.state is not State.SUCCEEDED for record in records),
        "redeliverySeconds": redelivered,
    }


async def _killing(running: Workers, chance: random.Random, ticks: Path, seconds: float) -> int:
    """Kill a worker every few seconds, and start another; how many were killed.

    On a busy machine workers take longer to start than they would live: a slot runs between two kills.
    """
    end, kills, ran = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        await asyncio.sleep(chance.uniform(1.0, 4.0))
        await _lines(ticks, ran + 1)
        ran = len(lines(ticks))
        running.kill(chance.choice(running.processes))
        running.replace_dead()
        kills += 1
    await _lines(ticks, ran + 1)
    return kills


async def _all_over(tasks: TaskService) -> list[TaskRecord]:
    """The records of all slots, as soon as every one has ended."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            found, before = [], ""
            while True:
                page = await tasks.page(state=None, kind="tick", before=before, limit=500)
                found += page.items
                before = page.next
                if not before:
                    break
            if found and all(record.over for record in found):
                return found
            await asyncio.sleep(0.2)


async def _redelivery(tasks: TaskService, running: Workers, directory: Path, number: int) -> float:
    """Seconds from the death of the worker of a task until the task runs in another one."""
    path = directory / f"wait-{number}"
    request = RunRequest(kind="wait", arguments={"path": str(path)})
    task = (await tasks.run(request, actor="ann")).id
    await _lines(path, 1)
    holder = (await tasks.show(task)).worker
    killed = time.monotonic()
    for process in list(running.processes):
        if holder.endswith(f"-{process.pid}"):
            running.kill(process)
    await _lines(path, 2)
    took = time.monotonic() - killed
    running.replace_dead()
    await tasks.cancel(task, actor="ann")
    return round(took, 1)


async def _lines(path: Path, count: int) -> None:
    async with asyncio.timeout(_PATIENCE):
        while len(lines(path)) < count:  # noqa: ASYNC110 - another process writes them
            await asyncio.sleep(0.05)
