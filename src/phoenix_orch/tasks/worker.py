"""A worker: takes tasks from the queues, runs them, keeps their schedules, looks after what the dead left.

Any number of workers may serve one store, each in a process of its own or several in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.tasks.registry import Registry
from phoenix_orch.tasks.runner import Runner
from phoenix_orch.tasks.scheduler import Scheduler, Schedules
from phoenix_orch.tasks.spec import Priority
from phoenix_orch.tasks.store import TaskStore, Unwanted
from phoenix_orch.tasks.taker import Taker

_SILENCE = 2.0
"""Seconds without news, after which one looks anyway."""
_AGAIN = 0.5
"""Seconds until one listens again after the store went away."""

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
    sweep: timedelta = timedelta(seconds=2.5)
    """Time between two looks for what workers left behind that died; one of all workers looks."""
    drain: timedelta = timedelta(seconds=10)
    """Time that running tasks get to end when the worker ends; then they are put back."""
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")


class TaskWorker:
    """Put together from what is open already; `run` until cancelled."""

    def __init__(
        self,
        store: TaskStore,
        registry: Registry,
        schedules: Schedules = dict,
        settings: WorkerSettings | None = None,
    ) -> None:
        self._settings = settings or WorkerSettings()
        self._store = store
        self.runner = Runner(store, registry, lease=self._settings.lease)
        self._taker = Taker(
            store,
            self.runner.begin,
            {Priority.URGENT: self._settings.urgent_slots, Priority.NORMAL: self._settings.slots},
            name=self._settings.name,
            lease=self._settings.lease,
        )
        self._scheduler = Scheduler(store, registry, schedules)
        self._faults = Faults(_log)

    async def run(self) -> None:
        """Work until cancelled; then let what runs end for the time of `drain`, and put back the rest."""
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self.runner.keep_alive(), name="signs of life"),
                group.create_task(self._hear(), name="news of tasks"),
            ]
            try:
                async with asyncio.TaskGroup() as taking:
                    taking.create_task(self._scheduler.run(), name="schedules")
                    taking.create_task(self._sweep(), name="sweep")
                    taking.create_task(self._take(), name="tasks")
            finally:
                for helper in helpers:
                    helper.cancel()

    async def _take(self) -> None:
        """Take tasks until cancelled, then none any more while those that run come to their ends."""
        taking = asyncio.create_task(self._taker.run())
        try:
            await asyncio.shield(taking)
        finally:
            self._taker.close()
            await asyncio.wait({taking})
            await self.runner.drain(self._settings.drain)

    async def _hear(self) -> None:
        """Look when something is due, and cancel what somebody wants cancelled, at once, until cancelled."""
        while True:
            with contextlib.suppress(Retryable, NotFound):
                async for heard in self._store.hear(silence=_SILENCE):
                    if isinstance(heard, Unwanted):
                        await self.runner.cancel(heard.id)
                    else:
                        self._taker.look()
            await asyncio.sleep(_AGAIN)

    async def _sweep(self) -> None:
        """Look after what the dead left. Nobody is dead who could not say otherwise: our own tasks show that
        they live before each look, and after trouble with the store everybody has the time of a lease."""
        wait = self._settings.sweep
        while True:
            await asyncio.sleep(wait.total_seconds())
            wait = self._settings.sweep
            try:
                await self.runner.say_alive()
                await self._store.sweep(self._settings.name, self._settings.lease, self._settings.sweep)
            except Retryable as error:
                self._faults.tell("sweep", error=error)
                wait = max(wait, self._settings.lease)
            else:
                self._faults.mended("sweep")
