"""A backup from its source into a folder and back, and everything that the catalog says of it."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.backup_stage import IDENTITY, OFFLINE, SCOPE, SIGNER, TRUST, Stage, stage
from tests.recovery_outcomes import seen

from phoenix_orch.kernel.errors import BadState, Conflict, NotFound, Retryable, Terminal
from phoenix_orch.recovery.catalog import Catalog
from phoenix_orch.recovery.claims import Claims, Outcome
from phoenix_orch.recovery.errors import Corrupted, Stopped, WrongKey
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.lease import leases
from phoenix_orch.recovery.lease_rules import Lease
from phoenix_orch.recovery.manifest import (
    Acknowledgement,
    Level,
    Manifest,
    Pin,
    Tombstone,
    Trigger,
    TriggerKind,
    Verification,
    encoded,
)
from phoenix_orch.recovery.pipeline import unseal
from phoenix_orch.recovery.publish import Publisher, Settings, Step, Told
from phoenix_orch.recovery.selecting import select
from phoenix_orch.recovery.signing import Trust
from phoenix_orch.recovery.verifying import Examination, expected, record_look, turn
from phoenix_orch.testing.fake_backup import FakeBackupSource

CONTENT = random.Random(7).randbytes(3 * 2**20)
SLOT = datetime(2026, 11, 28, 10, 15, tzinfo=UTC)
BACKUP = "A backup"
NOTHING = "nothing of it"


@pytest.fixture
def at(tmp_path: Path) -> Stage:
    return stage(tmp_path / "bucket")


def data_of(at: Stage) -> Path:
    return at.folder / at.view().backups[0].manifest.stream.key


def test_what_comes_back_is_what_went_in(at: Stage) -> None:
    done = at.publish(FakeBackupSource(CONTENT, measures={"keys": 17}))
    assert done is not None
    (backup,) = at.view().backups
    assert backup.manifest == done.manifest
    assert (backup.level, backup.good, at.view().faults) == (Level.OPENED, True, ())
    assert backup.manifest.content == {"bytes": len(CONTENT), "keys": 17}
    assert backup.manifest.stream.raw_sha256 == hashlib.sha256(CONTENT).hexdigest()
    for identity in (IDENTITY, OFFLINE):
        opened = io.BytesIO()
        with at.store.reader(backup.manifest.stream.key) as reader:
            unseal(reader, opened, [identity], expected(backup.manifest))
        assert opened.getvalue() == CONTENT


class Unable:
    """Has no program for what it is asked."""

    level = Level.STRUCTURE

    def tools(self) -> dict[str, str]:
        return {}

    def examine(self, manifest: Manifest) -> AbstractContextManager[Examination]:
        raise BadState("there is no program for it here")


def test_what_cannot_be_examined_here_is_opened_and_compared(at: Stage) -> None:
    done = at.publish(FakeBackupSource(CONTENT), structural=Unable())
    assert done is not None
    assert (done.look.level, done.look.passed) == (Level.OPENED, True)


def test_without_a_private_key_what_is_stored_is_all_that_can_be_looked_at(at: Stage) -> None:
    at.identities = ()
    at.publish(FakeBackupSource(CONTENT))
    (backup,) = at.view().backups
    assert (backup.level, backup.good) == (Level.STORED, False)
    with pytest.raises(BadState, match="no private key here"):
        at.verifier.look(backup.manifest, backup.sha256, Level.OPENED)


def test_a_slot_is_backed_up_once(at: Stage) -> None:
    source = FakeBackupSource(CONTENT)
    first = at.publish(source, slot=SLOT)
    assert first is not None
    assert first.manifest.time.slot == SLOT
    assert at.publish(source, slot=SLOT) is None
    assert source.captures == 1
    assert at.publish(source, slot=SLOT + timedelta(minutes=15)) is not None
    assert len(at.view().backups) == 2


def test_a_run_that_was_thought_dead_publishes_nothing_twice(at: Stage) -> None:
    """It comes back while it stores, after its successor has published the same slot."""

    def meanwhile(step: Step) -> None:
        if step is Step.STORED:
            assert stage(at.folder).publish(FakeBackupSource(b"the successor's"), slot=SLOT) is not None

    with pytest.raises(Conflict):
        at.publish(FakeBackupSource(CONTENT), slot=SLOT, told=Told(step=meanwhile))
    (backup,) = at.view().backups
    assert backup.manifest.stream.raw_bytes == len(b"the successor's")
    assert at.verifier.look(backup.manifest, backup.sha256, Level.OPENED).passed
    seen(
        BACKUP,
        "it stands still, and another one takes its slot",
        "data stored",
        leaves="the successor's backup alone",
        then="it ends with a conflict",
    )


def test_a_source_that_fails_publishes_nothing_and_is_told_of(at: Stage) -> None:
    source = FakeBackupSource(CONTENT, fails_at=2**20, failure=Retryable("the server is gone"))
    with pytest.raises(Retryable, match="the server is gone"):
        at.publish(source, slot=SLOT)
    assert (source.open, at.view().backups) == (0, ())
    assert not list(at.folder.rglob("data.*"))
    run = Claims(at.store, SCOPE, SIGNER, TRUST).last()
    assert run is not None
    assert (run.outcome, run.detail) == (Outcome.FAILED, "the server is gone")
    assert at.publish(FakeBackupSource(CONTENT), slot=SLOT) is not None
    seen(BACKUP, "the source fails", "its second MiB", leaves=NOTHING, then="the next run publishes the slot")


def test_a_run_that_is_stopped_publishes_nothing(at: Stage) -> None:
    with pytest.raises(Stopped):
        at.publish(FakeBackupSource(CONTENT), told=Told(stop=lambda: True))
    assert at.view().backups == ()


def test_what_was_stored_wrongly_is_not_published(at: Stage) -> None:
    def spoil(step: Step) -> None:
        if step is Step.STORED:
            (data,) = at.folder.rglob("data.*")
            content = bytearray(data.read_bytes())
            content[-1] ^= 1
            data.write_bytes(content)

    with pytest.raises(Corrupted, match="not published"):
        at.publish(FakeBackupSource(CONTENT), told=Told(step=spoil))
    assert at.view().backups == ()
    seen(BACKUP, "the storage changes a byte", "of the data", leaves=NOTHING, then="it is told as damaged")


def test_clocks_that_are_apart_stop_it(at: Stage) -> None:
    at.ahead = timedelta(minutes=6)
    with pytest.raises(BadState, match="clocks of this machine and the storage are 3"):
        at.publish()
    assert at.view().backups == ()
    seen(BACKUP, "clocks are 6 minutes apart", "before it begins", leaves=NOTHING, then="it says so")


def test_one_recipient_is_refused(at: Stage) -> None:
    with pytest.raises(Terminal, match="two recipients"):
        Publisher(
            at.store,
            catalog=Catalog(at.store, TRUST),
            leases=lambda _: pytest.fail("not reached"),
            signer=SIGNER,
            trust=TRUST,
            verifier=at.verifier,
            settings=Settings(()),
            now=at.now,
        )


# -- shrinking --------------------------------------------------------------------------------------


def test_a_backup_that_lost_most_of_it_is_published_and_does_not_count(at: Stage) -> None:
    for _ in range(3):
        at.publish(FakeBackupSource(CONTENT, measures={"keys": 100}))
    at.publish(FakeBackupSource(CONTENT, measures={"keys": 10}))
    newest = at.view().backups[0]
    assert [(drop.measure, drop.value, drop.median) for drop in newest.manifest.drops] == [("keys", 10, 100)]
    assert (newest.level, newest.shrunk, newest.good) == (Level.OPENED, True, False)
    assert select(at.view().backups).id == at.view().backups[1].id
    said = Acknowledgement(backup=newest.id, at=at.now(), by="ann", reason="we moved them")
    at.store.create(SCOPE.record(newest.id, "acknowledged"), encoded(said, SIGNER))
    assert at.view().backups[0].good
    assert select(at.view().backups).id == newest.id


# -- tampering --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.sampled_from(["flip", "cut", "insert"]))
def test_no_byte_of_the_data_can_change(at: Stage, place: float, bit: int, how: str) -> None:
    if not at.view().backups:
        at.publish(FakeBackupSource(CONTENT[:200_000]))
    (backup,) = at.view().backups
    data = data_of(at)
    before = data.read_bytes()
    position = int(place * len(before))
    changed = {
        "flip": before[:position] + bytes([before[position] ^ 1 << bit]) + before[position + 1 :],
        "cut": before[:position],
        "insert": before[:position] + b"\0" + before[position:],
    }[how]
    data.write_bytes(changed)
    try:
        for level in (Level.STORED, Level.OPENED):
            assert not at.verifier.look(backup.manifest, backup.sha256, level).passed
    finally:
        data.write_bytes(before)
    assert at.verifier.look(backup.manifest, backup.sha256, Level.OPENED).passed


def test_a_record_that_was_changed_is_told_of_and_does_not_count(at: Stage) -> None:
    at.publish()
    (record,) = (at.folder / SCOPE.records).rglob("verified-*")
    raw = bytearray(record.read_bytes())
    raw[len(raw) // 2] ^= 1
    record.write_bytes(raw)
    view = at.view()
    assert len(view.faults) == 1
    assert (view.backups[0].level, view.backups[0].good) == (None, False)


def test_a_record_of_another_backup_does_not_count(at: Stage) -> None:
    at.publish()
    at.publish()
    newer, older = at.view().backups
    failed = Verification(
        backup=older.id, manifest=older.sha256, level=Level.STORED, passed=False, at=at.now(), by="x"
    )
    (good,) = (at.folder / SCOPE.records / newer.id).glob("verified-*")
    record_look(at.store, SCOPE, failed, SIGNER)
    (at.folder / SCOPE.records / older.id / good.name).write_bytes(good.read_bytes())
    view = at.view()
    assert [fault.message for fault in view.faults] == [
        f"{SCOPE.records}{older.id}/{good.name} is the record of another backup"
    ]
    assert view.backups[1].failed is not None


def test_a_backup_that_is_taken_away_is_missed_by_the_next_one(at: Stage) -> None:
    for _ in range(3):
        at.publish()
    newest, middle, oldest = at.view().backups
    (at.folder / middle.manifest.place.manifest).unlink()
    view = at.view()
    assert [one.id for one in view.backups] == [newest.id, oldest.id]
    assert [fault.message for fault in view.faults] == [
        f"{middle.id}, which {newest.id} follows, is gone, and nothing says why"
    ]


def test_a_backup_with_a_tombstone_may_be_gone(at: Stage) -> None:
    at.publish()
    at.publish()
    older = at.view().backups[1]
    stone = Tombstone(
        backup=older.id,
        manifest=older.sha256,
        key=older.manifest.place.manifest,
        data=older.manifest.stream.key,
        at=at.now(),
        by="prune",
    )
    at.store.create(SCOPE.record(older.id, "tombstone"), encoded(stone, SIGNER))
    assert at.view().backups[1].tombstone == stone
    assert len(at.view().live) == 1
    (at.folder / older.manifest.place.manifest).unlink()
    assert at.view().faults == ()
    assert at.view().tombstones == (stone,)


def test_a_newest_backup_that_is_taken_away_is_missed_by_who_saw_it(at: Stage, tmp_path: Path) -> None:
    at.cache = tmp_path / "cache"
    at.publish()
    at.publish()
    newest = at.view().backups[0]
    (at.folder / newest.manifest.place.manifest).unlink()
    for _ in range(2):
        assert [fault.message for fault in at.view().faults] == [
            f"{newest.id} was seen here earlier and is gone, and nothing says why"
        ]


def test_two_manifests_cannot_change_places(at: Stage) -> None:
    at.publish()
    at.publish()
    paths = [at.folder / one.manifest.place.manifest for one in at.view().backups]
    first, second = (path.read_bytes() for path in paths)
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)
    view = at.view()
    assert view.backups == ()
    assert sum("of another backup" in fault.message for fault in view.faults) == 2


def test_a_manifest_that_was_signed_anew_is_not_the_one_that_the_next_follows(at: Stage) -> None:
    at.publish()
    at.publish()
    older = at.view().backups[1]
    other = older.manifest.model_copy(update={"host": "elsewhere"})
    (at.folder / older.manifest.place.manifest).write_bytes(encoded(other, SIGNER))
    view = at.view()
    assert len(view.backups) == 1
    assert "is not the manifest that" in view.faults[0].message


def test_who_trusts_no_key_sees_no_backup(at: Stage) -> None:
    at.publish()
    view = Catalog(at.store, Trust([])).read(SCOPE)
    assert view.backups == ()
    assert all("not trusted" in fault.message for fault in view.faults)


# -- the cache --------------------------------------------------------------------------------------


def test_the_cache_may_be_lost_or_damaged(at: Stage, tmp_path: Path) -> None:
    at.cache = tmp_path / "cache"
    at.publish()
    fresh = at.view()
    files = [path for path in at.cache.rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        path.write_bytes(b"x" * 100)
    assert at.view() == fresh
    for path in files:
        path.unlink()
    assert at.view() == fresh


def test_what_was_read_once_is_not_read_again(at: Stage, tmp_path: Path) -> None:
    for _ in range(3):
        at.publish()
    reads: list[str] = []

    class Counting(FolderStore):
        def get(self, key: str):
            reads.append(key)
            return super().get(key)

    catalog = Catalog(Counting(at.folder), TRUST, tmp_path / "cache")
    first = catalog.read(SCOPE)
    assert len(reads) == 6
    assert catalog.read(SCOPE) == first
    assert len(reads) == 6


# -- looks ------------------------------------------------------------------------------------------


def test_the_key_of_somebody_else_is_no_verdict_on_a_backup(at: Stage) -> None:
    at.publish()
    (backup,) = at.view().backups
    at.identities = (replace(OFFLINE, key=__import__("pyrage").x25519.Identity.generate()),)
    with pytest.raises(WrongKey):
        at.verifier.look(backup.manifest, backup.sha256, Level.OPENED)


def test_data_that_is_gone_fails_at_level_0(at: Stage) -> None:
    at.publish()
    (backup,) = at.view().backups
    at.store.delete(backup.manifest.stream.key)
    look = at.verifier.look(backup.manifest, backup.sha256, Level.OPENED)
    assert (look.level, look.passed, look.detail) == (Level.PRESENT, False, "the data is gone")
    record_look(at.store, SCOPE, look, SIGNER)
    (backup,) = at.view().backups
    assert (backup.present, backup.level, backup.good) == (False, None, False)


def test_a_later_look_that_holds_takes_a_failure_back(at: Stage) -> None:
    at.publish()
    (backup,) = at.view().backups
    look = at.verifier.look(backup.manifest, backup.sha256, Level.OPENED)
    record_look(at.store, SCOPE, look.model_copy(update={"passed": False, "level": Level.STORED}), SIGNER)
    assert not at.view().backups[0].good
    again = at.verifier.look(backup.manifest, backup.sha256, Level.OPENED)
    record_look(at.store, SCOPE, again, SIGNER)
    assert at.view().backups[0].good


@given(st.lists(st.from_regex(r"[0-9a-z]{16}", fullmatch=True), max_size=30), st.integers(1, 9))
def test_every_backup_has_exactly_one_turn(ids: list[str], turns: int) -> None:
    for name in ids:
        assert sum(turn(name, number, turns) for number in range(turns)) == 1


# -- selecting --------------------------------------------------------------------------------------


def test_a_backup_is_named_by_its_id_the_latest_or_a_moment(at: Stage) -> None:
    for hour in (1, 2, 3):
        at.publish(FakeBackupSource(at=datetime(2026, 11, 28, hour, tzinfo=UTC)))
    third, second, first = sorted(
        at.view().backups, key=lambda one: one.manifest.time.consistency_point, reverse=True
    )
    backups = at.view().backups
    assert select(backups, first.id).id == first.id
    assert select(backups).id == third.id
    assert select(backups, as_of=datetime(2026, 11, 28, 2, 59, tzinfo=UTC)).id == second.id
    with pytest.raises(NotFound, match="no verified backup as of"):
        select(backups, as_of=datetime(2026, 11, 28, 0, 59, tzinfo=UTC))
    with pytest.raises(NotFound):
        select(backups, "zz")
    with pytest.raises(NotFound):
        select(backups, component="redis")
    common = first.id[:6]
    with pytest.raises(Exception, match="backups begin with"):
        select(backups, common)


def test_a_pin_is_seen(at: Stage) -> None:
    at.publish()
    (backup,) = at.view().backups
    pin = Pin(backup=backup.id, at=at.now(), by="ann", reason="before the move")
    at.store.create(SCOPE.record(backup.id, "pin"), encoded(pin, SIGNER))
    assert at.view().backups[0].pin == pin


@pytest.mark.parametrize("left", [b"", b"{}", b"torn"])
def test_a_torn_record_of_the_last_run_keeps_no_later_one_from_its_backup(at: Stage, left: bytes) -> None:
    at.publish()
    (key,) = [stat.key for stat in at.store.list("claims/") if stat.key.endswith("/running.json")]
    (at.folder / key).write_bytes(left)
    assert at.publish() is not None


# -- the lease is removed --------------------------------------------------------------------------------


def generation(at: Stage) -> int:
    """Of a backup that is taken now, with leases as they are outside of tests."""
    publisher = at.publisher()
    publisher._leases = leases(at.store, "one")
    trigger = Trigger(kind=TriggerKind.MANUAL, actor="test")
    done = publisher.publish("local", "default", FakeBackupSource(CONTENT), trigger)
    assert done is not None
    return done.manifest.generation


def test_after_its_locks_were_removed_a_storage_takes_backups_as_before(at: Stage) -> None:
    found = [generation(at) for _ in range(3)]
    shutil.rmtree(at.folder / "locks")
    found += [generation(at) for _ in range(2)]
    assert found == [1, 2, 3, 4, 5]
    at.store.delete(SCOPE.claim("running"))
    assert generation(at) == 6
    shutil.rmtree(at.folder / "locks")
    at.store.delete(SCOPE.claim("running"))  # nothing is known any more, and nothing is in the way
    assert generation(at) == 1
    assert len(at.view().live) == 7


def test_locks_that_began_anew_before_this_was_known_are_mended(at: Stage) -> None:
    for _ in range(3):
        generation(at)
    at.store.delete(SCOPE.lock)
    at.store.create(SCOPE.lock, Lease(1, "", "n", 60.0).encoded())
    assert generation(at) == 4
