"""`phoenix backup` without a Phoenix that runs: the storage alone is the truth."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pyrage
import pytest
from tests.debian import program

from phoenix_orch.cli.main import run
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.config import load
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.testing.fake_backup import FakeBackupSource

FILE = """\
services:
  web: {{command: [web, --port, "{{port}}"], version: "1"}}
routes:
  web: {{service: web}}
backup:
  storage: {{folder: bucket}}
  recipients:
    - {{name: here, key: {here}}}
    - {{name: safe, key: {safe}, offline: true}}
"""


class Place:
    """A data directory, a phoenix.yaml, and what `phoenix backup` says there."""

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
        found = run(["backup", *words, *where])
        said = self.capsys.readouterr()
        assert found == status, said
        return said.out if status in (0, 1) and said.out else said.err

    def keys(self, *words: str, status: int = 0) -> str:
        self.capsys.readouterr()
        where = ["--data-dir", str(self.data), "--file", str(self.root / "phoenix.yaml")]
        assert run(["keys", *words, *where]) == status
        said = self.capsys.readouterr()
        return said.out + said.err

    def backups(self) -> Backups:
        """As a program has them."""
        spec = load(self.root / "phoenix.yaml").backup
        assert spec is not None
        return Backups(spec, Layout(self.data))

    def applied(self) -> None:
        """As if the file had been applied here."""
        config = load(self.root / "phoenix.yaml")
        Layout(self.data).config.write_text(config.model_dump_json(by_alias=True))

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self(*words, "--output", "json", status=status))

    @property
    def acts(self) -> list[tuple[str, str]]:
        return [(one.action, one.outcome) for one in AuditLog(self.data / "audit").newest(100)]


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    source = FakeBackupSource(b"what must not be lost" * 1000, component="config")
    monkeypatch.setattr(Backups, "sources", lambda _: {"config": lambda: source})
    monkeypatch.setattr(Backups, "structural", lambda *_: None)
    return Place(tmp_path, capsys)


def test_a_backup_is_taken_listed_shown_and_opened(place: Place) -> None:
    assert "L2 opens, good" in place("run", "config", "--reason", "before the move")
    (listed,) = place.json("list")["backups"]
    assert (listed["component"], listed["level"], listed["status"]) == ("config", 2, "good")
    shown = place.json("show", listed["id"][:12])
    assert shown["manifest"]["trigger"]["reason"] == "before the move"
    assert f"{listed['id']} of config is in" in place("cat", "--to", str(place.root / "copy"))
    assert (place.root / "copy").read_bytes() == b"what must not be lost" * 1000
    assert place.acts == [
        ("backup.run", "asked"),
        ("backup.run", "done"),
        ("backup.read", "asked"),
        ("backup.read", "done"),
    ]


def test_the_line_that_it_prints_opens_it_with_either_key(place: Place) -> None:
    age, zstd = program("age", "age"), program("zstd", "zstd")
    place("run", "config")
    line = place("show").strip().splitlines()[-1].strip()
    assert " | age -d -i IDENTITY | zstd -d > copy.bin" in line
    for key in (place.root / "offline.key", place.data / "keys" / "online.key"):
        subprocess.run(
            ["bash", "-o", "pipefail", "-c", line.replace("IDENTITY", str(key))],
            cwd=place.root,
            check=True,
            env={"PATH": f"{age.parent}:{zstd.parent}:{os.environ['PATH']}"},
        )
        assert (place.root / "copy.bin").read_bytes() == b"what must not be lost" * 1000


def test_damage_is_found_and_said(place: Place) -> None:
    place("run", "config")
    (data,) = (place.root / "bucket").rglob("data.*")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert "does NOT hold at level 1" in place("verify", status=1)
    assert place.json("list")["backups"][0]["status"] == "DAMAGED"
    assert "no verified backup" in place("cat", "--to", str(place.root / "copy"), status=2)
    backup = place.json("list")["backups"][0]["id"]
    assert place("cat", backup, "--to", str(place.root / "copy"), status=1)
    assert sorted(path.name for path in place.root.iterdir()) == [
        "bucket",
        "data",
        "offline.key",
        "phoenix.yaml",
    ]


def test_a_manifest_that_is_taken_away_is_a_fault_of_the_list(place: Place) -> None:
    place("run", "config")
    place("run", "config")
    newest = place.json("list")["backups"][0]["id"]
    (manifest,) = (place.root / "bucket").rglob(f"*{newest}/manifest.json")
    manifest.unlink()
    assert place.json("list", status=1)["faults"] == [
        f"{newest} was seen here earlier and is gone, and nothing says why"
    ]
    assert "nothing is removed: the catalog has 1 fault" in place("prune", status=1)
    assert f"phoenix backup acknowledge {newest}" in place("list", status=1)
    assert "would be known" in place("acknowledge", newest, "--dry-run")
    assert place("list", status=1)
    assert "is known" in place("acknowledge", newest, "--reason", "removed by hand")
    assert place.json("list")["faults"] == []
    assert "nothing is removed" not in place("prune")


def test_prune_explains_and_spares_what_is_pinned(place: Place) -> None:
    text = (place.root / "phoenix.yaml").read_text()
    (place.root / "phoenix.yaml").write_text(
        f"{text}  retention: {{hourly: 0, daily: 0, weekly: 0, keepLast: 1}}\n"
    )
    for _ in range(3):
        place("run", "config")
    oldest = place.json("list")["backups"][-1]["id"]
    place("pin", oldest, "--reason", "the move")
    said = place("prune", "--dry-run")
    assert "1 would be marked" in said
    assert "pinned: the move" in said
    assert "no rule takes it" in said
    assert len(place.json("prune")["components"][0]["marked"]) == 1
    assert [one["status"] for one in place.json("list")["backups"]] == ["good", "to be removed", "good"]
    assert "is pinned by" in place("pin", oldest, status=2)
    place("unpin", oldest)
    assert not place.json("show", oldest)["pinned"]


def test_without_the_section_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backup", "list", "--data-dir", str(tmp_path)]) == 2
    assert "phoenix keys init" in capsys.readouterr().err


def test_the_offline_key_on_this_machine_is_refused(place: Place) -> None:
    (place.data / "keys" / "online.key").write_text((place.root / "offline.key").read_text())
    assert "marked offline" in place("list", status=2)


def test_the_configuration_itself_is_backed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(tmp_path, capsys)
    layout = Layout(place.data)
    layout.freezes.write_text("{}")
    place("run", "config")
    place("run", "config")
    place("verify")
    assert [(one["good"], one["level"]) for one in place.json("list")["backups"]] == [(True, 3), (True, 3)]
    place("cat", "--to", str(place.root / "bundle"))
    assert (place.root / "bundle").read_bytes().startswith(b"# v2 git bundle")
