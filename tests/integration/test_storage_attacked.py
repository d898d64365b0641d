"""Whoever may write to the storage removes, replaces and adds objects: what counts, and what is told of."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.backup_stage import IDENTITY, RECIPIENTS, SCOPE, SIGNER, TRUST, Stage, stage
from tests.redis_restoring import taken
from tests.redis_server import Server, filled, serving

from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.recovery import drill_record, prune
from phoenix_orch.recovery.catalog import Catalog, View
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.lease import leases
from phoenix_orch.recovery.manifest import Loss, Pin, Trigger, TriggerKind, encoded
from phoenix_orch.recovery.objects import LARGEST_SMALL
from phoenix_orch.recovery.pipeline import seal
from phoenix_orch.recovery.prune import Pruner, plan
from phoenix_orch.recovery.publish import Published, Publisher, Settings
from phoenix_orch.recovery.restore.copies import Taken
from phoenix_orch.recovery.restore.copy_keys import Copies
from phoenix_orch.recovery.restore.redis_keys import Selection
from phoenix_orch.recovery.retention import Limits, Policy
from phoenix_orch.recovery.signing import Ed25519Signer
from phoenix_orch.testing.fake_backup import FakeBackupSource

ONLY_THE_LAST = Policy(hourly=0, daily=0, weekly=0, last=1)
MUCH = Limits(deletions=100)


@pytest.fixture
def at(tmp_path: Path) -> Stage:
    return stage(tmp_path / "bucket")


def published(at: Stage) -> Published:
    """With the lease that Phoenix uses."""
    publisher = Publisher(
        at.store,
        catalog=Catalog(at.store, TRUST),
        leases=leases(at.store, "one"),
        signer=SIGNER,
        trust=TRUST,
        verifier=at.verifier,
        settings=Settings(RECIPIENTS),
        now=at.now,
    )
    done = publisher.publish("local", "default", FakeBackupSource(), Trigger(kind=TriggerKind.MANUAL))
    assert done is not None
    return done


def pruned(at: Stage, *, view: View | None = None) -> prune.Pruned:
    view = view or at.view()
    planned = plan(view, ONLY_THE_LAST, MUCH, at.now(), at.store.now())
    assert planned.stop == ""
    return Pruner(at.store, SIGNER, at.now, "test").run(view, planned)


# -- locks -----------------------------------------------------------------------------------------


def test_backups_go_on_when_somebody_has_removed_the_lease(at: Stage) -> None:
    """It begins to count anew, and all that was done under the former one seems to be of later runs."""
    for _ in range(3):
        before = published(at)
    at.store.delete(SCOPE.lock)
    after = published(at)
    assert after.manifest.generation > before.manifest.generation
    assert published(at).manifest.generation > after.manifest.generation
    assert len(at.view().backups) == 5


def test_a_lease_that_was_taken_meanwhile_outgrows_nothing(at: Stage) -> None:
    with leases(at.store, "late")(SCOPE.lock) as late:
        at.store.delete(SCOPE.lock)
        with leases(at.store, "later")(SCOPE.lock) as later:
            with pytest.raises(Conflict):
                late.outgrow(7)
            later.outgrow(7)
            assert later.generation == 8
            later.outgrow(7)
            assert later.generation == 8
            later.renew()
    with leases(at.store, "next")(SCOPE.lock) as following:
        assert following.generation == 9


# -- objects that are none ---------------------------------------------------------------------------


def test_objects_that_are_far_too_large_are_told_of_and_the_rest_counts(at: Stage) -> None:
    good = at.publish()
    other = at.publish()
    assert good is not None
    assert other is not None
    large = bytes(LARGEST_SMALL + 1)
    place = at.folder / other.manifest.place.manifest
    place.write_bytes(large)
    pin = at.folder / SCOPE.record(good.manifest.id, "pin")
    pin.write_bytes(large)
    view = at.view()
    assert [(one.id, one.good) for one in view.backups] == [(good.manifest.id, True)]
    assert sorted(fault.key for fault in view.faults) == sorted(
        [SCOPE.record(good.manifest.id, "pin"), other.manifest.place.manifest]
    )
    with pytest.raises(Corrupted, match="nothing of that name has so many"):
        at.store.get(other.manifest.place.manifest)


def test_a_pipe_in_the_place_of_an_object_is_not_waited_for(at: Stage) -> None:
    assert at.publish() is not None
    os.mkfifo(at.folder / "storage.json")
    with pytest.raises(NotFound):
        at.store.get("storage.json")
    with pytest.raises(NotFound), at.store.reader("storage.json"):
        pytest.fail("it is no object")
    assert [stat.key for stat in at.store.list("storage")] == []


def test_folders_deeper_than_any_key_are_passed_by(at: Stage) -> None:
    done = at.publish()
    assert done is not None
    here = os.open(at.folder / SCOPE.backups, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("a", dir_fd=here)
        below = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        assert [one.id for one in at.view().backups] == [done.manifest.id]
    finally:  # what removes the folders of old runs goes down by recursion
        subprocess.run(["rm", "-rf", at.folder / SCOPE.backups / "a"], check=True)


# -- manifests ---------------------------------------------------------------------------------------


def test_a_manifest_by_a_key_that_is_not_trusted_is_told_of_and_nothing_goes_meanwhile(at: Stage) -> None:
    done = at.publish()
    assert done is not None
    foreign = done.manifest.model_copy(update={"id": "zzzzzzzzzzzzzzzz"})
    data = foreign.place.data(0, done.manifest.stream.name)
    foreign = foreign.model_copy(update={"stream": foreign.stream.model_copy(update={"key": data})})
    stranger = Ed25519Signer(Ed25519PrivateKey.generate())
    at.store.create(foreign.place.manifest, encoded(foreign, stranger))
    with at.store.writer(data) as sink:
        sink.write((at.folder / done.manifest.stream.key).read_bytes())
    view = at.view()
    assert [one.id for one in view.backups] == [done.manifest.id]
    assert [f"key {stranger.public[:16]} is not trusted" in fault.message for fault in view.faults] == [True]
    assert "the catalog has 1 fault;" in plan(view, ONLY_THE_LAST, MUCH, at.now(), at.store.now()).stop


def test_a_manifest_that_was_removed_and_comes_back_is_no_newest_one(
    at: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replayed with its data: it is an old copy that holds, told of, and goes again."""
    monkeypatch.setattr(prune, "GRACE", timedelta(seconds=-1))
    for _ in range(3):
        at.publish()
    newest, middle, _ = at.view().backups
    keys = (middle.manifest.place.manifest, middle.manifest.stream.key)
    kept = {one: (at.folder / one).read_bytes() for one in keys}
    while len(at.view().backups) > 1:
        pruned(at)
    for key, content in kept.items():
        with at.store.writer(key) as sink:
            sink.write(content)
    view = at.view()
    assert view.newest_good is not None
    assert view.newest_good.id == newest.id
    replayed = view.backups[1]
    assert (replayed.id, replayed.good) == (middle.id, False)  # what was seen of it has gone


