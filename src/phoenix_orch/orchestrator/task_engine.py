"""Tasks of one Phoenix: the kinds there are, a worker in this process, and the port for the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.tasks.command import kinds_of
from phoenix_orch.tasks.command_spec import CommandTask, schedules_of
from phoenix_orch.tasks.port import Tasks
from phoenix_orch.tasks.process import work
from phoenix_orch.tasks.registry import Registry, TaskKind, installed
from phoenix_orch.tasks.schedule import Schedule
from phoenix_orch.tasks.service import TaskService
from phoenix_orch.tasks.store import PREFIX, TaskStore

AGAIN = 5.0
"""Seconds until a worker that failed is started again."""

_log = structlog.get_logger("phoenix.tasks")


class DeclaresTasks(Protocol):
    """A configuration."""

    @property
    def tasks(self) -> Mapping[str, CommandTask] | None: ...


class TaskEngine:
    """Known from the start, so that tasks can be asked for; runs what there is once `run` is called."""

    def __init__(
        self,
        store_url: str,
        config: Callable[[], DeclaresTasks | None],
        *kinds: TaskKind,
        own: Sequence[Schedule] = (),
        following: Callable[[], Sequence[Schedule]] = tuple,
        prefix: str = PREFIX,
    ) -> None:
        """`config`: the configuration that holds now. `kinds`, `own`: tasks of Phoenix itself, and when they
        run; `following`: when others of these run now. A schedule of the configuration does not take the
        place of one of these. `prefix`: of all keys in the store."""
        self._url = store_url
        self._prefix = prefix
        self._config = config
        self._own = {schedule.name: schedule for schedule in own}
        self._following = following
        self._store = TaskStore(store_url, prefix=prefix)
        self._faults = Faults(_log)
        self._registry = Registry(*installed(), *kinds, declared=self._kinds)
        self.tasks: Tasks = TaskService(self._store, self._registry, self._schedules)

    def _declared(self) -> dict[str, CommandTask]:
        config = self._config()
        return dict(config.tasks or {}) if config is not None else {}

    def _kinds(self) -> dict[str, TaskKind]:
        return kinds_of(self._declared())

    def _schedules(self) -> dict[str, Schedule]:
        return {
            **schedules_of(self._declared()),
            **{schedule.name: schedule for schedule in self._following()},
            **self._own,
        }

    async def run(self) -> None:
        """Work on tasks until cancelled."""
        try:
            while True:
                try:
                    await work(self._url, self._registry, self._schedules, prefix=self._prefix)
                except Exception as error:  # noqa: BLE001 - releases go on, whatever becomes of tasks
                    self._faults.tell("tasks", error=error, unforeseen=not isinstance(error, PhoenixError))
                await asyncio.sleep(AGAIN)
        finally:
            await self._store.close()

    async def close(self) -> None:
        """For one that does not run."""
        await self._store.close()
