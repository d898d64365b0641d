"""The port of tasks with a record of whatever changes something."""

from __future__ import annotations

from phoenix_orch.security.recorder import Recorder
from phoenix_orch.tasks.passed_on import ReadsPassedOn
from phoenix_orch.tasks.port import RunRequest, ScheduleView, Tasks
from phoenix_orch.tasks.record import TaskRecord


class AuditedTasks(ReadsPassedOn):
    """Implements `Tasks` on another one. To end a task waits for no record. Arguments are not recorded."""

    def __init__(self, tasks: Tasks, recorder: Recorder) -> None:
        super().__init__(tasks)
        self._recorder = recorder

    # -- what changes something --------------------------------------------------------------------

    async def run(self, request: RunRequest, *, actor: str, dry_run: bool = False) -> TaskRecord:
        if dry_run:
            return await self._tasks.run(request, actor=actor, dry_run=True)
        asked = self._recorder.acting(
            "task.run",
            f"task/{request.kind}",
            actor=actor,
            reason=request.reason,
            after={"target": request.target} if request.target else None,
        )
        async with asked as act:
            record = await self._tasks.run(request, actor=actor)
            act.after = {"id": record.id, "state": record.state.value}
        return record

    async def cancel(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002 - the field's word
        async with self._recorder.acting("task.cancel", f"task/{id}", actor=actor, urgent=True) as act:
            record = await self._tasks.cancel(id, actor=actor)
            act.after = {"state": record.state.value}
        return record

    async def retry(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002
        async with self._recorder.acting("task.retry", f"task/{id}", actor=actor) as act:
            record = await self._tasks.retry(id, actor=actor)
            act.after = {"state": record.state.value}
        return record

    async def pause(self, name: str, *, actor: str) -> ScheduleView:
        async with self._recorder.acting("schedule.pause", f"schedule/{name}", actor=actor):
            return await self._tasks.pause(name, actor=actor)

    async def resume(self, name: str, *, actor: str) -> ScheduleView:
        async with self._recorder.acting("schedule.resume", f"schedule/{name}", actor=actor):
            return await self._tasks.resume(name, actor=actor)

    async def run_schedule(self, name: str, *, actor: str) -> TaskRecord:
        async with self._recorder.acting("schedule.run", f"schedule/{name}", actor=actor) as act:
            record = await self._tasks.run_schedule(name, actor=actor)
            act.after = {"id": record.id, "state": record.state.value}
        return record
