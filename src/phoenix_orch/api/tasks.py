"""`/tasks` and `/schedules`: work that is kept, run and followed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from phoenix_orch.api.doors import READ, Operator
from phoenix_orch.api.requests import TaskRequest
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.tasks.port import MOST_LISTED, ScheduleView, TaskPage
from phoenix_orch.tasks.record import LogEntry, State, TaskRecord
from phoenix_orch.tasks.spec import TaskSpec

ENTRY_ID = r"^([0-9]{1,18}-[0-9]{1,18})?$"
After = Annotated[str, Query(pattern=ENTRY_ID, description="Only what follows the entry with this id.")]


def routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["tasks"])

    @router.get("/tasks", dependencies=[READ])
    async def list_tasks(
        state: State | None = None,
        kind: str | None = None,
        before: Annotated[str, Query(max_length=40)] = "",
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
    ) -> TaskPage:
        """Tasks, newest first; `next` of one page is `before` of the following one."""
        return await operations.tasks.page(state=state, kind=kind, before=before, limit=limit)

    @router.post("/tasks", status_code=202)
    async def run_task(body: TaskRequest, who: Operator) -> TaskRecord:
        """Run a task; while one with the same key is active, that one is given."""
        return await operations.tasks.run(body.run_request(), actor=who.name, dry_run=body.dry_run)

    @router.get("/task-kinds", dependencies=[READ])
    async def list_task_kinds() -> list[TaskSpec]:
        """What can be run, and what each is promised."""
        return await operations.tasks.kinds()

    @router.get("/tasks/{id}", dependencies=[READ])
    async def get_task(id: str) -> TaskRecord:  # noqa: A002 - the word of the address
        """One task."""
        return await operations.tasks.show(id)

    @router.post("/tasks/{id}/cancel", status_code=202)
    async def cancel_task(id: str, who: Operator) -> TaskRecord:  # noqa: A002
        """End a task; one that runs gets time to clean up, and says so until then."""
        return await operations.tasks.cancel(id, actor=who.name)

    @router.post("/tasks/{id}/retry", status_code=202)
    async def retry_task(id: str, who: Operator) -> TaskRecord:  # noqa: A002
        """Begin a task anew that failed, was cancelled or is dead."""
        return await operations.tasks.retry(id, actor=who.name)

    @router.get("/tasks/{id}/logs", dependencies=[READ])
    async def read_task_log(
        id: str,  # noqa: A002
        after: After = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> list[LogEntry]:
        """What a task said and what happened to it, oldest first."""
        return await operations.tasks.logs(id, after=after, limit=limit)

    async def there(id: str) -> None:  # noqa: A002
        """Refuse what there is not before a stream begins."""
        await operations.tasks.show(id)

    @router.get("/tasks/{id}/events", response_class=EventSourceResponse, dependencies=[READ, Depends(there)])
    async def follow_task(
        id: str,  # noqa: A002
        last_event_id: Annotated[str, Header(pattern=ENTRY_ID)] = "",
    ) -> AsyncIterator[ServerSentEvent]:
        """The same as server-sent events; goes on behind `Last-Event-ID`, ends with the task."""
        async for entry in operations.tasks.follow(id, after=last_event_id):
            data = entry.model_dump(mode="json", by_alias=True)
            yield ServerSentEvent(data=data, event=entry.kind.value, id=entry.id)

    @router.get("/schedules", dependencies=[READ])
    async def list_schedules() -> list[ScheduleView]:
        """All schedules with what has become of them."""
        return await operations.tasks.schedules()

    @router.get("/schedules/{name}", dependencies=[READ])
    async def get_schedule(name: str) -> ScheduleView:
        """One schedule."""
        return await operations.tasks.schedule(name)

    @router.post("/schedules/{name}/pause")
    async def pause_schedule(name: str, who: Operator) -> ScheduleView:
        """Run no slot of it until it is resumed."""
        return await operations.tasks.pause(name, actor=who.name)

    @router.post("/schedules/{name}/resume")
    async def resume_schedule(name: str, who: Operator) -> ScheduleView:
        """Run its slots again; those that passed meanwhile are neither run nor missed."""
        return await operations.tasks.resume(name, actor=who.name)

    @router.post("/schedules/{name}/run", status_code=202)
    async def run_schedule(name: str, who: Operator) -> TaskRecord:
        """Run what it runs, now and besides."""
        return await operations.tasks.run_schedule(name, actor=who.name)

    return router
