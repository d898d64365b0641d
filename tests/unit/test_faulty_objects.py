"""The store that fails for tests keeps the contract while it is told nothing, and fails as it is told."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.recovery import keys
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.pipeline import seal, unseal
from phoenix_orch.testing.faulty_objects import FaultyObjects
from phoenix_orch.testing.objects_contract import CONTRACT, whole, written


@pytest.fixture
def store(tmp_path: Path) -> FaultyObjects:
    return FaultyObjects(FolderStore(tmp_path))


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(check, store):
    check(store)


def test_it_fails_as_told(store):
    store.fault("create", Retryable("503", remedy="wait"), times=2)
    for _ in range(2):
        with pytest.raises(Retryable):
            store.create("a", b"x")
    store.create("a", b"x")
    assert [call for call in store.calls if call[0] == "create"] == [("create", "a")] * 3
    store.lost_answers.add("create")
    with pytest.raises(Retryable, match="answer was lost"):
        store.create("b", b"y")
    assert store.get("b")[0] == b"y"
    store.hide("b")
    assert [stat.key for stat in store.list("")] == ["a"]
    store.reveal()
    assert [stat.key for stat in store.list("")] == ["a", "b"]
    store.skew = timedelta(hours=1)
    assert store.now() - store.behind.now() > timedelta(minutes=59)


def test_streams_break(store):
    written(store, "s", bytes(1000))
    store.cut_reads_at = 300
    with store.reader("s") as source:
        assert len(source.read(1000)) == 300
        with pytest.raises(Retryable):
            source.read(1)
    store.cut_reads_at, store.truncate_reads_at = None, 400
    assert len(whole(store, "s")) == 400
    store.truncate_reads_at, store.flip_reads_at = None, 999
    assert whole(store, "s") == bytes(999) + b"\x01"
    store.fail_writes_at = 500
    with pytest.raises(Retryable):
        written(store, "t", bytes(1000), piece=100)
    with pytest.raises(NotFound):
        store.stat("t")


def test_what_a_faulty_store_gives_back_does_not_open(store):
    key = keys.generate()
    with store.writer("s") as sink:
        told = seal(io.BytesIO(bytes(range(256)) * 999), sink, [keys.Recipient(key.public)])
    for name in ("truncate_reads_at", "flip_reads_at"):
        setattr(store, name, told.stored_bytes - 5)
        with store.reader("s") as source, pytest.raises(Corrupted):
            unseal(source, io.BytesIO(), [key], told)
        setattr(store, name, None)
    with store.reader("s") as source:
        assert unseal(source, io.BytesIO(), [key], told) == told
