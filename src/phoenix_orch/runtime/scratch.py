"""Folders for a moment, gone afterwards, also when whoever made them was killed.

Each has a lock that its owner holds as long as it lives. Whoever makes the next one of its name removes those
whose lock is free: nobody is there any more who could have.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from phoenix_orch.runtime.files import temporary_folder

HELD = ".held"
_TRIES = 5


@contextlib.contextmanager
def scratch(
    prefix: str, place: Path | None = None, *, before: Callable[[Path], None] = lambda _: None
) -> Iterator[Path]:
    """An empty folder for this user alone, but for the file of its lock. `place`: None: where temporary files
    go. `before`: what has to be done before a folder that was left is removed. Raises OSError."""
    place = place or temporary_folder()
    sweep(prefix, place, before=before)
    folder, lock = _made(prefix, place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(prefix: str, place: Path, *, before: Callable[[Path], None] = lambda _: None) -> list[Path]:
    """Remove what the killed have left; those that were removed. One that cannot be stays for the next."""
    removed = []
    for folder in sorted(place.glob(f"{prefix}*")):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
                continue
            lock = _locked(folder)
            if lock is None:
                continue
            try:
                before(folder)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
            finally:
                os.close(lock)
    return removed


def _made(prefix: str, place: Path) -> tuple[Path, int]:
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        os.close(os.open(folder / HELD, os.O_WRONLY | os.O_CREAT, 0o600))
        lock = _locked(folder)
        if lock is not None:
            return folder, lock
    raise OSError(f"no folder could be held in {place}")  # another one sweeps all the time


def _locked(folder: Path) -> int | None:
    """None where somebody else has it, or where there is nothing to be locked."""
    try:
        descriptor = os.open(folder / HELD, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
