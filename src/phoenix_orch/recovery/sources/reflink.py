"""A copy of a folder that shares its blocks: made in the time of its names, whatever its size.

Only some file systems can (xfs, btrfs; not ext4). Each file is copied at one moment; different files at
moments a little apart, which is why an application is at rest meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.sources.tree import Name, Tree, unreadable

FICLONE = 0x40049409
"""ioctl(2) of Linux: ioctl_ficlone(2)."""
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY, errno.ENOSYS})


def can(folder: Path) -> bool:
    """Whether files of the folder can be copied like this into the same folder. Writes a file of one block
    there and removes it."""
    try:
        with (
            tempfile.TemporaryFile(dir=folder, prefix=".phoenix-") as one,
            tempfile.TemporaryFile(dir=folder, prefix=".phoenix-") as other,
        ):
            one.write(bytes(4096))
            one.flush()
            fcntl.ioctl(other.fileno(), FICLONE, one.fileno())
    except OSError:
        return False
    return True


def copy_tree(folder: Path, to: Path) -> None:
    """Make `to`, with everything that a walk over `folder` gives. Raises Terminal."""
    first: dict[tuple[int, int], str] = {}
    folders: list[Name] = []
    for name in Tree(os.fspath(folder)):
        place = os.fspath(to) if name.path == "." else os.path.join(to, name.path)  # noqa: PTH118
        try:
            if stat.S_ISDIR(name.stat.st_mode):
                os.mkdir(place, 0o700)  # noqa: PTH102
                folders.append(name)
                continue
            inode = name.stat.st_dev, name.stat.st_ino
            if name.stat.st_nlink > 1 and stat.S_ISREG(name.stat.st_mode) and inode in first:
                os.link(first[inode], place)
                continue
            if stat.S_ISLNK(name.stat.st_mode):
                os.symlink(os.readlink(name.place), place)  # noqa: PTH115, PTH211
            else:
                _clone(name.place, place)
                first[inode] = place
            _like(name.place, place)
        except FileNotFoundError:
            continue  # it has gone
        except OSError as error:
            raise unreadable(name.place, error) from error
    for name in reversed(folders):
        place = os.fspath(to) if name.path == "." else os.path.join(to, name.path)  # noqa: PTH118
        with contextlib.suppress(FileNotFoundError):
            _like(name.place, place)


def _clone(place: str, to: str) -> None:
    source = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        target = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.ioctl(target, FICLONE, source)
        except OSError as error:
            if error.errno in _CANNOT:
                raise Terminal(
                    f"{place} cannot be copied by sharing its blocks: {error.strerror}",
                    remedy="choose `copyBy: direct` for this volume",
                ) from error
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)


def _like(place: str, to: str) -> None:
    """Owner, mode, times, extended attributes."""
    found = os.lstat(place)
    with contextlib.suppress(PermissionError):
        os.chown(to, found.st_uid, found.st_gid, follow_symlinks=False)
    shutil.copystat(place, to, follow_symlinks=False)
