"""The port `Tasks`: what people and programs ask, answered from the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.kernel.masking import told
from phoenix_orch.observability import tracing
from phoenix_orch.observability.traceparent import HEADER
from phoenix_orch.security import acting
from phoenix_orch.tasks.port import MOST_LISTED, RunRequest, ScheduleView, TaskPage
from phoenix_orch.tasks.record import ENDED, LogEntry, LogKind, ScheduleState, State, TaskRecord
from phoenix_orch.tasks.registry import Registry
from phoenix_orch.tasks.schedule import Schedule, next_due
from phoenix_orch.tasks.scheduler import Schedules
from phoenix_orch.tasks.spec import TaskSpec
from phoenix_orch.tasks.store import TaskStore

_LOOK = 0.25
"""Seconds between two looks at a log that is followed."""
_PAGES = 20
"""Pages of the store that are looked through for one page of tasks of a kind."""


class TaskService:
    """Answers whether workers run or not."""

    def __init__(self, store: TaskStore, registry: Registry, schedules: Schedules = dict) -> None:
        self._store = store
        self._registry = registry
        self._schedules = schedules

    async def kinds(self) -> list[TaskSpec]:
        return [kind.spec for _, kind in sorted(self._registry.kinds().items())]

    async def page(self, *, state: State | None, kind: str | None, before: str, limit: int) -> TaskPage:
        limit = max(1, min(limit, MOST_LISTED))
        found: list[TaskRecord] = []
        for _ in range(_PAGES):
            page = await self._store.page(state, before, limit)
            found += [record for record in page if kind in (None, record.kind)]
            if len(page) < limit:
                return TaskPage(items=found[:limit], next=found[limit - 1].id if len(found) > limit else "")
            before = page[-1].id
            if len(found) >= limit:
                break
        return TaskPage(items=found[:limit], next=found[limit - 1].id if len(found) > limit else before)

    async def show(self, id: str) -> TaskRecord:  # noqa: A002 - the field's word
        return await self._store.get(id)

    async def run(self, request: RunRequest, *, actor: str, dry_run: bool = False) -> TaskRecord:
        kind = self._registry.get(request.kind)
        caller = acting.current.get()
        now = datetime.now(UTC)
        due = max(now, request.after or now)
        id = sortable_id(now)  # noqa: A001
        record = TaskRecord(
            id=id,
            kind=request.kind,
            key=request.key or kind.spec.key(id, request.target),
            target=request.target,
            priority=kind.spec.priority,
            arguments=kind.check(request.arguments),
            actor=actor,
            reason=told(request.reason),
            request_id=caller.request_id if caller is not None else "",
            trace=tracing.headers().get(HEADER, ""),
            created=now,
            state=State.SCHEDULED if due > now else State.QUEUED,
            due=due,
            attempts=kind.spec.retries.attempts,
        )
        if dry_run:
            return record
        return await self._submit(record, kind.spec)

    async def _submit(self, record: TaskRecord, spec: TaskSpec) -> TaskRecord:
        kept = await self._store.create(record, spec)
        return record if kept == record.id else await self._store.get(kept)

    async def cancel(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002
        await self._store.cancel(id, actor)
        return await self._store.get(id)

    async def retry(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002, ARG002 - for the audit
        await self._store.revive(id)
        return await self._store.get(id)

    async def logs(self, id: str, *, after: str = "", limit: int = 1000) -> list[LogEntry]:  # noqa: A002
        await self._store.get(id)
        return await self._store.log(id, after, limit)

    async def follow(self, id: str, *, after: str = "") -> AsyncIterator[LogEntry]:  # noqa: A002
        over = (await self._store.get(id)).over
        while True:
            entries = await self._store.log(id, after, 1000)
            for entry in entries:
                after = entry.id
                yield entry
            if entries:
                last = [entry.state for entry in entries if entry.kind is LogKind.STATE]
                over = last[-1] in ENDED if last else over
                continue
            if over:
                return
            await asyncio.sleep(_LOOK)
            try:
                over = (await self._store.get(id)).over
            except NotFound:  # the store lost it: nothing follows, and whoever asks again is told
                return

    # -- schedules -------------------------------------------------------------------------------------

    async def schedules(self) -> list[ScheduleView]:
        schedules = [schedule for _, schedule in sorted(self._schedules().items())]
        states = await self._store.schedule_states([schedule.name for schedule in schedules])
        return [_view(schedule, state) for schedule, state in zip(schedules, states, strict=True)]

    async def schedule(self, name: str) -> ScheduleView:
        schedule = self._schedule(name)
        return _view(schedule, (await self._store.schedule_states([name]))[0])

    async def pause(self, name: str, *, actor: str) -> ScheduleView:  # noqa: ARG002 - for the audit
        return await self._pause(name, paused=True)

    async def resume(self, name: str, *, actor: str) -> ScheduleView:  # noqa: ARG002 - for the audit
        return await self._pause(name, paused=False)

    async def _pause(self, name: str, *, paused: bool) -> ScheduleView:
        self._schedule(name)
        await self._store.pause_schedule(name, paused, datetime.now(UTC))
        return await self.schedule(name)

    async def run_schedule(self, name: str, *, actor: str) -> TaskRecord:
        schedule = self._schedule(name)
        spec = self._registry.get(schedule.kind).spec
        request = RunRequest(
            kind=schedule.kind,
            arguments=schedule.arguments,
            target=schedule.target,
            key=spec.key(schedule.key, schedule.target),
        )
        return await self.run(request, actor=actor)

    def _schedule(self, name: str) -> Schedule:
        schedules = self._schedules()
        if name not in schedules:
            raise NotFound(
                f"there is no schedule {name!r}", remedy=f"there is {', '.join(sorted(schedules)) or 'none'}"
            )
        return schedules[name]


def _view(schedule: Schedule, state: ScheduleState) -> ScheduleView:
    following = None if state.paused else next_due(schedule, state.last or datetime.now(UTC))
    return ScheduleView(
        name=schedule.name,
        timing=str(schedule.timing),
        kind=schedule.kind,
        paused=state.paused,
        next=following,
        last=state.slot,
        runs=state.runs,
        missed=state.missed,
        skipped=state.skipped,
        task=state.task,
    )
