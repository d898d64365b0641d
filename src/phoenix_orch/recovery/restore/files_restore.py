"""Restore a folder: beside its place, verified, then exchanged with what is there, which is kept.

    .phoenix-new-NAME          what is being restored
    .phoenix-swap-NAME.json    the exchange has begun (`swap.py`)
    .phoenix-old-NAME-ID       what was there before, until its time is over
    .phoenix-old-NAME-ID.json  when that is
    .phoenix-gone-NAME-ID      what is being deleted, whole no more

A process that is killed at any moment leaves the old folder in place, or the new one that was verified.
`tidy` cleans up after it; `restore` does that first.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from phoenix_orch.kernel.errors import BadState, Invalid, Terminal
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.recovery.consistency import Finding, checked, faults
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.restore.files_verify import verify
from phoenix_orch.recovery.restore.swap import Swap, finish, sync_folder
from phoenix_orch.recovery.restore.untar import Reader, unpack
from phoenix_orch.recovery.sources.tree import OURS
from phoenix_orch.runtime.held_lock import HeldLock

KEEP = timedelta(days=7)
"""How long what was there before is kept."""


@dataclass(frozen=True, slots=True)
class Restored:
    names: int
    """How many names were restored and verified."""
    old: Path | None
    """Where what was there before is kept; None where there was nothing."""
    expires: datetime | None
    findings: tuple[Finding, ...]
    not_kept: tuple[str, ...]
    """Extended attributes that this file system does not take."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and the names beside it that belong to restoring it."""

    target: Path

    @property
    def new(self) -> Path:
        return self._beside("new")

    @property
    def note(self) -> Path:
        return self._beside("swap", ".json")

    @property
    def lock(self) -> Path:
        return self._beside("restore", ".lock")

    def old(self, name: str) -> Path:
        return self._beside("old", f"-{name}")

    def olds(self) -> list[Path]:
        """What is kept from before earlier restores, the oldest first."""
        return self._folders("old")

    def gone(self, old: Path) -> Path:
        """The name of one of these from when its deletion begins."""
        return old.with_name(old.name.replace(f"{OURS}old-", f"{OURS}gone-", 1))

    def left(self) -> list[Path]:
        """Of deletions that have died."""
        return self._folders("gone")

    def expiries(self) -> list[Path]:
        """Files that say until when such a folder is kept."""
        return [path for path in self._named("old") if path.suffix == ".json"]

    def _folders(self, what: str) -> list[Path]:
        found = self._named(what)
        return sorted(
            path for path in found if path.suffix != ".json" and path.is_dir() and not path.is_symlink()
        )

    def _named(self, what: str) -> Iterator[Path]:
        """Of this folder alone: one beside it, of a longer name, has names that begin like these."""
        start = f"{OURS}{what}-{self.target.name}-"
        for path in self.target.parent.glob(f"{_escaped(start)}*"):
            if "-" not in path.name.removeprefix(start):
                yield path

    def _beside(self, what: str, end: str = "") -> Path:
        return self.target.with_name(f"{OURS}{what}-{self.target.name}{end}")


