"""How many tasks a second each engine takes and runs, with one worker process, all on one server."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.task_engines.engine import CALLERS, SLOTS
from benchmarks.task_engines.worker import ENGINES
from redis.asyncio import Redis

PATIENCE = 240.0
"""Seconds that one engine may take to run all tasks."""


async def compared(url: str, names: list[str], count: int, rounds: int) -> dict[str, Any]:
    """Tasks a second handed in, run, and both one after the other; and microseconds of the processor that the
    worker took for each. For each engine the medians of `rounds`, and the best; they take turns, so that
    other load on the machine meets all of them. What Phoenix reaches of docket is the median of the shares of
    each round, for the same reason."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(await _measured(url, name, count))
            print(f"{name:13}", found[name][-1], flush=True)
    told: dict[str, Any] = {
        "tasks": count,
        "rounds": rounds,
        "slots": SLOTS,
        "callers": CALLERS,
        "tasksPerSecond": {name: _each(rows, statistics.median) for name, rows in found.items()},
        "best": {name: _each(rows, max, lowest=("workerMicroseconds",)) for name, rows in found.items()},
    }
    if {"phoenix", "docket"} <= found.keys():
        pairs = zip(found["phoenix"], found["docket"], strict=True)
        shares = [{what: ours[what] / bare[what] for what in bare} for ours, bare in pairs]
        told["shareOfBareEngine"] = _each(shares, statistics.median, digits=2)
    return told


def _each(
    rows: list[dict[str, float]],
    of: Callable[[list[float]], float],
    lowest: tuple[str, ...] = (),
    digits: int = 1,
) -> dict[str, float]:
    """One number for each column; of those in `lowest` the least one."""
    columns = {what: [row[what] for row in rows] for what in rows[0]}
    return {
        what: round(min(numbers) if what in lowest else of(numbers), digits)
        for what, numbers in columns.items()
    }


async def _measured(url: str, name: str, count: int) -> dict[str, float]:
    client = Redis.from_url(url)
    await client.flushall()
    await client.aclose()
    begun = time.monotonic()
    await ENGINES[name]().enqueue(url, count)
    enqueued = time.monotonic() - begun
    told = await asyncio.to_thread(_drained, url, name, count)
    drained = told["seconds"]
    return {
        "enqueued": round(count / enqueued, 1),
        "drained": round((count - 1) / drained, 1),
        "both": round(count / (enqueued + drained), 1),
        "workerMicroseconds": round(told["processorSeconds"] / count * 1e6, 1),
    }


def _drained(url: str, name: str, count: int) -> dict[str, float]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.task_engines.worker", name, url, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    impatient = threading.Timer(PATIENCE, worker.kill)
    impatient.start()
    try:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.startswith(b"{"):  # Celery says who it is first
                told: dict[str, float] = json.loads(line)
                return told
        raise TimeoutError(f"{name} did not run {count:,} tasks within {PATIENCE:g} s")
    finally:
        impatient.cancel()
        worker.kill()
        worker.wait()
