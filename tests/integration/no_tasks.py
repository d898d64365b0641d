"""The port of tasks where there are none."""

from __future__ import annotations

from collections.abc import AsyncIterator

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.tasks.port import RunRequest, ScheduleView, TaskPage
from phoenix_orch.tasks.record import LogEntry, State, TaskRecord
from phoenix_orch.tasks.spec import TaskSpec


class NoTasks:
    """Lists nothing, knows none by id, and refuses to run any."""

    async def kinds(self) -> list[TaskSpec]:
        return []

    async def page(self, *, state: State | None, kind: str | None, before: str, limit: int) -> TaskPage:
        return TaskPage(items=[])

    async def show(self, id: str) -> TaskRecord:  # noqa: A002
        raise _unknown("task", id)

    async def run(self, request: RunRequest, *, actor: str, dry_run: bool = False) -> TaskRecord:
        raise BadState("there are no tasks", remedy="none")

    async def cancel(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002
        raise _unknown("task", id)

    async def retry(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002
        raise _unknown("task", id)

    async def logs(self, id: str, *, after: str = "", limit: int = 1000) -> list[LogEntry]:  # noqa: A002
        raise _unknown("task", id)

    def follow(self, id: str, *, after: str = "") -> AsyncIterator[LogEntry]:  # noqa: A002
        raise _unknown("task", id)

    async def schedules(self) -> list[ScheduleView]:
        return []

    async def schedule(self, name: str) -> ScheduleView:
        raise _unknown("schedule", name)

    async def pause(self, name: str, *, actor: str) -> ScheduleView:
        raise _unknown("schedule", name)

    async def resume(self, name: str, *, actor: str) -> ScheduleView:
        raise _unknown("schedule", name)

    async def run_schedule(self, name: str, *, actor: str) -> TaskRecord:
        raise _unknown("schedule", name)


def _unknown(what: str, name: str) -> NotFound:
    return NotFound(f"there is no {what} {name!r}", remedy="there is none")
