"""How long the audit log is kept: a task of Phoenix's own that removes what is older, once a day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pydantic import BaseModel

from phoenix_orch.kernel.text import counted
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.config import AuditSettings
from phoenix_orch.security.audit_chain import Entry, Outcome
from phoenix_orch.security.audit_log import PRUNE, AuditRecords
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.registry import TaskKind, task
from phoenix_orch.tasks.schedule import Schedule, Timing
from phoenix_orch.tasks.spec import Retries

SCHEDULE = Schedule(
    name="audit-prune",
    kind=PRUNE,
    timing=Timing(cron="17 3 * * *", jitter=timedelta(minutes=10)),
)


class KeepsAudit(Protocol):
    """A configuration."""

    @property
    def audit(self) -> AuditSettings | None: ...


class Pruned(BaseModel):
    """What one run did."""

    records: int
    """That were removed."""
    before: datetime
    """Those that are older than this could go."""


def prune_kind(
    log: AuditRecords,
    config: Callable[[], KeepsAudit | None],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> TaskKind:
    """`config`: the one that holds when a task runs. `now`: on the wall, as the times of records."""

    @task(
        kind=PRUNE,
        summary="Remove records of the audit log that are older than they are kept",
        single=True,
        deadline=timedelta(minutes=10),
        retries=Retries(attempts=3),
    )
    async def prune(context: TaskContext) -> Pruned:
        known = config()
        retention = ((known.audit if known is not None else None) or AuditSettings()).retention
        at = now()
        entry = Entry(
            at=at,
            actor=context.actor,
            action=PRUNE,
            target="audit",
            reason=f"older than {format_duration(retention)}",
            outcome=Outcome.DONE,
            request_id=context.record.request_id,
            source=f"task/{context.id}",
        )
        records = await asyncio.to_thread(log.prune, at - retention, entry)
        await context.log(f"removed {counted(records, 'record')}")
        return Pruned(records=records, before=at - retention)

    return prune
