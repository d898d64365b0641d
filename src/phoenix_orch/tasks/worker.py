"""A worker: takes tasks from the queues, runs them, keeps their schedules, and looks after what was lost.

Any number of workers may serve one store, each in a process of its own or several in one.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.tasks.delivery import Delivery
from phoenix_orch.tasks.registry import Registry
from phoenix_orch.tasks.runner import Runner
from phoenix_orch.tasks.scheduler import Scheduler, Schedules
from phoenix_orch.tasks.spec import Priority
from phoenix_orch.tasks.store import TaskStore

_log = structlog.get_logger("phoenix.tasks")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How much a worker does at once, and how long it waits."""

    slots: int = 16
    """Tasks of ordinary priority that run at once."""
    urgent_slots: int = 4
    """Slots besides, which only urgent tasks use."""
    lease: timedelta = timedelta(seconds=10)
    """A task whose worker gave no sign of life for so long is given to another one."""
    pace: timedelta = timedelta(milliseconds=50)
    """Time between two looks into a queue; shorter while tasks come and go in all slots."""
    drain: timedelta = timedelta(seconds=10)
    """Time that running tasks get to end when the worker ends; then they are put back."""
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")

    def slots_of(self, priority: Priority) -> int:
        return self.urgent_slots if priority is Priority.URGENT else self.slots


class TaskWorker:
    """Put together from what is open already; `run` until cancelled."""

    def __init__(
        self,
        store: TaskStore,
        delivery: Delivery,
        registry: Registry,
        schedules: Schedules = dict,
        settings: WorkerSettings | None = None,
    ) -> None:
        self._settings = settings or WorkerSettings()
        self._store = store
        self._delivery = delivery
        self.runner = Runner(store, delivery, registry, name=self._settings.name, lease=self._settings.lease)
        self._scheduler = Scheduler(store, delivery, registry, schedules)
        self._faults = Faults(_log)

    async def run(self) -> None:
        """Work until cancelled; then let what runs end for the time of `drain`, and put back the rest."""
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self.runner.keep_alive(), name="signs of life"),
                group.create_task(self.runner.hear_cancellations(), name="cancellations"),
            ]
            try:
                async with asyncio.TaskGroup() as taking:
                    taking.create_task(self._scheduler.run(), name="schedules")
                    taking.create_task(self._sweep(), name="sweep")
                    for priority in Priority:
                        taking.create_task(self._take(priority), name=f"{priority} tasks")
            finally:
                for helper in helpers:
                    helper.cancel()

    async def _take(self, priority: Priority) -> None:
        """Take tasks until cancelled, then none any more while those that run come to their ends."""
        working = asyncio.create_task(
            self._delivery.work(
                priority,
                self.runner.handle,
                name=f"{self._settings.name}-{priority}",
                slots=self._settings.slots_of(priority),
                lease=self._settings.lease,
                pace=self._settings.pace,
            )
        )
        try:
            await asyncio.shield(working)
        finally:
            working.cancel()
            await self.runner.drain(self._settings.drain)
            await asyncio.wait({working})

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._store.grace.total_seconds() / 2)
            try:
                lost = await self._store.sweep(self._settings.name, self._settings.lease)
                await self._delivery.deliver_lost(lost)
            except Retryable as error:
                self._faults.tell("sweep", error=error)
            else:
                self._faults.mended("sweep")
