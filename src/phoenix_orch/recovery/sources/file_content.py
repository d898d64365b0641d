"""The content of one file for an archive, and whether it kept still while it was read.

A program may write a file while it is copied. What tells: size, times of change and inode before and after.
A small file is read into memory and read again until it kept still; a large one has gone into the archive by
then and goes there once more, where the last one counts, as it does for tar. After the last attempt it is
taken as it is, and marked.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace

from phoenix_orch.recovery.file_manifest import Entry, Kind
from phoenix_orch.recovery.sources.tar_headers import (
    Segments,
    digest,
    header,
    padding,
    sparse_header,
    xattrs_of,
)
from phoenix_orch.recovery.sources.tree import Name, unreadable

RETRIES = 3
CHUNK = 1024 * 1024
"""Bytes that are read at once; a file of at most so many is small."""
_MOST_SEGMENTS = 4096
"""A file in more pieces is taken as one without holes."""
_ZEROS = bytes(CHUNK)


@dataclass(slots=True)
class Content:
    """One file. Iterate over its bytes of the archive; `entry` is there after that, None where the file had
    gone before anything of it was read."""

    name: Name
    entry: Entry | None = None
    attempts: int = 0

    def __iter__(self) -> Iterator[bytes]:
        """Raises Terminal where the file is there and cannot be read."""
        try:
            descriptor = os.open(self.name.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
                return  # it has gone, or something else has its name
            raise unreadable(self.name.place, error) from error
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                yield from self._read(descriptor)
        except OSError as error:
            raise unreadable(self.name.place, error) from error
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int) -> Iterator[bytes]:
        for attempt in range(RETRIES + 1):
            self.attempts = attempt + 1
            before = os.fstat(descriptor)
            name = replace(self.name, stat=before)
            xattrs = xattrs_of(self.name.place)
            last = attempt == RETRIES
            if before.st_size <= CHUNK:
                content = _exactly(descriptor, 0, before.st_size)
                still = self._kept_still(descriptor, before)
                if not (still or last):
                    continue
                yield header(name, xattrs, size=before.st_size) + content + padding(before.st_size)
                sha256 = hashlib.sha256(content).hexdigest()
            else:
                sha256 = yield from _streamed(descriptor, name, xattrs)
                still = self._kept_still(descriptor, before)
            if still or last:
                self.entry = replace(
                    described(name, xattrs), size=before.st_size, sha256=sha256, fuzzy=not still
                )
                return

    def _kept_still(self, descriptor: int, before: os.stat_result) -> bool:
        """Through its descriptor, and through its name: another file may have been put in its place."""
        if _stamp(os.fstat(descriptor)) != _stamp(before):
            return False
        try:
            there = os.lstat(self.name.place)
        except FileNotFoundError:
            return True  # it was removed as it was read: what was read is whole
        return os.path.samestat(there, before)


def described(name: Name, xattrs: Mapping[str, bytes]) -> Entry:
    """What the manifest says of any name."""
    kinds = {stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}
    return Entry(
        path=name.path,
        kind=kinds.get(stat.S_IFMT(name.stat.st_mode), Kind.FILE),
        mode=stat.S_IMODE(name.stat.st_mode),
        uid=name.stat.st_uid,
        gid=name.stat.st_gid,
        mtime=name.stat.st_mtime_ns,
        xattrs=digest(xattrs),
    )


def sha256_of(place: str) -> tuple[int, str]:
    """Size and digest of a file's content, holes read as zeros. Raises OSError."""
    hashed, size = hashlib.sha256(), 0
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while chunk := os.read(descriptor, CHUNK):
            hashed.update(chunk)
            size += len(chunk)
    finally:
        os.close(descriptor)
    return size, hashed.hexdigest()


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _streamed(descriptor: int, name: Name, xattrs: Mapping[str, bytes]) -> Generator[bytes, None, str]:
    """Header and content as they are read; returns the digest of the content."""
    size = name.stat.st_size
    segments = _segments(descriptor, name.stat)
    hashed, place = hashlib.sha256(), 0
    yield header(name, xattrs, size=size) if segments is None else sparse_header(name, xattrs, segments)
    written = 0
    for offset, length in [(0, size)] if segments is None else segments:
        _zeros_into(hashed, offset - place)
        for begin in range(offset, offset + length, CHUNK):
            chunk = _exactly(descriptor, begin, min(CHUNK, offset + length - begin))
            hashed.update(chunk)
            yield chunk
        place, written = offset + length, written + length
    _zeros_into(hashed, size - place)
    yield padding(written)
    return hashed.hexdigest()


def _zeros_into(hashed: hashlib._Hash, count: int) -> None:
    while count > 0:
        hashed.update(_ZEROS[:count] if count < CHUNK else _ZEROS)
        count -= CHUNK


def _exactly(descriptor: int, offset: int, length: int) -> bytes:
    """So many bytes, zeros for those that are no longer there: the header has promised them."""
    parts = []
    while length > 0:
        part = os.pread(descriptor, length, offset)
        if not part:
            parts.append(bytes(length))
            break
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _segments(descriptor: int, found: os.stat_result) -> Segments | None:
    """Where the data is; None for a file without holes, or one whose file system does not tell."""
    size = found.st_size
    if found.st_blocks * 512 >= size:
        return None
    segments: list[tuple[int, int]] = []
    place = 0
    try:
        while place < size and len(segments) < _MOST_SEGMENTS:
            try:
                begin = os.lseek(descriptor, place, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole from here on
                    break
                raise
            place = min(os.lseek(descriptor, begin, os.SEEK_HOLE), size)
            if begin >= size:
                break
            segments.append((begin, place - begin))
    except OSError:
        return None
    if len(segments) == _MOST_SEGMENTS or segments == [(0, size)]:
        return None
    return [*segments, (size, 0)]  # GNU tar knows the size of a hole at the end by this
