"""The task that removes what is older than it is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phoenix_orch.orchestrator.audit_keeping import SCHEDULE, Pruned, prune_kind
from phoenix_orch.orchestrator.config import AuditSettings, PhoenixFile
from phoenix_orch.security.audit_chain import Entry
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.tasks.schedule import next_due

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def context() -> Any:
    """What the task looks at of its context."""
    said: list[str] = []

    async def log(*lines: str) -> None:
        said.extend(lines)

    record = SimpleNamespace(request_id="")
    return SimpleNamespace(id="t1", actor="schedule audit-prune", record=record, log=log, said=said)


def aged(directory: Path) -> AuditLog:
    """Records of the last 500 days, ten days apart, one in each file."""
    log = AuditLog(directory, largest=1)
    for days in range(500, -1, -10):
        log.append([Entry(at=NOW - timedelta(days=days), actor="ann", action="a.b", target="c")])
    return log


@pytest.mark.anyio
@pytest.mark.parametrize(("audit", "days"), [(None, 400), (AuditSettings(retention=timedelta(days=30)), 30)])
async def test_what_is_older_goes_and_the_log_says_who_removed_it(
    tmp_path: Path, audit: AuditSettings | None, days: int
) -> None:
    log, asked = aged(tmp_path), context()
    config = PhoenixFile(services={}, audit=audit)
    result = await prune_kind(log, lambda: config, lambda: NOW).run(asked)
    gone = (500 - days) // 10
    assert result == Pruned(records=gone, before=NOW - timedelta(days=days))
    assert asked.said == [f"removed {gone} records"]
    assert log.verify().faults == ()
    (record,) = log.newest(1)
    assert (record.action, record.actor, record.source) == ("audit.prune", "schedule audit-prune", "task/t1")
    assert record.reason == f"older than {days}d"


def test_it_runs_once_a_day() -> None:
    first = next_due(SCHEDULE, NOW)
    assert first is not None
    second = next_due(SCHEDULE, first)
    assert second is not None
    assert timedelta(hours=23, minutes=50) <= second - first <= timedelta(hours=24, minutes=10)