# -- what is lost --------------------------------------------------------------------------------------


def lost(at: Stage, link_of: str, sha256: str) -> None:
    said = Loss(backup=link_of, manifest=sha256, at=at.now(), by="test")
    at.store.create(SCOPE.record(link_of, "lost"), encoded(said, SIGNER))


def test_a_loss_that_a_person_knows_of_holds_up_nothing(
    at: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "GRACE", timedelta(seconds=-1))
    at.cache = tmp_path / "cache"
    for _ in range(4):
        at.publish()
    newest, middle, *_ = at.view().backups
    place = at.folder / middle.manifest.place.manifest
    content = place.read_bytes()
    place.unlink()
    (fault,) = at.view().faults
    assert fault.lost is not None
    assert (fault.lost.id, fault.lost.sha256) == (middle.id, middle.sha256)
    lost(at, middle.id, middle.sha256)
    assert at.view().faults == ()
    place.write_bytes(content)  # it was found again: then it is a backup like any other
    assert at.view().backups[1].id == middle.id
    place.unlink()
    for _ in range(3):
        pruned(at)
    view = at.view()
    assert ([one.id for one in view.backups], view.faults) == ([newest.id], ())
    assert (at.folder / SCOPE.record(middle.id, "lost")).exists()  # the newest one follows it still


