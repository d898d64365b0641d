"""Keep logs small. Writers append to a file they opened once, so a full log is copied and cut, not moved.

A rotated file is named by the place of its first byte in all that the instance ever wrote:
`shop-1a2b-1.log.000000000000`, `.000010485760`, ... and the live file goes on where the newest one
ends. Places therefore never change, whoever reads while somebody rotates.

Where the file system can take a piece out of the front of a file (ext4, XFS), the writer notices
nothing and no byte is lost. Elsewhere the file is emptied right after the last byte was copied; what
is written within that instant, some microseconds, is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

PIECE = 1024 * 1024
_DIGITS = 12
_LOG = re.compile(r"(?P<instance>.+)\.log(\.(?P<start>\d{12,}))?")
_FALLOC_FL_COLLAPSE_RANGE = 0x08


@dataclass(frozen=True, slots=True)
class Segment:
    """A file with a piece of what an instance wrote, from place `start` on."""

    path: Path
    start: int


def segments(log: Path) -> tuple[Segment, ...]:
    """The rotated files of `log`, oldest first, and `log` itself last. Hold it `shared` meanwhile."""
    rotated = sorted(
        (Segment(path, int(match["start"])) for path, match in _matches(log.parent, log.name + ".*")),
        key=lambda segment: segment.start,
    )
    base = 0
    if rotated:
        base = rotated[-1].start + rotated[-1].path.stat().st_size
    return (*rotated, Segment(log, base))


@contextlib.contextmanager
def shared(log: Path) -> Iterator[FileIO | None]:
    """Open `log` for reading and keep rotation away from it. None: there is no such file."""
    try:
        file = log.open("rb", buffering=0)
    except FileNotFoundError:
        yield None
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file


def rotate(log: Path, size: int, keep: int, *, cut: Callable[[int, int], bool] | None = None) -> bool:
    """Move the front of `log` into a file of its own when it is larger than `size` bytes.

    At most `keep` such files stay. Returns whether anything was moved: not while somebody reads.
    Raises OSError. A kill in the middle loses nothing: some lines may then stand in two files.
    `cut(descriptor, length)` takes that much out of the front of a file, False where it cannot; by
    default the kernel's own.
    """
    try:
        if log.stat().st_size <= size:
            return False
        with log.open("r+b", buffering=0) as source:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
            moved = _move_front(source, log, cut or cut_front)
            for old in segments(log)[: -keep - 1]:
                old.path.unlink(missing_ok=True)
    except (FileNotFoundError, BlockingIOError):
        return False
    return moved


def _move_front(source: FileIO, log: Path, cut: Callable[[int, int], bool]) -> bool:
    block = os.fstatvfs(source.fileno()).f_bsize or 4096
    whole = os.fstat(source.fileno()).st_size // block * block
    if whole == 0:
        return False
    start = segments(log)[-1].start
    part = log.with_name(f"{log.name}.part")
    with part.open("wb", buffering=0) as target:
        _copy(source, target, whole)
        part.replace(log.with_name(f"{log.name}.{start:0{_DIGITS}d}"))
        if not cut(source.fileno(), whole):
            while _copy(source, target, PIECE):
                pass
            os.ftruncate(source.fileno(), 0)
    return True


def _copy(source: FileIO, target: FileIO, length: int) -> int:
    """Copy up to `length` bytes; returns how many there were."""
    copied = 0
    while copied < length and (piece := source.read(min(PIECE, length - copied))):
        target.write(piece)
        copied += len(piece)
    return copied


def cut_front(descriptor: int, length: int) -> bool:
    """Take the first `length` bytes, a multiple of the block size, out of a file, if the kernel can."""
    if not sys.platform.startswith("linux") or sys.maxsize <= 2**32:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(
        libc.fallocate(descriptor, _FALLOC_FL_COLLAPSE_RANGE, ctypes.c_longlong(0), ctypes.c_longlong(length))
        == 0
    )


def forget_logs(directory: Path, present: Iterable[str], keep: int) -> None:
    """Remove logs of instances that have gone, except those of the `keep` that wrote last."""
    present = set(present)
    gone: dict[str, list[Path]] = {}
    for path, match in _matches(directory, "*.log*"):
        if match["instance"] not in present:
            gone.setdefault(match["instance"], []).append(path)
    newest = sorted(gone.values(), key=lambda paths: max(p.stat().st_mtime for p in paths), reverse=True)
    for paths in newest[keep:]:
        for path in paths:
            path.unlink(missing_ok=True)


def _matches(directory: Path, pattern: str) -> list[tuple[Path, re.Match[str]]]:
    found = ((path, _LOG.fullmatch(path.name)) for path in directory.glob(pattern))
    return [(path, match) for path, match in found if match is not None]
