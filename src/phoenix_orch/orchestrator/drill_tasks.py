"""Drills as tasks of Phoenix. One that fails is as loud as a backup that fails: the task, the metrics and the
audit log say so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, Field

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator import backup_tasks
from phoenix_orch.orchestrator.backup_progress import Meter
from phoenix_orch.orchestrator.backup_tasks import DeclaresBackups, Work
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.record import ScheduleState
from phoenix_orch.tasks.registry import TaskKind, task
from phoenix_orch.tasks.schedule import Schedule, Timing

if TYPE_CHECKING:
    from phoenix_orch.recovery.drill_report import Report

DAILY, WEEKLY, MONTHLY = "drill.daily", "drill.weekly", "drill.monthly"
_SUMMARIES = {
    DAILY: "Check that backups come when they should, are there, and that the newest of each opens",
    WEEKLY: "Restore a copy of each age, drawn by lot, into scratch places and compare",
    MONTHLY: "Recover everything from the bucket and the offline key alone, timed step by step",
}
_JITTER = timedelta(minutes=5)


class States(Protocol):
    async def schedule_states(self, names: Sequence[str], /) -> Sequence[ScheduleState]:
        """Of a paused one `last` is the moment at which it was paused."""
        ...


class RunDrill(BaseModel):
    seed: str = Field(default="", max_length=100)
    """By which copies are drawn; left out: one of the moment. Only the weekly drill draws."""


class DrillDone(BaseModel):
    """What a drill came to; its report is in the storage."""

    drill: str
    passed: bool
    rto_seconds: float
    reasons: list[str]


def schedules(config: DeclaresBackups | None) -> Sequence[Schedule]:
    """What `backup.drills` asks for; nothing without backups."""
    spec = config.backup if config is not None else None
    if spec is None:
        return ()
    when = {DAILY: spec.drills.daily, WEEKLY: spec.drills.weekly}
    if spec.drills.offline_identity_file is not None:
        when[MONTHLY] = spec.drills.monthly
    return [
        Schedule(name=kind.replace(".", "-"), kind=kind, timing=Timing(cron=cron, jitter=_JITTER))
        for kind, cron in when.items()
    ]


def kinds(work: Work) -> tuple[TaskKind, ...]:
    return tuple(_kind(work, kind) for kind in _SUMMARIES)


async def paused_schedules(config: DeclaresBackups | None, store: States) -> dict[str, datetime]:
    """Since when the schedules of backups are paused, of those that are, by their component."""
    known = [one for one in backup_tasks.schedules(config) if one.kind == backup_tasks.RUN]
    states = await store.schedule_states([one.name for one in known])
    return {
        one.target: state.last
        for one, state in zip(known, states, strict=True)
        if state.paused and state.last is not None
    }


def _kind(work: Work, kind: str) -> TaskKind:
    @task(
        kind=kind,
        summary=_SUMMARIES[kind],
        single=True,
        deadline=timedelta(hours=12),
        cleanup=timedelta(minutes=2),
    )
    async def drill(context: TaskContext, arguments: RunDrill) -> DrillDone:
        from phoenix_orch.orchestrator.drills import Asked, Drills, judged  # noqa: PLC0415 - half a second
        from phoenix_orch.recovery.drill_report import Kind  # noqa: PLC0415

        backups = await work.opened(context.actor)
        drills = await asyncio.to_thread(Drills, backups, work.layout, by=context.actor)
        paused = await paused_schedules(work.declared, context.store)
        steps: list[str] = []
        of_kind = Kind(kind.partition(".")[2])
        try:
            async with work.acting(kind, "all", context) as act:
                report: Report = await work.threaded(
                    context,
                    Meter(0),
                    lambda stop: drills.run(
                        Asked(of_kind, seed=arguments.seed, told=steps.append, stop=stop, paused=paused)
                    ),
                )
                done = DrillDone(
                    drill=report.id,
                    passed=report.passed,
                    rto_seconds=report.rto,
                    reasons=list(report.reasons),
                )
                act.after = done.model_dump()
                await context.log(*(f"{step.what}: {step.detail}" for step in report.steps))
                judged(report)
        finally:
            with contextlib.suppress(PhoenixError):  # what the drill has found is what counts
                await work.refreshed(backups)
        return done

    return drill
