"""The client's calls about tasks and schedules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from phoenix_orch.client.calling import PREFIX, Calling, quoted
from phoenix_orch.client.events import StreamEvent
from phoenix_orch.client.following import follow
from phoenix_orch.tasks.port import RunRequest, ScheduleView, TaskPage
from phoenix_orch.tasks.record import ENDED, LogEntry, State, TaskRecord
from phoenix_orch.tasks.spec import TaskSpec


class TaskCalls(Calling):
    """Calls about tasks."""

    def tasks(
        self, *, state: State | None = None, kind: str | None = None, before: str = "", limit: int = 50
    ) -> TaskPage:
        query: dict[str, Any] = {"limit": limit, "before": before}
        query |= {name: value for name, value in (("state", state), ("kind", kind)) if value is not None}
        return self._get(TaskPage, "tasks", query=query)

    def task_kinds(self) -> list[TaskSpec]:
        return self._get(list[TaskSpec], "task-kinds")

    def task(self, id: str) -> TaskRecord:  # noqa: A002 - the field's word
        return self._get(TaskRecord, "tasks", id)

    def run_task(self, request: RunRequest, *, dry_run: bool = False) -> TaskRecord:
        """A new task, or the active one with the same key."""
        body = request.model_dump(mode="json", by_alias=True)
        return self._post(TaskRecord, {**body, "dryRun": dry_run}, "tasks")

    def cancel_task(self, id: str) -> TaskRecord:  # noqa: A002
        return self._post(TaskRecord, {}, "tasks", id, "cancel")

    def retry_task(self, id: str) -> TaskRecord:  # noqa: A002
        return self._post(TaskRecord, {}, "tasks", id, "retry")

    def task_log(self, id: str, *, after: str = "", limit: int = 1000) -> list[LogEntry]:  # noqa: A002
        """What it said behind the entry with the id `after`."""
        return self._get(list[LogEntry], "tasks", id, "logs", query={"after": after, "limit": limit})

    def follow_task(self, id: str, *, last_id: str = "") -> Iterator[StreamEvent]:  # noqa: A002
        """What a task says and what happens to it, as it does, until it has ended."""
        path = ("tasks", quoted(id), "events")
        return follow(self._place, PREFIX + "/".join(path), last_id, lambda: self.task(id).state in ENDED)

    def schedules(self) -> list[ScheduleView]:
        return self._get(list[ScheduleView], "schedules")

    def schedule(self, name: str) -> ScheduleView:
        return self._get(ScheduleView, "schedules", name)

    def pause_schedule(self, name: str) -> ScheduleView:
        return self._post(ScheduleView, {}, "schedules", name, "pause")

    def resume_schedule(self, name: str) -> ScheduleView:
        return self._post(ScheduleView, {}, "schedules", name, "resume")

    def run_schedule(self, name: str) -> TaskRecord:
        return self._post(TaskRecord, {}, "schedules", name, "run")
