"""Every slot of a schedule runs once, while its four workers are killed at random.

The schedule is compressed: a slot every second. What ran is told by a file to which each run adds a line
(`tests/tasks/kinds.py`), what was counted by the store. A killed worker is replaced at once; a worker is
killed only once it has been seen to work, so that kills do not come faster than workers start.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.tasks.kinds import REGISTRY, lines, ticks
from tests.tasks.workers import Workers, workers

from phoenix_orch.tasks.port import RunRequest
from phoenix_orch.tasks.record import State, TaskRecord
from phoenix_orch.tasks.service import TaskService
from phoenix_orch.tasks.store import TaskStore

WORKERS = 4
LEASE = 10.0
"""Seconds; as a worker has it by default."""
KILL_EVERY = (4.0, 10.0)
"""Seconds between two kills, evenly spread."""
MIDDLE = 0.08
"""Seconds from its begin in which a slot is run: every second kill falls into them."""
REDELIVERIES = 3
_PATIENCE = 60.0
_PREFIX = "bench:slots:"


async def slots(url: str, directory: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Counts of slots and of kills; seconds until a task ran again whose worker was killed."""
    path, chance = directory / "ticks", random.Random(seed)
    store = TaskStore(url, prefix=_PREFIX)
    tasks = TaskService(store, REGISTRY, lambda: ticks("", "1s"))
    try:
        begun = datetime.now(UTC)
        await store.begin_schedule("tick", begun)
        with workers(WORKERS, url, _PREFIX, str(LEASE), str(path), "1s") as running:
            kills = await _killing(running, chance, path, minutes * 60)
            running.kill_all()  # so that no slot comes while the last one is looked up
            [state] = await store.schedule_states(["tick"])
            await tasks.pause("tick", actor="ann")
            running.replace_dead()
            records = await _all_over(tasks)
            redelivered = [await _redelivery(tasks, running, directory, n) for n in range(REDELIVERIES)]
    finally:
        await store.close()
    assert state.last is not None
    due = state.last.timestamp() // 1 - begun.timestamp() // 1
    given = Counter(record.slot for record in records)
    ran = Counter(datetime.fromisoformat(line.split()[0]) for line in lines(path))
    return {
        "minutes": minutes,
        "workers": WORKERS,
        "leaseSeconds": LEASE,
        "secondsBetweenKills": list(KILL_EVERY),
        "kills": kills + WORKERS,
        "due": round(due),
        "ranOnce": sum(times == 1 for times in ran.values()),
        "ranTwice": sum(times > 1 for times in ran.values()),
        "missedAndCounted": state.missed,
        "skipped": state.skipped,
        "lostUncounted": abs(round(due) - state.runs - state.missed - state.skipped),
        "givenTwice": sum(times > 1 for times in given.values()),
        "workersDiedInTheMiddle": sum(record.deaths for record in records),
        "neverRan": len(set(given) - set(ran)),
        "notSucceeded": sum(record.state is not State.SUCCEEDED for record in records),
        "redeliverySeconds": redelivered,
    }


async def _killing(running: Workers, chance: random.Random, ticks: Path, seconds: float) -> int:
    """Kill a worker every few seconds, and start another; how many were killed."""
    end, kills = time.monotonic() + seconds, 0
    await _lines(ticks, 1)
    while True:
        await asyncio.sleep(chance.uniform(*KILL_EVERY))
        if time.monotonic() > end:
            return kills
        if kills % 2:
            await asyncio.sleep(1 - time.time() % 1 + chance.uniform(0, MIDDLE))
        running.kill(chance.choice(await _at_work(running, ticks)))
        running.replace_dead()
        kills += 1


async def _at_work(running: Workers, ticks: Path) -> list[Any]:
    """The workers that have run a slot, as soon as there is one."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            seen = {line.split()[2] for line in lines(ticks)}
            if found := [process for process in running.processes if str(process.pid) in seen]:
                return found
            await asyncio.sleep(0.05)


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
