"""`phoenix drill` without a Phoenix that runs: the storage and the keys are enough."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyrage
import pytest
from tests.integration.test_backup_cli import FILE

from phoenix_orch.cli.main import run
from phoenix_orch.orchestrator.config import load
from phoenix_orch.orchestrator.kept_config import kept_text
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recovery_look import StoredRecovery
from phoenix_orch.security.audit_log import AuditLog


class Place:
    """A data directory with a configuration, a phoenix.yaml, keys, and what `phoenix` says there."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.data, self.capsys = root, root / "data", capsys
        online, offline = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
        (self.data / "keys").mkdir(parents=True)
        (self.data / "keys" / "online.key").write_text(f"{online}\n")
        (root / "offline.key").write_text(f"{offline}\n")
        (root / "phoenix.yaml").write_text(FILE.format(here=online.to_public(), safe=offline.to_public()))

    def __call__(self, *words: str, status: int = 0) -> str:
        self.capsys.readouterr()
        where = ["--data-dir", str(self.data), "--file", str(self.root / "phoenix.yaml")]
        found = run([*words, *where])
        said = self.capsys.readouterr()
        assert found == status, said
        return said.out if status in (0, 1) and said.out else said.err

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self(*words, "--output", "json", status=status))

    @property
    def acts(self) -> list[tuple[str, str]]:
        return [(one.action, one.outcome) for one in AuditLog(self.data / "audit").newest(100)]

    @property
    def key(self) -> str:
        return str(self.root / "offline.key")

    def newest(self) -> Path:
        return max((self.root / "bucket" / "v1").rglob("data.*"))


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    made = Place(tmp_path, capsys)
    made("backup", "run", "config")
    return made


@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly"])
def test_a_drill_passes_is_kept_and_shown(place: Place, kind: str) -> None:
    more = ["--identity", place.key] if kind == "monthly" else []
    said = place("drill", "run", kind, *more, "--reason", "the first of the year")
    assert "UTC: PASS" in said
    assert "the first drill of its kind" in said
    (listed,) = place.json("drill", "list")["drills"]
    assert (listed["kind"], listed["passed"]) == (kind, True)
    assert place("drill", "show", listed["id"][:12]) == said
    page = place("drill", "report")
    assert f"# {kind.capitalize()} drill of" in page
    assert listed["evidence"] in page
    place("drill", "report", "--format", "json", "--to", str(place.root / "report.json"))
    assert json.loads((place.root / "report.json").read_text())["evidence"] == listed["evidence"]
    assert place.acts[-2:] == [(f"drill.{kind}", "asked"), (f"drill.{kind}", "done")]
    assert "1 of the last 1 passed" in place("drill", "run", kind, *more)


@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly"])
def test_a_drill_that_fails_is_loud(place: Place, kind: str) -> None:
    data = place.newest()
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.chmod(0o600)
    data.write_bytes(content)
    more = ["--identity", place.key] if kind == "monthly" else []
    report = place.json("drill", "run", kind, *more, status=1)
    phase = "verify" if kind == "daily" else "download"
    assert not report["passed"]
    assert [step["phase"] for step in report["steps"] if not step["passed"]] == [phase]
    assert place.acts[-1] == (f"drill.{kind}", "failed")
    assert "FAIL" in place("drill", "list")
    assert "FAILED: " in place("drill", "report")


@pytest.mark.parametrize(("kind", "level"), [("daily", 3), ("weekly", 4), ("monthly", 5)])
def test_a_copy_that_was_loaded_rises_a_level(place: Place, kind: str, level: int) -> None:
    place("drill", "run", kind, *(["--identity", place.key] if kind == "monthly" else []))
    (listed,) = place.json("backup", "list")["backups"]
    assert (listed["level"], listed["status"]) == (level, "good")


def test_the_same_seed_draws_the_same_copies(place: Place) -> None:
    for _ in range(4):
        place("backup", "run", "config")

    def drawn(seed: str) -> list[str]:
        report = place.json("drill", "run", "weekly", "--seed", seed)
        assert report["seed"] == seed
        return [step["backup"] for step in report["steps"] if step["phase"] == "download"]

    found = [drawn(str(seed)) for seed in range(6)]
    assert [drawn(str(seed)) for seed in range(6)] == found
    assert len({str(one) for one in found}) > 1


