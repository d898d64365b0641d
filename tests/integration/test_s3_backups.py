"""Backups in a real bucket: published, verified, pruned, and kept where it is locked."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.backup_stage import IDENTITY, OFFLINE
from tests.integration.s3_server import ACCESS, SECRET, S3Server, s3_server

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.orchestrator import backups as composition
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery import prune
from phoenix_orch.recovery.manifest import Level, Trigger, TriggerKind
from phoenix_orch.recovery.publish import Published
from phoenix_orch.recovery.retention import Policy
from phoenix_orch.recovery.spec import BackupSpec
from phoenix_orch.testing.fake_backup import FakeBackupSource

pytestmark = pytest.mark.slow
MANUAL = Trigger(kind=TriggerKind.MANUAL, actor="test")
CONTENT = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


class Place:
    """Backups of bytes in one bucket, and a clock to turn."""

    def __init__(self, s3: S3Server, root: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        (root / "online.key").write_text(f"{IDENTITY.key}\n")
        (root / "s3.credentials").write_text(
            f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n"
        )
        self.bucket = s3.new_bucket(lock=bool(more.pop("locked", False)))
        storage = {
            "bucket": self.bucket,
            "endpoint": s3.endpoint,
            "caFile": str(s3.ca_file),
            "prefix": "team/",
            "credentials": {"file": "s3.credentials"},
            **more,
        }
        spec = BackupSpec.model_validate(
            {
                "storage": {"s3": storage},
                "identityFile": "online.key",
                "retention": {"hourly": 0, "daily": 0, "weekly": 0, "keepLast": 1},
                "recipients": [
                    {"name": "here", "key": IDENTITY.public},
                    {"name": "safe", "key": OFFLINE.public, "offline": True},
                ],
            }
        ).placed(root)
        source = FakeBackupSource(CONTENT, component="bytes", at=datetime.now(UTC))
        monkeypatch.setattr(Backups, "sources", lambda _: {"bytes": lambda: source})
        self.backups = Backups(spec, Layout(root / "data"))
        self.client = s3.boto()

    def run(self) -> Published:
        made = self.backups.run("bytes", MANUAL)
        assert made is not None
        return made

    def objects(self) -> set[str]:
        pages = self.client.list_objects_v2(Bucket=self.bucket, Prefix="team/").get("Contents", ())
        return {one["Key"].removeprefix("team/") for one in pages}

    def prune(self) -> prune.Pruned:
        (view,) = self.backups.views()
        return self.backups.prune(view, self.backups.plan(view))


def test_a_bucket_is_written_read_and_cleared(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(s3, tmp_path, monkeypatch)
    old, new = place.run().manifest, place.run().manifest
    assert old.lock_until is None
    assert place.backups.spec.retention.policy == Policy(hourly=0, daily=0, weekly=0, last=1)
    look = place.backups.verify(place.backups.one(new.id))
    assert (look.level, look.passed) == (Level.OPENED, True)
    found = io.BytesIO()
    place.backups.cat(place.backups.one(new.id), found)
    assert found.getvalue() == CONTENT
    assert place.prune().marked == (old.id,)
    assert old.stream.key in place.objects()  # a day of grace
    monkeypatch.setattr(prune, "GRACE", timedelta(seconds=-1))
    assert place.prune().removed == (old.id,)
    left = place.objects()
    assert not any(old.id in key for key in left if key.startswith("v1/"))
    assert {new.stream.key, new.place.manifest} <= left
    (view,) = place.backups.views()
    assert [one.id for one in view.live] == [new.id]
    assert not view.faults


def test_a_locked_bucket_keeps_what_its_manifest_says(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(s3, tmp_path, monkeypatch, locked=True, lock="2d")
    old = place.run().manifest
    place.run()
    assert old.lock_until is not None
    assert timedelta(days=1, hours=23) < old.lock_until - datetime.now(UTC) <= timedelta(days=2)
    for key in (old.stream.key, old.place.manifest):
        versions = place.client.list_object_versions(Bucket=place.bucket, Prefix=f"team/{key}")["Versions"]
        assert len(versions) == 1
        with pytest.raises(ClientError, match=r"AccessDenied|WORM|lock"):
            place.client.delete_object(
                Bucket=place.bucket, Key=f"team/{key}", VersionId=versions[0]["VersionId"]
            )
    monkeypatch.setattr(prune, "GRACE", timedelta(seconds=-1))
    done = place.prune()
    assert (done.marked, done.removed) == ((), ())
    (view,) = place.backups.views()
    (decision,) = [one for one in place.backups.plan(view).decisions if one.id == old.id]
    assert decision.keep
    assert any("locked by the storage" in guard for guard in decision.guards)
    # the lock has ended, as far as Phoenix can see: then it is marked
    later = datetime.now(UTC) + timedelta(days=3)
    monkeypatch.setattr(composition, "_now", lambda: later)
    monkeypatch.setattr(place.backups.store, "now", lambda: later)
    assert [one.id for one in place.backups.plan(view).decisions if not one.keep] == [old.id]


def test_a_lock_that_the_bucket_does_not_know_ends_the_run(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(s3, tmp_path, monkeypatch, lock="2d")
    with pytest.raises(BadState, match="Object Lock"):
        place.run()
    (view,) = place.backups.views()
    assert not view.backups


def test_the_manifest_says_what_the_bucket_has(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ETag, parts and version, as another client is told them; the bucket keeps versions for its locks."""
    place = Place(s3, tmp_path, monkeypatch, locked=True)
    large = FakeBackupSource(random.Random(3).randbytes(20 * 2**20), component="bytes", at=datetime.now(UTC))
    monkeypatch.setattr(Backups, "sources", lambda _: {"bytes": lambda: large})
    stream = place.run().manifest.stream
    head = place.client.head_object(Bucket=place.bucket, Key=f"team/{stream.key}")
    assert (stream.etag, stream.version_id) == (head["ETag"], head["VersionId"])
    assert stream.parts == 3  # of 8 MiB
    assert head["ETag"].strip('"').endswith("-3")
