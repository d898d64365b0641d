"""Runs what schedules name: every worker looks, and the store gives each slot to the first who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from phoenix_orch.kernel.errors import PhoenixError, Retryable
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.tasks.record import ScheduleState, State, TaskRecord
from phoenix_orch.tasks.registry import Registry
from phoenix_orch.tasks.schedule import Due, Schedule, due, next_due
from phoenix_orch.tasks.store import TaskStore

LOOK = 1.0
"""Seconds between two looks, unless a slot is due earlier."""
AHEAD = timedelta(minutes=10)
"""So far may the slot that ran last lie in the future, as clocks of workers differ. When it lies further, the
clock was ahead and is right again: without counting anew nothing would run until it comes there."""

_log = structlog.get_logger("phoenix.tasks")

Schedules = Callable[[], dict[str, Schedule]]
"""The schedules that there are now, by name."""


class Scheduler:
    """Fires slots until cancelled. Any number may run at once, in as many processes."""

    def __init__(self, store: TaskStore, registry: Registry, schedules: Schedules) -> None:
        self._store = store
        self._registry = registry
        self._schedules = schedules
        self._faults = Faults(_log)

    async def run(self) -> None:
        while True:
            wait = LOOK
            try:
                wait = await self.look(datetime.now(UTC))
            except PhoenixError as error:  # what somebody has to mend stops no task
                self._faults.tell("schedules", error=error)
            else:
                self._faults.mended("schedules")
            await asyncio.sleep(wait)

    async def look(self, now: datetime) -> float:
        """Fire what is due; seconds until it is worth looking again. Raises Retryable, Terminal."""
        schedules = list(self._schedules().values())
        if not schedules:
            return LOOK
        states = await self._store.schedule_states([schedule.name for schedule in schedules])
        wait = LOOK
        for schedule, state in zip(schedules, states, strict=True):
            wait = min(wait, await self._look_at(schedule, state, now))
        return wait

    async def _look_at(self, schedule: Schedule, state: ScheduleState, now: datetime) -> float:
        if state.last is None:
            await self._store.begin_schedule(schedule.name, now)
            return 0.0
        if state.paused:
            return LOOK
        if state.last - now > AHEAD:
            if await self._store.rewind_schedule(schedule.name, state.last, now):
                _log.warning(
                    "the clock was set back: the schedule counts from now",
                    schedule=schedule.name,
                    last=state.last,
                )
            return 0.0
        slot = due(schedule, state.last, now)
        if slot is not None:
            await self._fire(schedule, state, slot, now)
        after = next_due(schedule, slot.slot if slot is not None else state.last)
        return LOOK if after is None else max(0.0, (after - now).total_seconds())

    async def _fire(self, schedule: Schedule, state: ScheduleState, slot: Due, now: datetime) -> None:
        try:
            kind = self._registry.get(schedule.kind)
            record = TaskRecord(
                id=sortable_id(now),
                kind=schedule.kind,
                key=kind.spec.key(schedule.key, schedule.target),
                target=schedule.target,
                priority=kind.spec.priority,
                arguments=kind.check(schedule.arguments),
                actor=f"schedule {schedule.name}",
                schedule=schedule.name,
                slot=slot.slot,
                created=now,
                state=State.QUEUED,
                due=now,
                attempts=kind.spec.retries.attempts,
            )
        except Retryable:
            raise
        except PhoenixError as error:
            self._faults.tell("schedule", schedule.name, error=error)
            return
        self._faults.mended("schedule", schedule.name)
        if slot.missed:
            _log.warning("slots of a schedule were missed", schedule=schedule.name, missed=slot.missed)
        await self._store.fire(state, slot.slot, slot.missed, record, kind.spec)
