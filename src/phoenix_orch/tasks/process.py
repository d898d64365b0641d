"""One worker with everything it stands on, for a process of its own or a part of one.

    python -m phoenix_orch.tasks.process redis://localhost:6379/0

runs the kinds that installed packages offer, until SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

from phoenix_orch.runtime.logs import configure_logs
from phoenix_orch.tasks.registry import Registry, installed
from phoenix_orch.tasks.scheduler import Schedules
from phoenix_orch.tasks.store import PREFIX, TaskStore
from phoenix_orch.tasks.worker import TaskWorker, WorkerSettings


async def work(
    url: str,
    registry: Registry,
    schedules: Schedules = dict,
    settings: WorkerSettings | None = None,
    *,
    prefix: str = PREFIX,
) -> None:
    """Run a worker on the store at `url` until cancelled.

    Raises Invalid for what is no URL of a store.
    """
    store = TaskStore(url, prefix=prefix)
    try:
        await TaskWorker(store, registry, schedules, settings).run()
    finally:
        await store.close()


def run_worker(
    url: str,
    registry: Registry,
    schedules: Schedules = dict,
    settings: WorkerSettings | None = None,
    *,
    prefix: str = PREFIX,
) -> None:
    """The same as a whole process: ends in order with SIGTERM and Ctrl-C."""

    async def until_signal() -> None:
        working = asyncio.ensure_future(work(url, registry, schedules, settings, prefix=prefix))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, working.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await working

    configure_logs()
    asyncio.run(until_signal())


if __name__ == "__main__":
    run_worker(sys.argv[1], Registry(*installed()))