def restore(
    source: Callable[[], contextlib.AbstractContextManager[Reader]],
    target: Path,
    merkle_root: str,
    *,
    now: datetime,
    checks: Sequence[FileCheck] = (),
    keep: timedelta = KEEP,
    progress: Callable[[int], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Restored:
    """`source` opens the archive; leaving it without an error means that the stream was whole.

    Nothing that uses the folder may run meanwhile: what it had opened it would go on writing to the old one.
    Raises Invalid where the place cannot be exchanged, Corrupted and Terminal when what was restored is not
    whole (then the old folder is in its place, unchanged), BadState while another process restores it.
    """
    place = Place(target.absolute())
    _exchangeable(place.target)
    with _alone(place):
        _tidied(place)
        with tempfile.TemporaryFile() as manifest:
            try:
                with source() as stream:
                    unpacked = unpack(stream, place.new, manifest, progress=progress, stop=stop)
                not_kept = tuple(sorted(unpacked.not_kept))
                names = verify(place.new, manifest, merkle_root, not_kept=not_kept)
                findings = checked(place.new, checks)
                _hold(findings)
                _sync(place.new)
            except BaseException:
                remove(place.new)
                raise
        old, expires = place.old(sortable_id(now)), now + keep
        there = place.target.exists()
        if there:
            _say_expiry(old, expires)
        Swap(place.target, place.new, old, place.note).begin()
    return Restored(names, old if there else None, expires if there else None, tuple(findings), not_kept)


def look(target: Path) -> bool:
    """Whether there is a folder that would be exchanged. Raises Invalid where the place cannot be."""
    _exchangeable(target.absolute())
    return target.exists()


def tidy(target: Path) -> bool:
    """Clean up after a restore that was killed; whether the new folder is in place because of it.

    Raises BadState while a restore runs.
    """
    place = Place(target.absolute())
    with _alone(place):
        return _tidied(place)


def forget(target: Path, old: Path) -> None:
    """Delete what is kept from before a restore. It has another name first: half of it is no state.

    What a deletion that died has left goes, too. Raises BadState while the folder is restored, Terminal.
    """
    place = Place(target.absolute())
    with _alone(place):
        try:
            if old in place.olds():
                old.rename(place.gone(old))
                sync_folder(old.parent)
            _expiry_file(old).unlink(missing_ok=True)
            for left in place.left():
                remove(left)
        except OSError as error:
            raise Terminal(
                f"{old} was not deleted to its end: {error.strerror} ({error.filename})",
                remedy="mend its rights, and delete again",
            ) from error


def expiry(old: Path) -> datetime | None:
    try:
        return datetime.fromisoformat(json.loads(_expiry_file(old).read_bytes())["expires"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(folder: Path) -> None:
    """With everything in it, also where rights forbid its owner to look into it."""
    if not folder.exists():
        return
    # root may look into all of them; and by a link that somebody puts there just now it would change others
    if os.geteuid() != 0:
        for path, folders, _ in os.walk(folder):
            for name in folders:
                inner = Path(path, name)
                if not inner.is_symlink():
                    inner.chmod(0o700)
        folder.chmod(0o700)
    shutil.rmtree(folder)
    _expiry_file(folder).unlink(missing_ok=True)


def _hold(findings: Sequence[Finding]) -> None:
    wrong = faults(findings)
    if wrong:
        raise Terminal(
            f"what was restored does not hold: {wrong}",
            remedy="restore another backup; the folder is as it was",
        )


def _tidied(place: Place) -> bool:
    done = finish(place.target, place.note)
    remove(place.new)
    for note in place.expiries():
        if not note.with_suffix("").exists():
            note.unlink()  # said before an exchange that did not come
    return done


def _exchangeable(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise Invalid(f"{target} is no folder", remedy="name the folder itself, and no link to it")
    if target.is_mount():
        raise Invalid(
            f"{target} is where a file system is mounted, which cannot be exchanged",
            remedy="restore to a folder in it, or to another folder, and mount anew",
        )
    if not target.parent.is_dir():
        raise Invalid(f"there is no folder {target.parent}", remedy="make it first")


@contextlib.contextmanager
def _alone(place: Place) -> Iterator[None]:
    lock = HeldLock(place.lock)
    try:
        taken = lock.take()
    except OSError as error:
        raise Invalid(
            f"{place.target.parent} cannot be written: {error.strerror}", remedy="mend its rights"
        ) from error
    if not taken:
        raise BadState(f"{place.target} is being restored already", remedy="wait until that has ended")
    try:
        yield
    finally:
        lock.path.unlink(missing_ok=True)
        lock.release()


def _say_expiry(old: Path, expires: datetime) -> None:
    file = _expiry_file(old)
    file.write_text(json.dumps({"expires": expires.isoformat()}), encoding="ascii")


def _expiry_file(old: Path) -> Path:
    return old.with_name(f"{old.name}.json")


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _sync(folder: Path) -> None:
    """Everything of its file system to the disk: quicker than file by file, for any number of them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise Terminal(
                f"{folder} was not written to the disk: {os.strerror(number)}", remedy="look at it"
            )
    finally:
        os.close(descriptor)
