"""Drills as tasks: their schedules, what they record and show, and that a failed one fails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyrage
import pytest
from pydantic import ValidationError

from phoenix_orch.kernel.errors import Invalid, Terminal
from phoenix_orch.observability import metrics
from phoenix_orch.orchestrator import backup_tasks, drill_tasks
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.drill_spec import DrillSpec
from phoenix_orch.recovery.spec import BackupSpec, RecipientSpec
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.tasks.record import ScheduleState


class World:
    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        online, offline = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
        (root / "keys").mkdir()
        (root / "keys" / "online.key").write_text(f"{online}\n")
        (root / "offline.key").write_text(f"{offline}\n")
        self.spec = BackupSpec(
            recipients=(
                RecipientSpec(name="here", key=str(online.to_public())),
                RecipientSpec(name="safe", key=str(offline.to_public()), offline=True),
            ),
            drills=DrillSpec(offline_identity_file=str(root / "offline.key")),
        )
        self.log = AuditLog(self.layout.audit)
        recorder = Recorder(self.log)
        work = backup_tasks.Work(lambda: self.config, self.layout, recorder)
        both = (
            *backup_tasks.kinds(work),
            *drill_tasks.kinds(work),
        )
        self.kinds = {kind.spec.kind: kind for kind in both}
        self.said: list[str] = []
        self.paused: dict[str, datetime] = {}
        """Schedules that a person has paused, and since when."""

    @property
    def config(self) -> PhoenixFile:
        return PhoenixFile(services={}, backup=self.spec)

    async def schedule_states(self, names: Sequence[str], /) -> Sequence[ScheduleState]:
        """As a store of tasks: of a paused one `last` is when it was."""
        return [
            ScheduleState(paused=name in self.paused, last=self.paused.get(name, datetime.now(UTC)))
            for name in names
        ]

    async def run(self, kind: str, **arguments: Any) -> Any:
        async def log(*lines: str) -> None:
            self.said.extend(lines)

        async def progress(fraction: float, text: str = "") -> None:
            assert 0 <= fraction < 1

        found = self.kinds[kind]
        record = SimpleNamespace(request_id="", reason="", slot=None, arguments=found.check(arguments))
        context: Any = SimpleNamespace(
            id="t1", actor="ann", record=record, log=log, progress=progress, store=self
        )
        return await found.run(context)

    @property
    def acts(self) -> list[tuple[str, str]]:
        return [(one.action, one.outcome) for one in self.log.newest(50)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def sample(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, labels)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly"])
async def test_a_drill_is_recorded_and_shown(world: World, kind: str) -> None:
    await world.run("backup.run", component="config")
    done = await world.run(f"drill.{kind}")
    assert done.passed
    assert done.reasons == []
    assert world.acts[-2:] == [(f"drill.{kind}", "asked"), (f"drill.{kind}", "done")]
    assert sample("phoenix_drill_passed", kind=kind) == 1
    assert sample("phoenix_drill_last_timestamp_seconds", kind=kind, result="passed") is not None
    assert sample("phoenix_drill_last_timestamp_seconds", kind=kind, result="failed") is None
    rto = sample("phoenix_recovery_rto_seconds", phase="configuration")
    assert (rto is not None) == (kind == "monthly")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly"])
async def test_a_failed_drill_fails_its_task(world: World, kind: str) -> None:
    with pytest.raises(Terminal) as error:
        await world.run(f"drill.{kind}")
    assert f"the {kind} drill failed" in error.value.message
    assert "there is no backup" in error.value.message
    assert "phoenix drill report" in error.value.remedy
    assert sample("phoenix_drill_passed", kind=kind) == 0
    assert sample("phoenix_drill_last_timestamp_seconds", kind=kind, result="failed") is not None
    await world.run("backup.run", component="config")  # its records take the one before along
    assert (f"drill.{kind}", "failed") in world.acts


@pytest.mark.anyio
async def test_metrics_come_from_the_storage_again(world: World) -> None:
    await world.run("backup.run", component="config")
    await world.run("drill.monthly")
    metrics.DRILLS.set([])
    assert sample("phoenix_drill_passed", kind="monthly") is None
    await world.run("backup.run", component="config")
    assert sample("phoenix_drill_passed", kind="monthly") == 1


def test_schedules_follow_the_configuration(world: World) -> None:
    found = {one.name: one.timing.cron for one in drill_tasks.schedules(world.config)}
    assert found == {"drill-daily": "11 5 * * *", "drill-weekly": "31 5 * * 0", "drill-monthly": "47 5 1 * *"}
    world.spec = world.spec.model_copy(update={"drills": DrillSpec()})
    assert {one.name for one in drill_tasks.schedules(world.config)} == {"drill-daily", "drill-weekly"}
    assert list(drill_tasks.schedules(None)) == []
    assert list(drill_tasks.schedules(PhoenixFile(services={}))) == []


@pytest.mark.anyio
async def test_the_offline_key_has_to_be_there(world: World) -> None:
    (world.layout.root / "offline.key").unlink()
    with pytest.raises(Invalid):
        await world.run("drill.monthly")


def test_a_schedule_is_a_cron_expression() -> None:
    with pytest.raises(ValidationError, match="no cron expression"):
        DrillSpec(daily="at five, please")


def test_what_is_left_out_can_be_written_out() -> None:
    assert DrillSpec.model_validate_json(DrillSpec().model_dump_json(by_alias=True)) == DrillSpec()


async def test_a_schedule_that_is_paused_too_long_fails_the_daily_drill(world: World) -> None:
    await world.run("backup.run", component="config")
    world.paused = {"backup-config": datetime.now(UTC) - timedelta(hours=20)}
    assert (await world.run("drill.daily")).passed
    world.paused = {"backup-config": datetime.now(UTC) - timedelta(hours=30)}
    with pytest.raises(Terminal, match="paused too long: its schedule has been paused for 1d6h"):
        await world.run("drill.daily")
