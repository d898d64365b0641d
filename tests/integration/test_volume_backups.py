"""A folder that phoenix.yaml names is copied at rest, verified, scheduled, rehearsed and restored."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.backup_stage import IDENTITY, OFFLINE

from phoenix_orch.kernel.errors import NotFound, Terminal
from phoenix_orch.orchestrator.backup_tasks import schedules, wake_left
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.config import load
from phoenix_orch.orchestrator.drills import Asked, Drills
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.drill_report import Kind
from phoenix_orch.recovery.manifest import Level, Trigger, TriggerKind
from phoenix_orch.recovery.restore.files_verify import described_tree
from phoenix_orch.recovery.spec import BackupSpec

PHOENIX = Path(sys.executable).with_name("phoenix")
MANUAL = Trigger(kind=TriggerKind.MANUAL, actor="test")
CHECKS = [{"kind": "sqlite", "files": "*.db"}, {"kind": "json", "files": "state.json"}]


def a_shop(folder: Path) -> Path:
    folder.mkdir()
    with sqlite3.connect(folder / "shop.db") as database:
        database.execute("create table carts (id integer primary key, what text)")
        database.executemany("insert into carts (what) values (?)", [("pears",)] * 500)
    database.close()
    (folder / "state.json").write_text('{"open": true}')
    return folder


def section(**volumes: object) -> dict[str, Any]:
    return {
        "storage": {"folder": "bucket"},
        "identityFile": "online.key",
        "recipients": [
            {"name": "here", "key": IDENTITY.public},
            {"name": "safe", "key": OFFLINE.public, "offline": True},
        ],
        "volumes": volumes,
    }


def spec(folder: Path, **volumes: object) -> BackupSpec:
    (folder / "online.key").write_text(f"{IDENTITY.key}\n")
    return BackupSpec.model_validate(section(**volumes)).placed(folder)


def quiesce(folder: Path) -> dict[str, Any]:
    return {
        "before": [{"command": ["touch", str(folder / "rested")]}],
        "after": [{"command": ["touch", str(folder / "woken")]}],
    }


def test_a_folder_goes_there_and_back(tmp_path: Path) -> None:
    shop = a_shop(tmp_path / "shop")
    there = {"path": "shop", "checks": CHECKS, "quiesce": quiesce(tmp_path)}
    backups = Backups(spec(tmp_path, shop=there), Layout(tmp_path / "data"))
    made = backups.run("volume/shop", MANUAL)
    assert made is not None
    assert (tmp_path / "rested").exists()
    assert (tmp_path / "woken").exists()
    assert [one["fault"] for one in made.manifest.hooks] == ["", ""]
    found = backups.one(component="volume/shop")
    look = backups.verify(found)
    assert (look.level, look.passed) == (Level.STRUCTURE, True), look.detail
    before = list(described_tree(shop))

    (shop / "shop.db").write_bytes(b"lost")
    content = io.BytesIO()
    backups.cat(found, content)
    words = [PHOENIX, "restore", "run", "volume", "--archive", "-", "--to", shop]
    done = subprocess.run(
        [*words, "--merkle-root", found.manifest.content["merkleRoot"], "-o", "json"],
        input=content.getvalue(),
        capture_output=True,
        check=True,
    )
    assert list(described_tree(shop)) == before
    assert (Path(json.loads(done.stdout)["old"]) / "shop.db").read_bytes() == b"lost"


def test_what_is_not_whole_is_not_published_and_the_application_wakes(tmp_path: Path) -> None:
    shop = a_shop(tmp_path / "shop")
    there = {"path": "shop", "checks": CHECKS, "quiesce": quiesce(tmp_path)}
    backups = Backups(spec(tmp_path, shop=there), Layout(tmp_path / "data"))
    (shop / "state.json").write_text('{"open": tr')
    with pytest.raises(Terminal, match="are not whole"):
        backups.run("volume/shop", MANUAL)
    assert (tmp_path / "woken").exists()
    with pytest.raises(NotFound):
        backups.one(component="volume/shop")


def test_the_structural_look_finds_an_archive_that_is_another_one(tmp_path: Path) -> None:
    a_shop(tmp_path / "shop")
    backups = Backups(spec(tmp_path, shop={"path": "shop"}), Layout(tmp_path / "data"))
    assert backups.run("volume/shop", MANUAL) is not None
    found = backups.one(component="volume/shop")
    content = {**found.manifest.content, "merkleRoot": "0" * 64}
    other = found.manifest.model_copy(update={"content": content})
    look = backups.verifier.look(
        other, found.sha256, Level.STRUCTURE, structural=backups.structural("volume/shop")
    )
    assert (look.level, look.passed) == (Level.STRUCTURE, False)


def test_a_drill_restores_it_and_runs_its_checks(tmp_path: Path) -> None:
    shop = a_shop(tmp_path / "shop")
    (shop / "state.json").unlink()  # nothing says yet that the file has to be there
    where = Layout(tmp_path / "data")
    backups = Backups(spec(tmp_path, shop={"path": "shop"}), where)
    assert backups.run("config", MANUAL) is not None
    assert backups.run("volume/shop", MANUAL) is not None
    report = Drills(backups, where, by="test").run(Asked(Kind.WEEKLY, seed="1"))
    assert report.passed, report.reasons
    checked = Backups(spec(tmp_path, shop={"path": "shop", "checks": CHECKS}), where)
    report = Drills(checked, where, by="test").run(Asked(Kind.WEEKLY, seed="1"))
    assert not report.passed
    assert any("volume/shop" in reason for reason in report.reasons), report.reasons


def test_it_is_scheduled_every_two_hours_and_asked_for_by_name(tmp_path: Path) -> None:
    shop = a_shop(tmp_path / "shop")
    found = spec(tmp_path, shop={"path": "shop"})
    assert found.volumes["shop"].path == str(shop)
    config: Any = SimpleNamespace(backup=found)
    (one,) = [one for one in schedules(config) if one.target == "volume/shop"]
    assert (one.name, one.timing.every.total_seconds()) == ("backup-volume-shop", 7200)  # type: ignore[union-attr]
    file = tmp_path / "phoenix.yaml"
    file.write_text(
        json.dumps(
            {
                "services": {"web": {"command": ["web", "--port", "{port}"], "version": "1"}},
                "routes": {"web": {"service": "web"}},
                "backup": section(shop={"path": "shop"}),
            }
        )
    )
    assert load(file).backup is not None
    words = ["backup", "run", "volume/shop", "--file", file, "--data-dir", tmp_path / "data", "-o", "json"]
    done = subprocess.run([PHOENIX, *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["manifest"]["component"] == "volume/shop"


@pytest.mark.anyio
async def test_what_a_killed_run_left_at_rest_is_woken_at_the_next_start(tmp_path: Path) -> None:
    where = Layout(tmp_path)
    where.backup_notes.mkdir()
    await wake_left(where)
    assert not (tmp_path / "woken").exists()
    (where.backup_notes / "volume.shop.json").write_text(json.dumps(quiesce(tmp_path)))
    broken = {"before": [], "after": [{"command": ["false"]}]}
    (where.backup_notes / "volume.till.json").write_text(json.dumps(broken))
    with capture_logs() as told:
        await wake_left(where)
    assert (tmp_path / "woken").exists()
    assert [path.name for path in where.backup_notes.glob("*.json")] == ["volume.till.json"]
    assert [one["log_level"] for one in told] == ["info", "error"]