def test_a_loss_is_that_of_one_manifest(at: Stage) -> None:
    for _ in range(2):
        at.publish()
    _, older = at.view().backups
    (at.folder / older.manifest.place.manifest).unlink()
    lost(at, older.id, "0" * 64)
    assert len(at.view().faults) == 1


def test_who_looks_seldom_misses_nothing_that_retention_took(
    at: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tombstones go with the manifests that follow: a second machine that looks in between only is not told
    of a loss, and one that looks daily is told of a true one."""
    monkeypatch.setattr(prune, "GRACE", timedelta(seconds=-1))
    cache, begin = tmp_path / "cache", at.now()

    def seen(after: timedelta) -> View:
        return Catalog(FolderStore(at.folder), TRUST, cache, now=lambda: begin + after).read(SCOPE)

    for _ in range(4):
        at.publish()
    seen(timedelta(0))
    while len(at.view().backups) > 1:
        pruned(at)
    pruned(at)
    assert at.view().tombstones != ()
    at.publish()
    while len(at.view().backups) > 1:
        pruned(at)
    assert seen(timedelta(days=3)).faults == ()
    (last,) = at.view().backups
    (at.folder / last.manifest.place.manifest).unlink()
    for later in (timedelta(days=3, hours=20), timedelta(days=9), timedelta(days=10)):
        assert [fault.message for fault in seen(later).faults] == [
            f"{last.id} was seen here earlier and is gone, and nothing says why"
        ]


def test_what_was_pinned_while_others_are_removed_stays(at: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "GRACE", timedelta(seconds=-1))
    for _ in range(2):
        at.publish()
    older = at.view().backups[1]
    pruned(at)
    view = at.view()
    pin = Pin(backup=older.id, at=at.now(), by="test")
    at.store.create(SCOPE.record(older.id, "pin"), encoded(pin, SIGNER))
    assert pruned(at, view=view).removed == ()
    assert len(at.view().backups) == 2


# -- data ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("origin")) as origin:
        yield origin


def test_keys_never_come_of_another_object_than_the_one_that_was_proven(at: Stage, server: Server) -> None:
    """Anybody can seal something for our recipients. That it is not what was published shows at its end."""
    client = server.client()
    filled(client, 20, "good:")
    taken(at, server.address)
    (backup,) = Catalog(at.store, TRUST).read(Scope("local", "default", "redis/cache")).backups
    key = backup.manifest.stream.key
    copies = Copies(at.store, [IDENTITY], (Taken(backup),))
    names = {one.name for one in copies.keys(Selection(), values=False)}
    assert len(names) == 140
    evil = io.BytesIO()
    seal(io.BytesIO(b"REDIS0011\xfe\x00\x00\x04evil\x04evil\xff"), evil, RECIPIENTS)
    with at.store.writer(key) as sink:
        sink.write(evil.getvalue())
    with pytest.raises(Conflict, match="was changed meanwhile"):
        next(copies.keys(Selection()))


def test_a_clock_that_is_ahead_ends_no_evidence(at: Stage) -> None:
    moment = datetime.now().astimezone()
    key = f"{drill_record.PREFIX}{moment:%Y%m%d}T000000Z-{'a' * 16}.json"
    at.store.create(key, b"{}")
    ahead = at.now() + timedelta(days=4000)
    assert drill_record.expire(at.store, timedelta(days=400), ahead) == 0
    assert drill_record.keys(at.store) == [key]
    assert drill_record.expire(at.store, timedelta(days=-2), ahead) == 1