def test_the_monthly_drill_takes_the_offline_key_alone(place: Place) -> None:
    assert "--identity FILE" in place("drill", "run", "monthly", status=2)
    online = str(place.data / "keys" / "online.key")
    assert "holds an online key" in place("drill", "run", "monthly", "--identity", online, status=2)
    assert place.json("drill", "list")["drills"] == []


def test_a_report_that_was_changed_is_told_of(place: Place) -> None:
    place("drill", "run", "daily")
    (path,) = (place.root / "bucket" / "drills").iterdir()
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"passed":true', b'"passed":false'))
    assert "its content is not what was signed" in place("drill", "list", status=1)
    assert "its content is not what was signed" in place("drill", "show", status=1)


@pytest.mark.anyio
async def test_the_console_sees_the_same(place: Place) -> None:
    place("drill", "run", "daily")
    layout = Layout(place.data)
    recovery = StoredRecovery(layout)
    assert await recovery.overview() is None
    layout.config.write_text(kept_text(load(place.root / "phoenix.yaml")))
    found = await recovery.overview()
    assert found is not None
    (component,) = found.components
    assert (component.component, component.copies, component.level) == ("config", 1, 3)
    assert component.problems == ()
    assert found.drills == [await recovery.drill("latest")]


def test_there_is_none_yet(place: Place) -> None:
    assert "run one: phoenix drill run" in place("drill", "list")
    assert "there was no drill yet" in place("drill", "show", status=2)


def test_another_machine_recovers_with_the_storage_and_the_offline_key(place: Place) -> None:
    """The machine is lost: what is left are the storage, the offline key, phoenix.yaml and a public key."""
    signing = place("backup", "keys").strip()
    text = (place.root / "phoenix.yaml").read_text()
    (place.root / "phoenix.yaml").write_text(f"{text}  trustedKeys: ['{signing}']\n")
    place.data = place.root / "new"
    assert "UTC: PASS" in place("drill", "run", "monthly", "--identity", place.key)


def test_without_the_public_key_nothing_is_believed(place: Place) -> None:
    place.data = place.root / "new"
    assert "is not trusted" in place("drill", "run", "monthly", "--identity", place.key, status=1)


@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly"])
def test_a_dry_run_tells_what_would_be_looked_at_and_does_nothing(place: Place, kind: str) -> None:
    more = ["--identity", place.key] if kind == "monthly" else []
    before = sorted(str(path) for path in (place.root / "bucket").rglob("*"))
    acts = place.acts
    (listed,) = [one["id"] for one in json.loads(place("backup", "list", "-o", "json"))["backups"]]
    planned = place.json("drill", "run", kind, "--dry-run", *more)
    tier = "hourly" if kind == "weekly" else ""
    copy = {"component": "config", "backup": listed, "tier": tier, "problem": ""}
    assert planned["copies"] == [copy]
    assert bool(planned["seed"]) == (kind == "weekly")
    said = place("drill", "run", kind, "--dry-run", *more)
    assert said.startswith(f"a {kind} drill would look at")
    assert listed in said
    assert ("draws the same" in said) == (kind == "weekly")
    assert sorted(str(path) for path in (place.root / "bucket").rglob("*")) == before
    assert place.acts == acts
    assert place.json("drill", "list")["drills"] == []


def test_the_seed_of_a_dry_run_draws_what_it_told(place: Place) -> None:
    for _ in range(5):
        place("backup", "run", "config")
    planned = place.json("drill", "run", "weekly", "--dry-run")
    again = place.json("drill", "run", "weekly", "--dry-run", "--seed", planned["seed"])
    assert again == planned
    report = place.json("drill", "run", "weekly", "--seed", planned["seed"])
    looked = [step["backup"] for step in report["steps"] if step["phase"] == "download"]
    assert looked == [one["backup"] for one in planned["copies"]]


def test_a_dry_run_fails_where_the_drill_would(place: Place) -> None:
    assert "--identity FILE" in place("drill", "run", "monthly", "--dry-run", status=2)
    shutil.rmtree(place.root / "bucket" / "v1")
    said = place("drill", "run", "weekly", "--dry-run", status=1)
    assert "NONE" in said
    assert "there is no backup" in said
    (copy,) = place.json("drill", "run", "daily", "--dry-run", status=1)["copies"]
    assert (copy["backup"], copy["problem"]) == ("", "there is no backup")
