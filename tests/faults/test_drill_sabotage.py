"""The monthly drill recovers all from the bucket and the offline key, and fails when a part is sabotaged.

Twelve sabotages, one test each: the drill names the step and the reason, and goes on with what is left.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.backup_stage import SIGNER, TRUST, Stage
from tests.drill_stage import (
    CONFIG,
    EXPECTED,
    REDIS,
    VOLUME,
    Altered,
    Origin,
    counted_otherwise,
    drill,
    failed,
    monthly,
    origin,
    with_broken_object,
)
from tests.integration.s3_server import s3_server

from phoenix_orch.recovery.catalog import Backup, Catalog
from phoenix_orch.recovery.consistency_spec import CheckKind, FileCheck
from phoenix_orch.recovery.drill_record import put, read
from phoenix_orch.recovery.drill_report import Phase, Report, evidence, markdown
from phoenix_orch.recovery.errors import Stopped
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.keys import generate
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.object_store import BucketStore
from phoenix_orch.recovery.signing import Ed25519Signer, opened, signed
from phoenix_orch.testing.fake_backup import FakeBackupSource


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    with origin(tmp_path_factory.mktemp("origin")) as made:
        yield made


@pytest.fixture
def bucket(source: Origin, tmp_path: Path) -> Stage:
    return source.copied(tmp_path / "bucket")


def backups(bucket: Stage, component: str = REDIS) -> tuple[Backup, ...]:
    """Newest first."""
    return Catalog(FolderStore(bucket.folder), TRUST).read(Scope("local", "default", component)).backups


def data(bucket: Stage, component: str = REDIS) -> Path:
    """Of the newest backup."""
    return bucket.folder / backups(bucket, component)[0].manifest.stream.key


def manifest(bucket: Stage, number: int = 0) -> Path:
    return bucket.folder / backups(bucket)[number].manifest.place.manifest


def written(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def only(report: Report, phase: Phase, component: str, *words: str) -> None:
    """That step failed, for that reason, which the report names; all other components were recovered."""
    assert not report.passed
    found = failed(report)
    assert set(found) == {phase}, report.reasons
    assert found[phase].startswith(f"{component}: ")
    for word in words:
        assert word in found[phase]
        assert any(word in reason and phase.value in reason for reason in report.reasons)
    assert "FAIL" in markdown(report)
    others = {one.component for one in EXPECTED} - {component}
    done = {step.component for step in report.steps if step.phase in ENDS and step.passed}
    assert others <= done


ENDS = (Phase.REPLICATE, Phase.CONFIGURATION, Phase.VOLUME)


def test_all_is_recovered_from_the_bucket_and_the_offline_key(source, bucket, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    report = monthly(bucket.folder, scratch=scratch)
    assert report.reasons == ()
    assert report.passed
    assert set(report.phases) == set(Phase) - {Phase.FRESHNESS, Phase.PRESENT, Phase.VERIFY}
    assert report.rto == pytest.approx(sum(report.phases.values()), abs=0.02)
    assert {one.component for one in report.rpo} == {REDIS, CONFIG, VOLUME}
    assert all(one.achieved is not None and one.achieved < 600 for one in report.rpo)
    load = next(step for step in report.steps if step.phase is Phase.LOAD)
    assert source.server.digest() in load.detail
    assert report.evidence == evidence(report)
    assert list(scratch.iterdir()) == []
    page = markdown(report)
    assert "PASS" in page
    assert all(phase.value in page for phase in report.phases)


@pytest.mark.parametrize("after", [1, 3, 8, 12])
def test_stopped_at_any_step_it_leaves_nothing(source, tmp_path, after):
    begun: list[str] = []
    stopping = drill(
        source.stage.store, scratch=tmp_path, told=begun.append, stop=lambda: len(begun) >= after
    )
    with pytest.raises(Stopped):
        stopping.monthly()
    assert len(begun) == after
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_same_from_a_bucket_of_s3(source, tmp_path):
    folder = FolderStore(source.stage.folder)
    with s3_server(tmp_path) as server:
        store = BucketStore(server.location(server.new_bucket()))
        for stat in folder.list(""):
            with folder.reader(stat.key) as reader, store.writer(stat.key) as writer:
                while chunk := reader.read(1 << 20):
                    writer.write(chunk)
        report = drill(store).monthly()
        assert report.reasons == ()
        key = put(store, report, SIGNER)
        assert read(store, key, TRUST) == report
        newest = backups(source.stage)[0].manifest.stream.key
        store.delete(newest)
        only(drill(store).monthly(), Phase.LOCATE, REDIS, "partial", "is gone")


def test_flipped_byte_in_data(bucket):
    path = data(bucket)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    written(path, bytes(content))
    only(monthly(bucket.folder), Phase.DOWNLOAD, REDIS, "what is stored is not what was written")


def test_cut_data(bucket):
    path = data(bucket, VOLUME)
    size = path.stat().st_size
    os.truncate(path, size - 1)
    only(monthly(bucket.folder), Phase.LOCATE, VOLUME, "partial", f"is cut: {size - 1:,} bytes of {size:,}")


def test_missing_data_object(bucket):
    data(bucket, CONFIG).unlink()
    only(monthly(bucket.folder), Phase.LOCATE, CONFIG, "partial", "is gone")


def test_changed_manifest(bucket):
    path = manifest(bucket)
    content = path.read_bytes()
    changed = content.replace(b'"generation":', b'"generation":1')
    assert changed != content
    written(path, changed)
    only(monthly(bucket.folder), Phase.LOCATE, REDIS, "catalog", "its content is not what was signed")


def test_manifest_signed_by_another_key(bucket):
    path = manifest(bucket)
    other = Ed25519Signer(Ed25519PrivateKey.generate())
    written(path, signed(opened(path.read_bytes(), TRUST, "it"), other))
    only(monthly(bucket.folder), Phase.LOCATE, REDIS, "catalog", f"key {other.public[:16]} is not trusted")


def test_wrong_offline_key(bucket):
    report = monthly(bucket.folder, identity=generate())
    assert not report.passed
    steps = [step for step in report.steps if not step.passed]
    assert [(step.phase, step.component) for step in steps] == [
        (Phase.DECRYPT, one.component) for one in EXPECTED
    ]
    assert all("none of the private keys at hand opens it" in step.detail for step in steps)


def test_catalog_with_a_missing_link(bucket):
    old = backups(bucket)[1]
    (bucket.folder / old.manifest.place.manifest).unlink()
    only(monthly(bucket.folder), Phase.LOCATE, REDIS, "catalog", f"{old.id}, which", "is gone")


def test_shrunken_copy(bucket):
    less = FakeBackupSource(b"REDIS0011", REDIS, "dump.rdb", bucket.now(), {"keys": 3})
    done = bucket.publish(less)
    assert done is not None
    only(monthly(bucket.folder), Phase.LOCATE, REDIS, "shrunk", done.manifest.id)


def test_stale_newest_copy(bucket):
    late = [
        one if one.component == REDIS else replace(one, every=timedelta(days=9), rpo=timedelta(days=9))
        for one in EXPECTED
    ]
    report = monthly(bucket.folder, ahead=timedelta(hours=5), expected=late)
    only(report, Phase.LOCATE, REDIS, "stale", "5h old", "every 1h")
    assert any(reason.startswith(f"RPO of {REDIS}: 5.0 h would have been lost") for reason in report.reasons)


def test_dump_whose_counts_differ_from_the_manifest(source, bucket):
    bucket.publish(Altered(source.redis(), facts=counted_otherwise))
    only(monthly(bucket.folder), Phase.LOAD, REDIS, "keys in the copy, and")


def test_configuration_with_a_broken_object(source, bucket, tmp_path):
    bucket.publish(Altered(source.config(), content=lambda raw: with_broken_object(raw, tmp_path / "git")))
    only(monthly(bucket.folder), Phase.CONFIGURATION, CONFIG, "object")


def test_volume_with_a_torn_database(source, bucket):
    database = source.folder / "shop" / "orders.db"
    whole = database.read_bytes()
    try:
        database.write_bytes(whole[:8192] + b"\xff" * 4096 + whole[12288:])
        bucket.publish(source.volume())
    finally:
        database.write_bytes(whole)
    only(monthly(bucket.folder), Phase.VOLUME, VOLUME, "what was restored does not hold", "orders.db")


def test_volume_that_its_application_refuses(bucket):
    refusing = FileCheck(kind=CheckKind.COMMAND, command=("/bin/sh", "-c", 'echo "{}"; exit 3'))
    told = [replace(one, checks=(refusing,)) if one.component == VOLUME else one for one in EXPECTED]
    only(monthly(bucket.folder, expected=told), Phase.VOLUME, VOLUME, "exit status 3")
