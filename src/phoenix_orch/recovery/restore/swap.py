"""Put one folder in the place of another, so that there is always one: the old or the new.

Where the kernel can (renameat2 with RENAME_EXCHANGE, ext4, xfs, btrfs, tmpfs) that is one step. Elsewhere it
is two renames, and a note beside them by which `finish` completes what a killed process has begun.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class Swap:
    """`new` takes the place of `target`, which becomes `old`. All are beside each other."""

    target: Path
    new: Path
    old: Path
    note: Path

    def begin(self, *, exchange: Callable[[Path, Path], bool] | None = None) -> None:
        """Do it. Raises OSError; then `finish` tells what is in place. `exchange`: the kernel's, or None."""
        found = os.stat(self.new)  # noqa: PTH116
        _write(self.note, {"new": [found.st_dev, found.st_ino], "names": [self.new.name, self.old.name]})
        if not self.target.exists():
            self.new.rename(self.target)
        elif (exchange or exchanged)(self.new, self.target):
            self.new.rename(self.old)
        else:
            self.target.rename(self.old)
            self.new.rename(self.target)
        sync_folder(self.target.parent)
        self.note.unlink()


def finish(target: Path, note: Path) -> bool:
    """Complete what a process that died has begun; whether the new folder is in place.

    Until the first rename there is nothing to complete: the old one stays. After it the new one goes there.
    """
    note.with_suffix(".new").unlink(missing_ok=True)
    try:
        said = json.loads(note.read_bytes())
        device_inode = tuple(said["new"])
        new, old = (target.parent / str(name) for name in said["names"])
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        note.unlink()  # torn: nothing was renamed yet
        return False
    if not target.exists() and new.exists():
        new.rename(target)  # between the two renames
    there = os.stat(target) if target.exists() else None  # noqa: PTH116
    in_place = there is not None and (there.st_dev, there.st_ino) == device_inode
    if in_place and new.exists() and not old.exists():
        new.rename(old)  # the exchange was done, and what it gave has not got its name
    sync_folder(target.parent)
    note.unlink()
    return in_place


def exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the file system cannot. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameat2", None)
    if call is None:
        return False
    status = call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if status == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems have no such thing
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(note: Path, said: object) -> None:
    temporary = note.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(said, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(note)
    sync_folder(note.parent)
