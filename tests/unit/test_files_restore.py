"""A restored folder takes the place of another only when it was verified; that one is kept."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import BadState, Invalid, PhoenixError, Terminal
from phoenix_orch.recovery.consistency_spec import CheckKind, FileCheck
from phoenix_orch.recovery.errors import Corrupted, Stopped
from phoenix_orch.recovery.restore import files_restore
from phoenix_orch.recovery.restore.files_restore import Place, Restored, expiry, forget, restore, tidy
from phoenix_orch.recovery.restore.swap import Swap, finish
from phoenix_orch.recovery.sources.archive import Archive
from phoenix_orch.runtime.held_lock import HeldLock

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Made:
    """An archive of a folder with the file `a`, and a target with the file `old`."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "state"
        self.folder.mkdir()
        (self.folder / "a").write_text("new")
        archive = Archive(self.folder)
        self.content = b"".join(archive)
        self.root = archive.tally.merkle_root
        self.target = tmp_path / "target"
        self.target.mkdir()
        (self.target / "old").write_text("old")

    def restore(self, content: bytes | None = None, **more: object) -> Restored:
        stream = io.BytesIO(self.content if content is None else content)
        return restore(lambda: contextlib.closing(stream), self.target, self.root, now=NOW, **more)  # type: ignore[arg-type]

    def unchanged(self) -> bool:
        beside = {path.name for path in self.target.parent.iterdir()}
        return beside == {"state", "target"} and [p.name for p in self.target.iterdir()] == ["old"]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_the_old_one_is_kept_until_its_time_is_over(made: Made) -> None:
    done = made.restore(keep=timedelta(days=3))
    assert (made.target / "a").read_text() == "new"
    assert done.old is not None
    assert (done.old / "old").read_text() == "old"
    assert done.expires == expiry(done.old) == NOW + timedelta(days=3)
    assert Place(made.target).olds() == [done.old]
    forget(made.target, done.old)
    assert {path.name for path in made.target.parent.iterdir()} == {"state", "target"}
    assert (made.target / "a").read_text() == "new"


def test_what_another_folder_has_kept_is_not_taken_for_ones_own(made: Made) -> None:
    """Its name begins like the one of this folder."""
    beside = made.target.parent / "beside"
    beside.mkdir()
    other = Made(beside)
    other.target.rename(made.target.with_name("target-two"))
    other.target = made.target.with_name("target-two")
    theirs = other.restore().old
    assert theirs is not None
    files_restore._say_expiry(Place(other.target).old("0000"), NOW)  # as before an exchange
    mine = made.restore().old
    assert Place(made.target).olds() == [mine]
    assert Place(other.target).olds() == [theirs]
    assert len(Place(other.target).expiries()) == 2, "of a restore that runs"
    assert expiry(theirs) is not None
    link = Place(made.target).old("zzzz")
    link.symlink_to(other.target)
    assert Place(made.target).olds() == [mine], "and what a link leads to is nobody's"


def test_a_deletion_that_died_leaves_no_half_of_a_state(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    old = made.restore().old
    assert old is not None

    def dies(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files_restore, "remove", dies)
        with pytest.raises(KeyboardInterrupt):
            forget(made.target, old)
    place = Place(made.target)
    assert place.olds() == []
    (left,) = place.left()
    forget(made.target, left)
    assert {path.name for path in made.target.parent.iterdir()} == {"state", "target"}


def test_a_place_without_a_folder(made: Made) -> None:
    (made.target / "old").unlink()
    made.target.rmdir()
    done = made.restore()
    assert done.old is None
    assert (made.target / "a").read_text() == "new"


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, target, len(content), 0o755
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


TOP = member("files", tarfile.DIRTYPE)


@pytest.mark.parametrize(
    ("evil", "said"),
    [
        (TOP + member("files/../../evil"), "leads out"),
        (TOP + member("/etc/evil"), "leads out"),
        (TOP + member("files//evil"), "leads out"),
        (TOP + member("evil"), "leads out"),
        (TOP + member("files/evil", tarfile.LNKTYPE, "/etc/passwd"), "leads out"),
        (TOP + member("files/evil", tarfile.LNKTYPE, "files/../../state/a"), "leads out"),
        (TOP + member("files/evil", tarfile.CHRTYPE), "device or a pipe"),
        (TOP + member("files/evil", tarfile.BLKTYPE), "device or a pipe"),
        (TOP + member("files/evil", tarfile.FIFOTYPE), "device or a pipe"),
        (TOP + member("files/a", content=b"x"), "no manifest"),
        (TOP + member("manifest.jsonl") + member("files/late"), "after the manifest"),
        (TOP + member("files/a", content=b"x") + member("manifest.jsonl"), "not in the manifest"),
        (b"no archive", "no archive"),
        (b"", "no archive"),
    ],
)
def test_what_is_refused(made: Made, evil: bytes, said: str) -> None:
    with pytest.raises(Corrupted, match=said):
        made.restore(evil + bytes(1024) if evil else evil)
    assert made.unchanged()


def test_nothing_is_written_through_a_link(made: Made, tmp_path: Path) -> None:
    """Links are made last: a name below one has no folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    evil = TOP + member("files/l", tarfile.SYMTYPE, str(outside)) + member("files/l/evil", content=b"x")
    with pytest.raises(PhoenixError):
        made.restore(evil + bytes(1024))
    assert list(outside.iterdir()) == []


def test_another_manifest_is_refused(made: Made) -> None:
    made.root = "0" * 64
    with pytest.raises(Corrupted, match="not the one of this backup"):
        made.restore()
    assert made.unchanged()


def test_a_stream_that_is_found_corrupted_at_its_end(made: Made) -> None:
    """As `unseal` tells it: after the last byte was given."""

    @contextlib.contextmanager
    def source() -> Iterator[io.BytesIO]:
        yield io.BytesIO(made.content)
        raise Corrupted("the last chunk is another one")

    with pytest.raises(Corrupted, match="last chunk"):
        restore(source, made.target, made.root, now=NOW)
    assert made.unchanged()


def test_a_check_that_does_not_hold(made: Made) -> None:
    with pytest.raises(Terminal, match="does not hold: a: no JSON"):
        made.restore(checks=[FileCheck(kind=CheckKind.JSON, files="a")])
    assert made.unchanged()


def test_it_can_be_stopped(made: Made) -> None:
    with pytest.raises(Stopped):
        made.restore(stop=lambda: True)
    assert made.unchanged()


def test_a_full_disk(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(Terminal, match="No space left"):
        made.restore()
    assert made.unchanged()


def test_places_that_cannot_be_exchanged(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link"
    link.symlink_to(made.target)
    for target, said in (
        (link, "no folder"),
        (tmp_path / "none" / "x", "no folder"),
        (Path("/proc"), "mounted"),
    ):
        made.target = target
        with pytest.raises(Invalid, match=said):
            made.restore()


def test_two_restores_of_one_folder(made: Made) -> None:
    lock = HeldLock(made.target.with_name(".phoenix-restore-target.lock"))
    assert lock.take()
    with pytest.raises(BadState, match="restored already"):
        made.restore()
    lock.release()


def test_a_file_system_that_cannot_exchange(made: Made, tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "before"
    new.mkdir()
    Swap(made.target, new, old, tmp_path / "note.json").begin(exchange=lambda *_: False)
    assert list(made.target.iterdir()) == []
    assert (old / "old").exists()
    assert not finish(made.target, tmp_path / "note.json")


def test_tidying_where_nothing_is_to_be_done(made: Made) -> None:
    assert not tidy(made.target)
    assert made.unchanged()
