"""Objects as files of a folder: the default, and good for a mounted share.

Objects are written to a temporary file, which is synced and then given its name, and the name is synced too:
a crash at any moment leaves the object old or new. One lock file makes conditional writes of several
processes one after the other; the kernel gives it back when its holder dies. Nothing in here watches that
the folder is what the person meant: it is made when it is missing, with mode 0700.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from phoenix_orch.kernel.errors import Conflict, Invalid, NotFound, PhoenixError, Retryable, Terminal
from phoenix_orch.recovery.objects import (
    LARGEST_SMALL,
    LONGEST_KEY,
    Reader,
    Stat,
    Unfinished,
    Writer,
    checked,
    too_large,
)
from phoenix_orch.runtime.file_lock import locked
from phoenix_orch.runtime.files import make_private

_TEMPORARY = ".tmp"
_LOCK = ".lock"
_SLASH, _MARK, _LONGEST = ",", "~", 200  # characters that no key holds
_LOCK_PATIENCE = 30.0
"""Seconds to wait for another process: it holds the lock for two system calls."""
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FolderStore:
    """Objects below `root`, one file each, for its owner alone."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, key: str, data: bytes) -> None:
        path = self._path(key)
        # under the lock, since whoever deletes removes folders that are empty: this one may be for a moment
        with self._told(key, writing=True), self._written(key, data) as temporary, self._locked():
            self._make(path.parent)
            try:
                os.link(temporary, path)  # refuses atomically when the name is taken
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if path.exists():
                    raise FileExistsError from None
                temporary.replace(path)
            _sync_folder(path.parent)

    def replace(self, key: str, data: bytes, etag: str) -> str:
        path = self._path(key)
        with self._told(key, writing=True), self._written(key, data) as temporary, self._locked():
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                raise self._changed(key) from None
            if _etag(found) != etag:
                raise self._changed(key)
            return _etag(_put(temporary, path, found))

    def get(self, key: str) -> tuple[bytes, Stat]:
        with self._opened(key) as file:
            found = os.fstat(file.fileno())
            if found.st_size > LARGEST_SMALL:
                raise too_large(self._called(key), found.st_size)
            with self._told(key):
                return file.read(), _stat(key, found)

    @contextlib.contextmanager
    def writer(self, key: str, *, estimate: int = 0) -> Iterator[Writer]:  # noqa: ARG002 - files need none
        path = self._path(key)
        with self._temporary(key) as (temporary, file):
            yield _Told(self, key, file)
            with self._told(key, writing=True):
                _sync(file)
                with self._locked():
                    self._make(path.parent)
                    _put(temporary, path, path.stat() if path.exists() else None)

    @contextlib.contextmanager
    def reader(self, key: str, start: int = 0, *, etag: str = "") -> Iterator[Reader]:
        with self._opened(key) as file:
            if etag and _etag(os.fstat(file.fileno())) != etag:
                raise self._changed(key)
            file.seek(start)
            yield _Told(self, key, file)

    def stat(self, key: str) -> Stat:
        path = self._path(key)
        with self._told(key):
            found = path.stat()
            if not modes.S_ISREG(found.st_mode):
                raise FileNotFoundError
            return _stat(key, found)

    def list(self, prefix: str) -> Iterator[Stat]:
        folder, _, _ = prefix.rpartition("/")
        if folder:
            checked(folder)
        with self._told(prefix):
            yield from _below(self.root / folder, f"{folder}/" if folder else "", prefix)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._told(key):
            if not self.root.exists():
                return
            with self._locked():
                try:
                    path.unlink()
                except (FileNotFoundError, NotADirectoryError):
                    return
                _sync_folder(path.parent)
                self._remove_empty(path.parent)

    def now(self) -> datetime:
        """Of the file server, where the folder is on one: what it stamps a file with."""
        with self._told(""), self._temporary("") as (temporary, _):
            return _moment(temporary.stat())

    def unfinished(self) -> Iterator[Unfinished]:
        with self._told(""):
            try:
                entries = sorted(os.scandir(self.root / _TEMPORARY), key=lambda entry: entry.name)
            except FileNotFoundError:
                return
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    yield Unfinished(_key_of(entry.name), entry.name, _moment(entry.stat()))

    def abort(self, left: Unfinished) -> None:
        if Path(left.id).name != left.id:
            raise Invalid(f"{left.id!r} is no unfinished write", remedy="take it from `unfinished`")
        with self._told(left.key):
            (self.root / _TEMPORARY / left.id).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def _make(self, folder: Path) -> None:
        """The folder, with every one that was made on the way synced into the one above it."""
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for one in reversed(missing):
            make_private(one)
            _sync_folder(one.parent)

    def _remove_empty(self, folder: Path) -> None:
        """S3 has no folders, and a walk through years of empty ones takes its time."""
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        self._make(self.root)
        return locked(self.root / _LOCK, f"backups in {self.root}", timeout=_LOCK_PATIENCE)

    @contextlib.contextmanager
    def _temporary(self, key: str) -> Iterator[tuple[Path, IO[bytes]]]:
        """A file that is gone afterwards, unless it was given a name."""
        with self._told(key):
            self._make(self.root / _TEMPORARY)
            descriptor, name = tempfile.mkstemp(prefix=_begun(key), dir=self.root / _TEMPORARY)
        temporary = Path(name)
        try:
            with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - it is open already
                yield temporary, file
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        if len(data) > LARGEST_SMALL:
            raise Invalid(f"{len(data):,} bytes for {self._called(key)}", remedy="write it as a stream")
        with self._temporary(key) as (temporary, file):
            _write(file, data)
            _sync(file)
            yield temporary

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[IO[bytes]]:
        path = self._path(key)
        with self._told(key):
            if path.is_dir():
                raise FileNotFoundError
            file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - closed below
        with file:
            with self._told(key):
                if not modes.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise FileNotFoundError
            yield file

    @contextlib.contextmanager
    def _told(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Errors of the system as ours. `writing`: what is not found is the folder, not the object."""
        try:
            yield
        except PhoenixError:
            raise
        except FileNotFoundError:
            if writing:
                raise Retryable(
                    f"{self._called(key)} was not written: the folder went away meanwhile",
                    remedy=f"look whether {self.root} is mounted",
                ) from None
            raise NotFound(
                f"there is no {self._called(key)}", remedy="list what is there: phoenix backup list"
            ) from None
        except FileExistsError:
            raise Conflict(
                f"{self._called(key)} is there already", remedy="read it and decide again"
            ) from None
        except OSError as error:
            raise self._failed(key, error) from None

    def _failed(self, key: str, error: OSError) -> PhoenixError:
        reason = (error.strerror or str(error)).lower()
        if error.errno in _FULL:
            return Retryable(
                f"{self._called(key)} was not written: {reason}",
                remedy="give the folder room, or keep fewer backups (phoenix backup prune --dry-run)",
            )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
            return Terminal(
                f"{self._called(key)} cannot be reached: {reason}",
                remedy=f"give the user of Phoenix {self.root} for itself, to write in",
            )
        return Retryable(
            f"{self._called(key)} failed: {reason}", remedy=f"look after the disk below {self.root}"
        )

    def _changed(self, key: str) -> Conflict:
        return Conflict(f"{self._called(key)} was changed meanwhile", remedy="read it and decide again")

    def _called(self, key: str) -> str:
        return f"{key} in {self.root}" if key else str(self.root)


class _Told:
    """An open file whose errors are ours."""

    def __init__(self, store: FolderStore, key: str, file: IO[bytes]) -> None:
        self._store, self._key, self._file = store, key, file

    def read(self, size: int = -1, /) -> bytes:
        with self._store._told(self._key):  # noqa: SLF001 - of this module
            return self._file.read(size)

    def write(self, data: bytes, /) -> int:
        with self._store._told(self._key):  # noqa: SLF001
            return _write(self._file, data)


def _without_waiting(path: str, flags: int) -> int:
    """A pipe that somebody has put in the place of an object would have us wait for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _begun(key: str) -> str:
    """How a temporary file is called: by the key, as much of it as a file name holds, and a mark."""
    return key.replace("/", _SLASH)[:_LONGEST] + _MARK


def _key_of(name: str) -> str:
    return name.rpartition(_MARK)[0].replace(_SLASH, "/")


def _write(file: IO[bytes], data: bytes) -> int:
    """All of it: a raw file may take a part, for example when the disk is nearly full."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    return len(data)


def _sync(file: IO[bytes]) -> None:
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems do it by themselves
            raise
    finally:
        os.close(descriptor)


def _put(temporary: Path, path: Path, before: os.stat_result | None) -> os.stat_result:
    """Give the file its name, at a later time than the one before it had: the etag holds the time."""
    now = temporary.stat().st_mtime_ns
    if before is not None and now <= before.st_mtime_ns:
        os.utime(temporary, ns=(now, before.st_mtime_ns + 1))
    temporary.replace(path)
    _sync_folder(path.parent)
    return path.stat()


def _etag(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


def _moment(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)


def _stat(key: str, found: os.stat_result) -> Stat:
    return Stat(key=key, size=found.st_size, modified=_moment(found), etag=_etag(found))


def _below(folder: Path, above: str, prefix: str, within: tuple[tuple[int, int], ...] = ()) -> Iterator[Stat]:
    """The objects in `folder`, whose key is `above`, in the order of their keys: a/b comes after a-c.

    A link is what it leads to, as where old years were moved to another disk; one that leads back to a folder
    that we are `within` is nothing.
    """
    try:
        here = folder.stat()
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return
    if (here.st_dev, here.st_ino) in within or len(above) > LONGEST_KEY:
        return  # a ring of links; or no key is so long, and what is below is none of ours
    within = (*within, (here.st_dev, here.st_ino))
    found = [(entry, seen) for entry in entries if (seen := _seen(entry)) is not None]
    named = sorted(
        (entry.name + ("/" if modes.S_ISDIR(seen.st_mode) else ""), entry.path, seen) for entry, seen in found
    )
    for name, path, seen in named:
        key = above + name
        if not (key.startswith(prefix) or (name.endswith("/") and prefix.startswith(key))):
            continue
        if name.endswith("/"):
            yield from _below(Path(path), key, prefix, within)
        elif modes.S_ISREG(seen.st_mode):
            yield _stat(key, seen)


def _seen(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what was deleted while we look, and for a link that leads nowhere."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
