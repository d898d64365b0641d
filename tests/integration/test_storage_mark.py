"""A storage that held backups and is empty, or another one: nothing begins anew in there, and it is said."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic.alias_generators import to_camel
from tests.backup_stage import SIGNER, stage
from tests.integration.test_backup_cli import Place, place

from phoenix_orch.cli.checks import State, examine
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.observability import metrics
from phoenix_orch.observability.backups import BackupCollector
from phoenix_orch.orchestrator import backups as composition
from phoenix_orch.orchestrator.backup_tasks import Work, problems
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recovery_look import StoredRecovery
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.manifest import Trigger, TriggerKind, encoded
from phoenix_orch.recovery.publish import Step, Told
from phoenix_orch.recovery.signing import signed
from phoenix_orch.recovery.storage_mark import Marks, StorageLostError
from phoenix_orch.testing.fake_backup import FakeBackupSource

__all__ = ["place"]
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def unmounted(place: Place, *, gone: bool = False) -> Path:
    """The share is away: where it was mounted is an empty folder, or nothing."""
    away = place.root / "away"
    (place.root / "bucket").rename(away)
    if not gone:
        (place.root / "bucket").mkdir()
    return away


def mounted_again(place: Place, away: Path) -> None:
    shutil.rmtree(place.root / "bucket", ignore_errors=True)
    away.rename(place.root / "bucket")


@pytest.mark.parametrize("gone", [False, True])
def test_no_chain_begins_in_a_folder_that_is_not_mounted(place: Place, gone: bool) -> None:
    place("run", "config")
    away = unmounted(place, gone=gone)
    for words in (("run", "config"), ("list",), ("prune",), ("verify",), ("show",)):
        said = place(*words, status=1)
        assert f"is {'not there' if gone else 'empty'}, and it held backups" in said
        assert "is it mounted?" in said
    assert not (place.root / "bucket").exists() or not any((place.root / "bucket").iterdir())
    assert (place.acts[-2:]) == [("backup.run", "asked"), ("backup.run", "failed")]
    mounted_again(place, away)
    place("run", "config")
    assert len(place.json("list")["backups"]) == 2
    assert place.json("list")["faults"] == []


def test_another_storage_in_the_same_place_is_refused(place: Place) -> None:
    place("run", "config")
    unmounted(place)
    FolderStore(place.root / "bucket").create(
        "storage.json", b'{"schema":"phoenix-orch.io/storage/v1","id":"other","made":"2026-01-01T00:00:00Z"}'
    )
    said = place("run", "config", status=1)
    assert "is another storage than before" in said
    assert "phoenix backup init" in said
    (place.root / "bucket" / "storage.json").write_text("something")
    assert "is no mark of a storage" in place("list", status=1)


def test_a_person_begins_anew_where_it_was_emptied_on_purpose(place: Place) -> None:
    place("run", "config")
    assert "nothing to do" in place("init")
    unmounted(place)
    assert "would be used from now on" in place("init", "--dry-run")
    assert "is empty, and it held backups" in place("list", status=1)
    assert "is used from now on" in place("init", "--reason", "the disk was replaced")
    assert place.json("list") == {"backups": [], "faults": []}  # nothing of the former one is missed
    place("run", "config")
    assert [one["status"] for one in place.json("list")["backups"]] == ["good"]
    assert ("backup.init", "done") in place.acts


def test_a_mark_alone_that_is_gone_is_made_again(place: Place) -> None:
    place("run", "config")
    before = (place.root / "bucket" / "storage.json").read_bytes()
    (place.root / "bucket" / "storage.json").unlink()
    assert "backups are there" in place("run", "config", status=1)
    place("init")
    assert (place.root / "bucket" / "storage.json").read_bytes() == before
    place("run", "config")
    assert place.json("list")["faults"] == []


def test_a_storage_from_before_there_were_marks_gets_one(place: Place) -> None:
    place("run", "config")
    (place.root / "bucket" / "storage.json").unlink()
    shutil.rmtree(place.data / "backup-state")
    assert len(place.json("list")["backups"]) == 1
    assert not (place.root / "bucket" / "storage.json").exists()  # looking makes none
    place("run", "config")
    assert (place.root / "bucket" / "storage.json").exists()


def test_another_storage_in_the_file_shows_nothing_of_the_former_one(place: Place) -> None:
    place("run", "config")
    file = place.root / "phoenix.yaml"
    text = file.read_text()
    file.write_text(text.replace("{folder: bucket}", "{folder: other}"))
    assert place.json("list") == {"backups": [], "faults": []}
    place("run", "config")
    file.write_text(text)
    assert len(place.json("list")["backups"]) == 1
    assert place.json("list")["faults"] == []


def test_it_is_loud_in_metrics_tasks_doctor_and_console(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("run", "config")
    place.applied()
    registry, collector = CollectorRegistry(), BackupCollector()
    registry.register(collector)
    monkeypatch.setattr(metrics, "BACKUPS", collector)
    layout = Layout(place.data)

    work = Work(lambda: read_kept(layout.config), layout, SimpleNamespace())
    asyncio.run(work.opened("phoenix"))
    assert b"phoenix_backup_storage_lost 0.0" in generate_latest(registry)
    found = {one.name: one for one in examine(place.data)}["backups"]
    assert found.state is State.OK
    unmounted(place)
    with pytest.raises(StorageLostError):
        asyncio.run(work.opened("phoenix"))
    assert b"phoenix_backup_storage_lost 1.0" in generate_latest(registry)
    found = {one.name: one for one in examine(place.data)}["backups"]
    assert found.state is State.FAULT
    assert "is empty, and it held backups" in found.detail
    view = asyncio.run(StoredRecovery(layout).overview())
    assert view is not None
    assert "is empty, and it held backups" in view.lost


def test_keys_are_not_tried_in_a_folder_that_is_not_mounted(place: Place) -> None:
    place("run", "config")
    unmounted(place)
    assert "is empty, and it held backups" in place.keys("check", status=1)
    assert list((place.root / "bucket").iterdir()) == []


def vanishing(place: Place, step: Step) -> Callable[[Step], None]:
    def told(now: Step) -> None:
        if now is step:
            unmounted(place)

    return told


@pytest.mark.parametrize("step", [Step.CLAIMED, Step.STORING, Step.STORED, Step.LOOKED])
def test_a_storage_that_goes_away_in_the_middle_of_a_run_publishes_nothing(place: Place, step: Step) -> None:
    place("run", "config")
    backups = place.backups()

    with pytest.raises(PhoenixError) as failure:
        backups.run("config", Trigger(kind=TriggerKind.MANUAL), told=Told(step=vanishing(place, step)))
    assert failure.value.remedy
    assert "backup list" not in failure.value.remedy
    assert list((place.root / "bucket").rglob("manifest.json")) == []
    mounted_again(place, place.root / "away")
    assert len(place.json("list")["backups"]) == 1
    (lease,) = (place.root / "bucket" / "locks").rglob("*.json")
    os.utime(lease, (0, 0))  # it could not be given back, and has run out a minute later
    place("run", "config")
    assert place.json("list")["faults"] == []


def test_what_two_machines_begin_at_once_has_one_mark(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "bucket")
    first, second = (Marks(store, "it", tmp_path / name, lambda: NOW) for name in ("a", "b"))
    made = first.use()
    assert second.use() == made == first.look()


# -- links and dates ------------------------------------------------------------------------------


def test_links_in_the_storage_are_what_they_lead_to(place: Place) -> None:
    place("run", "config")
    bucket = place.root / "bucket"
    year = next((bucket / "v1/local/default/config").iterdir())
    year.rename(place.root / "elsewhere")
    year.symlink_to(place.root / "elsewhere")
    for name, leads in (("up", ".."), ("self", "self"), ("nowhere", "missing"), ("root", str(bucket))):
        (bucket / "v1/local/default/config" / name).symlink_to(leads)
        (bucket / name).symlink_to(leads)
    (bucket / "a").mkdir()
    (bucket / "b").mkdir()
    (bucket / "a/b").symlink_to(bucket / "b")
    (bucket / "b/a").symlink_to(bucket / "a")
    assert [one["status"] for one in place.json("list")["backups"]] == ["good"]
    place("verify")
    place("prune")
    place("run", "config")
    assert place.json("list")["faults"] == []


def test_a_backup_dated_in_the_future_hides_no_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place("run", "config")
    real = place.json("list")["backups"][0]["id"]

    ahead = datetime.now(UTC) + timedelta(days=3)
    source = FakeBackupSource(b"what must be lost never" * 1000, component="config", at=ahead)
    with monkeypatch.context() as wrong:  # clock of machine and storage, both
        wrong.setattr(composition, "_now", lambda: ahead)
        wrong.setattr(FolderStore, "now", lambda _: ahead)
        wrong.setattr(Backups, "sources", lambda _: {"config": lambda: source})
        place("run", "config")
    listed = place.json("list")["backups"]
    assert [one["status"] for one in listed] == ["OF THE FUTURE", "good"]
    assert place.json("show")["id"] == real
    assert "of the future" in place("prune", status=1)
    backups = place.backups()
    (view,) = backups.views()
    assert view.newest_good is not None
    assert view.newest_good.id == real

    assert any("a clock was wrong" in text for text in problems(view, backups.spec, datetime.now(UTC)))
    late = datetime.now(UTC) + timedelta(hours=5)
    assert any("min old" in text for text in problems(view, backups.spec, late))


# -- the manifest ---------------------------------------------------------------------------------


def test_the_manifest_says_how_its_data_is_stored(place: Place) -> None:

    place("run", "config")
    manifest = place.json("show")["manifest"]
    stream = manifest["stream"]
    data = place.root / "bucket" / stream["key"]
    header, _, rest = data.read_bytes().partition(b"\n--- ")
    header += b"\n--- " + rest.partition(b"\n")[0] + b"\n"
    assert stream["headerSha256"] == hashlib.sha256(header).hexdigest()
    assert stream["contentChecksum"] is True
    assert stream["etag"] == FolderStore(place.root / "bucket").stat(stream["key"]).etag
    assert (manifest["kind"], manifest["retention"][0]) == ("config", "one of the last 8 (1 of 8)")


def test_a_manifest_of_before_is_read_and_followed(tmp_path: Path) -> None:
    here = stage(tmp_path / "bucket")
    done = here.publish()
    assert done is not None
    new = {"kind", "retention"}, {"content_checksum", "header_sha256", "etag", "parts", "version_id"}
    old = done.manifest
    stripped = old.model_dump(mode="json", by_alias=False, exclude=new[0], exclude_none=True)
    for name in new[1]:
        stripped["stream"].pop(name, None)

    def camel(value: object) -> object:

        if isinstance(value, dict):
            return {to_camel(k).rstrip("_"): camel(v) for k, v in value.items()}
        return [camel(one) for one in value] if isinstance(value, list) else value

    raw = signed(camel(stripped), SIGNER)  # type: ignore[arg-type]
    for word in (b"etag", b"headerSha256", b'"kind":"bytes"'):
        assert word not in raw
    assert encoded(old, SIGNER) != raw
    (tmp_path / "bucket" / old.place.manifest).write_bytes(raw)
    assert here.publish() is not None
    view = here.view()
    assert len(view.backups) == 2
    assert view.faults == ()
    assert view.backups[1].manifest.stream.etag == ""
