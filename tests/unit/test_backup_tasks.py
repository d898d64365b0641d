"""Backups as tasks: their schedules, what they tell, what they record, and the figures of the catalog."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyrage
import pytest

from phoenix_orch.kernel.errors import BadState, Terminal
from phoenix_orch.observability import metrics
from phoenix_orch.orchestrator import backup_tasks
from phoenix_orch.orchestrator.backup_figures import figures
from phoenix_orch.orchestrator.backup_progress import Meter
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery import prune
from phoenix_orch.recovery.manifest import Level
from phoenix_orch.recovery.publish import Step
from phoenix_orch.recovery.rdb_check import DumpCheck
from phoenix_orch.recovery.spec import BackupSpec, RecipientSpec, RetentionSpec
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.tasks.schedule import next_due
from phoenix_orch.testing.fake_backup import FakeBackupSource

SLOT = datetime(2026, 11, 28, 10, tzinfo=UTC)


class World:
    """Tasks on a data directory, with a source of bytes."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = Layout(root)
        online, offline = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
        (root / "keys").mkdir()
        (root / "keys" / "online.key").write_text(f"{online}\n")
        spec = BackupSpec(
            recipients=(
                RecipientSpec(name="here", key=str(online.to_public())),
                RecipientSpec(name="safe", key=str(offline.to_public()), offline=True),
            )
        )
        self.config = PhoenixFile(services={}, backup=spec)
        self.source = FakeBackupSource(b"x" * 100_000, component="config", at=datetime.now(UTC))
        monkeypatch.setattr(Backups, "sources", lambda _: {"config": lambda: self.source})
        monkeypatch.setattr(Backups, "structural", lambda *_: None)
        self.log = AuditLog(self.layout.audit)
        self.kinds = {
            kind.spec.kind: kind
            for kind in backup_tasks.kinds(
                backup_tasks.Work(lambda: self.config, self.layout, Recorder(self.log))
            )
        }
        self.said: list[str] = []

    async def run(self, kind: str, slot: datetime | None = None, **arguments: Any) -> Any:
        async def log(*lines: str) -> None:
            self.said.extend(lines)

        async def progress(fraction: float, text: str = "") -> None:
            assert 0 <= fraction < 1

        found = self.kinds[kind]
        record = SimpleNamespace(request_id="", reason="", slot=slot, arguments=found.check(arguments))
        context: Any = SimpleNamespace(id="t1", actor="ann", record=record, log=log, progress=progress)
        return await found.run(context)

    @property
    def acts(self) -> list[tuple[str, str, str]]:
        return [(one.action, one.target, one.outcome) for one in self.log.newest(50)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.mark.anyio
async def test_a_slot_is_published_once_and_recorded(world: World) -> None:
    done = await world.run("backup.run", SLOT, component="config")
    assert (done.level, done.raw_bytes, done.good) == (2, 100_000, True)
    again = await world.run("backup.run", SLOT, component="config")
    assert again.backup == ""
    assert world.said[-1] == "the backup of this slot is there already"
    assert world.source.captures == 1
    assert world.acts[:2] == [
        ("backup.run", "backup/config", "asked"),
        ("backup.run", "backup/config", "done"),
    ]


@pytest.mark.anyio
async def test_a_run_that_fails_is_recorded_as_failed(world: World) -> None:
    world.source.fails_at, world.source.failure = 10, Terminal("it is broken")
    with pytest.raises(Terminal):
        await world.run("backup.run", component="config")
    assert world.acts[0] == ("backup.run", "backup/config", "asked")
    assert world.config.backup is not None
    assert not Backups(world.config.backup, world.layout).views()[0].backups


class Watch(BaseHTTPRequestHandler):
    """Who notices when no call comes."""

    def do_GET(self) -> None:
        self.server.calls.append(self.path)  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """It says nothing."""


@pytest.fixture
def watch() -> Iterator[Any]:
    with HTTPServer(("127.0.0.1", 0), Watch) as server:
        server.calls, server.status = [], 200  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def pinging(world: World, address: str) -> None:
    assert world.config.backup is not None
    world.config = world.config.model_copy(
        update={"backup": world.config.backup.model_copy(update={"ping": address})}
    )


@pytest.mark.anyio
async def test_who_watches_is_called_after_a_verified_backup_only(world: World, watch: Any) -> None:
    port = watch.server_address[1]
    pinging(world, f"http://127.0.0.1:{port}/secret-token/{{component}}")
    await world.run("backup.run", component="config")
    assert watch.calls == ["/secret-token/config"]
    world.source.fails_at, world.source.failure = 10, Terminal("it is broken")
    with pytest.raises(Terminal):
        await world.run("backup.run", component="config")
    world.source.fails_at = None
    for _ in range(4):
        world.source.content = b"x" * 100_000
        await world.run("backup.run", component="config")
    before = len(watch.calls)
    world.source.content = b"x"
    done = await world.run("backup.run", component="config")
    assert (done.good, len(watch.calls)) == (False, before)


@pytest.mark.anyio
async def test_a_watch_that_fails_fails_nothing_and_is_not_named(world: World, watch: Any) -> None:
    port = watch.server_address[1]
    pinging(world, f"http://127.0.0.1:{port}/secret-token")
    watch.status = 503
    assert (await world.run("backup.run", component="config")).good
    assert world.said[-1] == "the ping was answered with 503"
    pinging(world, "http://127.0.0.1:1/secret-token")
    assert (await world.run("backup.run", component="config")).good
    assert world.said[-1] == "the ping could not be sent: ConnectError"
    assert "secret-token" not in "".join(world.said)


@pytest.mark.anyio
async def test_one_watch_for_all_is_not_called_while_another_component_has_nothing(
    world: World, watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FakeBackupSource(b"y", component="redis/cache", at=datetime.now(UTC))
    both = {"config": lambda: world.source, "redis/cache": lambda: other}
    monkeypatch.setattr(Backups, "sources", lambda _: both)
    pinging(world, f"http://127.0.0.1:{watch.server_address[1]}/all")
    await world.run("backup.run", component="config")
    assert world.said[-1] == "no ping: redis/cache has no good backup that is fresh"
    assert watch.calls == []
    await world.run("backup.run", component="redis/cache")
    assert watch.calls == ["/all"]


@pytest.mark.anyio
async def test_the_check_tells_what_is_wrong(world: World) -> None:
    with pytest.raises(Terminal, match="config: there is no backup"):
        await world.run("backup.check")
    await world.run("backup.run", component="config")
    assert (await world.run("backup.check")).checked == 1
    world.source.at = datetime.now(UTC) - timedelta(hours=5)
    (data,) = (world.layout.root / "backups").rglob("data.*")
    data.unlink()
    with pytest.raises(Terminal, match="is gone or cut"):
        await world.run("backup.check")


@pytest.mark.anyio
async def test_every_backup_is_read_once_in_a_week_of_checks(world: World) -> None:
    for _ in range(4):
        await world.run("backup.run", component="config")
    assert world.config.backup is not None
    (view,) = Backups(world.config.backup, world.layout).views()
    days = [list(backup_tasks.due_looks(view, SLOT + timedelta(days=day))) for day in range(7)]
    assert all(looks[0] == (view.live[0], None) for looks in days)
    others = [backup.id for looks in days for backup, level in looks[1:] if level is Level.STORED]
    assert sorted(others) == sorted(backup.id for backup in view.live[1:])


@pytest.mark.anyio
async def test_a_copy_that_is_old_is_told_of(world: World) -> None:
    world.source.at = datetime.now(UTC) - timedelta(hours=3)
    await world.run("backup.run", component="config")
    with pytest.raises(Terminal, match="the newest verified backup is 180 min old"):
        await world.run("backup.check")


@pytest.mark.anyio
async def test_verify_fails_for_a_backup_that_does_not_hold(world: World) -> None:
    done = await world.run("backup.run", component="config")
    assert (await world.run("backup.verify", backup=done.backup)).passed
    (data,) = (world.layout.root / "backups").rglob("data.*")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(Terminal, match="does not hold"):
        await world.run("backup.verify", backup=done.backup)


@pytest.mark.anyio
async def test_prune_stops_while_the_newest_is_shrunk(world: World) -> None:
    for content in (b"x" * 100_000, b"x" * 10):
        world.source.content = content
        done = await world.run("backup.run", component="config")
    assert not done.good
    assert "acknowledge" in world.said[-1]
    with pytest.raises(Terminal, match="much smaller than those before"):
        await world.run("backup.prune")


@pytest.mark.anyio
async def test_figures_come_from_the_catalog(world: World) -> None:
    await world.run("backup.run", component="config")
    read = metrics.REGISTRY.get_sample_value
    labels = {"component": "config"}
    assert read("phoenix_backup_verified_level", labels) == 2
    assert read("phoenix_backup_retained", {**labels, "tier": "last"}) == 1
    assert read("phoenix_backup_last_attempt_status", labels) == 1
    assert read("phoenix_backup_missed_slots", labels) == 0
    assert read("phoenix_backup_deletions_total", labels) == 0
    assert (read("phoenix_backup_duration_seconds", {**labels, "stage": "store"}) or -1) >= 0
    assert (read("phoenix_backup_duration_seconds", {**labels, "stage": "verify"}) or -1) >= 0
    assert read("phoenix_backup_bytes", {**labels, "form": "raw"}) == 100_000
    assert read("phoenix_backup_shrink_ratio", labels) == 1
    assert 0 <= (read("phoenix_backup_age_seconds", labels) or -1) < 60
    metrics.BACKUPS.set([])


@pytest.mark.anyio
async def test_figures_tell_of_failures_gaps_and_what_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, labels = metrics.REGISTRY.get_sample_value, {"component": "config"}
    now = datetime.now(UTC).replace(microsecond=0)
    for hours in (6, 5, 1):  # none of four and three and two hours ago
        await world.run("backup.run", now - timedelta(hours=hours), component="config")
    assert read("phoenix_backup_missed_slots", labels) == 3
    assert read("phoenix_backup_orphans", labels) == 0
    world.source.fails_at, world.source.failure = 50_000, Terminal("it is broken")
    with pytest.raises(Terminal, match="it is broken"):
        await world.run("backup.run", component="config")
    world.source.fails_at = None
    assert world.config.backup is not None
    backups = Backups(world.config.backup, world.layout)
    (view,) = backups.views()
    assert figures(view, backups.seen(view)).last_attempt == 0

    # what a killed run has left, and a backup that retention does not keep
    left = Path(view.live[0].manifest.stream.key)
    lone = backups.store.root / left.with_name("data.0007.bytes.bin.zst.age")  # type: ignore[attr-defined]
    lone.write_bytes(b"x")
    monkeypatch.setattr(prune, "ORPHANS", timedelta(seconds=-1))
    assert figures(view, backups.seen(view)).orphans == 1
    monkeypatch.setattr(prune, "GRACE", timedelta(seconds=-1))
    few = world.config.backup.model_copy(
        update={"retention": RetentionSpec(hourly=1, daily=0, weekly=0, keep_last=1)}
    )
    world.config = PhoenixFile(services={}, backup=few)
    await world.run("backup.prune")
    await world.run("backup.prune")
    assert read("phoenix_backup_deletions_total", labels) == 2
    assert read("phoenix_backup_orphans", labels) == 0
    assert read("phoenix_backup_retained", {**labels, "tier": "last"}) == 1
    await world.run("backup.run", component="config")
    assert read("phoenix_backup_last_attempt_status", labels) == 1
    assert read("phoenix_backup_deletions_total", labels) == 2
    metrics.BACKUPS.set([])


@pytest.mark.anyio
async def test_a_copy_whose_structure_does_not_hold_is_published_and_does_not_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backups, "structural", lambda *_: DumpCheck())  # the content is no dump
    with pytest.raises(Terminal, match="is published and does not hold"):
        await world.run("backup.run", component="config")
    assert world.config.backup is not None
    (view,) = Backups(world.config.backup, world.layout).views()
    (made,) = view.live
    assert [(look.level, look.passed) for look in made.verifications] == [
        (Level.OPENED, True),
        (Level.STRUCTURE, False),
    ]
    assert not made.good
    assert view.newest_good is None


@pytest.mark.anyio
async def test_without_a_tool_for_the_structure_the_level_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoTool(DumpCheck):
        def examine(self, *_: object) -> Any:
            raise BadState("there is no tool here")

    monkeypatch.setattr(Backups, "structural", lambda *_: NoTool())
    done = await world.run("backup.run", component="config")
    assert (done.level, done.good) == (2, True)


@pytest.mark.anyio
async def test_without_the_section_nothing_runs(world: World) -> None:
    world.config = PhoenixFile(services={})
    assert backup_tasks.schedules(world.config) == ()
    with pytest.raises(BadState, match="not configured"):
        await world.run("backup.run", component="config")


def test_schedules_are_the_guides(world: World) -> None:
    found = {one.name: one for one in backup_tasks.schedules(world.config)}
    assert set(found) == {"backup-config", "backup-check", "backup-prune"}
    assert found["backup-config"].timing.every == timedelta(hours=1)
    assert found["backup-config"].arguments == {"component": "config"}
    assert next_due(found["backup-check"], SLOT) == datetime(2026, 11, 29, 4, 23, tzinfo=UTC)


def test_progress_goes_up_and_tells_what_is_left() -> None:
    now = [0.0]
    meter = Meter(1_000_000, lambda: now[0], waiting="waiting for the server's snapshot")
    told = meter.as_told(lambda: False)
    told.step(Step.LEASED)
    assert meter.told() == (0.0, "waiting for the server's snapshot")
    now[0] = 10
    told.storing(500_000)
    assert meter.told() == (0.25, "0.5 MB of 1.0 MB stored, 30 s left")
    told.storing(2_000_000)
    told.step(Step.STORED)
    told.looking(1_000_000)
    assert meter.told() == (0.75, "1.0 MB of 2.0 MB looked at, 3 s left")
