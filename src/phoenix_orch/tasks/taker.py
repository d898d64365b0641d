"""Keeps the slots of one worker full: what is due is taken as soon as there is room for it.

The queues are asked when a slot is free again, when the store says that something is due, when the next task
comes to its time, and now and then besides. All that is due is taken at once, as much as there are slots for:
under load one script begins many tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

import structlog

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.observability import metrics
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.tasks.record import TaskRecord
from phoenix_orch.tasks.spec import Priority
from phoenix_orch.tasks.store import TaskStore

LOOK = 1.0
"""Seconds between two looks for which there is no reason: news from the store may be lost."""

Begin = Callable[[TaskRecord, Callable[[], None]], None]
"""Begins a task that was taken, and calls back once, as soon as its slot is free."""

_log = structlog.get_logger("phoenix.tasks")


class Taker:
    """Takes tasks for one worker, under its name."""

    def __init__(
        self, store: TaskStore, begin: Begin, slots: dict[Priority, int], *, name: str, lease: timedelta
    ) -> None:
        self._store = store
        self._begin = begin
        self._free = dict(slots)
        self._name = name
        self._lease = lease
        self._reason = asyncio.Event()
        """To look now."""
        self._closed = False
        self._faults = Faults(_log)

    def look(self) -> None:
        """Something may be due."""
        self._reason.set()

    def close(self) -> None:
        """Take no more; `run` comes back, after what it has asked for has begun."""
        self._closed = True
        self._reason.set()

    async def run(self) -> None:
        """Take tasks until closed. Not to be cancelled: what was on its way would wait for a whole lease."""
        while not self._closed:
            self._reason.clear()
            wait = await self._take()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._reason.wait()

    async def _take(self) -> float:
        """Take what is due; seconds until the next look."""
        free = {priority: count for priority, count in self._free.items() if count > 0}
        if not free:
            return LOOK
        try:
            taken = await self._store.take(self._name, self._lease, free)
        except Retryable as error:
            self._faults.tell("queues", error=error)
            return LOOK
        self._faults.mended("queues")
        for kind, state in taken.ended:
            metrics.TASKS.labels(kind, state).inc()
        for record in taken.records:
            self._free[record.priority] -= 1
            self._begin(record, self._freed(record.priority))
        return LOOK if taken.wait is None else min(taken.wait, LOOK)

    def _freed(self, priority: Priority) -> Callable[[], None]:
        def freed() -> None:
            self._free[priority] += 1
            self._reason.set()

        return freed
