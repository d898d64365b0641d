"""What only reads of the port of tasks, for those who stand before another one and change nothing there."""

from __future__ import annotations

from collections.abc import AsyncIterator

from phoenix_orch.tasks.port import ScheduleView, TaskPage, Tasks
from phoenix_orch.tasks.record import LogEntry, State, TaskRecord
from phoenix_orch.tasks.spec import TaskSpec


class ReadsPassedOn:
    """Seven questions as they are, to `tasks`."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def kinds(self) -> list[TaskSpec]:
        return await self._tasks.kinds()

    async def page(self, *, state: State | None, kind: str | None, before: str, limit: int) -> TaskPage:
        return await self._tasks.page(state=state, kind=kind, before=before, limit=limit)

    async def show(self, id: str) -> TaskRecord:  # noqa: A002
        return await self._tasks.show(id)

    async def logs(self, id: str, *, after: str = "", limit: int = 1000) -> list[LogEntry]:  # noqa: A002
        return await self._tasks.logs(id, after=after, limit=limit)

    def follow(self, id: str, *, after: str = "") -> AsyncIterator[LogEntry]:  # noqa: A002
        return self._tasks.follow(id, after=after)

    async def schedules(self) -> list[ScheduleView]:
        return await self._tasks.schedules()

    async def schedule(self, name: str) -> ScheduleView:
        return await self._tasks.schedule(name)
