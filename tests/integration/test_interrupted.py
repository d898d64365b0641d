"""Ctrl-C in the middle of what takes long: exit status 130, nothing half, and words that say what is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import interrupting
from tests.integration.test_backup_cli import Place, place

ROOT = Path(__file__).parents[2]
__all__ = ["place"]
_CHILD = """
import random, sys, time
from phoenix_orch.cli.main import run
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.recovery import folder_store
from phoenix_orch.testing.fake_backup import FakeBackupSource, FakeCapture
from phoenix_orch.recovery.publish import Publisher, Step

where, words = sys.argv[1], sys.argv[2:]
source = FakeBackupSource(random.Random(1).randbytes(8_000_000), component="config")
Backups.sources = lambda _: {"config": lambda: source}
Backups.structural = lambda *_: None

def hang(*_):
    print("there", flush=True)
    time.sleep(3)

if where == "source":
    FakeCapture.read = hang
elif where == "storage":
    folder_store._Told.write = hang
elif where == "reading":
    folder_store._Told.read = hang
elif where == "published":
    import phoenix_orch.recovery.publish as publish
    publish.record_look = hang
sys.exit(run(words))
"""


def interrupted(place: Place, where: str, *words: str) -> str:
    """What it says, once it was interrupted at `where`."""
    command = [*words, "--data-dir", str(place.data), "--file", str(place.root / "phoenix.yaml")]
    return interrupting.interrupted(_CHILD, where, *command)


def left(place: Place) -> list[str]:
    """Data, manifests and temporary files in the storage."""
    found = (path for path in (place.root / "bucket").rglob("*") if path.is_file())
    return [path.name for path in found if path.name.startswith(("data.", "manifest"))] + [
        path.name for path in (place.root / "bucket" / ".tmp").glob("*")
    ]


@pytest.mark.parametrize("where", ["source", "storage"])
def test_a_run_that_is_interrupted_publishes_nothing(place: Place, where: str) -> None:
    said = interrupted(place, where, "backup", "run", "config")
    assert "interrupted: nothing was published" in said
    assert left(place) == []
    assert place.acts == [("backup.run", "asked"), ("backup.run", "failed")]
    assert "L2 opens, good" in place("run", "config")  # the lease was given back


def test_one_that_is_interrupted_once_it_is_published_says_so(place: Place) -> None:
    assert "the backup is published" in interrupted(place, "published", "backup", "run", "config")
    assert [one["status"] for one in place.json("list")["backups"]] == ["not verified"]


def test_a_look_that_is_interrupted_records_nothing(place: Place) -> None:
    place("run", "config")
    before = place.json("show")
    assert "nothing was recorded" in interrupted(place, "reading", "backup", "verify")
    assert place.json("show") == before


def test_a_copy_that_is_interrupted_leaves_no_file(place: Place) -> None:
    place("run", "config")
    to = place.root / "copy"
    said = interrupted(place, "reading", "backup", "cat", "--to", str(to))
    assert f"{to} was not written" in said
    assert {path.name for path in place.root.iterdir()} == {"bucket", "data", "offline.key", "phoenix.yaml"}


def test_a_file_that_is_there_is_written_over_by_force_alone(place: Place) -> None:
    place("run", "config")
    to = place.root / "copy"
    to.write_text("mine")
    assert "is there already" in place("cat", "--to", str(to), status=2)
    assert to.read_text() == "mine"
    place("cat", "--to", str(to), "--force")
    assert to.read_bytes() == b"what must not be lost" * 1000
